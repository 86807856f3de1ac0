//! Runs a job again and again.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use shared::metrics::Label;
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    context::Context,
    jobs::{Job, Who},
    metrics::{JOB_FINISHED, JOB_RUNS, JOB_TIME, JobName, RunOutcome},
};

/// Spreads the first runs of workers that start together.
const SPREAD: Duration = Duration::from_millis(500);

/// Starts the schedule of a job.
pub fn start(context: Arc<Context>, job: &'static Job) {
    let life = context.lifecycle.clone();
    life.spawn("job", run(context, job));
}

/// The job's name as text.
fn text(name: JobName) -> &'static str {
    JobName::VALUES[Label::index(name)]
}

async fn run(context: Arc<Context>, job: &'static Job) {
    let interval = (job.interval)(&context.settings.jobs);
    let first = SPREAD
        .min(interval)
        .mul_f64(rand::rng().random_range(0.0..=1.0));
    let mut tick = tokio::time::interval_at(Instant::now() + first, interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Longer than the pause between two runs: a leader stays one while it lives.
    let ttl = interval * 2 + Duration::from_secs(10);
    let lease = format!("job:{}", text(job.name));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = context.lifecycle.stopping() => break,
        }
        if job.who == Who::Leader {
            match context.store.lease(&lease, &context.me, ttl).await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    JOB_RUNS.of((job.name, RunOutcome::Elsewhere)).increment(1);
                    continue;
                }
                Err(error) => {
                    tracing::debug!(job = text(job.name), %error, "cannot lead");
                    continue;
                }
            }
        }
        // Dropped at the soft stop: what a job does is done in steps that can be repeated.
        tokio::select! {
            () = once(&context, job) => {}
            () = lead_on(&context, job, &lease, ttl) => {
                tracing::warn!(job = text(job.name), "another worker leads now");
            }
            () = context.lifecycle.stopping() => break,
        }
    }
    if job.who == Who::Leader {
        let _ = context.store.release(&lease, &context.me).await;
    }
}

async fn once(context: &Arc<Context>, job: &Job) {
    let began = Instant::now();
    let result = (job.run)(context.clone()).await;
    JOB_TIME.of(job.name).record(began.elapsed().as_secs_f64());
    let outcome = match result {
        Ok(()) => {
            let now = context.store.clock().now();
            JOB_FINISHED.of(job.name).set(now.0 as f64 / 1000.0);
            RunOutcome::Done
        }
        Err(error) => {
            tracing::warn!(
                job = text(job.name),
                error = format!("{error:#}"),
                "a job failed, it runs again at its time"
            );
            RunOutcome::Failed
        }
    };
    JOB_RUNS.of((job.name, outcome)).increment(1);
}

/// Renews the lease while a run lasts; ends when it is lost.
async fn lead_on(context: &Context, job: &Job, lease: &str, ttl: Duration) {
    loop {
        tokio::time::sleep(ttl / 3).await;
        if job.who == Who::Leader
            && matches!(context.store.lease(lease, &context.me, ttl).await, Ok(None))
        {
            return;
        }
    }
}
