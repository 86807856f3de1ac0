//! Connecting: what an upgrade with token and session costs, and how long a node's sockets take
//! to come back on another one.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{Bench, most_sockets};
use crate::{
    measure::cpu_us,
    scripts::Fleet,
    swarm::Swarm,
    table::{Goal, Line},
    users::User,
    world::World,
};

const CONNECTS: u64 = 5_000;
const AT_A_TIME: usize = 128;

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let world = World::start(&bench.postgres, 1).await?;
    let (mut cpu, mut per_core, mut per_second) = (vec![], vec![], vec![]);
    storm(&world, 500, 0)?;
    for run in 0..bench.runs as u64 {
        let first = 1000 + run % 6 * CONNECTS;
        let before = cpu_us(&world.gateway_pids())?;
        let elapsed = storm(&world, CONNECTS, first)?;
        let each = (cpu_us(&world.gateway_pids())? - before) / CONNECTS as f64;
        cpu.push(each / 1000.0);
        per_core.push(1e6 / each);
        per_second.push(CONNECTS as f64 / elapsed.as_secs_f64());
    }
    drop(world);
    let count = 20_000.min(most_sockets()?);
    let mut back = vec![];
    for _ in 0..bench.runs.min(3) {
        back.push(failover(bench, count).await?);
    }
    Ok(vec![
        Line::new(
            "connect",
            "connect: upgrade, token, session, nothing to replay",
            "ms CPU",
            cpu,
        )
        .goal(Goal::AtMost(0.1))
        .note("closing and its clean-up fall into the next run and are counted there"),
        Line::new(
            "connect",
            "connects per second of one gateway core",
            "/s",
            per_core,
        )
        .goal(Goal::AtLeast(8_000.0)),
        Line::new(
            "connect",
            "connects per second on this machine, everything on it",
            "/s",
            per_second,
        ),
        Line::new(
            "connect",
            format!("{count} sockets back after their node was killed"),
            "s",
            back,
        )
        .goal(Goal::AtMost(10.0))
        .note("open files per process are limited; raise the hard limit for 20 000"),
    ])
}

/// Connects users one after the other, `AT_A_TIME` under way; ends when all are greeted. Their
/// sockets are gone afterwards.
fn storm(world: &World, count: u64, first: u64) -> anyhow::Result<Duration> {
    let swarm = Swarm::start(Fleet::of_gateway(AT_A_TIME))?;
    let address = world.address(0);
    let targets = (first..first + count)
        .map(|user| Ok((address, User(user).upgrade("bench", address)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let start = Instant::now();
    swarm.ask(move |fleet, sockets| fleet.open(targets, sockets))?;
    until_connected(&swarm, count as usize, Duration::from_mins(1))
        .with_context(|| world.complaints())?;
    let elapsed = start.elapsed();
    drop(swarm);
    Ok(elapsed)
}

/// Seconds from the kill of one node until everybody is connected to the other.
async fn failover(bench: &Bench, count: usize) -> anyhow::Result<f64> {
    let world = World::start(&bench.postgres, 2).await?;
    let swarm = Swarm::start(Fleet::of_gateway(AT_A_TIME))?;
    let targets = |gateway: usize| {
        let address = world.address(gateway);
        (0..count as u64)
            .map(|user| Ok((address, User(user).upgrade("bench", address)?)))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let (doomed, refuge) = (targets(0)?, targets(1)?);
    swarm.ask(move |fleet, sockets| fleet.open(doomed, sockets))?;
    until_connected(&swarm, count, Duration::from_mins(1)).with_context(|| world.complaints())?;
    let start = Instant::now();
    world.gateways[0].kill9();
    swarm.until(
        "the sockets of the killed node end",
        Duration::from_secs(20),
        |_, sockets| (sockets.open_count() == 0).then_some(()),
    )?;
    swarm.ask(move |fleet, sockets| {
        fleet.connected = 0;
        fleet.ended.clear();
        fleet.open(refuge, sockets);
    })?;
    until_connected(&swarm, count, Duration::from_mins(2)).with_context(|| world.complaints())?;
    Ok(start.elapsed().as_secs_f64())
}

/// Waits until `count` sockets have been greeted; fails as soon as one ended.
pub fn until_connected(
    swarm: &Swarm<Fleet>,
    count: usize,
    deadline: Duration,
) -> anyhow::Result<()> {
    let outcome = swarm.until("all connected", deadline, move |fleet, _| {
        if !fleet.ended.is_empty() {
            return Some(Err(fleet.reasons()));
        }
        (fleet.connected >= count).then_some(Ok(()))
    });
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reasons)) => anyhow::bail!("sockets ended: {reasons}"),
        Err(error) => {
            let seen = swarm.ask(|fleet, _| fleet.connected)?;
            Err(error.context(format!("{seen} of {count} connected")))
        }
    }
}
