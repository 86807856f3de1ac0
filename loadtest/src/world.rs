//! A deployment to measure: its own Redis with `appendfsync always`, its own durable
//! Postgres, gateways and a worker as the release build made them. Limits that protect a
//! node from its clients are raised, since the load comes from few users.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use shared::redis::{Store, StoreSettings};
use testkit::{
    Database, Node, Postgres, Redis, RedisOptions,
    guardian::guardian,
    node::{Settings, run_to_end},
};

use crate::users::{self, User};

/// Raised limits, beside what every test deployment sets.
const SETTINGS: [(&str, &str); 20] = [
    ("TIDEGATE_HTTP__LISTEN", "127.0.0.1:0"),
    ("TIDEGATE_OPS__LISTEN", "127.0.0.1:0"),
    ("TIDEGATE_AUTH__SECRET", testkit::deployment::JWT_SECRET),
    ("TIDEGATE_DRAIN__LB_GRACE", "0s"),
    ("TIDEGATE_DRAIN__WINDOW", "1s"),
    ("TIDEGATE_LOG__FORMAT", "json"),
    ("TIDEGATE_LOG__LEVEL", "warn"),
    ("TIDEGATE_SESSION__MAX_PER_USER", "10000"),
    ("TIDEGATE_SESSION__FRAMES_PER_SECOND", "1000000"),
    ("TIDEGATE_SESSION__FRAMES_BURST", "1000000"),
    ("TIDEGATE_SESSION__HANDSHAKES_PER_SECOND", "1000000"),
    ("TIDEGATE_DELIVERY__REQUESTS_PER_SECOND", "1000000"),
    ("TIDEGATE_DELIVERY__REQUESTS_BURST", "1000000"),
    ("TIDEGATE_DELIVERY__COMMANDS_PER_SECOND", "1000000"),
    ("TIDEGATE_DELIVERY__COMMANDS_BURST", "1000000"),
    ("TIDEGATE_DELIVERY__BROADCASTS_PER_MINUTE", "1000000"),
    ("TIDEGATE_DELIVERY__BROADCASTS_BURST", "1000000"),
    ("TIDEGATE_AUTH__ATTEMPTS_PER_ACCOUNT", "100000"),
    ("TIDEGATE_AUTH__ATTEMPTS_PER_ADDRESS", "100000"),
    ("TIDEGATE_SESSION__SLOW_CLOSE", "300s"),
];

/// Everything a row needs. Dropping it ends it.
pub struct World {
    pub redis: Redis,
    pub database: Database,
    pub gateways: Vec<Node>,
    pub worker: Node,
}

impl World {
    /// Servers with users and `gateways` running gateways; the worker is started by rows
    /// that want it.
    pub async fn start(postgres: &Arc<Postgres>, gateways: usize) -> anyhow::Result<Self> {
        Self::start_with(postgres, gateways, &[]).await
    }

    /// The same with other settings, by their names in the environment.
    pub async fn start_with(
        postgres: &Arc<Postgres>,
        gateways: usize,
        changes: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        // A rewrite of the append-only file in the middle of a run would be measured, too.
        let redis =
            Redis::start_with(RedisOptions::default().with("auto-aof-rewrite-percentage", "0"))
                .await;
        let database = postgres.database("bench").await;
        let mut settings: Settings = SETTINGS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let changes = changes.iter().copied();
        settings.extend(changes.map(|(name, value)| (name.to_owned(), value.to_owned())));
        settings.insert("TIDEGATE_REDIS_URL".to_owned(), redis.url());
        settings.insert("TIDEGATE_DATABASE_URL".to_owned(), database.url());
        let (code, output) = run_to_end("gateway", &["migrate"], &settings).await;
        anyhow::ensure!(code == Some(0), "`gateway migrate` failed:\n{output}");
        users::insert(&database).await?;
        let worker = Node::new("worker", "worker-0", settings.clone());
        vouch(&redis, &worker).await?;
        let gateways: Vec<Node> = (0..gateways)
            .map(|n| Node::new("gateway", &format!("gateway-{n}"), settings.clone()))
            .collect();
        for gateway in &gateways {
            gateway.start().await;
        }
        for gateway in &gateways {
            gateway.until_ready().await;
        }
        Ok(Self {
            redis,
            database,
            gateways,
            worker,
        })
    }

    /// The public address of a gateway.
    pub fn address(&self, gateway: usize) -> SocketAddr {
        self.gateways[gateway].address()
    }

    /// The process ids of the gateways.
    pub fn gateway_pids(&self) -> Vec<u32> {
        self.gateways
            .iter()
            .map(|gateway| gateway.process().pid())
            .collect()
    }

    /// Our own way to its Redis.
    pub async fn store(&self) -> anyhow::Result<Store> {
        let settings = StoreSettings {
            command_timeout: Duration::from_secs(2),
            ..StoreSettings::new(self.redis.url())
        };
        Ok(Store::connect(settings).await?)
    }

    /// Makes a group of as many users, from one on.
    pub async fn group(&self, id: &str, first: User, members: u64) -> anyhow::Result<()> {
        let first = first.id();
        let statements = [
            format!(
                "INSERT INTO conversations (id, type, created_by, created_at, active_at) \
                 VALUES ('{id}', 'GROUP', '{first}', now(), now())"
            ),
            format!(
                "INSERT INTO conversation_participants \
                     (conversation_id, user_id, role, joined_at, joined, since) \
                 SELECT '{id}', id, 'MEMBER', now(), 1, '00000000-0000-0000-0000-000000000000' \
                 FROM users WHERE id >= '{first}' ORDER BY id LIMIT {members}"
            ),
        ];
        for statement in statements {
            let done = self.database.try_query(&statement).await;
            done.map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    /// How often clients have called these commands of its Redis. Where functions call them, too, that
    /// is in it.
    pub async fn calls(&self, commands: &[&str]) -> anyhow::Result<f64> {
        let info = self.redis.try_call(&["INFO", "commandstats"]).await?;
        let text = info.text().unwrap_or_default();
        let calls = text.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let count = rest.split(',').next()?.parse::<f64>().ok()?;
            commands.contains(&name).then_some(count)
        });
        Ok(calls.sum())
    }

    /// What its nodes logged: warnings and errors.
    pub fn complaints(&self) -> String {
        self.gateways
            .iter()
            .chain([&self.worker])
            .map(Node::log)
            .collect()
    }
}

/// Has a worker look at every partition once, as in any deployment that is not minutes old:
/// before, Redis alone cannot tell a new user from one it has forgotten, and every reader asks
/// Postgres, too.
async fn vouch(redis: &Redis, worker: &Node) -> anyhow::Result<()> {
    worker.start().await;
    worker.until_ready().await;
    let deadline = Instant::now() + Duration::from_mins(1);
    for partition in 0..256 {
        let meta = format!("{{p{partition}}}:meta");
        while redis
            .try_call(&["HGET", &meta, "complete"])
            .await?
            .text()
            .is_none_or(|vouched| vouched != "1")
        {
            anyhow::ensure!(
                Instant::now() < deadline,
                "no worker vouches for {meta}\n{}",
                worker.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    worker.stop(Duration::from_secs(20)).await;
    Ok(())
}

/// A Postgres for all rows, with fsync.
pub async fn postgres() -> anyhow::Result<Arc<Postgres>> {
    let folder = guardian().folder("pg");
    Postgres::open(&folder, None, true)
        .await
        .map(Arc::new)
        .map_err(anyhow::Error::msg)
}
