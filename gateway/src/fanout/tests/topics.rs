//! The rules of a topic against a model: a log in a vector, bells that are lost, repeated and
//! late, sockets that come, go, are slow, and read in between, connections that take entries in
//! part. Whatever happens, a socket gets every entry after its cursor, in order, once.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    task::{Context, Waker},
};

use proptest::prelude::*;
use shared::{
    domain::{ConversationId, Entry, Kind, Position, Queue, SessionId, Topic, UserId},
    redis::{BellEvent, Page},
};
use uuid::Uuid;

use super::{Pipe, TOPIC, Woken, entry, take};
use crate::{
    dialect::{AckMode, DialectId, Feed, Interest, Messages},
    fanout::{
        Batch, Outbox, OutboxLimits, Source, Walk,
        hub::Hub,
        line::Written,
        place::Mode,
        reader::Chunk,
        testing::member_of,
        topic::{Advance, Effects},
    },
};

/// A log of which the older part is only in Postgres.
#[derive(Default)]
struct Log {
    head: Position,
    hot: BTreeMap<Position, Entry>,
    cold: BTreeMap<Position, Entry>,
    /// The first entry that Redis has ever kept since it trimmed.
    first: Position,
    /// Redis lost a tail and has not begun the next epoch yet.
    fenced: bool,
    /// Epochs follow the clock, so they grow whatever is lost.
    epochs: u64,
}

impl Log {
    fn append(&mut self, new_epoch: bool) -> Entry {
        self.head = if new_epoch || std::mem::take(&mut self.fenced) {
            self.epochs += 1;
            Position {
                epoch: 1 + self.epochs,
                offset: self.head.offset + 1_000_000,
            }
        } else {
            Position {
                offset: self.head.offset + 1,
                ..self.head
            }
        };
        if self.first == Position::START {
            self.first = self.head;
        }
        let entry = entry(self.head);
        self.hot.insert(self.head, entry.clone());
        entry
    }

    /// Redis loses what it took last; Postgres has it.
    fn lose_tail(&mut self, count: usize) {
        for _ in 0..count.min(self.hot.len().saturating_sub(1)) {
            let (position, entry) = self.hot.pop_last().unwrap();
            self.cold.insert(position, entry);
            self.head = *self.hot.keys().next_back().unwrap();
            self.fenced = true;
        }
    }

    /// Moves the older half to Postgres.
    fn trim(&mut self) {
        let half = self.hot.len() / 2;
        let Some(first) = self.hot.keys().nth(half).copied() else {
            return;
        };
        let newer = self.hot.split_off(&first);
        self.cold.append(&mut self.hot);
        self.hot = newer;
        self.first = first;
    }

    fn read(&self, walk: &mut Walk, limit: usize) -> Chunk {
        match walk.next() {
            Source::Hot(after) => {
                let is_cold = self.cold.range(next(after)..).next().is_some();
                walk.hot(if after > self.head {
                    Page::Reset { head: self.head }
                } else if is_cold && before(self.first) > after {
                    Page::Cold {
                        first: self.first,
                        head: self.head,
                    }
                } else if let Some(first) = self.begins_epoch(after) {
                    Page::Cold {
                        first,
                        head: self.head,
                    }
                } else {
                    let mut newer = self.hot.range(next(after)..).peekable();
                    let epoch = newer.peek().map_or(0, |(first, _)| first.epoch);
                    let entries: Vec<Entry> = newer
                        .take_while(|(position, _)| position.epoch == epoch)
                        .map(|(_, entry)| entry.clone())
                        .take(limit)
                        .collect();
                    Page::Entries {
                        end: entries.last().map_or(self.head, |last| last.position),
                        entries,
                        head: self.head,
                    }
                })
            }
            Source::Cold(after, before) => {
                let entries = self
                    .cold
                    .range(next(after)..before)
                    .map(|(_, entry)| entry.clone());
                walk.cold(entries.take(limit).collect(), limit as u32)
            }
        }
    }

