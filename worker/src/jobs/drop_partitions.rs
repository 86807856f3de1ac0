//! Drops the daily partitions that are older than `retention.record`.

use std::{sync::Arc, time::Duration};

use shared::domain::Timestamp;

use crate::context::Context;

/// A day goes this much later: with the longest life of a command it ends when its last one is
/// due, and expiring that takes its time.
const MARGIN: Duration = Duration::from_hours(48);

/// One run.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let kept = context.settings.retention.record + MARGIN;
    let now = context.store.time().await?;
    let day = Timestamp(now.0 - kept.as_millis() as i64)
        .to_datetime()
        .date();
    let result = context.postgres.drop_partitions_before(day).await?;
    if !result.dropped.is_empty() {
        tracing::info!(
            tables = result.dropped.join(" "),
            "dropped daily partitions"
        );
    }
    for day in result.kept {
        tracing::warn!(%day, "a day is past its retention but has open commands");
    }
    Ok(())
}
