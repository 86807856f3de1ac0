//! Users whose last session ended and whom no gateway has settled: those of reaped nodes, and those
//! whose gateway stopped while they had time to come back.

use std::sync::Arc;

use shared::{domain::Partition, redis::MOST_SETTLED};

use crate::{context::Context, metrics::GONE};

/// One run over all partitions.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let all: Vec<_> = (0..context.store.partitions().0).map(Partition).collect();
    loop {
        let gone = context.store.settle_presences(&all).await?.len();
        GONE.increment(gone as u64);
        if gone > 0 {
            tracing::debug!(users = gone, "users are gone");
        }
        if gone < MOST_SETTLED {
            return Ok(());
        }
    }
}