    /// The entry after a position, if another epoch begins with it.
    fn begins_epoch(&self, after: Position) -> Option<Position> {
        let newer = self.hot.keys().find(|position| **position > after);
        let first = newer.copied().unwrap_or(next(self.head));
        (after.epoch > 0 && first.epoch != after.epoch).then_some(first)
    }

    fn positions_after(&self, cursor: Position) -> Vec<Position> {
        let all = self.cold.keys().chain(self.hot.keys());
        let mut after: Vec<_> = all.copied().filter(|position| *position > cursor).collect();
        after.sort_unstable();
        after
    }
}

fn next(position: Position) -> Position {
    Position {
        offset: position.offset + 1,
        ..position
    }
}

fn before(position: Position) -> Position {
    Position {
        offset: position.offset - 1,
        ..position
    }
}

const USER: UserId = UserId(Uuid::from_u128(7));

/// What stands in a log that holds more than one thing.
fn kind_at(position: Position) -> Kind {
    if position.offset.is_multiple_of(3) {
        Kind::CommandNew
    } else {
        Kind::MessageNew
    }
}

struct Socket {
    outbox: Arc<Outbox>,
    cursor: Position,
    line: Arc<Pipe>,
    stage: Stage,
}

impl Socket {
    fn got(&self) -> Vec<Position> {
        let position = |text: String| {
            let content = text.split(r#""content":""#).nth(1).unwrap();
            content.split('"').next().unwrap().parse().unwrap()
        };
        self.line.texts().into_iter().map(position).collect()
    }
}

/// Until its session writes again, a socket's line is lent for so many unconfirmed entries,
/// and takes so many bytes.
#[derive(Debug, Clone, Copy)]
struct Loan {
    below: u32,
    room: usize,
}

const NOTHING: Loan = Loan { below: 0, room: 0 };

enum Stage {
    Joined,
    Opened(Vec<Entry>, Position),
    /// Running, perhaps with a catch-up: what it read and has not given yet.
    Started(Option<CatchUp>),
}

#[derive(Default)]
struct CatchUp {
    walk: Option<Walk>,
    read: Option<(Vec<Entry>, Position)>,
}

#[derive(Default)]
struct Repair {
    walk: Option<Walk>,
    read: Option<(Chunk, Position)>,
}

struct World {
    /// What the sockets get of the log.
    feed: Feed,
    log: Log,
    hub: Hub,
    bells: VecDeque<Entry>,
    sockets: Vec<Socket>,
    /// Re-reads under way. More than one if the topic was given up and taken up again meanwhile.
    repairs: VecDeque<Repair>,
    removed: BTreeSet<Position>,
}

const PAGE: usize = 3;

impl World {
    fn new(feed: Feed) -> Self {
        let head = Position {
            epoch: 1,
            offset: 0,
        };
        let log = Log {
            head,
            ..Log::default()
        };
        Self {
            feed,
            log,
            hub: Hub::new(),
            bells: VecDeque::new(),
            sockets: Vec::new(),
            repairs: VecDeque::new(),
            removed: BTreeSet::new(),
        }
    }

    fn topic(&self) -> Topic {
        self.feed.topic(USER)
    }

    /// What a socket gets of an entry in the log: of what came by each feed.
    fn is_for(&self, position: Position) -> bool {
        match self.feed {
            Feed::Queue(queue) => queue == Queue::of(kind_at(position)),
            _ => true,
        }
    }

    /// As the log of this world has it.
    fn write_down(&self, entry: Entry) -> Entry {
        let kind = match self.feed {
            Feed::Queue(_) => kind_at(entry.position),
            Feed::Conversation(_) => Kind::MessageNew,
            _ => entry.kind,
        };
        Entry {
            topic: self.topic(),
            kind,
            ..entry
        }
    }

