//! The worker as a process.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use shared::{
    clock::Clock,
    config::Settings as _,
    contents::Contents,
    logging::LogControl,
    process::{self, Process},
    redis::Store,
};
use worker::{config::Settings, context::Context, metrics, rotate, runner, sweep::Sweep};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time to finish batches and give leases back.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// How long `sweep` waits for Redis.
const SWEEP_PATIENCE: Duration = Duration::from_mins(1);

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
    /// End and remove once what is over by the settings of retention, as workers do at their times
    Sweep {
        /// Only print what there is to do, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Encrypt what was said in conversations with the current key, where it is not
    RotateKeys,
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
        Command::Sweep { dry_run } => process::run(&settings.log.clone(), async |_| {
            sweep(&settings, dry_run).await
        }),
        Command::RotateKeys => process::run(&settings.log.clone(), async |_| {
            let postgres = process::postgres(&settings.postgres)?;
            let contents = Contents::new(&settings.contents)?;
            print!("{}", rotate::run(&postgres, &contents).await?);
            anyhow::Ok(())
        }),
        Command::Run => process::run(&settings.log.clone(), async |log| run(settings, log).await),
    }
}

/// One sweep, beside whatever workers do. What expires is archived by a later one: the worker
/// that has its partition writes that it has expired.
async fn sweep(settings: &Settings, dry_run: bool) -> anyhow::Result<()> {
    let postgres = process::postgres(&settings.postgres)?;
    let store = async {
        let store = Store::connect(settings.redis.store(Clock::told())).await?;
        anyhow::Ok(store)
    };
    let store = tokio::time::timeout(SWEEP_PATIENCE, store)
        .await
        .context("redis does not answer")??;
    let sweep = Sweep::new(store, postgres, settings);
    let found = if dry_run {
        sweep.look().await?
    } else {
        sweep.run().await?
    };
    print!("{found}");
    Ok(())
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
    let stores = process
        .open_stores(&settings.redis, &settings.postgres, &Clock::told())
        .await?;
    let (store, postgres) = (stores.store.clone(), stores.postgres.clone());
    // A worker hears no bells: answers to commands are all it needs.
    let asked = store.clone();
    process.watch_stores(stores, move || {
        let asked = asked.clone();
        async move { asked.ask_shards().await }
    });
    let life = &process.lifecycle;
    let context = Context::new(store, postgres, settings, life.clone()).await;
    tracing::info!(name = %context.me, "working");
    runner::start(&Arc::new(context)).await;
    process.started();
    Ok(())
}
