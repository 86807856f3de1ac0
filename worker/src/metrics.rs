//! Metrics of the worker.

use shared::metrics::{COUNTS, Counter, Gauge, Histogram, LATENCY, Table};

/// All tables a worker installs.
pub const TABLES: &[Table] = &[shared::metrics::TABLE, TABLE];

/// How long a record waits for Postgres: from milliseconds to the hour of an outage.
const LAG: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
];

shared::label! {
    /// Why a batch was not written.
    pub enum Cause: "cause" {
        Postgres = "postgres",
        Redis = "redis",
        Fenced = "fenced",
    }
}

shared::label! {
    /// A job.
    pub enum JobName: "job" {
        MakePartitions = "make_partitions",
        DropPartitions = "drop_partitions",
        ExpireCommands = "expire_commands",
        TrimLogs = "trim_logs",
        ReapNodes = "reap_nodes",
        SettlePresences = "settle_presences",
        TellChanges = "tell_changes",
        RepairCopies = "repair_copies",
        EndCalls = "end_calls",
        ArchiveIdle = "archive_idle",
    }
}

shared::label! {
    /// How a run of a job ended.
    pub enum RunOutcome: "outcome" {
        Done = "done",
        Failed = "failed",
        /// Another worker leads this job.
        Elsewhere = "elsewhere",
    }
}

shared::label! {
    /// What a record tells.
    pub enum Told: "record" {
        Command = "command",
        Status = "status",
        Message = "message",
        Receipt = "receipt",
        Preferences = "preferences",
        Notification = "notification",
        Directory = "directory",
        Revocation = "revocation",
        Delivered = "delivered",
        Received = "received",
        Seen = "seen",
    }
}

shared::label! {
    /// What is ended, moved or removed when its time is over.
    pub enum Step: "step" {
        ExpireDirect = "expire_direct",
        ExpireBroadcasts = "expire_broadcasts",
        ArchiveDirect = "archive_direct",
        ArchiveBroadcasts = "archive_broadcasts",
        ForgetArchived = "forget_archived",
        ForgetRevocations = "forget_revocations",
        DropTables = "drop_tables",
    }
}

shared::label! {
    /// A state of a command that its sender hears of.
    pub enum Reached: "state" {
        Delivered = "delivered",
        Completed = "completed",
        Expired = "expired",
        Cancelled = "cancelled",
    }
}

shared::metrics! {
    pub static TABLE;
    /// Records taken from Redis to Postgres.
    pub static PERSISTED: Counter = "tidegate_persist_records_total";
    /// Records of a transaction.
    pub static BATCH_SIZE: Histogram = "tidegate_persist_batch_records", COUNTS;
    /// Time to write and commit a batch, senders told.
    pub static BATCH_TIME: Histogram = "tidegate_persist_batch_seconds", LATENCY;
    /// Time from the append in Redis to the commit in Postgres, of every record.
    pub static TIME_TO_POSTGRES: Histogram<Told> = "tidegate_persist_lag_seconds", LAG;
    /// Batches that were not written and are tried again, and rounds in which a shard was away.
    pub static BATCH_FAILURES: Counter<Cause> = "tidegate_persist_failures_total";
    /// Records put into quarantine. Somebody should look at them.
    pub static QUARANTINED: Counter = "tidegate_persist_quarantined_total";
    /// State changes of commands, written and told to their senders.
    pub static CHANGES: Counter<Reached> = "tidegate_state_changes_total";
    /// Records that wait in the partitions of this worker, at its last look.
    pub static BACKLOG: Gauge = "tidegate_persist_backlog_records";
    /// Age of the oldest record that waits in the partitions of this worker, at its last look.
    pub static BACKLOG_AGE: Gauge = "tidegate_persist_backlog_age_seconds";
    /// 1 while batches cannot be written.
    pub static OUTAGE: Gauge = "tidegate_persist_outage";
    /// Partitions this worker owns.
    pub static OWNED: Gauge = "tidegate_worker_partitions";
    /// Days for which every table has a partition; below 3 is an alarm, below 0 nothing can be written.
    pub static PARTITION_DAYS: Gauge = "tidegate_partition_days_ahead";
    /// Runs of jobs.
    pub static JOB_RUNS: Counter<(JobName, RunOutcome)> = "tidegate_job_runs_total";
    /// Time a run of a job takes.
    pub static JOB_TIME: Histogram<JobName> = "tidegate_job_seconds", LAG;
    /// When a job last ran to its end on this worker, in seconds since 1970; 0 if it has not.
    pub static JOB_FINISHED: Gauge<JobName> = "tidegate_job_last_finished_seconds";
    /// What sweeps ended, moved or removed.
    pub static SWEPT: Counter<Step> = "tidegate_swept_total";
    /// Commands that expired.
    pub static EXPIRED: Counter = "tidegate_commands_expired_total";
    /// Changes of conversations that whoever made them had not told Redis.
    pub static CHANGES_TOLD: Counter = "tidegate_conversation_changes_told_total";
    /// Copies of messages made where whoever made them had stopped.
    pub static COPIES_REPAIRED: Counter = "tidegate_message_copies_repaired_total";
    /// Calls ended, or told to be over, where a gateway had not.
    pub static CALLS_ENDED: Counter = "tidegate_calls_swept_total";
    /// Conversations archived for being idle.
    pub static ARCHIVED: Counter = "tidegate_conversations_archived_total";
    /// Entries removed from logs in Redis.
    pub static TRIMMED: Counter = "tidegate_log_entries_trimmed_total";
    /// Sessions of dead nodes that were removed.
    pub static REAPED: Counter = "tidegate_sessions_reaped_total";
    /// Users who are gone, and whom no gateway has settled.
    pub static GONE: Counter = "tidegate_presence_settled_total";
}
