//! Users whose last session ended and whom no gateway has settled: those of reaped nodes, and those
//! whose gateway stopped while they had time to come back.

use std::sync::Arc;

use shared::domain::Partition;

use crate::{context::Context, metrics::GONE};

/// One run over all partitions; fails if some could not be asked.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let mut partitions: Vec<_> = (0..context.store.partitions().0).map(Partition).collect();
    let mut failed = None;
    while !partitions.is_empty() {
        let settled = context.store.settle_presences(&partitions).await;
        let gone = settled.gone.len();
        GONE.increment(gone as u64);
        if gone > 0 {
            tracing::debug!(users = gone, "users are gone");
        }
        failed = failed.or(settled.error);
        partitions = settled.more;
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
