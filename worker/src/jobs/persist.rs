//! Writes a batch: rows in Postgres, word to the senders, commit, then room in Redis.
//!
//! In this order a crash anywhere is repaired by doing it again: rows that were not committed are
//! written again, senders that were told are recognised by the key of what they were told, and a
//! commit that was not reported is found in Postgres.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use shared::{
    domain::{CommandState, CommandStatus, Digest, Durability, Kind, Partition, Topic},
    postgres::{Buried, PartitionBatch, StateChange, WriteError},
    redis::{Append, IdempotencyKey, Store, StoreError},
};

use crate::{
    context::Context,
    metrics::{CHANGES, QUARANTINED, Reached},
};

/// Appends on their way at once; the store's lane makes batches of them.
const AT_ONCE: usize = 256;
/// Postgres ends a transaction that is idle for 30 s.
const TELL_PATIENCE: Duration = Duration::from_secs(20);

/// Why a batch was not written. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// Postgres did not take it.
    #[error(transparent)]
    Postgres(#[from] WriteError),
    /// Senders of what these partitions brought could not be told; the others are fine.
    #[error("cannot tell the senders of {} partitions", partitions.len())]
    Untold {
        /// Where the changes come from.
        partitions: BTreeSet<Partition>,
        /// Why, of one of them.
        source: StoreError,
    },
    /// Telling took so long that the transaction cannot stay open.
    #[error("telling senders took too long")]
    TooLong,
}

impl PersistError {
    /// True if a smaller batch may do.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_timeout(),
            Self::Untold { .. } => false,
            Self::TooLong => true,
        }
    }
}

/// Writes the batches in one transaction, or in several where a record stands for very many
/// deliveries. Room in Redis is made by the lane, afterwards.
pub async fn write(context: &Context, batches: &[PartitionBatch]) -> Result<(), PersistError> {
    loop {
        let pending = context.postgres.begin_batch(batches).await?;
        tokio::time::timeout(
            TELL_PATIENCE,
            tell_senders(&context.store, &pending.changes),
        )
        .await
        .map_err(|_| PersistError::TooLong)??;
        let (changes, buried) = (pending.changes.clone(), pending.buried.clone());
        let is_complete = pending.is_complete;
        pending.commit().await?;
        report(&changes, &buried);
        if is_complete {
            return Ok(());
        }
    }
}

/// Each change becomes an entry in the log of the command's sender. What was delivered goes
/// before what ended, so a sender never hears it the other way round.
pub async fn tell_senders(store: &Store, changes: &[StateChange]) -> Result<(), PersistError> {
    // A command stands in its recipient's log.
    let home = |change: &StateChange| Topic::User(change.recipient).partition(store.partitions());
    let mut untold = BTreeMap::new();
    for ends in [false, true] {
        let told: Vec<StateChange> = changes
            .iter()
            .filter(|change| change.state.is_final() == ends && is_told(change, changes))
            .filter(|change| !untold.contains_key(&home(change)))
            .copied()
            .collect();
        let answers: Vec<_> = stream::iter(told)
            .map(|change| {
                let store = store.clone();
                async move { (change, tell(store, change).await) }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (change, told) in answers {
            if let Err(error) = told {
                untold.insert(home(&change), error);
            }
        }
    }
    let Some((_, source)) = untold.first_key_value() else {
        return Ok(());
    };
    Err(PersistError::Untold {
        source: source.clone(),
        partitions: untold.into_keys().collect(),
    })
}

/// Who sends a command to themselves has seen its end in their own log; only the delivery is
/// news, and not any more once it has ended.
fn is_told(change: &StateChange, all: &[StateChange]) -> bool {
    change.sender != change.recipient
        || !change.state.is_final()
            && !all
                .iter()
                .any(|other| other.command == change.command && other.state.is_final())
}

async fn tell(store: Store, change: StateChange) -> Result<(), StoreError> {
    let StateChange {
        command,
        sender,
        recipient,
        state,
        at,
    } = change;
    let body = CommandStatus {
        command_id: command,
        recipient_id: Some(recipient),
        status: state,
        broadcast: None,
        categories: Vec::new(),
        at: Some(at),
    };
    let body = serde_json::to_vec(&body)
        .map_err(|error| StoreError::Unexpected(error.to_string().into()))?;
    // What cannot be told cannot be committed, trimmed and freed.
    store
        .append_from_reserve(Append::new(
            Topic::User(sender),
            Kind::CommandStatus,
            body,
            IdempotencyKey(format!("status:{command}:{recipient}:{state}")),
            // Of the state alone: a second try may have learnt another time.
            Digest::of(state.as_str().as_bytes()),
            Durability::Durable,
        ))
        .await?;
    Ok(())
}

fn reached(state: CommandState) -> Reached {
    match state {
        CommandState::Pending | CommandState::Delivered => Reached::Delivered,
        CommandState::Completed => Reached::Completed,
        CommandState::Expired => Reached::Expired,
        CommandState::Cancelled => Reached::Cancelled,
    }
}

fn report(changes: &[StateChange], buried: &[Buried]) {
    for change in changes {
        CHANGES.of(reached(change.state)).increment(1);
    }
    QUARANTINED.increment(buried.len() as u64);
    for one in buried {
        tracing::error!(partition = %one.partition, record = one.record_id, reason = one.reason, "a record went to quarantine");
    }
}
