//! A whole Tidegate for a test: Redis, a database, gateways and a worker.

use std::{net::SocketAddr, sync::Arc};

use serde_json::Value;

use crate::{
    binaries,
    cluster::Cluster,
    node::{Node, Settings, run_to_end},
    postgres::{Database, Postgres},
    proxy::Proxy,
    redis::{Redis, RedisOptions},
    sentinel::Sentinel,
    socket::{Dialect, Socket, SocketOptions, stomp},
    wait::{PATIENCE, eventually},
};

/// The signing secret of every test deployment, so that tests can forge tokens.
pub const JWT_SECRET: &str = "a secret of the tests, long enough to be taken: 0123456789abcdef";

/// What a test wants.
pub struct Plan {
    pub gateways: usize,
    pub workers: usize,
    pub redis: RedisKind,
    /// A Postgres of its own, to be stopped.
    pub own_postgres: bool,
    /// A proxy between the nodes and a standalone Redis.
    pub proxied: bool,
    /// Settings of every process, beside those the deployment needs: full names of variables.
    pub settings: Settings,
    /// What sockets speak that do not say.
    pub dialect: Dialect,
}

/// Which Redis.
#[derive(Debug, Clone)]
pub enum RedisKind {
    Standalone(RedisOptions),
    Sentinel,
    Cluster,
    /// A cluster whose masters have a replica each.
    ReplicatedCluster,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            gateways: 2,
            workers: 1,
            redis: RedisKind::Standalone(RedisOptions::default()),
            own_postgres: false,
            proxied: false,
            settings: Settings::new(),
            dialect: Dialect::of_this_run(),
        }
    }
}

impl Plan {
    /// Sets a variable: `with("TIDEGATE_SESSION__PING_INTERVAL", "1s")`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    #[must_use]
    pub fn redis(mut self, kind: RedisKind) -> Self {
        self.redis = kind;
        self
    }

    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    #[must_use]
    pub fn own_postgres(mut self) -> Self {
        self.own_postgres = true;
        self
    }
}

/// The Redis of a deployment.
pub enum Backing {
    Standalone(Redis),
    Sentinel(Box<Sentinel>),
    Cluster(Cluster),
}

/// Everything of a test, running. Dropping it ends it; after a failure its logs are kept.
pub struct Deployment {
    pub gateways: Vec<Node>,
    pub workers: Vec<Node>,
    pub backing: Backing,
    pub database: Database,
    /// The network between the nodes and Redis, if the plan asked for one.
    pub proxy: Option<Proxy>,
    settings: Settings,
    dialect: Dialect,
    name: String,
}

/// A registered user with a token.
#[derive(Debug, Clone)]
pub struct User {
    pub id: String,
    pub name: String,
    pub password: String,
    pub token: String,
}

impl Deployment {
    /// Two gateways, a worker, one Redis.
    pub async fn start() -> Self {
        Self::start_with(Plan::default()).await
    }

    /// The same, with sockets of this dialect.
    pub async fn speaking(dialect: Dialect) -> Self {
        Self::start_with(Plan::default().dialect(dialect)).await
    }

    /// Starts everything and waits until every node is ready.
    pub async fn start_with(plan: Plan) -> Self {
        let deployment = Self::prepare(plan).await;
        deployment.launch().await;
        deployment
    }

    /// Starts every node that was prepared and waits until all are ready.
    pub async fn launch(&self) {
        for node in self.nodes() {
            node.launch();
        }
        for node in self.nodes() {
            node.until_listening().await;
        }
        for node in self.nodes() {
            node.until_ready().await;
        }
    }

    /// Servers and a migrated database; nodes described, not started.
    ///
    /// # Panics
    /// When the migration fails.
    pub async fn prepare(plan: Plan) -> Self {
        let name = test_name();
        let backing = match plan.redis {
            RedisKind::Standalone(options) => Backing::Standalone(Redis::start_with(options).await),
            RedisKind::Sentinel => Backing::Sentinel(Box::new(Sentinel::start().await)),
            RedisKind::Cluster => Backing::Cluster(Cluster::start().await),
            RedisKind::ReplicatedCluster => Backing::Cluster(Cluster::start_replicated().await),
        };
        let postgres = if plan.own_postgres {
            Arc::new(Postgres::start().await)
        } else {
            Postgres::shared().await
        };
        let database = postgres.database(&name).await;
        let mut redis = backing.url();
        let mut proxy = None;
        if let (true, Backing::Standalone(server)) = (plan.proxied, &backing) {
            let link = Proxy::start(([127, 0, 0, 1], server.port()).into()).await;
            redis = format!("redis://{}", link.address());
            proxy = Some(link);
        }
        let mut settings = base_settings(&redis, &database.url());
        settings.extend(plan.settings);
        let (code, output) = run_to_end("gateway", &["migrate"], &settings).await;
        assert_eq!(code, Some(0), "`gateway migrate` failed:\n{output}");
        let describe = |binary, count: usize| -> Vec<Node> {
            (0..count)
                .map(|n| Node::new(binary, &format!("{binary}-{n}"), settings.clone()))
                .collect()
        };
        Self {
            gateways: describe("gateway", plan.gateways),
            workers: describe("worker", plan.workers),
            backing,
            database,
            proxy,
            settings,
            dialect: plan.dialect,
            name,
        }
    }

