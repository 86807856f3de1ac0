//! Devices that come back as fast as they are let in and read what they missed, while others go on
//! talking.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;

use super::{
    Bench,
    direct::{PAIRS, Talk},
    fan_out::{broadcast, entry},
};
use crate::{
    scripts::Fleet,
    swarm::Swarm,
    table::{Goal, Line},
    users::{self, Choice, User},
    world::World,
};

const DEVICES: u64 = 1000;
/// The first of those who come back.
const FIRST: u64 = 1000;
const SENDER: User = User(999);
const TAG: &str = "general";
/// What each of them missed.
const BROADCASTS: u64 = 20;
const COMMANDS: u64 = 5;
/// Commands per second of the others.
const RATE: f64 = 1000.0;
/// Two nodes let in a thousand a second, by the default of `session.handshakes_per_second`.
const PER_STEP: usize = 10;
const STEP: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let world = World::start(&bench.postgres, 2).await?;
    // Those who talk get no broadcasts: only what they tell each other is measured.
    let deaf = Choice {
        blocked: TAG,
        allowed: "",
    };
    users::choose_for(&world.database, 0, 2 * PAIRS, deaf).await?;
    let talk = Talk::start(&world)?;
    // Every device has been here before.
    drop(come_back(&world, 0).await?);
    let (mut quiet, mut busy, mut took) = (vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        miss(&world).await?;
        talk.begin(RATE)?;
        tokio::time::sleep(bench.length / 3).await;
        talk.forget()?;
        tokio::time::sleep(bench.length).await;
        quiet.push(talk.p99()?);

        talk.forget()?;
        let start = Instant::now();
        let devices = come_back(&world, DEVICES * (BROADCASTS + COMMANDS)).await?;
        took.push(start.elapsed().as_secs_f64());
        busy.push(talk.p99()?);
        talk.end()?;
        // What they confirmed is written within a second, and when they leave.
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(devices);
    }
    Ok(vec![
        Line::new(
            "catch-up",
            "direct commands of others while 1 000 devices catch up: p99",
            "ms",
            busy,
        )
        .beside("quiet", quiet)
        .goal(Goal::RatioAtMost(2.0))
        .note(format!(
            "{RATE} commands a second; each device missed {BROADCASTS} broadcasts and {COMMANDS} commands; they are let in at the default rate"
        )),
        Line::new("catch-up", "until all have everything", "s", took),
    ])
}

/// What happens while they are away.
async fn miss(world: &World) -> anyhow::Result<()> {
    let store = world.store().await?;
    for n in 0..BROADCASTS {
        store.append(broadcast(SENDER, &[TAG], n)?).await?;
    }
    for n in 0..COMMANDS {
        let entries = (0..DEVICES).map(|device| entry(SENDER, User(FIRST + device), n));
        let entries = entries.collect::<anyhow::Result<Vec<_>>>()?;
        try_join_all(entries.into_iter().map(|entry| store.append(entry))).await?;
    }
    Ok(())
}

/// All of them connect as fast as nodes let them in; ends when they have so many entries together.
async fn come_back(world: &World, entries: u64) -> anyhow::Result<Swarm<Fleet>> {
    let swarm = Swarm::start(Fleet::of_gateway(DEVICES as usize))?;
    let targets = (0..DEVICES)
        .map(|n| {
            let address = world.address(n as usize % world.gateways.len());
            Ok((address, User(FIRST + n).upgrade("bench", address)?))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let deliveries = swarm.ask(|fleet, _| fleet.deliveries.clone())?;
    let mut pace = tokio::time::interval(STEP);
    for step in targets.chunks(PER_STEP) {
        pace.tick().await;
        let step = step.to_vec();
        swarm.ask(move |fleet, sockets| fleet.open(step, sockets))?;
    }
    super::connect::until_connected(&swarm, DEVICES as usize, PATIENCE)
        .with_context(|| world.complaints())?;
    tokio::time::timeout(PATIENCE, deliveries.reach(entries))
        .await
        .with_context(|| format!("{} entries of {entries}", deliveries.count()))?;
    Ok(swarm)
}
