//! What it costs that others see who is there, and who types: a change that 1 000 sockets watch,
//! coming and going of users whom nobody watches, and typing in a group of 100.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bench, connect::until_connected};
use crate::{
    measure::cpu_us,
    scripts::{Deliveries, Fleet, Target},
    swarm::Swarm,
    table::Line,
    users::User,
    world::World,
};

const WATCHERS: u64 = 1000;
const MEMBERS: u64 = 100;
const CONVERSATION: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
/// A watcher is told of a user at most once in that time.
const COALESCED: Duration = Duration::from_millis(270);
/// 10 000 users who come and go within a minute, in rounds.
const ROUND: u64 = 167;
const ROUNDS: u64 = 9;
const GRACE: Duration = Duration::from_secs(1);

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let settings = [
        ("TIDEGATE_PRESENCE__VISIBILITY", "anyone"),
        ("TIDEGATE_PRESENCE__GRACE", "1s"),
    ];
    let world = World::start_with(&bench.postgres, 2, &settings).await?;
    let watched = Watched::start(&world).await?;
    let typing = Typing::start(&world).await?;
    let (mut told, mut typed, mut calls) = (vec![], vec![], vec![]);
    for run in 0..bench.runs as u64 {
        told.push(watched.measure(bench.length).await?);
        typed.push(typing.measure(bench.length).await?);
        calls.push(calls_per_transition(&world, run).await?);
    }
    Ok(vec![
        Line::new(
            "presence",
            "change of a user whom 1 000 sockets on two nodes watch: both gateways, per socket",
            "µs CPU",
            told,
        )
        .note("one change in 270 ms; what else nodes do in that time is in it"),
        Line::new(
            "presence",
            "typing in a group of 100 on two nodes: both gateways, per delivery",
            "µs CPU",
            typed,
        ),
        Line::new(
            "presence",
            "10 000 users a minute come and go: calls to Redis",
            "per transition",
            calls,
        )
        .note("a connect or a disconnect, all that belongs to the session included; idle calls taken off"),
    ])
}

/// A user's socket and all that watch it; it is the first.
struct Watched<'a> {
    world: &'a World,
    swarm: Swarm<Fleet>,
    deliveries: std::sync::Arc<Deliveries>,
}

impl<'a> Watched<'a> {
    async fn start(world: &'a World) -> anyhow::Result<Self> {
        let swarm = Swarm::start(Fleet::that_counts(|kind| {
            matches!(kind, b"presence.update" | b"presence.online")
        }))?;
        let user = User(0).id();
        let words = json!({"type": "subscribe", "payload": {
            "topics": ["presence"], "filters": {"user_id": user},
        }});
        open(world, &swarm, 0..1, "bench", &[])?;
        until_connected(&swarm, 1, Duration::from_mins(1))?;
        open(
            world,
            &swarm,
            1..1 + WATCHERS,
            "bench",
            &[words.to_string()],
        )?;
        until_connected(&swarm, 1 + WATCHERS as usize, Duration::from_mins(1))?;
        let deliveries = swarm.ask(|fleet, _| fleet.deliveries.clone())?;
        let watched = Self {
            world,
            swarm,
            deliveries,
        };
        // Each is told how the user appears now.
        watched.reach(WATCHERS).await?;
        Ok(watched)
    }

    async fn reach(&self, count: u64) -> anyhow::Result<()> {
        let reached = tokio::time::timeout(Duration::from_secs(20), self.deliveries.reach(count));
        anyhow::ensure!(
            reached.await.is_ok(),
            "{} of {count} were told\n{}",
            self.deliveries.count(),
            self.world.complaints()
        );
        Ok(())
    }

    /// CPU of the gateways per socket that is told, in µs.
    async fn measure(&self, length: Duration) -> anyhow::Result<f64> {
        let pids = self.world.gateway_pids();
        let (start, before) = (Instant::now(), cpu_us(&pids)?);
        let (mut changes, first) = (0, self.deliveries.count());
        while start.elapsed() < length {
            let status = if changes % 2 == 0 { "busy" } else { "online" };
            let frame = json!({"type": "user.status", "payload": {"status": status}});
            let frame = frame.to_string();
            self.swarm
                .ask(move |_, sockets| sockets.send(0, frame.as_bytes()))?;
            changes += 1;
            self.reach(first + changes * WATCHERS).await?;
            tokio::time::sleep(COALESCED).await;
        }
        // It ends as it began.
        let after = cpu_us(&pids)?;
        if changes % 2 == 1 {
            let frame = json!({"type": "user.status", "payload": {"status": "online"}});
            let frame = frame.to_string();
            self.swarm
                .ask(move |_, sockets| sockets.send(0, frame.as_bytes()))?;
            self.reach(first + (changes + 1) * WATCHERS).await?;
            tokio::time::sleep(COALESCED).await;
        }
        Ok((after - before) / (changes * WATCHERS) as f64)
    }
}

/// A group whose first member types.
struct Typing<'a> {
    world: &'a World,
    swarm: Swarm<Fleet>,
    deliveries: std::sync::Arc<Deliveries>,
}

