//! Writes a batch: rows in Postgres, word to the senders, commit, then room in Redis.
//!
//! In this order a crash anywhere is repaired by doing it again: rows that were not committed are
//! written again, senders that were told are recognised by the key of what they were told, and a
//! commit that was not reported is found in Postgres.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use shared::{
    domain::{CommandStatus, Digest, Durability, Kind, Topic},
    postgres::{Buried, PartitionBatch, StateChange, WriteError},
    redis::{Append, IdempotencyKey, Store, StoreError},
};

use crate::{
    context::Context,
    metrics::{CHANGES_TOLD, QUARANTINED},
};

/// Appends on their way at once; the store's lane makes batches of them.
const AT_ONCE: usize = 256;

/// Why a batch was not written. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// Postgres did not take it.
    #[error(transparent)]
    Postgres(#[from] WriteError),
    /// Senders could not be told.
    #[error("cannot tell senders")]
    Redis(#[from] StoreError),
}

/// Writes the batches in one transaction, or in several where a record stands for very many
/// deliveries. Room in Redis is made by the lane, afterwards.
pub async fn write(context: &Context, batches: &[PartitionBatch]) -> Result<(), PersistError> {
    loop {
        let pending = context.postgres.begin_batch(batches).await?;
        tell_senders(&context.store, &pending.changes).await?;
        let (buried, is_complete) = (pending.buried.clone(), pending.is_complete);
        pending.commit().await?;
        report(&buried);
        if is_complete {
            return Ok(());
        }
    }
}

/// Each change becomes an entry in the log of the command's sender. What was delivered goes
/// before what ended, so a sender never hears it the other way round.
pub async fn tell_senders(store: &Store, changes: &[StateChange]) -> Result<(), StoreError> {
    for ends in [false, true] {
        let told: Vec<StateChange> = changes
            .iter()
            .filter(|change| change.state.is_final() == ends && is_told(change, changes))
            .copied()
            .collect();
        stream::iter(told)
            .map(|change| tell(store.clone(), change))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
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
        recipient_id: recipient,
        status: state,
        at: Some(at),
    };
    let body = serde_json::to_vec(&body)
        .map_err(|error| StoreError::Unexpected(error.to_string().into()))?;
    // What cannot be told cannot be committed, trimmed and freed.
    store
        .append_from_reserve(Append {
            topic: Topic::User(sender),
            kind: Kind::CommandStatus,
            body: body.into(),
            key: IdempotencyKey(format!("status:{command}:{recipient}:{state}")),
            // Of the state alone: a second try may have learnt another time.
            digest: Digest::of(state.as_str().as_bytes()),
            durability: Durability::Durable,
            remove: None,
            unless_delivered: None,
        })
        .await?;
    CHANGES_TOLD.increment(1);
    Ok(())
}

fn report(buried: &[Buried]) {
    QUARANTINED.increment(buried.len() as u64);
    for one in buried {
        tracing::error!(partition = %one.partition, record = one.record_id, reason = one.reason, "a record went to quarantine");
    }
}
