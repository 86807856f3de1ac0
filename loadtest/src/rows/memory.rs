//! Memory of a socket: idle ones of users with a queue of their own, confirmed subscription included,
//! and the same with five subscriptions.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Bench, most_sockets};
use crate::{
    measure::usage,
    scripts::{Fleet, Target},
    swarm::Swarm,
    table::{Goal, Line},
    users::User,
    world::World,
};

const SOCKETS: usize = 10_000;
/// Conversations that a socket subscribes to, which it shares with as many others.
const SUBSCRIPTIONS: usize = 5;
const SHARED_BY: u64 = 100;
/// Memory stands still if it does not move for so long: the allocator gives back what was freed only
/// after a second.
const STILL: Duration = Duration::from_secs(3);
/// Longest wait for that.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let sockets = SOCKETS.min(most_sockets()? * 2 / 3);
    let (mut idle, mut subscribed) = (Vec::new(), Vec::new());
    // A process that grew once keeps its memory, so every run takes a new one.
    for _ in 0..bench.runs {
        let world = World::start(&bench.postgres, 1).await?;
        idle.push(per_socket(&world, sockets, 0).await?);
        let world = World::start(&bench.postgres, 1).await?;
        converse(&world).await?;
        subscribed.push(per_socket(&world, sockets, SUBSCRIPTIONS).await?);
    }
    Ok(vec![
        Line::new(
            "memory",
            format!("memory per idle socket, {sockets} users"),
            "KiB",
            idle,
        )
        .goal(Goal::AtMost(3.0))
        .note("growth of RssAnon of the gateway by these sockets, behind half as many others / sockets; each user has one socket with its queue attached"),
        Line::new(
            "memory",
            format!("the same, each subscribed to {SUBSCRIPTIONS} conversations of {SHARED_BY}"),
            "KiB",
            subscribed,
        )
        .goal(Goal::AtMost(5.0))
        .note("what the node knows of the conversations included"),
    ])
}

/// Growth by these sockets, each with so many subscriptions, in KiB.
async fn per_socket(world: &World, sockets: usize, subscriptions: usize) -> anyhow::Result<f64> {
    let swarm = Swarm::start(Fleet::that_counts(|kind| kind == b"subscribed"))?;
    let pid = world.gateways[0].process().pid();
    // Half as many come before, by which everything with a bound reaches it, as calls in flight do:
    // a process grows by that once.
    let (first, all) = (sockets as u64 / 2, (sockets + sockets / 2) as u64);
    connect(world, &swarm, 0..first, subscriptions).await?;
    let before = settled(pid).await?;
    connect(world, &swarm, first..all, subscriptions).await?;
    let after = settled(pid).await?;
    Ok((after - before) / sockets as f64)
}

async fn connect(
    world: &World,
    swarm: &Swarm<Fleet>,
    users: std::ops::Range<u64>,
    subscriptions: usize,
) -> anyhow::Result<()> {
    let address = world.address(0);
    let wanted = users.end as usize;
    let targets = users
        .map(|user| {
            let target: Target = (address, User(user).upgrade("bench", address)?);
            Ok((target, subscribe(user, subscriptions)))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    swarm.ask(move |fleet, sockets| fleet.open_and_say(targets, sockets))?;
    super::connect::until_connected(swarm, wanted, Duration::from_mins(1))?;
    let answers = swarm.ask(|fleet, _| fleet.deliveries.clone())?;
    let all = answers.reach((wanted * subscriptions) as u64);
    anyhow::ensure!(
        tokio::time::timeout(Duration::from_mins(1), all)
            .await
            .is_ok(),
        "{} subscriptions after a minute\n{}",
        answers.count(),
        world.complaints()
    );
    Ok(())
}

/// The requests of a user's socket.
fn subscribe(user: u64, count: usize) -> Vec<String> {
    let conversations = (0..count as u64).map(|n| conversation(user / SHARED_BY, n));
    let frame = |id: String| {
        json!({"type": "subscribe", "payload": {
            "topics": ["conversation"], "filters": {"conversation_id": id},
        }})
        .to_string()
    };
    conversations.map(frame).collect()
}

/// The n-th conversation of a group of users.
fn conversation(group: u64, n: u64) -> String {
    format!("01890a5d-ac96-774b-8{n:03x}-{group:012x}")
}

/// Groups that the users share.
async fn converse(world: &World) -> anyhow::Result<()> {
    let first = User(0).id();
    let id = "('01890a5d-ac96-774b-8' || lpad(to_hex(n), 3, '0') || '-' || lpad(to_hex(g), 12, '0'))::uuid";
    let all = format!(
        "generate_series(0, {}) n, generate_series(0, {}) g",
        SUBSCRIPTIONS - 1,
        SOCKETS as u64 * 3 / 2 / SHARED_BY
    );
    let statements = [
        format!(
            "INSERT INTO conversations (id, type, created_by, created_at, active_at) \
             SELECT {id}, 'GROUP', '{first}', now(), now() FROM {all}"
        ),
        format!(
            "INSERT INTO conversation_participants \
                 (conversation_id, user_id, role, joined_at, joined, since) \
             SELECT {id}, ('00000000-0000-7000-8000-' || lpad(to_hex(g * {SHARED_BY} + u), 12, '0'))::uuid, \
                 'MEMBER', now(), 1, '00000000-0000-0000-0000-000000000000' \
             FROM {all}, generate_series(0, {}) u",
            SHARED_BY - 1
        ),
    ];
    for statement in statements {
        let done = world.database.try_query(&statement).await;
        done.map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

/// Resident memory once it stands still: within 1 %.
async fn settled(pid: u32) -> anyhow::Result<f64> {
    let mut since = (usage(pid)?.anonymous_kib, Instant::now());
    let deadline = since.1 + PATIENCE;
    loop {
        tokio::time::sleep(LOOK).await;
        let (now, at) = (usage(pid)?.anonymous_kib, Instant::now());
        if (now - since.0).abs() > 0.01 * since.0 {
            since = (now, at);
        }
        if at - since.1 >= STILL || at > deadline {
            return Ok(now);
        }
    }
}
