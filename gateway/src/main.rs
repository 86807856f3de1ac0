//! The gateway as a process.

use std::{
    future::ready,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use gateway::{
    app::{
        App, AppSettings, CallSettings, ConversationSettings, Directory, Limits, Rate, Texts,
        Visibility,
    },
    config::{DeliverySettings, Markup, MigrateSettings, PresenceVisibility, Settings},
    create_admin::create_admin,
    fanout::{Fanout, FanoutSettings, PresenceSettings},
    http::{self, Admission, Api, Backend, Door, Origins, Server},
    metrics,
    node::{self, Node},
    session::Sockets,
};
use shared::{
    clock::Clock,
    config::Settings as _,
    contents::Contents,
    logging::LogControl,
    postgres::Postgres,
    process::{self, Process},
    redis::Copier,
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time for tasks to end once everything was given away.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Time to write cursors and close sessions once the sockets were asked to go.
const FLUSH_GRACE: Duration = Duration::from_secs(5);
/// How long `migrate` waits for Postgres.
const MIGRATE_PATIENCE: Duration = Duration::from_mins(1);

/// Holds the sockets of Tidegate's clients.
#[derive(Parser)]
#[command(name = "gateway", version)]
struct Arguments {
    /// A TOML file with settings
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// A single setting; may be given again
    #[arg(long = "set", global = true, value_name = "SECTION.NAME=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default)
    Run,
    /// Print the effective settings with secrets masked, and fail if one is wrong
    CheckConfig,
    /// Bring the schema of Postgres up to date
    Migrate,
    /// Make an administrator: a new user, whose password is read from the terminal or from standard
    /// input, or one who is there already
    CreateAdmin {
        /// The name they log in with
        username: String,
    },
}

fn main() -> ExitCode {
    let Arguments {
        config,
        set,
        command,
    } = Arguments::parse();
    match command.unwrap_or(Command::Run) {
        Command::CheckConfig => with(config, set, |settings: Settings| {
            print!("{}", settings.render());
            ExitCode::SUCCESS
        }),
        Command::Migrate => with(config, set, |settings: MigrateSettings| {
            process::run(&settings.log.clone(), async |_| migrate(&settings).await)
        }),
        Command::CreateAdmin { username } => with(config, set, |settings: MigrateSettings| {
            process::run(&settings.log.clone(), async |_| {
                let postgres = process::postgres(&settings.postgres)?;
                println!("{}", create_admin(&postgres, &username).await?);
                anyhow::Ok(())
            })
        }),
        Command::Run => with(config, set, |settings: Settings| {
            process::run(&settings.log.clone(), async |log| run(settings, log).await)
        }),
    }
}

/// Goes on with the settings that a command needs, if they are right.
fn with<S: shared::config::Settings>(
    file: Option<PathBuf>,
    flags: Vec<String>,
    go_on: impl FnOnce(S) -> ExitCode,
) -> ExitCode {
    process::settings(file, flags).map_or_else(|code| code, go_on)
}

async fn migrate(settings: &MigrateSettings) -> anyhow::Result<()> {
    let postgres = process::postgres(&settings.postgres)?;
    let migrated = async {
        while let Err(error) = postgres.ping().await {
            tracing::info!(%error, "waiting for postgres");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        postgres.migrate().await
    };
    tokio::time::timeout(MIGRATE_PATIENCE, migrated)
        .await
        .context("postgres does not answer")??;
    tracing::info!("the schema is up to date");
    Ok(())
}

async fn run(settings: Settings, log: LogControl) -> anyhow::Result<()> {
    let settings = Arc::new(settings);
    let process = Process::start(&settings.node, settings.ops.listen, metrics::TABLES, log)?;
    for (setting, warning) in settings.warnings() {
        tracing::warn!(setting, warning, "a setting is allowed but unwise");
    }
    let api = Api::new(settings.clone(), Clock::told()).map_err(anyhow::Error::msg)?;
    api.tokens().spawn_refresh(&process.lifecycle);

    // Up before the stores answer, so that `/ready` can say what it waits for.
    let listener = http::bind(settings.http.listen)
        .with_context(|| format!("http.listen: {}", settings.http.listen))?;
    process.announce(Some(listener.local_addr()?))?;
    let server = Server {
        door: Arc::default(),
        router: http::router(&api, process.health.clone()),
        lifecycle: process.lifecycle.clone(),
        closing: CancellationToken::new(),
    };
    let (door, closing) = (server.door.clone(), server.closing.clone());
    process
        .lifecycle
        .spawn_essential("http listener", server.run(listener));

    let fanout = tokio::select! {
        started = start(&settings, &process, &api, &door, &closing) => Some(started?),
        () = process.lifecycle.draining() => None,
    };
    process.lifecycle.draining().await;
    // Load balancers see `/ready` turn before new connections are refused.
    tokio::select! {
        () = tokio::time::sleep(settings.drain.lb_grace) => {}
        () = process.lifecycle.aborting() => {}
    }
    closing.cancel();
    if let Some(fanout) = fanout {
        tokio::select! {
            () = say_goodbye(&fanout, settings.drain.window) => {}
            () = process.lifecycle.aborting() => {}
        }
    }
    process.lifecycle.stop();
    process.lifecycle.finish(STOP_GRACE).await;
    tracing::info!("stopped");
    anyhow::ensure!(!process.lifecycle.is_broken(), "an essential task ended");
    Ok(())
}

/// Sends the sockets elsewhere and writes what is known of them.
async fn say_goodbye(fanout: &Fanout, window: Duration) {
    tracing::info!(sockets = fanout.sockets(), ?window, "draining");
    fanout.drain(window).await;
    if !fanout.flush(FLUSH_GRACE).await {
        tracing::warn!("some cursors or sessions could not be written");
    }
    fanout.leave_deployment().await;
}

/// Waits for the stores, then opens the door to sockets and answers what needs the stores.
async fn start(
    settings: &Settings,
    process: &Process,
    api: &Arc<Api>,
    door: &OnceLock<Door<Node>>,
    closing: &CancellationToken,
) -> anyhow::Result<Arc<Fanout>> {
    let life = &process.lifecycle;
    let stores = process
        .open_stores(&settings.redis, &settings.postgres, api.clock())
        .await?;
    let (store, postgres) = (stores.store.clone(), stores.postgres.clone());
    let node = process.node.clone();
    let incarnation = store.next_incarnation(&node).await;
    let fanout_settings = FanoutSettings {
        max_sessions: settings.session.max_per_user,
        receipt_interval: settings.delivery.receipt_interval,
        presence: PresenceSettings {
            grace: settings.presence.grace,
            ..PresenceSettings::default()
        },
        ..FanoutSettings::new(node.clone(), incarnation)
    };
    let fanout = Fanout::start(
        store.clone(),
        postgres.clone(),
        fanout_settings,
        life.clone(),
    );
    let fanout = fanout.await.context("redis")?;
    let app_settings = AppSettings {
        durability: settings.delivery.durability,
        limits: user_limits(&settings.delivery),
        conversations: ConversationSettings {
            inbox_max_members: settings.conversations.inbox_max_members,
            copier: Copier::new(&node, incarnation),
        },
        edit_window: settings.messages.edit_window,
        texts: texts(settings)?,
        visibility: visibility(settings.presence.visibility),
        calls: CallSettings {
            ring_timeout: settings.calls.ring_timeout,
            reconnect_grace: settings.calls.reconnect_grace,
            max_sdp: settings.calls.max_sdp.bytes(),
            max_candidate: settings.calls.max_candidate.bytes(),
        },
    };
    seed(&postgres, settings).await;
    let app = App::start(
        store.clone(),
        postgres.clone(),
        fanout.clone(),
        app_settings,
        life,
    );
    let admit = fanout.clone();
    api.connect(Backend {
        app: app.clone(),
        admit: Box::new(move |identity| node::admit(&admit, identity)),
    });
    let admission = admission(settings, process);
    let directory = app.directory.clone();
    let host = Node::new(
        node,
        settings,
        api.clone(),
        app,
        life.clone(),
        closing.clone(),
    );
    let origins = Origins::new(&settings.http.allowed_origins);
    let _ = door.set(Door::new(host, origins, admission));

    show(&fanout, &directory, process);
    let probed = fanout.clone();
    process.watch_stores(stores, move || ready(probed.probe_status().shards));
    process.started();
    Ok(fanout)
}

/// Who may see how others appear.
fn visibility(setting: PresenceVisibility) -> Visibility {
    match setting {
        PresenceVisibility::Anyone => Visibility::Anyone,
        PresenceVisibility::Contacts => Visibility::Contacts,
        PresenceVisibility::Nobody => Visibility::Nobody,
    }
}

/// How texts are kept and shown.
fn texts(settings: &Settings) -> anyhow::Result<Arc<Texts>> {
    let contents = Contents::new(&settings.contents)?;
    let sanitises = settings.messages.markup == Markup::Sanitised;
    Ok(Arc::new(Texts::new(contents, sanitises)))
}

/// How much a user may do, over all nodes.
fn user_limits(delivery: &DeliverySettings) -> Limits {
    Limits {
        requests: Rate::per_second(delivery.requests_per_second, delivery.requests_burst),
        commands: Rate::per_second(delivery.commands_per_second, delivery.commands_burst),
        broadcasts: Rate::per_minute(delivery.broadcasts_per_minute, delivery.broadcasts_burst),
    }
}

/// Gives a new deployment its first categories.
async fn seed(postgres: &Postgres, settings: &Settings) {
    let categories = settings.first_categories();
    while let Err(error) = postgres.seed_categories(&categories).await {
        tracing::warn!(%error, "waiting for postgres");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The keeper of the door; a node that is full is not ready.
fn admission(settings: &Settings, process: &Process) -> Admission {
    let sockets = Sockets::default();
    let most = settings.session.max_sockets as usize;
    let (counted, measured) = (sockets.clone(), sockets.clone());
    process.health.condition("sockets", move || {
        if counted.count() < most {
            Ok(())
        } else {
            Err("the node is full".to_owned())
        }
    });
    process.metrics.on_scrape(move || measured.measure());
    Admission::new(most, settings.session.handshakes_per_second, sockets)
}

/// What metrics and health tell of the fan-out and the directory.
fn show(fanout: &Arc<Fanout>, directory: &Arc<Directory>, process: &Process) {
    let (measured, loaded) = (fanout.clone(), fanout.clone());
    process.metrics.on_scrape(move || measured.measure());
    let follows = fanout.clone();
    process.health.condition("broadcasts", move || {
        if follows.follows_broadcasts() {
            Ok(())
        } else {
            Err("the broadcasts are not followed yet".to_owned())
        }
    });
    process.health.condition("revocations", move || {
        if loaded.knows_revocations() {
            Ok(())
        } else {
            Err("the revocations are not loaded yet".to_owned())
        }
    });
    let directory = directory.clone();
    process.health.condition("directory", move || {
        if directory.is_loaded() {
            Ok(())
        } else {
            Err("the categories are not known yet".to_owned())
        }
    });
}