    fn append(&mut self, new_epoch: bool) {
        let entry = self.log.append(new_epoch);
        let entry = self.write_down(entry);
        self.log.hot.insert(entry.position, entry.clone());
        self.bells.push_back(entry);
    }

    fn apply(&mut self, effects: Effects) {
        for topic in effects.repair {
            assert_eq!(topic, self.topic());
            self.repairs.push_back(Repair::default());
        }
        for outbox in effects.wake {
            outbox.wake();
        }
        for outbox in effects.write {
            outbox.write(&mut Written::default());
        }
    }

    fn ring(&mut self, count: usize, twice: bool) {
        let count = count.min(self.bells.len());
        let mut events = Vec::new();
        for entry in self.bells.drain(..count) {
            events.push(BellEvent::Entry(entry.clone()));
            if twice {
                events.push(BellEvent::Entry(entry));
            }
        }
        let mut effects = Effects::default();
        self.hub.hear(events, &mut effects);
        self.apply(effects);
    }

    fn join(&mut self, back: u64) {
        let limits = OutboxLimits {
            frames: 3,
            bytes: 10_000,
            window: 5,
        };
        let by_queue = matches!(self.feed, Feed::Queue(_));
        let outbox = Outbox::of(limits, DialectId::Json, by_queue);
        outbox
            .set_member(member_of(
                USER,
                SessionId(Uuid::from_u128(self.sockets.len() as u128)),
            ))
            .unwrap();
        match self.feed {
            Feed::Conversation(conversation) => {
                outbox.go_live(Position::START);
                let messages = Messages::All;
                let id = Some(conversation);
                let wish = Interest::Conversation { id, messages };
                outbox.wish(wish, None).unwrap();
                assert!(self.hub.listen(conversation, &outbox));
            }
            Feed::Queue(queue) => {
                self.hub.join(TOPIC, outbox.clone());
                outbox.wish(Interest::Queue(queue), None).unwrap();
                let followed = self.hub.follow_queue(USER, &outbox, queue, AckMode::Auto);
                assert!(followed.is_some());
            }
            _ => self.hub.join(TOPIC, outbox.clone()),
        }
        let line = Arc::new(Pipe::default());
        outbox.connect(line.clone());
        let known = self.log.positions_after(Position::START);
        let cursor = match back as usize {
            0 => self.log.head,
            back => known.iter().rev().nth(back).copied().unwrap_or_default(),
        };
        self.sockets.push(Socket {
            outbox,
            cursor,
            line,
            stage: Stage::Joined,
        });
    }

    /// The next step of what a socket's catch-up or attach does.
    fn step(&mut self, index: usize) {
        let (topic, feed) = (self.topic(), self.feed);
        let Some(socket) = self.sockets.get_mut(index) else {
            return;
        };
        match &mut socket.stage {
            Stage::Joined if self.feed != Feed::User => {
                if let Feed::Conversation(_) = self.feed {
                    // Heard from now on.
                    socket.cursor = self.log.head;
                }
                let mut effects = Effects::default();
                self.hub
                    .learn_head(topic, self.log.head, None, &mut effects);
                socket.outbox.begin(self.feed, socket.cursor);
                socket.stage = Stage::Started(Some(CatchUp::default()));
                self.apply(effects);
            }
            Stage::Joined => {
                let mut walk = Walk::from(socket.cursor);
                let chunk = self.log.read(&mut walk, PAGE);
                let mut effects = Effects::default();
                self.hub
                    .learn_head(TOPIC, self.log.head, None, &mut effects);
                socket.outbox.begin(Feed::User, socket.cursor);
                // So that entries are written without the session, too.
                socket.outbox.begin(Feed::Broadcast, Position::START);
                socket.outbox.go_live_at(Feed::Broadcast, Position::START);
                socket.stage = Stage::Opened(chunk.entries, walk.at());
                self.apply(effects);
            }
            Stage::Opened(page, at) => {
                let page = std::mem::take(page);
                let advance = self.hub.feed(topic, &socket.outbox, feed, page, *at);
                let more = matches!(advance, Advance::Read { .. });
                socket.stage = Stage::Started(more.then(CatchUp::default));
            }
            Stage::Started(catch_up) => {
                if catch_up.is_none() && socket.outbox.mode(feed) == Mode::CatchingUp {
                    *catch_up = Some(CatchUp::default());
                }
                let Some(running) = catch_up else {
                    return;
                };
                let advance = match running.read.take() {
                    Some((entries, at)) => self.hub.feed(topic, &socket.outbox, feed, entries, at),
                    None => self.hub.advance(topic, &socket.outbox, feed),
                };
                match advance {
                    Advance::Done => *catch_up = None,
                    Advance::Read { after, target } => {
                        let known = running.walk.filter(|walk| walk.at() == after);
                        let mut walk = known.unwrap_or(Walk::from(after));
                        let chunk = self.log.read(&mut walk, PAGE);
                        walk.expect(chunk.end, target);
                        running.read = Some((chunk.entries, walk.at()));
                        running.walk = Some(walk);
                    }
                }
            }
        }
    }

