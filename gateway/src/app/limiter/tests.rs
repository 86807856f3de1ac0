//! Several nodes and a Redis, all of them pretended and the time with them, against one plain bucket of
//! tokens.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use shared::redis::{LimitStep, Tokens};
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::Instant,
};

use super::{
    rate::Rate,
    share::{Share, Step, Verdict},
};

/// What `limit.lua` does, for one bucket.
#[derive(Default)]
struct Bucket {
    full_at: u64,
}

impl Bucket {
    fn step(&mut self, rate: Rate, now: u64, step: LimitStep) -> Tokens {
        let spacing = rate.spacing.as_micros() as u64;
        let before = if self.full_at > now { self.full_at } else { 0 };
        let empty = now + u64::from(rate.burst) * spacing;
        let mut full = before.max(now).min(empty);
        let count = match step {
            LimitStep::Take(count) => {
                let count = u64::from(count).min((empty - full) / spacing);
                full += count * spacing;
                count
            }
            LimitStep::Give { count, full_at } if full_at == before => {
                full = full.saturating_sub(u64::from(count) * spacing).max(now);
                u64::from(count)
            }
            LimitStep::Give { .. } => 0,
        };
        self.full_at = full;
        Tokens {
            count: count as u32,
            full_before: before,
            full_at: full,
            full_in: Duration::from_micros(full - now),
            next_in: Duration::from_micros((full + spacing).saturating_sub(empty)),
        }
    }
}

/// What happens, each at a moment of its own.
enum Event {
    Requests {
        node: usize,
        count: u32,
    },
    Sweep {
        node: usize,
    },
    Question {
        node: usize,
        asked: u64,
        step: LimitStep,
    },
    Answer {
        node: usize,
        asked: u64,
        decided: u64,
        tokens: Option<Tokens>,
    },
}

/// Somebody who waits for Redis.
struct Asker {
    node: usize,
    verdict: oneshot::Receiver<Verdict>,
}

struct World {
    rate: Rate,
    start: Instant,
    bucket: Bucket,
    nodes: Vec<Share>,
    events: BTreeMap<(u64, usize), Event>,
    numbers: usize,
    askers: Vec<Asker>,
    /// How long calls take on their way there and back, in turn; one in so many is lost.
    delays: Vec<u64>,
    lost_one_in: usize,
    calls: usize,
    /// When, in µs, each request that passed was let pass.
    passed: Vec<u64>,
    refused: usize,
}

impl World {
    fn new(rate: Rate, nodes: usize, delays: Vec<u64>, lost_one_in: usize) -> Self {
        let start = Instant::now();
        Self {
            rate,
            start,
            bucket: Bucket::default(),
            nodes: (0..nodes).map(|_| Share::new(start)).collect(),
            events: BTreeMap::new(),
            numbers: 0,
            askers: Vec::new(),
            delays,
            lost_one_in,
            calls: 0,
            passed: Vec::new(),
            refused: 0,
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.numbers += 1;
        self.events.insert((time, self.numbers), event);
    }

    fn instant(&self, time: u64) -> Instant {
        self.start + Duration::from_micros(time)
    }

    fn delay(&self) -> u64 {
        self.delays[self.numbers % self.delays.len()]
    }

    fn put(&mut self, node: usize, now: u64, step: LimitStep) {
        self.calls += 1;
        let arrives = now + self.delay();
        let asked = now;
        self.at(arrives, Event::Question { node, asked, step });
    }

    fn run(&mut self) {
        while let Some(((now, _), event)) = self.events.pop_first() {
            self.happens(now, &event);
        }
        assert!(self.askers.is_empty(), "somebody was never told");
    }

    fn happens(&mut self, now: u64, event: &Event) {
        let (rate, instant) = (self.rate, self.instant(now));
        match *event {
            Event::Requests { node, count } => (0..count).for_each(|_| self.request(node, now)),
            Event::Sweep { node } => {
                if let Some((count, full_at)) = self.nodes[node].give(rate, instant) {
                    self.put(node, now, LimitStep::Give { count, full_at });
                }
            }
            Event::Question { node, asked, step } => {
                let tokens = self.bucket.step(rate, now, step);
                let is_lost = self.calls.is_multiple_of(self.lost_one_in);
                let tokens = (!is_lost).then_some(tokens);
                if let LimitStep::Take(_) = step {
                    let (arrives, decided) = (now + self.delay(), now);
                    let answer = Event::Answer {
                        node,
                        asked,
                        decided,
                        tokens,
                    };
                    self.at(arrives, answer);
                }
            }
            Event::Answer {
                node,
                asked,
                decided,
                tokens,
            } => {
                let asked = self.instant(asked);
                let ask = self.nodes[node].answered(rate, asked, instant, tokens.as_ref());
                self.hear(decided);
                if let Some(count) = ask {
                    self.put(node, now, LimitStep::Take(count));
                }
            }
        }
    }

    fn request(&mut self, node: usize, now: u64) {
        let instant = self.instant(now);
        let ask = match self.nodes[node].take(self.rate, instant) {
            Step::Taken { ask } => {
                self.passed.push(now);
                ask
            }
            Step::Refused(_) => {
                self.refused += 1;
                None
            }
            Step::Wait { verdict, ask } => {
                self.askers.push(Asker { node, verdict });
                ask
            }
        };
        if let Some(count) = ask {
            self.put(node, now, LimitStep::Take(count));
        }
    }

    /// Looks who was told. A token for somebody who waited was taken when Redis decided.
    fn hear(&mut self, decided: u64) {
        let (passed, refused) = (&mut self.passed, &mut self.refused);
        self.askers.retain_mut(|asker| {
            match asker.verdict.try_recv() {
                Ok(Verdict::Taken) => passed.push(decided),
                Ok(Verdict::Refused(_) | Verdict::Alone) => *refused += 1,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Closed) => panic!("node {} forgot somebody", asker.node),
            }
            false
        });
    }

