//! The load kit: `loadtest bench` measures what a delivery, a command, a connect and a row
//! cost, each beside a baseline of the same run, and prints a table.
//!
//! It must not know the gateway's insides: it sees processes, sockets, Redis and Postgres.

// The kit measures real time and starts no part of the product: the bans on the clock, on
// bare tasks and on threads protect code that is tested with a paused clock.
#![allow(clippy::disallowed_methods)]

mod bare_writer;
mod machine;
mod measure;
mod pace;
mod raw_redis;
mod rows;
mod scripts;
mod swarm;
mod table;
mod users;
mod world;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};

use crate::{
    machine::Machine,
    rows::Bench,
    table::{Goal, Line, Table},
};

#[derive(Parser)]
#[command(about = "The load kit of Tidegate")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures everything the quality goals name.
    Bench(BenchArguments),
    /// The baseline of fan-out, started by `bench`.
    #[command(hide = true)]
    BareWriter,
}

#[derive(clap::Args)]
struct BenchArguments {
    /// Only this row; may be given several times.
    #[arg(long, value_name = "ROW", value_parser = rows::NAMES)]
    only: Vec<String>,
    /// How often each figure is taken; the table shows the median.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds a run measures.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Where the table and the figures are written to.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Bench(arguments) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(bench(arguments)),
        Command::BareWriter => bare_writer::serve(),
    }
}

async fn bench(arguments: BenchArguments) -> anyhow::Result<()> {
    let machine = Machine::look();
    println!("{}\n", machine.line());
    let bench = Bench {
        runs: arguments.runs.max(1),
        postgres: world::postgres().await?,
        length: Duration::from_secs_f64(arguments.seconds),
    };
    let mut lines: Vec<Line> = Vec::new();
    for name in rows::NAMES {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|only| only == name) {
            continue;
        }
        let start = Instant::now();
        match rows::run(name, &bench).await {
            Ok(more) => lines.extend(more),
            // One broken row must not hide the others.
            Err(error) => lines.push(
                Line::new(
                    name,
                    format!("{name}: could not be measured"),
                    "",
                    Vec::new(),
                )
                .goal(Goal::AtMost(0.0))
                .note(format!("{error:#}")),
            ),
        }
        eprintln!("{name}: {:.0} s", start.elapsed().as_secs_f64());
    }
    let report = format!("{}\n\n{}", machine.line(), Table(&lines));
    print!("{}", Table(&lines));
    let missed = lines
        .iter()
        .filter(|line| line.met() == Some(false))
        .count();
    println!("\n{missed} goals missed");
    std::fs::create_dir_all(&arguments.out)?;
    let json = serde_json::json!({ "machine": machine, "lines": lines });
    std::fs::write(arguments.out.join("bench.txt"), report)?;
    std::fs::write(
        arguments.out.join("bench.json"),
        serde_json::to_vec_pretty(&json)?,
    )?;
    Ok(())
}