    /// The next step of the re-read whose turn it is.
    fn repair_step(&mut self) {
        let topic = self.topic();
        let Some(mut repair) = self.repairs.pop_front() else {
            return;
        };
        let whole = if let Some((chunk, target)) = repair.read.take() {
            let mut effects = Effects::default();
            let whole = self
                .hub
                .repaired(topic, chunk.entries, chunk.end, target, &mut effects);
            self.apply(effects);
            whole
        } else if let Some((after, target)) = self.hub.repair_from(topic) {
            let known = repair.walk.filter(|walk| walk.at() >= after);
            let mut walk = known.unwrap_or(Walk::from(after));
            let chunk = self.log.read(&mut walk, PAGE);
            repair.walk = Some(walk);
            repair.read = Some((chunk, target));
            false
        } else {
            true
        };
        if !whole {
            self.repairs.push_back(repair);
        }
    }

    fn compare(&mut self) {
        let mut effects = Effects::default();
        self.hub.compare(self.topic(), self.log.head, &mut effects);
        self.apply(effects);
    }

    /// The session writes what there is and lends the line; the client may confirm it.
    fn write(&mut self, index: usize, confirm: bool, loan: Loan) {
        let Some(socket) = self.sockets.get_mut(index) else {
            return;
        };
        loop {
            let mut batch = Batch::new();
            let mut cx = Context::from_waker(Waker::noop());
            let taken = socket.outbox.poll_batch(&mut cx, &mut batch);
            socket.line.write_all(batch);
            if taken.is_pending() {
                break;
            }
        }
        socket.line.has_room_for(loan.room);
        socket.outbox.drained(loan.below);
        if confirm && let Some(reach) = socket.outbox.written() {
            socket.outbox.confirmed(&reach);
        }
    }

    fn leave(&mut self, index: usize) {
        if index < self.sockets.len() {
            let socket = self.sockets.remove(index);
            self.hub.leave(self.topic(), &socket.outbox);
        }
    }

