//! What a message in a group of 100 costs: its acceptance, a copy for each inbox, and a delivery to
//! each participant, half of them on another node.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bench, connect::until_connected};
use crate::{
    measure::cpu_us, scripts::Fleet, swarm::Swarm, table::Line, users::User, world::World,
};

const MEMBERS: u64 = 100;
/// The first who takes part; it sends.
const FIRST: u64 = 0;
const CONVERSATION: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let group = Group::start(World::start(&bench.postgres, 2).await?).await?;
    let (mut gateways, mut redis, mut calls) = (vec![], vec![], vec![]);
    let (mut eight, mut redis_eight) = (vec![], vec![]);
    for _ in 0..bench.runs {
        let figures = group.measure(1, bench.length).await?;
        gateways.push(figures.gateways);
        redis.push(figures.redis);
        calls.push(figures.calls);
        let figures = group.measure(8, bench.length).await?;
        eight.push(figures.gateways);
        redis_eight.push(figures.redis);
    }
    Ok(vec![
        Line::new(
            "chat",
            "message in a group of 100 on two nodes, one at a time: both gateways",
            "µs CPU",
            gateways,
        )
        .note("acceptance, 100 copies and 100 deliveries, durable"),
        Line::new("chat", "the same: Redis", "µs CPU", redis),
        Line::new("chat", "the same: calls to Redis", "per message", calls)
            .note("a call takes up to 64 copies; of two nodes, confirmations included"),
        Line::new(
            "chat",
            "8 messages in flight: both gateways",
            "µs CPU",
            eight,
        ),
        Line::new("chat", "8 messages in flight: Redis", "µs CPU", redis_eight),
    ])
}

/// Everybody who takes part, connected.
struct Group {
    world: World,
    swarm: Swarm<Fleet>,
}

struct Figures {
    gateways: f64,
    redis: f64,
    calls: f64,
}

impl Group {
    async fn start(world: World) -> anyhow::Result<Self> {
        world.group(CONVERSATION, User(FIRST), MEMBERS).await?;
        // In the order in which they are opened sockets have the numbers from 0 on.
        let swarm = Swarm::start(Fleet::of_gateway(1))?;
        let targets = (FIRST..FIRST + MEMBERS)
            .map(|n| {
                let address = world.address(n as usize % 2);
                Ok((address, User(n).upgrade("bench", address)?))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        swarm.ask(move |fleet, sockets| fleet.open(targets, sockets))?;
        until_connected(&swarm, MEMBERS as usize, Duration::from_mins(1))?;
        Ok(Self { world, swarm })
    }

    async fn measure(&self, in_flight: u64, length: Duration) -> anyhow::Result<Figures> {
        self.talk(in_flight, length / 3).await?;
        let (pids, redis) = (self.world.gateway_pids(), [self.world.redis.pid()]);
        let before = (cpu_us(&pids)?, cpu_us(&redis)?, self.calls().await?);
        let messages = self.talk(in_flight, length).await? as f64;
        let after = (cpu_us(&pids)?, cpu_us(&redis)?, self.calls().await?);
        Ok(Figures {
            gateways: (after.0 - before.0) / messages,
            redis: (after.1 - before.1) / messages,
            calls: (after.2 - before.2) / messages,
        })
    }

    /// How many messages reached everybody.
    async fn talk(&self, in_flight: u64, length: Duration) -> anyhow::Result<u64> {
        let deliveries = self.swarm.ask(|fleet, _| fleet.deliveries.clone())?;
        let (start, before) = (Instant::now(), deliveries.count());
        let mut sent = 0;
        while start.elapsed() < length {
            for _ in 0..in_flight {
                let frame = json!({"type": "chat.message", "payload": {
                    "conversationId": CONVERSATION, "message": "x".repeat(128),
                }});
                let frame = frame.to_string();
                self.swarm
                    .ask(move |_, sockets| sockets.send(0, frame.as_bytes()))?;
                sent += 1;
            }
            let reached = deliveries.reach(before + sent * MEMBERS);
            if tokio::time::timeout(Duration::from_secs(10), reached)
                .await
                .is_err()
            {
                let reasons = self.swarm.ask(|fleet, _| fleet.reasons())?;
                anyhow::bail!(
                    "{} deliveries of {sent} messages after 10 s; ended: {reasons}\n{}",
                    deliveries.count() - before,
                    self.world.complaints()
                );
            }
        }
        Ok(sent)
    }

    async fn calls(&self) -> anyhow::Result<f64> {
        self.world
            .calls(&["fcall", "fcall_ro", "exists", "hget"])
            .await
    }
}
