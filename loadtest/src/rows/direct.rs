//! Direct commands: sender on one node, receiver on another, `durable`.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Bench;
use crate::{
    measure::cpu_us,
    raw_redis,
    scripts::{Direct, Pair},
    swarm::Swarm,
    table::{Goal, Line},
    users::User,
    world::World,
};

pub const PAIRS: u64 = 128;
/// Commands a sender has under way. A node takes them one at a time per socket, so more than
/// two only wait in its socket buffers.
const WINDOW: usize = 2;
const RATE: f64 = 5_000.0;

pub async fn run(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let world = World::start(&bench.postgres, 2).await?;
    let (mut gateways, mut redis, mut rate) = (vec![], vec![], vec![]);
    let (mut paced_gateways, mut paced_redis, mut p99, mut p50) = (vec![], vec![], vec![], vec![]);
    let (mut raw_p99, mut raw_p50) = (vec![], vec![]);
    let talk = Talk::start(&world)?;
    for _ in 0..bench.runs {
        let figures = talk.saturate(bench.length).await?;
        gateways.push(figures.gateways);
        redis.push(figures.redis);
        rate.push(figures.per_second);

        let raw = raw_latency(&world, bench.length)?;
        raw_p99.push(raw.value_at_quantile(0.99) as f64 / 1000.0);
        raw_p50.push(raw.value_at_quantile(0.5) as f64 / 1000.0);
        let figures = talk.at_rate(bench.length).await?;
        paced_gateways.push(figures.gateways);
        paced_redis.push(figures.redis);
        p99.push(figures.p99);
        p50.push(figures.p50);
    }

    // Once more with a worker: commands become rows, states come back to the senders.
    world.worker.start().await;
    world.worker.until_ready().await;
    talk.until_quiet().await?;
    let (mut with_states, mut redis_with_states) = (vec![], vec![]);
    for _ in 0..bench.runs.min(3) {
        let figures = talk.at_rate(bench.length).await?;
        with_states.push(figures.gateways);
        redis_with_states.push(figures.redis);
        talk.until_quiet().await?;
    }
    Ok(vec![
        Line::new("direct", "direct command at saturation: both gateways", "µs CPU", gateways)
            .goal(Goal::AtMost(30.0))
            .note(format!("{PAIRS} senders on one node, their receivers on the other, 128 B, durable; no worker runs")),
        Line::new("direct", "direct command at saturation: Redis", "µs CPU", redis).goal(Goal::AtMost(25.0)),
        Line::new("direct", "direct command at saturation: rate", "/s", rate),
        Line::new("direct", "direct command at 5 000/s: p99", "ms", p99)
            .beside("raw XADD + fsync", raw_p99)
            .goal(Goal::RatioAtMost(2.5)),
        Line::new("direct", "direct command at 5 000/s: median", "ms", p50).beside("raw XADD + fsync", raw_p50),
        Line::new("direct", "direct command at 5 000/s: both gateways", "µs CPU", paced_gateways)
            .goal(Goal::AtMost(100.0)),
        Line::new("direct", "direct command at 5 000/s: Redis", "µs CPU", paced_redis),
        Line::new("direct", "the same with a worker: both gateways", "µs CPU", with_states)
            .note("a command.status for the sender comes on top of every command"),
        Line::new("direct", "the same with a worker: Redis", "µs CPU", redis_with_states),
    ])
}

fn raw_latency(world: &World, length: Duration) -> anyhow::Result<hdrhistogram::Histogram<u64>> {
    let mut command = Vec::new();
    // As many bytes as the entry of a command has.
    let body = vec![b'x'; 400];
    raw_redis::write_command(
        &mut command,
        &[
            b"XADD",
            b"baseline",
            b"MAXLEN",
            b"~",
            b"1000",
            b"*",
            b"d",
            &body,
        ],
    );
    raw_redis::latency_at_rate(world.redis.port(), RATE, length, &command)
}

/// Pairs of users, senders on the first node and receivers on the last.
pub struct Talk<'a> {
    world: &'a World,
    swarm: Swarm<Direct>,
}

pub struct Figures {
    /// Both gateways' CPU per command, µs.
    pub gateways: f64,
    /// Redis' CPU per command, µs.
    pub redis: f64,
    pub per_second: f64,
    pub p99: f64,
    pub p50: f64,
}

