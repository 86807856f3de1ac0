//! What every process does in the same way, whatever its work is: settings, logs, signals,
//! metrics, health, the ops listener, and telling where it listens.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    clock::Clock,
    config::{LogSettings, NodeSettings, PostgresSettings, RedisSettings, Settings, Sources, load},
    domain::NodeId,
    health::{self, Check, Health, Watchdog},
    lifecycle::Lifecycle,
    logging::{self, LogControl},
    metrics::{self, Metrics, Table},
    ops::{self, Ops, OpsServer},
    postgres::Postgres,
    redis::{Echo, Store},
};

/// How long threads that block may take to notice the end.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// Reads the settings; when they are wrong, says so on standard error, one line each.
pub fn settings<S: Settings>(file: Option<PathBuf>, flags: Vec<String>) -> Result<S, ExitCode> {
    let sources = Sources {
        file,
        flags,
        ..Sources::default()
    }
    .with_environment();
    load(&sources).map_err(|problems| {
        eprintln!("{problems}");
        ExitCode::FAILURE
    })
}

/// Runs `main` on a runtime of all cores. Its error is logged and becomes the exit code; what
/// still runs afterwards is dropped.
pub fn run<E: std::fmt::Display>(
    log: &LogSettings,
    main: impl AsyncFnOnce(LogControl) -> Result<(), E>,
) -> ExitCode {
    let log = match logging::start(log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("log.level: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be started");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(main(log));
    runtime.shutdown_timeout(LAST_GRACE);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With `#` errors of anyhow tell their causes, too.
            tracing::error!(error = format!("{error:#}"), "ended by an error");
            ExitCode::FAILURE
        }
    }
}

/// The parts that every process has.
pub struct Process {
    /// Its name in the deployment.
    pub node: NodeId,
    /// Its tasks and its end.
    pub lifecycle: Lifecycle,
    /// Where parts tell how they are.
    pub health: Health,
    /// Where gauges are read.
    pub metrics: Arc<Metrics>,
    ops: OpsServer,
    started: Arc<AtomicBool>,
}

/// Redis and Postgres, both answering.
pub struct Stores {
    /// The logs.
    pub store: Store,
    /// The record.
    pub postgres: Postgres,
    redis_check: Check,
    postgres_check: Check,
}

/// A lazy pool of connections, as the settings have it.
pub fn postgres(settings: &PostgresSettings) -> anyhow::Result<Postgres> {
    Postgres::new(
        settings.url.expose(),
        settings.max_connections,
        settings.acquire_timeout,
    )
    .context("postgres.url")
}

impl Process {
    /// Waits until Redis and Postgres answer and are what this program expects; meanwhile `/ready` says
    /// what is waited for. What waiting cannot heal is an error at once, whatever else is away. From
    /// then on `clock` goes by Redis'.
    pub async fn open_stores(
        &self,
        redis: &RedisSettings,
        postgres: &PostgresSettings,
        clock: &Clock,
    ) -> anyhow::Result<Stores> {
        let redis_check = self.health.check("redis", health::redis::LOOK_MAX_AGE);
        let postgres_check = self.health.check("postgres", health::postgres::MAX_AGE);
        tracing::info!(redis = %redis.url, postgres = %postgres.url, "connecting");
        let postgres = self::postgres(postgres)?;
        redis_check.starting("redis does not answer");
        let connected = async {
            Store::connect(redis.store(clock.clone()))
                .await
                .context("redis")
        };
        let reached = async {
            health::postgres::reached(&postgres_check, &postgres).await;
            Ok(())
        };
        let (store, ()) = tokio::try_join!(connected, reached)?;
        for weakness in store.audit().await.unwrap_or_default() {
            tracing::warn!(weakness, "redis is not set up for production");
        }
        Ok(Stores {
            store,
            postgres,
            redis_check,
            postgres_check,
        })
    }

