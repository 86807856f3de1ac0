//! Keeps a week of daily partitions ahead. Every worker does it: it costs nothing when they are
//! there, and each then knows how many days are left.

use std::sync::Arc;

use crate::{context::Context, metrics::PARTITION_DAYS};

/// One run.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let made = context.postgres.make_partitions().await;
    // Also after a failure: that is when the days run out.
    let days = context.postgres.partition_days_ahead().await?;
    PARTITION_DAYS.set(f64::from(days));
    let made = made?;
    if made > 0 {
        tracing::info!(made, days, "made daily partitions");
    }
    Ok(())
}