impl<'a> Talk<'a> {
    pub fn start(world: &'a World) -> anyhow::Result<Self> {
        let pairs = (0..PAIRS)
            .map(|n| Pair {
                sender: User(n),
                receiver: User(PAIRS + n),
            })
            .collect();
        let swarm = Swarm::start(Direct::new(pairs)?)?;
        let (senders, receivers) = (world.address(0), world.address(world.gateways.len() - 1));
        swarm.ask(move |direct, sockets| direct.open(senders, receivers, sockets))??;
        swarm.until("all connected", Duration::from_secs(20), |direct, _| {
            (direct.connected as u64 == 2 * PAIRS).then_some(())
        })?;
        Ok(Self { world, swarm })
    }

    async fn saturate(&self, length: Duration) -> anyhow::Result<Figures> {
        self.swarm
            .ask(|direct, sockets| direct.saturate(WINDOW, sockets))?;
        self.measure(length).await
    }

    async fn at_rate(&self, length: Duration) -> anyhow::Result<Figures> {
        self.at(RATE, length).await
    }

    /// Commands at a rate, all pairs in turn.
    pub async fn at(&self, rate: f64, length: Duration) -> anyhow::Result<Figures> {
        self.begin(rate)?;
        self.measure(length).await
    }

    /// From now on commands are sent at a rate.
    pub fn begin(&self, rate: f64) -> anyhow::Result<()> {
        self.swarm
            .ask(move |direct, sockets| direct.at_rate(rate, sockets))??;
        Ok(())
    }

    /// Forgets the latencies so far.
    pub fn forget(&self) -> anyhow::Result<()> {
        self.swarm.ask(|direct, _| direct.latency.reset())
    }

    /// The latency that 99 of 100 commands kept since [`Talk::forget`], ms.
    pub fn p99(&self) -> anyhow::Result<f64> {
        let micros = self
            .swarm
            .ask(|direct, _| direct.latency.value_at_quantile(0.99))?;
        Ok(micros as f64 / 1000.0)
    }

    /// Commands sent so far.
    pub fn sent(&self) -> anyhow::Result<u64> {
        self.swarm.ask(|direct, _| direct.sent())
    }

    /// Sends nothing more, and waits until everything has arrived.
    pub fn end(&self) -> anyhow::Result<()> {
        self.swarm.ask(|direct, sockets| direct.rest(sockets))??;
        self.swarm
            .until(
                "everything sent is received and accepted",
                Duration::from_secs(30),
                |direct, _| {
                    (direct.received >= direct.sent() && direct.accepted >= direct.sent())
                        .then_some(())
                },
            )
            .with_context(|| self.state())?;
        let trouble = self.swarm.ask(|direct, _| direct.trouble.clone())?;
        anyhow::ensure!(
            trouble.is_empty(),
            "{trouble:?}\n{}",
            self.world.complaints()
        );
        Ok(())
    }

    /// Counts what is received for `length`, after a third of that to warm up; then waits until
    /// everything sent has arrived.
    async fn measure(&self, length: Duration) -> anyhow::Result<Figures> {
        tokio::time::sleep(length / 3).await;
        let (pids, redis) = (self.world.gateway_pids(), [self.world.redis.pid()]);
        let start = Instant::now();
        let before = (cpu_us(&pids)?, cpu_us(&redis)?);
        let received_before = self.swarm.ask(|direct, _| {
            direct.latency.reset();
            direct.received
        })?;
        tokio::time::sleep(length).await;
        let (received, p99, p50) = self.swarm.ask(|direct, _| {
            let at = |quantile| direct.latency.value_at_quantile(quantile) as f64 / 1000.0;
            (direct.received, at(0.99), at(0.5))
        })?;
        let after = (cpu_us(&pids)?, cpu_us(&redis)?);
        let elapsed = start.elapsed();
        self.end()?;
        let commands = (received - received_before) as f64;
        Ok(Figures {
            gateways: (after.0 - before.0) / commands,
            redis: (after.1 - before.1) / commands,
            per_second: commands / elapsed.as_secs_f64(),
            p99,
            p50,
        })
    }

    fn state(&self) -> String {
        let state = self.swarm.ask(|direct, _| {
            format!(
                "sent {}, accepted {}, received {}, {:?}",
                direct.sent(),
                direct.accepted,
                direct.received,
                direct.trouble
            )
        });
        format!("{state:?}\n{}", self.world.complaints())
    }

    /// Until the senders know that every command was delivered and no state is under way.
    async fn until_quiet(&self) -> anyhow::Result<()> {
        let mut last = (u64::MAX, Instant::now());
        let deadline = Instant::now() + Duration::from_mins(1);
        while last.1.elapsed() < Duration::from_secs(2) {
            let states = self.swarm.ask(|direct, _| direct.states)?;
            if states != last.0 {
                last = (states, Instant::now());
            }
            anyhow::ensure!(Instant::now() < deadline, "states keep coming: {states}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}
