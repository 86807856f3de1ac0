//! What a delivery costs a gateway when one entry goes to many sockets, beside a process that
//! only writes the same bytes to as many.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use shared::{
    domain::{Broadcast, CommandBody, CommandType, Digest, Durability, Kind, Timestamp, Topic},
    redis::{Append, IdempotencyKey, Store},
};

use super::Bench;
use crate::{
    bare_writer::BareWriter,
    measure::cpu_us,
    scripts::{Deliveries, Fleet},
    swarm::{Swarm, server_text},
    table::{Goal, Line},
    users::User,
    world::World,
};

const SOCKETS: usize = 1000;
const READER: User = User(0);
const SENDER: User = User(1);

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let readers = Audience {
        sockets: SOCKETS,
        user: |_| READER,
        entry: |n| entry(SENDER, READER, n),
    };
    let one_node = Readers::start(World::start(&bench.postgres, 1).await?, readers).await?;
    let two_nodes = Readers::start(World::start(&bench.postgres, 2).await?, readers).await?;
    // The baseline writes exactly what a socket of the gateway gets.
    let frame = one_node.sample().await?;
    let mut bare = Bare::start(&frame)?;

    let (mut alone, mut one, mut eight, mut two) = (vec![], vec![], vec![], vec![]);
    let mut redis = vec![];
    for _ in 0..bench.runs {
        alone.push(bare.measure(bench.length).await?);
        one.push(one_node.measure(1, bench.length).await?.gateways);
        eight.push(one_node.measure(8, bench.length).await?.gateways);
        let figures = two_nodes.measure(1, bench.length).await?;
        two.push(figures.gateways);
        redis.push(figures.redis_per_entry);
    }
    let bytes = frame.len();
    let bare_name = "bare epoll writer";
    Ok(vec![
        Line::new(
            "fan-out",
            "delivery to 1 000 sockets, one entry at a time",
            "µs CPU",
            one.clone(),
        )
        .beside(bare_name, alone.clone())
        .goal(Goal::RatioAtMost(1.2))
        .note(format!(
            "one user, {bytes} bytes a frame; entries are appended straight to Redis, durable"
        )),
        Line::new("fan-out", "the same, 8 entries in flight", "µs CPU", eight)
            .beside(bare_name, alone)
            .goal(Goal::RatioAtMost(0.4)),
        Line::new(
            "fan-out",
            "the same one at a time, 500 sockets on each of two nodes",
            "µs CPU",
            two,
        )
        .beside("one node", one)
        .goal(Goal::RatioAtMost(1.1)),
        Line::new(
            "fan-out",
            "Redis, per entry to 1 000 sockets on two nodes",
            "µs CPU",
            redis,
        ),
    ])
}

/// Who reads, and what: an entry reaches every socket.
#[derive(Clone, Copy)]
pub struct Audience {
    pub sockets: usize,
    /// Whose the n-th socket is.
    pub user: fn(u64) -> User,
    pub entry: fn(u64) -> anyhow::Result<Append>,
}

/// Sockets on one or more gateways, and a publisher of what they read.
pub struct Readers {
    world: World,
    swarm: Swarm<Fleet>,
    deliveries: Arc<Deliveries>,
    store: Store,
    audience: Audience,
}

pub struct Figures {
    /// CPU of all gateways per delivery, µs.
    pub gateways: f64,
    pub redis_per_entry: f64,
}

impl Readers {
    pub async fn start(world: World, audience: Audience) -> anyhow::Result<Self> {
        Self::start_in(world, audience, "json", Fleet::of_gateway(32)).await
    }

    /// The same with sockets that speak STOMP.
    pub async fn start_stomp(world: World, audience: Audience) -> anyhow::Result<Self> {
        Self::start_in(world, audience, "stomp", Fleet::of_stomp_clients(32)).await
    }