    /// Lets everything that passed go through one plain bucket, which must never be overdrawn.
    fn check(&mut self) {
        self.passed.sort_unstable();
        let spacing = self.rate.spacing.as_micros() as u64;
        let most = u64::from(self.rate.burst) * spacing;
        // In µs, so that nothing is rounded: a token is `spacing` of them.
        let (mut level, mut last) = (most, 0);
        for (number, &now) in self.passed.iter().enumerate() {
            level = most.min(level + (now - last));
            last = now;
            assert!(
                level >= spacing,
                "request {number} of {} passed at {now} µs, when there was no token",
                self.passed.len()
            );
            level -= spacing;
        }
    }
}

/// Something that happens after a pause, in quarters of the time in which a token comes back: what a
/// lease does is a matter of how many come back while it is held.
#[derive(Debug, Clone)]
enum Deed {
    /// Requests at one node.
    Some { pause: u64, node: usize, count: u32 },
    /// A node looks for what it does not use. It need not happen in time.
    Sweep { pause: u64, node: usize },
    /// Every node is asked for all there is.
    All { pause: u64 },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let pause = || prop_oneof![Just(0_u64), 0..4_u64, 0..80_u64];
    let some = (pause(), 0..4_usize, 1..12_u32);
    let some = some.prop_map(|(pause, node, count)| Deed::Some { pause, node, count });
    let sweep = (pause(), 0..4_usize).prop_map(|(pause, node)| Deed::Sweep { pause, node });
    let all = pause().prop_map(|pause| Deed::All { pause });
    let deed = prop_oneof![12 => some, 3 => sweep, 1 => all];
    prop::collection::vec(deed, 1..60)
}

fn play(world: &mut World, deeds: &[Deed]) {
    let nodes = world.nodes.len();
    let quarter = world.rate.spacing.as_micros() as u64 / 4;
    let mut now = 0;
    for deed in deeds {
        match *deed {
            Deed::Some { pause, node, count } => {
                now += pause * quarter;
                let node = node % nodes;
                // One after the other, as they come from a socket, and so that leases grow.
                for number in 0..count {
                    let time = now + u64::from(number) * 500;
                    world.at(time, Event::Requests { node, count: 1 });
                }
                now += u64::from(count) * 500;
            }
            Deed::Sweep { pause, node } => {
                now += pause * quarter;
                let node = node % nodes;
                world.at(now, Event::Sweep { node });
            }
            Deed::All { pause } => {
                now += pause * quarter;
                now = drain(world, now);
            }
        }
    }
    let idle = u64::from(world.rate.burst) * quarter;
    drain(world, now + idle);
    world.run();
}