    /// Lets everything that was begun end, and checks what sockets got.
    fn settle(mut self) -> Result<(), TestCaseError> {
        if self.log.fenced {
            // What Redis lost is found when the next epoch begins.
            self.append(true);
        }
        self.ring(usize::MAX, false);
        for _ in 0..200 {
            self.compare();
            self.repair_step();
            for index in 0..self.sockets.len() {
                self.step(index);
                self.write(index, true, NOTHING);
            }
        }
        for socket in &self.sockets {
            let got = socket.got();
            let in_order = got.windows(2).all(|pair| pair[0] < pair[1]);
            prop_assert!(in_order, "{:?} after {}", got, socket.cursor);
            let got: Vec<_> = got
                .into_iter()
                .filter(|at| !self.removed.contains(at))
                .collect();
            let mut expected = self.log.positions_after(socket.cursor);
            expected.retain(|position| self.is_for(*position));
            prop_assert_eq!(&got, &expected, "after {}", socket.cursor);
            prop_assert_eq!(socket.outbox.mode(self.feed), Mode::Live);
        }
        prop_assert!(self.repairs.is_empty());
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Op {
    Publish {
        count: usize,
        new_epoch: bool,
    },
    Ring {
        count: usize,
        twice: bool,
    },
    LoseBells(usize),
    LoseTail(usize),
    Compare,
    Repair,
    Join(u64),
    Step(usize),
    Write {
        index: usize,
        confirm: bool,
        loan: Loan,
    },
    Leave(usize),
    Trim,
    Remove(usize),
}

/// Up to all that may be unconfirmed, and some three frames.
fn loan() -> impl Strategy<Value = Loan> {
    (0u32..7, 0usize..600).prop_map(|(below, room)| Loan { below, room })
}

fn op() -> impl Strategy<Value = Op> {
    let index = 0usize..4;
    prop_oneof![
        6 => (1usize..5, prop::bool::weighted(0.1))
            .prop_map(|(count, new_epoch)| Op::Publish { count, new_epoch }),
        8 => (1usize..6, prop::bool::weighted(0.1)).prop_map(|(count, twice)| Op::Ring { count, twice }),
        1 => (1usize..4).prop_map(Op::LoseBells),
        1 => (1usize..4).prop_map(Op::LoseTail),
        1 => Just(Op::Compare),
        6 => Just(Op::Repair),
        2 => (0u64..12).prop_map(Op::Join),
        14 => index.clone().prop_map(Op::Step),
        8 => (index.clone(), any::<bool>(), loan())
            .prop_map(|(index, confirm, loan)| Op::Write { index, confirm, loan }),
        1 => index.prop_map(Op::Leave),
        1 => Just(Op::Trim),
        1 => (0usize..30).prop_map(Op::Remove),
    ]
}

fn play(feed: Feed, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut world = World::new(feed);
    world.hub.pin(world.topic());
    for op in ops {
        match op {
            Op::Publish { count, new_epoch } => {
                for number in 0..count {
                    world.append(new_epoch && number == 0);
                }
            }
            Op::Ring { count, twice } => world.ring(count, twice),
            Op::LoseBells(count) => {
                let count = count.min(world.bells.len());
                world.bells.drain(..count);
            }
            Op::LoseTail(count) => world.log.lose_tail(count),
            Op::Compare => world.compare(),
            Op::Repair => world.repair_step(),
            Op::Join(back) => {
                if world.sockets.len() < 4 {
                    world.join(back);
                }
            }
            Op::Step(index) => world.step(index),
            Op::Write {
                index,
                confirm,
                loan,
            } => world.write(index, confirm, loan),
            Op::Leave(index) => world.leave(index),
            Op::Trim => world.log.trim(),
            Op::Remove(back) => {
                // A command ended: its entry goes, wherever it is.
                let known = world.log.positions_after(Position::START);
                if let Some(position) = known.into_iter().nth_back(back) {
                    world.log.hot.remove(&position);
                    world.log.cold.remove(&position);
                    world.removed.insert(position);
                }
            }
        }
    }
    world.settle()
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_socket_gets_everything_after_its_cursor_in_order_and_once(ops in ops()) {
        play(Feed::User, ops)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn every_follower_of_a_queue_gets_all_of_it_in_order_and_once(ops in ops()) {
        play(Feed::Queue(Queue::Messages), ops)?;
    }

    #[test]
    fn every_listener_gets_all_that_is_said_from_then_on_in_order_and_once(ops in ops()) {
        play(Feed::Conversation(ConversationId(Uuid::from_u128(8))), ops)?;
    }
}

/// A topic with one live socket at the head.
fn live_world() -> World {
    let mut world = World::new(Feed::User);
    world.hub.pin(TOPIC);
    world.join(0);
    world.step(0);
    world.step(0);
    assert_eq!(world.sockets[0].outbox.mode(Feed::User), Mode::Live);
    world
}

fn publish(world: &mut World, count: usize) {
    for _ in 0..count {
        world.append(false);
    }
}

#[test]
fn a_gap_is_read_again_and_until_then_nothing_is_sent() {
    let mut world = live_world();
    publish(&mut world, 3);
    world.bells.pop_front();
    world.ring(10, false);
    assert!(!world.repairs.is_empty());
    world.write(0, false, NOTHING);
    assert!(world.sockets[0].got().is_empty());
    world.repair_step();
    world.repair_step();
    assert!(world.repairs.is_empty());
    world.write(0, false, NOTHING);
    assert_eq!(world.sockets[0].got().len(), 3);
}

#[test]
fn a_lost_last_bell_is_found_by_comparing_heads() {
    let mut world = live_world();
    publish(&mut world, 1);
    world.bells.clear();
    world.compare();
    world.repair_step();
    world.repair_step();
    world.write(0, false, NOTHING);
    assert_eq!(world.sockets[0].got(), [world.log.head]);
    world.compare();
    assert!(world.repairs.is_empty(), "nothing is missing");
}

#[test]
fn a_log_that_lost_what_was_heard_does_not_hold_up_what_follows() {
    let mut world = live_world();
    publish(&mut world, 3);
    // Heard of the third without the first two; then Redis fails over and has lost all three.
    let lost = world.bells.pop_back().unwrap();
    world.bells = VecDeque::from([lost]);
    world.log.hot.clear();
    world.log.head = Position {
        epoch: 1,
        offset: 0,
    };
    world.ring(10, false);
    world.repair_step();
    world.repair_step();
    assert!(world.repairs.is_empty());
    world.append(true);
    world.settle().unwrap();
}

#[test]
fn a_batch_wakes_each_socket_once() {
    let mut world = live_world();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    assert!(take(&world.sockets[0].outbox, &waker).is_pending());
    publish(&mut world, 3);
    world.ring(3, false);
    assert_eq!(woken.count(), 1);
    assert!(take(&world.sockets[0].outbox, &waker).is_ready());
}

#[test]
fn a_repeated_or_old_bell_is_ignored() {
    let mut world = live_world();
    publish(&mut world, 2);
    world.ring(2, true);
    assert!(world.repairs.is_empty());
    world.write(0, false, NOTHING);
    assert_eq!(world.sockets[0].got().len(), 2);
}

#[test]
fn a_topic_nobody_needs_is_forgotten_only_if_nobody_came_back() {
    use crate::fanout::hub::Step;

    let hub = Hub::new();
    let outbox = || Outbox::new(OutboxLimits::default(), DialectId::Json);
    let first = outbox();
    hub.join(TOPIC, first.clone());
    assert!(matches!(hub.follow(TOPIC), Step::Subscribe));
    assert!(matches!(hub.follow(TOPIC), Step::Wait(_)));
    assert!(!hub.followed(TOPIC, true));
    assert!(matches!(hub.follow(TOPIC), Step::Followed));
    assert!(hub.leave(TOPIC, &first).is_some_and(|left| left.is_unused));
    assert!(hub.begin_unsubscribe(TOPIC));
    // Back in the middle of it: has to wait, then to subscribe anew.
    let second = outbox();
    hub.join(TOPIC, second.clone());
    assert!(matches!(hub.follow(TOPIC), Step::Wait(_)));
    hub.unsubscribed(TOPIC);
    assert!(matches!(hub.follow(TOPIC), Step::Subscribe));
    // It failed, and the socket gave up.
    assert!(!hub.followed(TOPIC, false));
    assert!(hub.leave(TOPIC, &second).is_none_or(|left| !left.is_unused));
    assert_eq!(hub.counts(), (0, 0));
}
