//! What it costs that others see who is there, and who types: a change that 1 000 sockets watch,
//! coming and going of users whom nobody watches, and typing in a group of 100.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

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
/// The first of the group; it types.
const TYPISTS: u64 = 2000;
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
    // Each is told how the user appears, or that it is subscribed.
    let changes =
        Fleet::that_counts(|kind| matches!(kind, b"presence.update" | b"presence.online"));
    let words = subscribe("presence", &json!({"user_id": User(0).id()}));
    let watched = Audience::start(&world, changes, 0..1 + WATCHERS, words).await?;
    let signals =
        Fleet::that_counts(|kind| matches!(kind, b"subscribed" | b"typing.start" | b"typing.stop"));
    world.group(CONVERSATION, User(TYPISTS), MEMBERS).await?;
    let words = subscribe("typing", &json!({"conversation_id": CONVERSATION}));
    let typing = Audience::start(&world, signals, TYPISTS..TYPISTS + MEMBERS, words).await?;
    let status = |status: &str| json!({"type": "user.status", "payload": {"status": status}});
    let typing_frame =
        |name: &str| json!({"type": name, "payload": {"conversationId": CONVERSATION}});
    let (busy, online) = (status("busy"), status("online"));
    let (begins, ends) = (typing_frame("typing.start"), typing_frame("typing.stop"));
    let (mut told, mut typed, mut calls) = (vec![], vec![], vec![]);
    for run in 0..bench.runs as u64 {
        told.push(
            watched
                .measure(bench.length, COALESCED, [&busy, &online])
                .await?,
        );
        typed.push(
            typing
                .measure(bench.length, Duration::ZERO, [&begins, &ends])
                .await?,
        );
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

/// A socket that does something, the first, and all that are told of it.
struct Audience<'a> {
    world: &'a World,
    swarm: Swarm<Fleet>,
    deliveries: Arc<Deliveries>,
    /// How many are told.
    size: u64,
}

impl<'a> Audience<'a> {
    /// The sockets of these users, the first of whom acts; the others say `words` and are told something
    /// by that, each once.
    async fn start(
        world: &'a World,
        fleet: Fleet,
        users: Range<u64>,
        words: Value,
    ) -> anyhow::Result<Self> {
        let swarm = Swarm::start(fleet)?;
        let (first, size) = (users.start, users.end - users.start - 1);
        open(world, &swarm, first..first + 1, &[])?;
        until_connected(&swarm, 1, Duration::from_mins(1))?;
        open(world, &swarm, first + 1..users.end, &[words.to_string()])?;
        until_connected(&swarm, 1 + size as usize, Duration::from_mins(1))?;
        let audience = Self {
            world,
            deliveries: swarm.ask(|fleet, _| fleet.deliveries.clone())?,
            swarm,
            size,
        };
        audience.reach(size).await?;
        Ok(audience)
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

    /// CPU of the gateways per socket that is told, in µs. The socket says the one thing, then the other,
    /// again and again, and pauses in between; it ends as it began.
    async fn measure(
        &self,
        length: Duration,
        pause: Duration,
        frames: [&Value; 2],
    ) -> anyhow::Result<f64> {
        let pids = self.world.gateway_pids();
        let (start, before) = (Instant::now(), cpu_us(&pids)?);
        let (mut said, first) = (0, self.deliveries.count());
        while start.elapsed() < length || said % 2 == 1 {
            let frame = frames[said as usize % 2].to_string();
            self.swarm
                .ask(move |_, sockets| sockets.send(0, frame.as_bytes()))?;
            said += 1;
            self.reach(first + said * self.size).await?;
            tokio::time::sleep(pause).await;
        }
        Ok((cpu_us(&pids)? - before) / (said * self.size) as f64)
    }
}

fn subscribe(topic: &str, filters: &Value) -> Value {
    json!({"type": "subscribe", "payload": {"topics": [topic], "filters": filters}})
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
            open(world, &swarm, some, &[])?;
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
    users: Range<u64>,
    words: &[String],
) -> anyhow::Result<()> {
    let targets = users
        .map(|user| {
            let address = world.address(user as usize % 2);
            let target: Target = (address, User(user).upgrade("bench", address)?);
            Ok((target, words.to_vec()))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    swarm.ask(move |fleet, sockets| fleet.open_and_say(targets, sockets))
}

/// Calls of functions, and what subscribes.
async fn calls(world: &World) -> anyhow::Result<f64> {
    world
        .calls(&["fcall", "fcall_ro", "ssubscribe", "sunsubscribe"])
        .await
}