/// Every node is asked for more than there is, until there is certainly nothing left.
fn drain(world: &mut World, now: u64) -> u64 {
    let count = world.rate.burst / 4 + 1;
    for round in 0..8 {
        for node in 0..world.nodes.len() {
            let time = now + round * 20_000;
            world.at(time, Event::Requests { node, count });
        }
    }
    now + 160_000
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nodes_together_never_let_pass_more_than_one_bucket_would(
        per_second in 1..40_u32,
        burst in 1..120_u32,
        nodes in 1..5_usize,
        delays in prop::collection::vec(0..3_000_u64, 1..20),
        lost_one_in in prop_oneof![2..20_usize, Just(usize::MAX)],
        deeds in deeds(),
    ) {
        let rate = Rate::per_second(per_second, burst);
        let mut world = World::new(rate, nodes, delays, lost_one_in);
        play(&mut world, &deeds);
        world.check();
    }

    #[test]
    fn who_stays_below_the_rate_is_never_refused(
        per_second in 1..200_u32,
        seconds in 1..4_u32,
        delay in 0..2_000_u64,
        count in 1..400_u64,
    ) {
        let rate = Rate::per_second(per_second, per_second * seconds.max(1));
        let mut world = World::new(rate, 1, vec![delay], usize::MAX);
        // A tenth below, evenly.
        let pause = rate.spacing.as_micros() as u64 * 10 / 9 + 1;
        for number in 0..count {
            world.at(number * pause, Event::Requests { node: 0, count: 1 });
        }
        world.run();
        prop_assert_eq!(world.refused, 0);
        prop_assert_eq!(world.passed.len() as u64, count);
    }
}

/// Everybody asks each millisecond for so many seconds, at the nodes in turn.
fn hammer(rate: Rate, nodes: usize, seconds: u64) -> World {
    let mut world = World::new(rate, nodes, vec![300], usize::MAX);
    for millisecond in 0..seconds * 1000 {
        let node = millisecond as usize % nodes;
        world.at(millisecond * 1000, Event::Requests { node, count: 1 });
    }
    world.run();
    world.check();
    world
}

#[test]
fn a_user_gets_all_of_it_on_one_node_or_on_several() {
    let rate = Rate::per_second(20, 60);
    for nodes in [1, 2, 4] {
        let world = hammer(rate, nodes, 20);
        let most = 60 + 20 * 20;
        let passed = world.passed.len();
        assert!(
            passed <= most && passed * 100 >= most * 97,
            "{passed} of {most} on {nodes} nodes"
        );
    }
}

#[test]
fn calls_do_not_grow_with_requests() {
    // A burst within a moment.
    let rate = Rate::per_second(20, 60);
    let mut world = World::new(rate, 1, vec![300], usize::MAX);
    for number in 0..60 {
        world.at(number * 1000, Event::Requests { node: 0, count: 1 });
    }
    world.run();
    assert_eq!(world.passed.len(), 60);
    assert!(world.calls <= 15, "{} calls for 60 requests", world.calls);
    // Ten times what passes is asked for: what is refused asks nobody.
    let few = hammer(rate, 1, 10);
    assert!(few.refused > 9000);
    assert!(few.calls <= 20 * 10 + 15, "{} calls in 10 s", few.calls);
    // Who may do more does so with fewer calls each.
    let many = hammer(Rate::per_second(1000, 3000), 1, 10);
    assert!(
        many.passed.len() >= 9_900 && many.calls < 100,
        "{} calls for {} requests",
        many.calls,
        many.passed.len()
    );
}

#[test]
fn what_is_not_used_can_be_used_elsewhere() {
    let rate = Rate::per_second(1, 60);
    let mut world = World::new(rate, 2, vec![300], usize::MAX);
    // Enough to have a whole lease, and to leave the rest of it unused.
    for number in 0..20 {
        world.at(number * 1000, Event::Requests { node: 0, count: 1 });
    }
    for second in 1..=4 {
        world.at(second * 1_000_000, Event::Sweep { node: 0 });
    }
    for number in 0..60 {
        let node = 1;
        world.at(
            4_500_000 + number * 1000,
            Event::Requests { node, count: 1 },
        );
    }
    world.run();
    world.check();
    assert_eq!(world.passed.len(), 64, "60, and 4 that came back");
}

#[test]
fn a_node_alone_lets_pass_what_one_bucket_would() {
    let rate = Rate::per_second(20, 60);
    let start = Instant::now();
    let mut share = Share::new(start);
    let mut passed = 0;
    for millisecond in 0..10_000 {
        let now = start + Duration::from_millis(millisecond);
        // Redis never answers.
        if let Step::Wait { verdict, ask } = share.take(rate, now) {
            drop(verdict);
            if ask.is_some() {
                assert!(share.answered(rate, now, now, None).is_none());
            }
            passed += u32::from(share.take_alone(rate, now).is_ok());
        }
    }
    assert_eq!(passed, 60 + 20 * 10 - 1);
    let later = start + Duration::from_secs(20);
    assert!(share.is_at_rest(later), "{share:?}");
}
