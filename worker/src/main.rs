//! The worker as a process.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use shared::{
    config::Settings as _,
    health::{self, redis::Probed},
    logging::LogControl,
    postgres::Postgres,
    process::{self, Process},
    redis::Store,
};
use worker::{
    config::Settings,
    context::{Context, Host},
    metrics, runner,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time to finish batches and give leases back.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// Takes what Tidegate's gateways left in Redis to Postgres.
#[derive(Parser)]
#[command(name = "worker", version)]
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
    /// Work (the default)
    Run,
    /// Print the effective settings with secrets masked, and fail if one is wrong
    CheckConfig,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings: Settings = match process::settings(arguments.config, arguments.set) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match arguments.command.unwrap_or(Command::Run) {
        Command::CheckConfig => {
            print!("{}", settings.render());
            ExitCode::SUCCESS
        }
        Command::Run => process::run(&settings.log.clone(), async |log| run(settings, log).await),
    }
}

async fn run(mut settings: Settings, log: LogControl) -> anyhow::Result<()> {
    let process = Process::start(&settings.node, settings.ops.listen, metrics::TABLES, log)?;
    // Without a setting it has a random part: everybody has to use the same one.
    settings.node.id = Some(process.node.clone());
    process.announce(None)?;
    tokio::select! {
        started = work(settings, &process) => started?,
        () = process.lifecycle.draining() => {}
    }
    process.lifecycle.draining().await;
    process.lifecycle.stop();
    process.lifecycle.finish(STOP_GRACE).await;
    tracing::info!("stopped");
    anyhow::ensure!(!process.lifecycle.is_broken(), "an essential task ended");
    Ok(())
}

/// Waits for the stores, then starts the work.
async fn work(settings: Settings, process: &Process) -> anyhow::Result<()> {
    let redis_check = process.health.check("redis", health::redis::LOOK_MAX_AGE);
    let postgres_check = process.health.check("postgres", health::postgres::MAX_AGE);
    tracing::info!(redis = %settings.redis.url, postgres = %settings.postgres.url, "connecting");
    let postgres = &settings.postgres;
    let postgres = Postgres::new(
        postgres.url.expose(),
        postgres.max_connections,
        postgres.acquire_timeout,
    )
    .context("postgres.url")?;
    redis_check.starting("redis does not answer");
    let (store, ()) = tokio::join!(
        Store::connect(settings.redis.store()),
        health::postgres::reached(&postgres_check, &postgres),
    );
    let store = store.context("redis")?;
    for weakness in store.audit().await.unwrap_or_default() {
        tracing::warn!(weakness, "redis is not set up for production");
    }
    let life = &process.lifecycle;
    life.spawn_essential(
        "watch postgres",
        health::postgres::watch(postgres_check, life.clone(), postgres.clone()),
    );
    let asked = store.clone();
    // A worker hears no bells: an answer to a command is all it needs.
    let ask = async move || {
        let began = tokio::time::Instant::now();
        let answers = asked.time().await.is_ok();
        Probed {
            bells: vec![answers.then(|| began.elapsed())],
            answers,
        }
    };
    life.spawn_essential(
        "watch redis",
        health::redis::watch(redis_check, life.clone(), health::redis::LOOK_INTERVAL, ask),
    );
    let host = Host {
        incarnation: process.incarnation,
        clock: process.clock.clone(),
        lifecycle: life.clone(),
    };
    let context = Context::new(store, postgres, settings, host);
    tracing::info!(name = %context.me, "working");
    runner::start(&Arc::new(context)).await;
    process.started();
    Ok(())
}
