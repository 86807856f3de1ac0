//! Ends calls that their gateways did not: those died, or could not tell that a call is over.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use shared::{
    calls::{self, LEASE},
    domain::{CallId, Durability, Partition},
    redis::{CallVerdict, StoreError},
};

use crate::{context::Context, metrics::CALLS_ENDED};

/// Calls of a partition that are looked at in one run.
const PAGE: u32 = 200;
/// Calls, or partitions, at the same time.
const AT_ONCE: usize = 8;

/// One run over all partitions. What cannot be ended does not keep the rest from it.
pub async fn run(context: Arc<Context>) -> anyhow::Result<()> {
    let partitions = (0..context.store.partitions().0).map(Partition);
    let looked: Vec<_> = stream::iter(partitions)
        .map(|partition| context.store.calls_due(partition, PAGE))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let (mut due, mut last) = (Vec::new(), None);
    for found in looked {
        match found {
            Ok(calls) => due.extend(calls),
            Err(error) => last = Some(anyhow::Error::new(error)),
        }
    }
    let ended: Vec<_> = stream::iter(due)
        .map(|call| end(&context, call))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for result in ended {
        if let Err(error) = result {
            last = Some(anyhow::Error::new(error));
        }
    }
    last.map_or(Ok(()), Err)
}

async fn end(context: &Context, call: CallId) -> Result<(), StoreError> {
    let step = context.store.call_lapse(call, LEASE).await?;
    if !matches!(step.verdict, CallVerdict::Done | CallVerdict::Ended) {
        return Ok(());
    }
    let Some(call) = step.call else {
        return Ok(());
    };
    calls::settle(&context.store, &call, Durability::Durable).await?;
    CALLS_ENDED.increment(1);
    if let Some(ending) = call.end {
        tracing::info!(call = %call.id, reason = %ending.reason, "ended a call that was left");
    }
    Ok(())
}