    /// Has the stores' health looked at from now on; `look` tells what became of the last probe of
    /// each shard.
    pub fn watch_stores<Look: Future<Output = Vec<Echo>> + Send + 'static>(
        &self,
        stores: Stores,
        look: impl Fn() -> Look + Send + 'static,
    ) {
        let life = &self.lifecycle;
        life.spawn_essential(
            "watch postgres",
            health::postgres::watch(stores.postgres_check, life.clone(), stores.postgres),
        );
        life.spawn_essential(
            "watch redis",
            health::redis::watch(
                stores.redis_check,
                life.clone(),
                health::redis::LOOK_INTERVAL,
                look,
            ),
        );
    }

    /// Follows signals, and opens the ops listener. Call it within the runtime, first of all.
    pub fn start(
        node: &NodeSettings,
        ops_listen: SocketAddr,
        tables: &[Table],
        log: LogControl,
    ) -> io::Result<Self> {
        let lifecycle = Lifecycle::new();
        lifecycle.follow_signals()?;
        // Nobody sets it: how old a look is must not depend on the host's clock being turned.
        let clock = Clock::told();
        let workers = tokio::runtime::Handle::current().metrics().num_workers();
        let health = Health::new(clock.clone(), Some(Watchdog::start(&lifecycle, workers)));
        let life = lifecycle.clone();
        let started = Arc::new(AtomicBool::new(false));
        let has_started = started.clone();
        health.condition("process", move || {
            if life.is_draining() {
                Err("draining".to_owned())
            } else if has_started.load(Ordering::Relaxed) {
                Ok(())
            } else {
                Err("starting".to_owned())
            }
        });
        let metrics = metrics::install(tables);
        metrics.spawn_upkeep(&lifecycle);
        let ops = ops::serve(
            ops_listen,
            Ops {
                health: health.clone(),
                metrics: metrics.clone(),
                log,
            },
        )
        .map_err(|error| {
            io::Error::new(error.kind(), format!("ops.listen: {ops_listen}: {error}"))
        })?;
        let node = node.name();
        tracing::info!(%node, version = env!("CARGO_PKG_VERSION"), "starting");
        Ok(Self {
            node,
            lifecycle,
            health,
            metrics,
            ops,
            started,
        })
    }

    /// Every part is in its place and tells how it is: from now on that decides about readiness.
    pub fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Where the ops listener really listens.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops.address
    }

    /// Tells where the process listens: in the log, and in the file that `TIDEGATE_PORT_FILE` names, if it does.
    #[allow(
        clippy::disallowed_methods,
        reason = "no setting: who starts the process asks for it"
    )]
    pub fn announce(&self, http: Option<SocketAddr>) -> io::Result<()> {
        let ops = self.ops.address;
        let shown = http.map(tracing::field::display);
        tracing::info!(http = shown, %ops, "listening");
        let Ok(path) = std::env::var("TIDEGATE_PORT_FILE") else {
            return Ok(());
        };
        let text = port_file(http, ops);
        write_whole(Path::new(&path), &text).map_err(|error| {
            io::Error::new(error.kind(), format!("TIDEGATE_PORT_FILE: {path}: {error}"))
        })
    }
}

/// `0.0.0.0` can be listened on but not connected to everywhere: readers get an address that works.
fn port_file(http: Option<SocketAddr>, ops: SocketAddr) -> String {
    let reachable = |mut address: SocketAddr| {
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        address.to_string()
    };
    let mut ports = serde_json::Map::new();
    if let Some(http) = http {
        ports.insert("http".to_owned(), reachable(http).into());
    }
    ports.insert("ops".to_owned(), reachable(ops).into());
    serde_json::Value::Object(ports).to_string()
}

/// A reader sees the old file or the new one, never half of it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut half = path.as_os_str().to_owned();
    half.push(format!(".{}", std::process::id()));
    fs::write(&half, text)?;
    fs::rename(&half, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_file_has_addresses_that_can_be_connected_to() {
        let address = |text: &str| text.parse().unwrap();
        assert_eq!(
            port_file(Some(address("0.0.0.0:8080")), address("127.0.0.1:9090")),
            r#"{"http":"127.0.0.1:8080","ops":"127.0.0.1:9090"}"#
        );
        assert_eq!(
            port_file(None, address("[::]:9190")),
            r#"{"ops":"127.0.0.1:9190"}"#
        );
    }
}
