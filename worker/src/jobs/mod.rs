//! What has to be done at a time of its own. A job is a file here and a line in [`JOBS`]; its
//! name is a value of the label of its metrics.
//!
//! Persisting is the one that never rests: it is run by lanes, not by the clock.

pub mod archive_idle;
pub mod drop_partitions;
pub mod end_calls;
pub mod expire_commands;
pub mod make_partitions;
pub mod persist;
pub mod reap_nodes;
pub mod repair_copies;
pub mod settle_presences;
pub mod tell_changes;
pub mod trim_logs;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{config::JobsSettings, context::Context, metrics::JobName};

/// A job that is run again and again.
pub struct Job {
    /// Its name in logs, metrics and leases.
    pub name: JobName,
    /// Pause between two runs.
    pub interval: fn(&JobsSettings) -> Duration,
    /// Who runs it.
    pub who: Who,
    /// One run. It may be dropped at any await: what it does is done in steps that can be
    /// repeated.
    pub run: fn(Arc<Context>) -> BoxFuture<'static, anyhow::Result<()>>,
}

/// Who runs a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The one worker that holds the job's lease.
    Leader,
    /// Every worker.
    Everyone,
}

/// All jobs.
pub const JOBS: &[Job] = &[
    Job {
        name: JobName::MakePartitions,
        interval: |settings| settings.partitions_interval,
        who: Who::Everyone,
        run: |context| Box::pin(make_partitions::run(context)),
    },
    Job {
        name: JobName::DropPartitions,
        interval: |settings| settings.partitions_interval,
        who: Who::Leader,
        run: |context| Box::pin(drop_partitions::run(context)),
    },
    Job {
        name: JobName::ExpireCommands,
        interval: |settings| settings.expire_interval,
        who: Who::Leader,
        run: |context| Box::pin(expire_commands::run(context)),
    },
    Job {
        name: JobName::TrimLogs,
        interval: |settings| settings.trim_interval,
        who: Who::Leader,
        run: |context| Box::pin(trim_logs::run(context)),
    },
    Job {
        name: JobName::ReapNodes,
        interval: |settings| settings.reap_interval,
        who: Who::Leader,
        run: |context| Box::pin(reap_nodes::run(context)),
    },
    Job {
        name: JobName::SettlePresences,
        interval: |settings| settings.presences_interval,
        who: Who::Leader,
        run: |context| Box::pin(settle_presences::run(context)),
    },
    Job {
        name: JobName::TellChanges,
        interval: |settings| settings.changes_interval,
        who: Who::Leader,
        run: |context| Box::pin(tell_changes::run(context)),
    },
    Job {
        name: JobName::RepairCopies,
        interval: |settings| settings.copies_interval,
        who: Who::Leader,
        run: |context| Box::pin(repair_copies::run(context)),
    },
    Job {
        name: JobName::EndCalls,
        interval: |settings| settings.calls_interval,
        who: Who::Leader,
        run: |context| Box::pin(end_calls::run(context)),
    },
    Job {
        name: JobName::ArchiveIdle,
        interval: |settings| settings.archive_interval,
        who: Who::Leader,
        run: |context| Box::pin(archive_idle::run(context)),
    },
];
