//! Settings of the worker.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use shared::{
    config::{
        ConversationsSettings, LogSettings, NodeSettings, PostgresSettings, Problems,
        RedisSettings, Size,
    },
    contents::ContentsSettings,
    section, settings,
};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const DAY: u64 = 24 * 3600;

section! {
    /// The listener for metrics, probes and the log level. Not for the public.
    pub struct OpsSettings = "ops" {
        /// Where to listen. Port 0 takes a free one.
        listen: SocketAddr = (Ipv4Addr::UNSPECIFIED, 9190).into(),
    }
}

section! {
    /// Writing behind: from Redis to Postgres.
    pub struct PersistSettings = "persist" {
        /// Pause after a round that found nothing.
        poll_interval: Duration = Duration::from_millis(100) => Duration::from_millis(1)..=seconds(10),
        /// Most records of a transaction.
        batch_rows: u32 = 500 => 1..=10_000,
        /// Most bytes of a transaction.
        batch_bytes: Size = Size::mib(1) => Size::kib(16)..=Size::mib(64),
        /// Lanes that write at the same time, each with a connection to Postgres and a share of the
        /// partitions. Not more than `postgres.max_connections` less two.
        lanes: u32 = 4 => 1..=64,
        /// How long a worker owns a partition without renewing it; after a crash another takes over then.
        lease_ttl: Duration = seconds(10) => seconds(1)..=seconds(600),
    }
}

section! {
    /// How long things are kept.
    pub struct RetentionSettings = "retention" {
        /// In Redis, if Postgres has them: older entries are read from there.
        hot_window: Duration = seconds(2 * DAY) => seconds(1)..=seconds(30 * DAY),
        /// In Postgres, day by day: commands with their states, and the queues of users. A day with commands
        /// that have not ended is kept, whatever its age; how long a command lives is said when it is created.
        record: Duration = seconds(14 * DAY) => seconds(DAY)..=seconds(365 * DAY),
        /// In Postgres, day by day: what was said in conversations. Without it: for ever. Not shorter than `record`.
        messages: Option<Duration> = None => Some(seconds(DAY))..=Some(seconds(3650 * DAY)),
        /// Commands that expired, in Postgres, from the day on which they were archived.
        archive: Duration = seconds(90 * DAY) => seconds(DAY)..=seconds(3650 * DAY),
    }
}

section! {
    /// Pauses between two runs of the jobs.
    pub struct JobsSettings = "jobs" {
        /// Expiring commands.
        expire_interval: Duration = seconds(60) => Duration::from_millis(100)..=seconds(DAY),
        /// Trimming logs in Redis; a sweep goes over all of them.
        trim_interval: Duration = seconds(600) => Duration::from_millis(100)..=seconds(DAY),
        /// Looking for gateways that died without closing their sessions.
        reap_interval: Duration = seconds(10) => Duration::from_millis(100)..=seconds(3600),
        /// Looking for users who are gone and whom no gateway has settled.
        presences_interval: Duration = seconds(2) => Duration::from_millis(100)..=seconds(3600),
        /// Telling Redis of changes of conversations that a gateway left.
        changes_interval: Duration = seconds(5) => Duration::from_millis(100)..=seconds(3600),
        /// Making copies of messages that a gateway left.
        copies_interval: Duration = seconds(10) => Duration::from_millis(100)..=seconds(3600),
        /// Ending calls that a gateway left.
        calls_interval: Duration = seconds(5) => Duration::from_millis(100)..=seconds(3600),
        /// Archiving idle conversations, if that is switched on.
        archive_interval: Duration = seconds(3600) => Duration::from_millis(100)..=seconds(DAY),
        /// Making the daily partitions of Postgres ahead of time, and dropping old ones.
        partitions_interval: Duration = seconds(3600) => seconds(1)..=seconds(DAY),
    }
}

settings! {
    /// All settings of the worker.
    pub struct Settings {
        ops: OpsSettings,
        node: NodeSettings,
        redis: RedisSettings,
        postgres: PostgresSettings,
        persist: PersistSettings,
        retention: RetentionSettings,
        jobs: JobsSettings,
        conversations: ConversationsSettings,
        contents: ContentsSettings,
        log: LogSettings,
    }
    elsewhere: &["http", "auth", "session", "delivery", "directory", "drain", "messages", "presence", "calls"];
    check: check;
}

fn check(settings: &Settings, problems: &mut Problems) {
    settings.log.check(problems);
    settings.redis.check(problems);
    settings.postgres.check(problems);
    settings.contents.check(problems);
    if settings.persist.lanes + 2 > settings.postgres.max_connections {
        problems.add(
            "persist.lanes",
            "must leave two of postgres.max_connections to the jobs",
        );
    }
    if settings
        .retention
        .messages
        .is_some_and(|it| it < settings.retention.record)
    {
        problems.add(
            "retention.messages",
            "must not be shorter than retention.record",
        );
    }
}