    async fn start_in(
        world: World,
        audience: Audience,
        dialect: &str,
        fleet: Fleet,
    ) -> anyhow::Result<Self> {
        let gateways = world.gateways.len();
        let store = world.store().await?;
        let swarm = Swarm::start(fleet)?;
        let targets = (0..audience.sockets)
            .map(|n| {
                let address = world.address(n % gateways);
                let user = (audience.user)(n as u64);
                Ok((address, user.upgrade_to(dialect, "bench", address)?))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        swarm.ask(move |fleet, sockets| fleet.open(targets, sockets))?;
        super::connect::until_connected(&swarm, audience.sockets, Duration::from_mins(1))?;
        let deliveries = swarm.ask(|fleet, _| fleet.deliveries.clone())?;
        Ok(Self {
            world,
            swarm,
            deliveries,
            store,
            audience,
        })
    }

    /// The frame a socket gets for an entry, header included.
    async fn sample(&self) -> anyhow::Result<Vec<u8>> {
        self.publish(u64::MAX).await?;
        self.reach(self.deliveries.count() + 1).await?;
        let text = self.swarm.ask(|fleet, _| fleet.sample.clone())?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(server_text(&text))
    }

    /// Publishes with `in_flight` entries under way: a third of the time to warm up, then counted.
    pub async fn measure(&self, in_flight: u64, length: Duration) -> anyhow::Result<Figures> {
        self.publish_for(in_flight, length / 3).await?;
        let (pids, redis) = (self.world.gateway_pids(), [self.world.redis.pid()]);
        let before = (cpu_us(&pids)?, cpu_us(&redis)?);
        let sockets = self.audience.sockets as u64;
        let entries = self.publish_for(in_flight, length).await?;
        let after = (cpu_us(&pids)?, cpu_us(&redis)?);
        let ended = self.swarm.ask(|fleet, _| fleet.ended.len())?;
        anyhow::ensure!(
            ended == 0,
            "sockets ended: {}",
            self.swarm.ask(|fleet, _| fleet.reasons())?
        );
        Ok(Figures {
            gateways: (after.0 - before.0) / (entries * sockets) as f64,
            redis_per_entry: (after.1 - before.1) / entries as f64,
        })
    }

    /// How many entries reached everybody.
    async fn publish_for(&self, in_flight: u64, length: Duration) -> anyhow::Result<u64> {
        let start = Instant::now();
        let sockets = self.audience.sockets as u64;
        let before = self.deliveries.count();
        let mut published = 0;
        let mut under_way = tokio::task::JoinSet::new();
        while start.elapsed() < length {
            let ahead = in_flight
                - (published - (self.deliveries.count() - before) / sockets).min(in_flight);
            for _ in 0..ahead {
                let (store, entry) = (self.store.clone(), (self.audience.entry)(published)?);
                under_way.spawn(async move { store.append(entry).await.map(drop) });
                published += 1;
            }
            self.reach(before + (published + 1 - in_flight) * sockets)
                .await?;
        }
        self.reach(before + published * sockets).await?;
        while let Some(result) = under_way.join_next().await {
            result??;
        }
        Ok(published)
    }

    async fn publish(&self, n: u64) -> anyhow::Result<()> {
        let entry = (self.audience.entry)(n)?;
        self.store.append(entry).await.context("publishing")?;
        Ok(())
    }

    async fn reach(&self, count: u64) -> anyhow::Result<()> {
        let reached =
            tokio::time::timeout(Duration::from_secs(10), self.deliveries.reach(count)).await;
        if reached.is_err() {
            let reasons = self.swarm.ask(|fleet, _| fleet.reasons())?;
            anyhow::bail!(
                "{} deliveries instead of {count} after 10 s; ended: {reasons}\n{}",
                self.deliveries.count(),
                self.world.complaints()
            );
        }
        Ok(())
    }
}

/// A direct command as the gateway appends it.
pub fn entry(sender: User, receiver: User, n: u64) -> anyhow::Result<Append> {
    let topic = Topic::User(receiver.id());
    append(sender, topic, &body(sender, Some(receiver), &[]), n)
}

/// A command for everybody whom its tags reach, as the gateway appends it.
pub fn broadcast(sender: User, tags: &[&str], n: u64) -> anyhow::Result<Append> {
    append(sender, Topic::Broadcast, &body(sender, None, tags), n)
}

fn body(sender: User, receiver: Option<User>, tags: &[&str]) -> CommandBody {
    let broadcast = match (receiver, tags) {
        (Some(_), _) => Broadcast::User,
        (None, []) => Broadcast::Allcast,
        (None, _) => Broadcast::Category,
    };
    CommandBody {
        command_type: CommandType::Message,
        content: "x".repeat(128),
        data: None,
        sender_id: sender.id(),
        sender_name: "bench".to_owned(),
        broadcast,
        recipient_id: receiver.map(User::id),
        categories: tags.iter().filter_map(|tag| tag.parse().ok()).collect(),
        files: Vec::new(),
        expires_at: Timestamp(4_000_000_000_000),
    }
}

fn append(sender: User, topic: Topic, body: &CommandBody, n: u64) -> anyhow::Result<Append> {
    let body = serde_json::to_vec(body)?;
    let digest = Digest::of(&body);
    Ok(Append::new(
        topic,
        Kind::CommandNew,
        body,
        IdempotencyKey(format!("{}:{n}:{:x}", sender.0, rand::random::<u64>())),
        digest,
        Durability::Durable,
    ))
}

/// The same sockets at a bare writer.
struct Bare {
    writer: BareWriter,
    deliveries: Arc<Deliveries>,
    swarm: Swarm<Fleet>,
}

impl Bare {
    fn start(frame: &[u8]) -> anyhow::Result<Self> {
        let writer = BareWriter::start(frame)?;
        let swarm = Swarm::start(Fleet::of_bare_writer(32))?;
        let address = writer.address;
        let targets = (0..SOCKETS)
            .map(|_| (address, crate::swarm::upgrade_request("/", "", address)))
            .collect();
        swarm.ask(move |fleet, sockets| fleet.open(targets, sockets))?;
        super::connect::until_connected(&swarm, SOCKETS, Duration::from_secs(30))?;
        let deliveries = swarm.ask(|fleet, _| fleet.deliveries.clone())?;
        Ok(Self {
            writer,
            deliveries,
            swarm,
        })
    }

    /// CPU per delivery, µs.
    async fn measure(&mut self, length: Duration) -> anyhow::Result<f64> {
        self.publish_for(length / 3).await?;
        let pid = [self.writer.pid()];
        let before = cpu_us(&pid)?;
        let rounds = self.publish_for(length).await?;
        Ok((cpu_us(&pid)? - before) / (rounds * SOCKETS as u64) as f64)
    }

    async fn publish_for(&mut self, length: Duration) -> anyhow::Result<u64> {
        let start = Instant::now();
        let before = self.deliveries.count();
        let mut rounds = 0;
        while start.elapsed() < length {
            self.writer.publish()?;
            rounds += 1;
            let reached = self.deliveries.reach(before + rounds * SOCKETS as u64);
            if tokio::time::timeout(Duration::from_secs(10), reached)
                .await
                .is_err()
            {
                anyhow::bail!(
                    "the bare writer stopped: {}",
                    self.swarm.ask(|fleet, _| fleet.reasons())?
                );
            }
        }
        Ok(rounds)
    }
}