    /// Keeps the logs for people to read. Dropped by the test that fails it does so by itself; not where
    /// the last who holds it is a task.
    pub fn keep_logs(&self) {
        let folder = binaries::log_folder().join(format!(
            "{}-{}",
            self.name.replace("::", "-"),
            std::process::id()
        ));
        if std::fs::create_dir_all(&folder).is_ok() {
            for node in self.nodes() {
                node.keep_log(&folder);
            }
            eprintln!("logs of the failed test: {}", folder.display());
        }
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.gateways.iter().chain(&self.workers)
    }

    /// The settings every node has, for another one beside them.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What its sockets speak that do not say.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// # Panics
    /// When the deployment has another kind of Redis.
    pub fn redis(&self) -> &Redis {
        match &self.backing {
            Backing::Standalone(redis) => redis,
            _ => panic!("this deployment has no standalone Redis"),
        }
    }

    /// # Panics
    /// When the plan asked for none.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the plan asked for a proxy")
    }

    /// The public address of a gateway.
    pub fn address(&self, gateway: usize) -> SocketAddr {
        self.gateways[gateway].address()
    }

    /// Registers a user and logs in, on any gateway.
    ///
    /// # Panics
    /// When either is refused.
    pub async fn user(&self, name: &str) -> User {
        let password = format!("{name}-password-1");
        let rest = self.gateways[0].rest();
        let registered = rest
            .register(name, &password)
            .await
            .expect("the gateway answers");
        assert!(
            matches!(registered.status, 200 | 201),
            "register {name}: {registered:?}"
        );
        self.login(name, &password).await
    }

    /// Another token for a user.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn login(&self, name: &str, password: &str) -> User {
        let answer = self.gateways[0]
            .rest()
            .login(name, password)
            .await
            .expect("the gateway answers");
        assert_eq!(answer.status, 200, "login {name}: {answer:?}");
        let text = |field: &str| {
            answer.body[field]
                .as_str()
                .expect("login answers token and userId")
                .to_owned()
        };
        User {
            id: text("userId"),
            name: name.to_owned(),
            password: password.to_owned(),
            token: text("token"),
        }
    }

    /// Opens a socket of a user and waits for `connected`, whose payload comes with it.
    pub async fn connect(&self, gateway: usize, user: &User, device: &str) -> (Socket, Value) {
        self.connect_with(gateway, SocketOptions::bearer(&user.token).device(device))
            .await
    }

    /// The socket hears what it wanted to from the start.
    ///
    /// # Panics
    /// When the upgrade is refused.
    pub async fn connect_with(&self, gateway: usize, options: SocketOptions) -> (Socket, Value) {
        let options = options.or_dialect(self.dialect).confirmed();
        let awaits_queues = options.awaits_queues();
        let opened = Socket::open(self.address(gateway), options).await;
        let socket = opened.unwrap_or_else(|refused| panic!("upgrade refused: {refused:?}"));
        let connected = socket.expect("connected").await;
        if awaits_queues {
            let what = "the receipt of all queues";
            socket.take(what, PATIENCE, stomp::is_subscribed).await;
        }
        (socket, connected["payload"].clone())
    }

    /// Waits until Postgres has everything that is in the persist streams.
    pub async fn until_stored(&self, what: &str, sql: &str, count: u64) {
        eventually(what, PATIENCE, || async {
            let rows = self.database.try_query(sql).await.ok()?;
            (rows.first()?.first()?.parse() == Ok(count)).then_some(())
        })
        .await;
    }
}

impl Backing {
    pub fn url(&self) -> String {
        match self {
            Self::Standalone(redis) => redis.url(),
            Self::Sentinel(sentinel) => sentinel.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
        }
    }
}

fn base_settings(redis: &str, database: &str) -> Settings {
    [
        ("TIDEGATE_REDIS_URL", redis),
        ("TIDEGATE_DATABASE_URL", database),
        ("TIDEGATE_AUTH__SECRET", JWT_SECRET),
        ("TIDEGATE_HTTP__LISTEN", "127.0.0.1:0"),
        ("TIDEGATE_OPS__LISTEN", "127.0.0.1:0"),
        ("TIDEGATE_DRAIN__LB_GRACE", "0s"),
        ("TIDEGATE_DRAIN__WINDOW", "1s"),
        // Nothing in a test is a stranger guessing passwords.
        ("TIDEGATE_AUTH__ATTEMPTS_PER_ACCOUNT", "1000000"),
        ("TIDEGATE_AUTH__ATTEMPTS_PER_ADDRESS", "1000000"),
        // A crashed worker's partitions are taken over in a second or two.
        ("TIDEGATE_PERSIST__LEASE_TTL", "2s"),
        ("TIDEGATE_JOBS__REAP_INTERVAL", "500ms"),
        ("TIDEGATE_JOBS__EXPIRE_INTERVAL", "200ms"),
        ("TIDEGATE_LOG__LEVEL", "info"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// libtest names its threads after the tests.
fn test_name() -> String {
    std::thread::current().name().unwrap_or("test").to_owned()
}