impl<'a> Typing<'a> {
    async fn start(world: &'a World) -> anyhow::Result<Self> {
        let first = User(2000).id();
        let statements = [
            format!(
                "INSERT INTO conversations (id, type, created_by, created_at, active_at) \
                 VALUES ('{CONVERSATION}', 'GROUP', '{first}', now(), now())"
            ),
            format!(
                "INSERT INTO conversation_participants \
                     (conversation_id, user_id, role, joined_at, joined, since) \
                 SELECT '{CONVERSATION}', id, 'MEMBER', now(), 1, \
                     '00000000-0000-0000-0000-000000000000' \
                 FROM users WHERE id >= '{first}' ORDER BY id LIMIT {MEMBERS}"
            ),
        ];
        for statement in statements {
            let done = world.database.try_query(&statement).await;
            done.map_err(anyhow::Error::msg)?;
        }
        let swarm = Swarm::start(Fleet::that_counts(|kind| {
            matches!(kind, b"subscribed" | b"typing.start" | b"typing.stop")
        }))?;
        let words = json!({"type": "subscribe", "payload": {
            "topics": ["typing"], "filters": {"conversation_id": CONVERSATION},
        }});
        open(world, &swarm, 2000..2001, "bench", &[])?;
        until_connected(&swarm, 1, Duration::from_mins(1))?;
        open(
            world,
            &swarm,
            2001..2000 + MEMBERS,
            "bench",
            &[words.to_string()],
        )?;
        until_connected(&swarm, MEMBERS as usize, Duration::from_mins(1))?;
        let deliveries = swarm.ask(|fleet, _| fleet.deliveries.clone())?;
        let typing = Self {
            world,
            swarm,
            deliveries,
        };
        typing.reach(MEMBERS - 1).await?;
        Ok(typing)
    }

    async fn reach(&self, count: u64) -> anyhow::Result<()> {
        let reached = tokio::time::timeout(Duration::from_secs(20), self.deliveries.reach(count));
        anyhow::ensure!(
            reached.await.is_ok(),
            "{} of {count} were told\n{}",
            self.deliveries.count(),
            self.world.complaints()
        );
        Ok(())
    }

    /// CPU of the gateways per delivery, in µs.
    async fn measure(&self, length: Duration) -> anyhow::Result<f64> {
        let pids = self.world.gateway_pids();
        let (start, before) = (Instant::now(), cpu_us(&pids)?);
        let (mut signals, first) = (0, self.deliveries.count());
        while start.elapsed() < length || signals % 2 == 1 {
            let name = if signals % 2 == 0 {
                "typing.start"
            } else {
                "typing.stop"
            };
            let frame = json!({"type": name, "payload": {"conversationId": CONVERSATION}});
            let frame = frame.to_string();
            self.swarm
                .ask(move |_, sockets| sockets.send(0, frame.as_bytes()))?;
            signals += 1;
            self.reach(first + signals * (MEMBERS - 1)).await?;
        }
        Ok((cpu_us(&pids)? - before) / (signals * (MEMBERS - 1)) as f64)
    }
}

/// Users come, ten of them in 60 ms, and go a round later; until the last of them is gone.
async fn calls_per_transition(world: &World, run: u64) -> anyhow::Result<f64> {
    let idle = {
        let (start, before) = (Instant::now(), calls(world).await?);
        tokio::time::sleep(Duration::from_secs(5)).await;
        (calls(world).await? - before) / start.elapsed().as_secs_f64()
    };
    let (start, before) = (Instant::now(), calls(world).await?);
    for round in 0..ROUNDS {
        let swarm = Swarm::start(Fleet::of_gateway(64))?;
        let first = 10_000 + (run * ROUNDS + round) % 60 * ROUND;
        let mut users = first..first + ROUND;
        while !users.is_empty() {
            let some = users.start..(users.start + 10).min(users.end);
            users.start = some.end;
            open(world, &swarm, some, "bench", &[])?;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        until_connected(&swarm, ROUND as usize, Duration::from_mins(1))?;
    }
    // Then they are gone, in the record of Redis too.
    tokio::time::sleep(GRACE + Duration::from_secs(1)).await;
    let all = calls(world).await? - before - idle * start.elapsed().as_secs_f64();
    Ok(all / (2 * ROUNDS * ROUND) as f64)
}

/// Opens sockets of users, half of them on each node.
fn open(
    world: &World,
    swarm: &Swarm<Fleet>,
    users: std::ops::Range<u64>,
    device: &str,
    words: &[String],
) -> anyhow::Result<()> {
    let targets = users
        .map(|user| {
            let address = world.address(user as usize % 2);
            let target: Target = (address, User(user).upgrade(device, address)?);
            Ok((target, words.to_vec()))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    swarm.ask(move |fleet, sockets| fleet.open_and_say(targets, sockets))
}

/// Calls of functions, and of what subscribes, that clients have made; what functions call is not in it.
async fn calls(world: &World) -> anyhow::Result<f64> {
    let info = world.redis.try_call(&["INFO", "commandstats"]).await?;
    let text = info.text().unwrap_or_default();
    let calls = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let is_ours = matches!(name, "fcall" | "fcall_ro" | "ssubscribe" | "sunsubscribe");
        let count = rest.split(',').next()?.parse::<f64>().ok()?;
        is_ours.then_some(count)
    });
    Ok(calls.sum())
}
