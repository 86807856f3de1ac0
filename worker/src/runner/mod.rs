//! What turns: lanes that write, a keeper that holds partitions for them, a schedule of jobs.
//!
//! Every task here stops at the soft stop: lanes finish their batch, then the keeper gives the
//! leases back.

mod aside;
mod backoff;
mod each;
mod keeper;
mod lane;
mod pack;
mod schedule;
mod share;

use std::sync::Arc;

use crate::{
    context::Context,
    jobs::{JOBS, make_partitions},
};

/// Starts everything; ends with the lifecycle of the context.
pub async fn start(context: &Arc<Context>) {
    // What waits may be of days nobody has made yet.
    if let Err(error) = make_partitions::run(context.clone()).await {
        tracing::warn!(%error, "cannot make daily partitions for now");
    }
    // A lane loses a partition once and then has to be given it again: this is never full.
    let partitions = usize::from(context.store.partitions().0);
    let (lost_in, lost) = tokio::sync::mpsc::channel(partitions);
    let lanes = (0..context.settings.persist.lanes)
        .map(|_| lane::start(context, lost_in.clone()))
        .collect();
    keeper::start(context, lanes, lost);
    for job in JOBS {
        schedule::start(context.clone(), job);
    }
}
