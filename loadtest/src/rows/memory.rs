//! Memory of an idle socket: users with a queue of their own, confirmed subscription included.

use std::time::Duration;

use super::{Bench, most_sockets};
use crate::{
    measure::{median, usage},
    scripts::Fleet,
    swarm::Swarm,
    table::{Goal, Line},
    users::User,
    world::World,
};

const SOCKETS: usize = 10_000;

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let sockets = SOCKETS.min(most_sockets()?);
    let mut per_socket = Vec::new();
    // A process that grew once keeps its memory, so every run takes a new one.
    for _ in 0..bench.runs {
        let world = World::start(&bench.postgres, 1).await?;
        let swarm = Swarm::start(Fleet::of_gateway(64))?;
        let pid = world.gateways[0].process().pid();
        // What every process grows by with its first sockets is not a socket's.
        connect(&world, &swarm, 0..100)?;
        let before = settled(pid).await?;
        connect(&world, &swarm, 100..100 + sockets as u64)?;
        let after = settled(pid).await?;
        per_socket.push((after - before) / sockets as f64);
    }
    let what = format!("memory per idle socket, {sockets} users");
    Ok(vec![
        Line::new("memory", what, "KiB", per_socket)
            .goal(Goal::AtMost(3.0))
            .note("growth of RssAnon of the gateway / sockets; each user has one socket with its queue attached"),
    ])
}

fn connect(world: &World, swarm: &Swarm<Fleet>, users: std::ops::Range<u64>) -> anyhow::Result<()> {
    let address = world.address(0);
    let wanted = users.end as usize;
    let targets = users
        .map(|user| Ok((address, User(user).upgrade("bench", address)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    swarm.ask(move |fleet, sockets| fleet.open(targets, sockets))?;
    super::connect::until_connected(swarm, wanted, Duration::from_mins(1))
}

/// Resident memory once it has stopped moving: three looks in a row within 1 %.
async fn settled(pid: u32) -> anyhow::Result<f64> {
    let mut looks = Vec::new();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        looks.push(usage(pid)?.anonymous_kib);
        if let [.., a, b, c] = looks[..]
            && (a - c).abs() <= 0.01 * c
            && (b - c).abs() <= 0.01 * c
        {
            break;
        }
    }
    Ok(median(&looks[looks.len().saturating_sub(3)..]))
}
