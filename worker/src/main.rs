//! The worker as a process.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, Subcommand};
use shared::{
    clock::Clock,
    config::Settings as _,
    logging::LogControl,
    process::{self, Process},
};
use worker::{config::Settings, context::Context, metrics, runner};

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
