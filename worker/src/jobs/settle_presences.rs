//! Users whose last session ended and whom no gateway has settled: those of reaped nodes, and those
//! whose gateway stopped while they had time to come back.

use std::sync::Arc;

use shared::domain::{Partition, UserId};

use crate::{context::Context, metrics::GONE};

/// Fewer than so many users: that were all.
const FULL: usize = 256;

/// One run over all partitions.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let all: Vec<_> = (0..context.store.partitions().0).map(Partition).collect();
    loop {
        let gone = context.store.settle_presences(&all).await?;
        let is_all = gone.len() < FULL;
        settled(&gone);
        if is_all {
            return Ok(());
        }
    }
}

/// These users are gone, and nobody else learns it: what has to happen then happens here.
fn settled(gone: &[UserId]) {
    GONE.increment(gone.len() as u64);
    if !gone.is_empty() {
        tracing::debug!(users = gone.len(), "users are gone");
    }
}
