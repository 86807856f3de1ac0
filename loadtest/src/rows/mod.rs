//! The rows of the table, each a scenario of its own.

mod appends;
mod broadcast;
mod catch_up;
mod chat;
mod connect;
mod direct;
mod fan_out;
mod history;
mod limits;
mod memory;
mod presence;
mod stomp;
mod write_behind;

use std::{sync::Arc, time::Duration};

use testkit::Postgres;

use crate::table::Line;

/// What every scenario gets.
pub struct Bench {
    /// How often each figure is taken.
    pub runs: usize,
    pub postgres: Arc<Postgres>,
    /// How long a run measures, after its warm-up.
    pub length: Duration,
}

/// Names for `--only`, in the order they run.
pub const NAMES: [&str; 13] = [
    "memory",
    "fan-out",
    "stomp",
    "chat",
    "presence",
    "history",
    "broadcast",
    "direct",
    "limits",
    "catch-up",
    "appends",
    "connect",
    "write-behind",
];

/// Runs one of [`NAMES`].
pub async fn run(name: &str, bench: &Bench) -> anyhow::Result<Vec<Line>> {
    match name {
        "memory" => memory::run(bench).await,
        "fan-out" => fan_out::run(bench).await,
        "stomp" => stomp::run(bench).await,
        "chat" => chat::run(bench).await,
        "presence" => presence::run(bench).await,
        "history" => history::run(bench).await,
        "broadcast" => broadcast::run(bench).await,
        "direct" => direct::run(bench).await,
        "limits" => limits::run(bench).await,
        "catch-up" => catch_up::run(bench).await,
        "appends" => appends::run(bench).await,
        "connect" => connect::run(bench).await,
        "write-behind" => write_behind::run(bench).await,
        other => anyhow::bail!("no row is called {other}; there are {}", NAMES.join(", ")),
    }
}

/// Files this process may open, sockets included; the gateways have the same limit.
fn most_sockets() -> anyhow::Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    Ok(soft.unwrap_or(1024).saturating_sub(500))
}
