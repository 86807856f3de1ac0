//! Ends commands nobody completed in time.
//!
//! Found in Postgres, ended in Redis: `command.status` expired goes to the recipient's log, and
//! the command goes from it, unless it ended otherwise in that moment. Persisting then sets the
//! state and tells the sender, and the next run moves the command to the archive.
//!
//! The first end counts as long as Redis remembers it, and then as Postgres knows it. So where
//! Postgres is far behind, nothing expires until it has caught up.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use shared::{
    domain::{CommandState, CommandStatus, Digest, Durability, Kind, Partition, Timestamp, Topic},
    postgres::DueCommand,
    redis::{Append, Appended, IdempotencyKey},
};

use crate::{context::Context, metrics::EXPIRED};

const PAGE: u32 = 500;
const AT_ONCE: usize = 64;
/// Pause between two pages: expiring a day at once must not be felt by anybody.
const PACE: Duration = Duration::from_millis(50);

/// One run.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let ended = expire(&context).await;
    while context.postgres.archive_expired(PAGE).await? == u64::from(PAGE) {
        tokio::time::sleep(PACE).await;
    }
    let now = context.store.clock().now();
    let old = Timestamp(now.0 - context.settings.retention.archive.as_millis() as i64);
    while context.postgres.forget_archived(old, PAGE).await? == u64::from(PAGE) {
        tokio::time::sleep(PACE).await;
    }
    while context.postgres.forget_revocations(now, PAGE).await? == u64::from(PAGE) {
        tokio::time::sleep(PACE).await;
    }
    ended
}

async fn expire(context: &Arc<Context>) -> anyhow::Result<()> {
    let now = context.store.clock().now();
    let began = Instant::now();
    // Redis remembers for this long that a command has ended; Postgres has to know it by then.
    let remembered = context.settings.redis.idempotency_ttl;
    let behind = behind(
        context,
        Timestamp(now.0 - remembered.as_millis() as i64 / 2),
    )
    .await;
    let mut last: Option<DueCommand> = None;
    let mut failures = Vec::new();
    // What was seen of the partitions holds for a while only. The next run goes on.
    while began.elapsed() < remembered / 4 {
        let due = context
            .postgres
            .due_commands(now, last.as_ref(), PAGE)
            .await?;
        let full = due.len() == PAGE as usize;
        last = due.last().cloned().or(last);
        let due = due.into_iter().filter(|due| {
            let home = Topic::User(due.recipient).partition(context.store.partitions());
            !behind.contains(&home)
        });
        let ended: Vec<_> = stream::iter(due)
            .map(|command| end(context.clone(), command))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        failures.extend(ended.into_iter().filter_map(Result::err));
        if !full {
            break;
        }
        tokio::time::sleep(PACE).await;
    }
    let count = failures.len();
    match failures.pop() {
        Some(error) => Err(error.context(format!("{count} commands were not ended"))),
        None => Ok(()),
    }
}

/// Partitions of which Postgres may not know something older than `limit`: a command that looks
/// open there may have ended so long ago that Redis has forgotten it. Also those that cannot be
/// asked. Looked at before the commands are.
async fn behind(context: &Context, limit: Timestamp) -> HashSet<Partition> {
    let looked: Vec<_> = stream::iter((0..context.store.partitions().0).map(Partition))
        .map(|partition| {
            let store = context.store.clone();
            async move { (partition, store.persist_backlog(partition).await) }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    looked
        .into_iter()
        .filter_map(|(partition, backlog)| {
            let is_behind = match backlog {
                Ok((0, _)) => false,
                Ok((_, oldest)) => oldest.is_none_or(|at| at < limit),
                Err(_) => true,
            };
            is_behind.then_some(partition)
        })
        .collect()
}

async fn end(context: Arc<Context>, due: DueCommand) -> anyhow::Result<()> {
    let state = CommandState::Expired;
    let body = CommandStatus {
        command_id: due.id,
        recipient_id: Some(due.recipient),
        status: state,
        broadcast: None,
        categories: Vec::new(),
        at: None,
    };
    let appended = context
        .store
        .append_from_reserve(Append {
            topic: Topic::User(due.recipient),
            kind: Kind::CommandStatus,
            body: serde_json::to_vec(&body)?.into(),
            key: IdempotencyKey::end_of(due.id, Some(due.recipient)),
            digest: Digest::of(state.as_str().as_bytes()),
            durability: Durability::Durable,
            remove: Some(due.position),
            unless_delivered: None,
        })
        .await?;
    // Otherwise it ended by itself, or by an earlier run, and Postgres is about to learn it.
    if matches!(appended, Appended::New { .. }) {
        EXPIRED.increment(1);
    }
    Ok(())
}
