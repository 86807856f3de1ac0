//! Removes the sessions of gateways that died without closing them.
//! Whom it believes dead is for [`crate::reaper`].

use std::{sync::Arc, time::Duration};

use shared::domain::Partition;
use tokio::time::Instant;

use crate::{
    context::{Context, WORKER_PREFIX},
    metrics::REAPED,
    reaper::{Incarnation, Verdict},
};

/// Sessions removed in one call.
const STEP: u32 = 100;
/// Pause between two calls: everybody who watches these users hears of it.
const PACE: Duration = Duration::from_millis(2);

/// One run: a look, and what follows from it.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let seen: Vec<_> = context
        .store
        .nodes()
        .await?
        .into_iter()
        .map(|(node, number, alive)| (Incarnation { node, number }, alive))
        .collect();
    let verdict = context.reaper.lock().await.judge(&seen, Instant::now());
    match verdict {
        Verdict::HoldOff { missing, known } => {
            tracing::warn!(
                missing,
                known,
                "too many nodes are missing to believe it, none is reaped"
            );
        }
        Verdict::Reap(dead) => {
            for node in dead {
                reap(&context, &node).await?;
            }
        }
    }
    Ok(())
}

async fn reap(context: &Context, dead: &Incarnation) -> anyhow::Result<()> {
    let mut sessions = 0;
    // Workers have no sessions.
    if !dead.node.as_str().starts_with(WORKER_PREFIX) {
        for partition in (0..context.store.partitions().0).map(Partition) {
            loop {
                let removed = context
                    .store
                    .reap(partition, &dead.node, dead.number, STEP)
                    .await?;
                sessions += removed.len();
                REAPED.increment(removed.len() as u64);
                if removed.len() < STEP as usize {
                    break;
                }
                tokio::time::sleep(PACE).await;
            }
        }
    }
    context.store.forget_node(&dead.node, dead.number).await?;
    tracing::info!(node = %dead.node, incarnation = dead.number, sessions, "reaped a dead node");
    Ok(())
}
