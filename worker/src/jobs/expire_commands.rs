//! Ends commands nobody completed in time.
//!
//! Found in Postgres, ended in Redis: `command.status` expired goes to the recipient's log, and
//! the command goes from it, unless it ended otherwise in that moment. Persisting then sets the
//! state and tells the sender, and the next run moves the command to the archive.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use shared::{
    domain::{CommandState, CommandStatus, Digest, Durability, Kind, Timestamp, Topic},
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
    expire(&context).await?;
    while context.postgres.archive_expired(PAGE).await? == u64::from(PAGE) {
        tokio::time::sleep(PACE).await;
    }
    let now = context.store.time().await?;
    let old = Timestamp(now.0 - context.settings.retention.archive.as_millis() as i64);
    while context.postgres.forget_archived(old, PAGE).await? == u64::from(PAGE) {
        tokio::time::sleep(PACE).await;
    }
    while context.postgres.forget_revocations(now, PAGE).await? == u64::from(PAGE) {
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

async fn expire(context: &Arc<Context>) -> anyhow::Result<()> {
    let now = context.store.time().await?;
    let mut last: Option<DueCommand> = None;
    loop {
        let due = context
            .postgres
            .due_commands(now, last.as_ref(), PAGE)
            .await?;
        let full = due.len() == PAGE as usize;
        last = due.last().cloned().or(last);
        stream::iter(due)
            .map(|command| end(context.clone(), command))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        if !full {
            return Ok(());
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn end(context: Arc<Context>, due: DueCommand) -> anyhow::Result<()> {
    let state = CommandState::Expired;
    let body = CommandStatus {
        command_id: due.id,
        recipient_id: due.recipient,
        status: state,
        at: None,
    };
    let appended = context
        .store
        .append_from_reserve(Append {
            topic: Topic::User(due.recipient),
            kind: Kind::CommandStatus,
            body: serde_json::to_vec(&body)?.into(),
            key: IdempotencyKey(format!("final:{}", due.id)),
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
