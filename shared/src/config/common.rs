//! Sections that every process has.

use std::time::Duration;

use rand::RngExt as _;

use super::{Problems, SecretUrl};
use crate::{
    clock::Clock,
    domain::{NodeId, PartitionCount},
    postgres::Postgres,
    redis::StoreSettings,
};

crate::section! {
    /// Which process this is among its like.
    pub struct NodeSettings = "node" {
        /// Name of the process, unique in the deployment; in logs, in `connected` and in Redis.
        /// Without it: the host's name and four random characters.
        id: Option<NodeId> = None,
    }
}

impl NodeSettings {
    /// The name that was set, or one that no other process has.
    pub fn name(&self) -> NodeId {
        if let Some(id) = &self.id {
            return id.clone();
        }
        let host: String = hostname()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            .take(59)
            .collect();
        let suffix: u16 = rand::rng().random();
        let host = if host.is_empty() { "node" } else { &host };
        format!("{host}-{suffix:04x}")
            .parse()
            .expect("only allowed characters, at most 64 of them")
    }
}

/// The host's name: the environment has it in containers and shells, the kernel elsewhere.
#[allow(
    clippy::disallowed_methods,
    reason = "settings are what may read the environment"
)]
fn hostname() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty())
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

crate::section! {
    /// Where Redis is and how it is treated.
    pub struct RedisSettings = "redis" {
        /// `redis://`, `rediss://` (TLS), `redis-cluster://` or `redis-sentinel://`, with user and
        /// password if there are any. Also `TIDEGATE_REDIS_URL`.
        url: SecretUrl = SecretUrl::new("redis://127.0.0.1:6379"),
        /// Number of partitions, fixed when the deployment is born: a process that is told
        /// another number refuses to start.
        partitions: u16 = 256 => 1..=16384,
        /// Longest wait for one call. A publish is tried for twice this long.
        command_timeout: Duration = Duration::from_secs(1) => Duration::from_millis(50)..=Duration::from_secs(30),
        /// Most calls in flight to one Redis server; what comes on top waits for its turn.
        max_in_flight: u32 = 512 => 1..=65536,
        /// How long the id of a request is remembered, so that a retry happens once.
        idempotency_ttl: Duration = Duration::from_hours(1) => Duration::from_mins(1)..=Duration::from_hours(24),
        /// Share of `maxmemory` from which on nothing new is accepted.
        memory_limit: f64 = 0.85 => 0.1..=1.0,
    }
}

impl RedisSettings {
    /// Refuses a URL that cannot be read.
    pub fn check(&self, problems: &mut Problems) {
        if let Err(error) = self.store(Clock::told()).check_url() {
            problems.add("redis.url", error);
        }
    }

    /// As the store takes them; it keeps `clock` by Redis'.
    pub fn store(&self, clock: Clock) -> StoreSettings {
        StoreSettings {
            url: self.url.expose().to_owned(),
            partitions: PartitionCount(self.partitions),
            command_timeout: self.command_timeout,
            max_in_flight: self.max_in_flight as usize,
            idempotency_ttl: self.idempotency_ttl,
            memory_limit: self.memory_limit,
            clock,
        }
    }
}

crate::section! {
    /// Where Postgres is.
    pub struct PostgresSettings = "postgres" {
        /// `postgres://user:password@host/database`. Also `TIDEGATE_DATABASE_URL`.
        url: SecretUrl = SecretUrl::new("postgres://tidegate@127.0.0.1/tidegate"),
        /// Most connections of this process.
        max_connections: u32 = 10 => 1..=1000,
        /// Longest wait for a free connection.
        acquire_timeout: Duration = Duration::from_secs(3) => Duration::from_millis(100)..=Duration::from_mins(1),
    }
}

impl PostgresSettings {
    /// Refuses a URL that cannot be read.
    pub fn check(&self, problems: &mut Problems) {
        if let Err(wrong) = Postgres::check_url(self.url.expose()) {
            problems.add("postgres.url", wrong);
        }
    }
}

crate::section! {
    /// Conversations.
    pub struct ConversationsSettings = "conversations" {
        /// Most participants of a conversation whose messages are copied to their queues; those of a larger one
        /// read its own log.
        inbox_max_members: u32 = 500 => 2..=10_000,
        /// A conversation in which nothing was said for this long is archived: it can be read, and not be
        /// written to. Without it: never.
        archive_after: Option<Duration> = None => Some(Duration::from_secs(1))..=Some(Duration::from_hours(24 * 3650)),
    }
}

crate::choice! {
    /// What a log line looks like.
    pub enum LogFormat {
        /// Pretty on a terminal, else JSON.
        Auto = "auto",
        /// One JSON object a line.
        Json = "json",
        /// For people, with colours.
        Pretty = "pretty",
    }
}

crate::section! {
    /// What is logged, to standard output.
    pub struct LogSettings = "log" {
        /// What a line looks like; `auto` is pretty on a terminal, else JSON.
        format: LogFormat = LogFormat::Auto,
        /// Least level: `error`, `warn`, `info`, `debug` or `trace`, also per module:
        /// `info,gateway::session=debug`. Can be changed at run time: `PUT /log-level` on the ops listener.
        level: String = "info".to_owned(),
    }
}

impl LogSettings {
    /// Refuses a level that cannot be read.
    pub fn check(&self, problems: &mut Problems) {
        if !crate::logging::is_level(&self.level) {
            problems.add("log.level", crate::logging::InvalidLevel.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(redis: &str, postgres: &str) -> String {
        let mut problems = Problems::default();
        let redis = RedisSettings {
            url: SecretUrl::new(redis),
            ..RedisSettings::default()
        };
        redis.check(&mut problems);
        let postgres = PostgresSettings {
            url: SecretUrl::new(postgres),
            ..PostgresSettings::default()
        };
        postgres.check(&mut problems);
        problems.to_string()
    }

    #[test]
    fn urls_are_read_before_anything_is_connected() {
        const REDIS: &str = "redis-cluster://user:pw@a:1?node=b:2";
        const POSTGRES: &str = "postgresql://user:pw@h:5/db?sslmode=require";
        assert_eq!(problems(REDIS, POSTGRES), "");
        assert_eq!(problems("rediss://h", "postgres:///db?host=/run"), "");
        for wrong in [
            "",
            "localhost",
            "http://u:swordfish@h",
            "redis://u:swordfish@h:port",
            "redis://u:swordfish@h/7",
            "redis-sentinel://u:swordfish@h",
            "swordfish",
        ] {
            let found = problems(wrong, POSTGRES);
            assert!(found.starts_with("redis.url: "), "{wrong}: {found}");
            assert!(!found.contains("swordfish"), "{found}");
        }
        for wrong in [
            "",
            "localhost/db",
            "mysql://u:swordfish@h/db",
            "postgres://u:swordfish@h:port/db",
            "postgres://u:swordfish@h/db?sslmode=no",
            "swordfish",
        ] {
            let found = problems(REDIS, wrong);
            assert!(found.starts_with("postgres.url: "), "{wrong}: {found}");
            assert!(!found.contains("swordfish"), "{found}");
        }
    }
}
