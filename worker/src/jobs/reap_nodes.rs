//! Removes the sessions of gateways that died without closing them.
//! Whom it believes dead is for [`crate::reaper`].

use std::{sync::Arc, time::Duration};

use shared::{domain::Partition, redis::StoreError};
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
    let now = Instant::now();
    let mut reaper = context.reaper.lock().await;
    let verdict = reaper.judge(&seen, now);
    let mut dead = reaper.outlived(&seen, now);
    drop(reaper);
    match verdict {
        Verdict::HoldOff { missing, known } => {
            tracing::warn!(
                missing,
                known,
                "too many nodes are missing to believe it, none is reaped"
            );
        }
        Verdict::Reap(missing) => dead.extend(missing),
    }
    let mut done = Ok(());
    for node in dead {
        match reap(&context, &node).await {
            Ok(()) => context.reaper.lock().await.is_reaped(&node),
            Err(error) => done = Err(error.context(format!("node {}", node.node))),
        }
    }
    done
}

/// Everything that can be reached; fails if that was not all.
async fn reap(context: &Context, dead: &Incarnation) -> anyhow::Result<()> {
    let (mut sessions, mut done) = (0, Ok(()));
    // Workers have no sessions.
    let has_sessions = !dead.node.as_str().starts_with(WORKER_PREFIX);
    let partitions = if has_sessions {
        context.store.partitions().0
    } else {
        0
    };
    for partition in (0..partitions).map(Partition) {
        match empty(context, partition, dead).await {
            Ok(Some(removed)) => sessions += removed,
            Ok(None) => {
                tracing::warn!(node = %dead.node, sessions, "a node that was taken for dead is back");
                return Ok(());
            }
            Err(error) => done = Err(error),
        }
    }
    done?;
    // Unless it is back: then its name stays.
    context.store.forget_node(&dead.node, dead.number).await?;
    tracing::info!(node = %dead.node, incarnation = dead.number, sessions, "reaped what a node left");
    Ok(())
}

/// Answers how many sessions that was, or nothing if the node lives: it tells them all again.
async fn empty(
    context: &Context,
    partition: Partition,
    dead: &Incarnation,
) -> Result<Option<usize>, StoreError> {
    let mut sessions = 0;
    loop {
        if context.store.is_alive(&dead.node, dead.number).await? {
            return Ok(None);
        }
        let removed = context
            .store
            .reap(partition, &dead.node, dead.number, STEP)
            .await?
            .len();
        sessions += removed;
        REAPED.increment(removed as u64);
        if removed < STEP as usize {
            return Ok(Some(sessions));
        }
        tokio::time::sleep(PACE).await;
    }
}
