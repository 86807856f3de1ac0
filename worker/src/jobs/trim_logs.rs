//! Removes from Redis what is older than the hot window and in Postgres. Appending trims nothing,
//! so idle logs are swept, too.

use std::{sync::Arc, time::Duration};

use crate::{context::Context, metrics::TRIMMED};

/// Keys looked at in one step.
const STEP: u32 = 200;
/// Pause between two steps, so that the sweep takes little of Redis.
const PACE: Duration = Duration::from_millis(5);

/// One run: a sweep over all shards. One that is away does not keep the others from theirs.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let mut swept = Ok(());
    for shard in 0..context.store.shards() {
        if let Err(error) = sweep(&context, shard).await {
            swept = Err(error.context(format!("shard {shard}")));
        }
    }
    swept
}

async fn sweep(context: &Context, shard: usize) -> anyhow::Result<()> {
    let window = context.settings.retention.hot_window;
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        let step = context.store.trim_step(shard, at, window, STEP).await?;
        TRIMMED.increment(step.entries);
        cursor = step.next;
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}
