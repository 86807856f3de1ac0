//! Writes confirmed positions to the cursors in Redis: at once if the device's last write is
//! a second ago, else when it is. Only the highest position of a device is kept, also while
//! Redis is away, so this is bounded by the number of devices. What is lost with the process
//! costs duplicates, never entries.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use shared::{
    domain::{Device, Position, Queue, Topic, UserId},
    lifecycle::Lifecycle,
    redis::{Ack, Store, StoreError},
};
use tokio::{sync::Notify, time::Instant};

use super::metrics;

/// Least time between two writes for one device.
const SPACING: Duration = Duration::from_secs(1);
/// Most acks per call.
const BATCH: usize = 512;
/// Most devices per Redis shard. Beyond, new ones are not recorded until others are.
const MAX_DEVICES: usize = 500_000;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// The third is the queue whose cursor it is; none means that of the whole log.
type Key = (UserId, Device, Option<Queue>);

/// See the module. One lane per Redis shard, so that one that is away holds up no other.
pub(super) struct Acker {
    store: Store,
    lifecycle: Lifecycle,
    lanes: Mutex<HashMap<usize, Arc<Lane>>>,
}

#[derive(Default)]
struct Lane {
    state: Mutex<Pending>,
    news: Notify,
}

impl Acker {
    pub(super) fn new(store: Store, lifecycle: Lifecycle) -> Self {
        Self {
            store,
            lifecycle,
            lanes: Mutex::default(),
        }
    }

    /// The device is done with everything up to `position`; what was `skipped` it has not.
    pub(super) fn confirm(
        &self,
        user: UserId,
        device: &Device,
        queue: Option<Queue>,
        position: Position,
        skipped: Vec<Position>,
    ) {
        let lane = self.lane(user);
        let news = Upto { position, skipped };
        let key = (user, device.clone(), queue);
        let added = lane.state.lock().add(key, news, Instant::now());
        self.see_to(&lane, added);
    }

    /// The device leaves: what it confirmed is written now, and then forgotten here.
    pub(super) fn flush_now(&self, user: UserId, device: &Device) {
        let lane = self.lane(user);
        for queue in Queue::ALL.map(Some).into_iter().chain([None]) {
            let key = (user, device.clone(), queue);
            let hurried = lane.state.lock().hurry(&key, Instant::now());
            self.see_to(&lane, hurried);
        }
    }

    /// Writes everything now; true once nothing waits, false if that takes longer than `wait`.
    pub(super) async fn flush_all(&self, wait: Duration) -> bool {
        let lanes: Vec<_> = self.lanes.lock().values().cloned().collect();
        for lane in &lanes {
            let hurried = lane.state.lock().hurry_all(Instant::now());
            self.see_to(lane, hurried);
        }
        let deadline = Instant::now() + wait;
        for lane in &lanes {
            loop {
                let done = lane.news.notified();
                if lane.state.lock().is_settled() {
                    break;
                }
                if tokio::time::timeout_at(deadline, done).await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// How many devices have a position that is not written.
    pub(super) fn waiting(&self) -> usize {
        let lanes = self.lanes.lock();
        lanes.values().map(|lane| lane.state.lock().unwritten).sum()
    }

    fn lane(&self, user: UserId) -> Arc<Lane> {
        let shard = self.store.shard_of(Topic::User(user));
        self.lanes.lock().entry(shard).or_default().clone()
    }

    fn see_to(&self, lane: &Arc<Lane>, added: Added) {
        match added {
            Added::Nothing => {}
            Added::Sooner => lane.news.notify_waiters(),
            Added::NeedsTask => {
                let (store, lane) = (self.store.clone(), lane.clone());
                self.lifecycle.spawn("ack cursors", async move {
                    lane.write(|acks| {
                        let store = store.clone();
                        async move { store.ack(&acks).await }
                    })
                    .await;
                });
            }
        }
    }
}

impl Lane {
    /// Writes until nothing waits.
    async fn write<W>(&self, ack: impl Fn(Vec<Ack>) -> W)
    where
        W: Future<Output = Result<(), StoreError>>,
    {
        let mut retry = FIRST_RETRY;
        loop {
            // Registered before looking, so nothing is missed in between.
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let next = self.state.lock().take(Instant::now());
            let acks = match next {
                Next::Write(acks) => acks,
                Next::At(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = news => {}
                    }
                    continue;
                }
                Next::Nothing => {
                    self.news.notify_waiters();
                    return;
                }
            };
            match ack(acks.clone()).await {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    self.state.lock().written(&acks, Instant::now());
                }
                Err(error) => {
                    tracing::warn!(%error, count = acks.len(), "cursors cannot be written");
                    self.state.lock().put_back(acks, Instant::now());
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }
}

/// What waits to be written, and since when what was written.
#[derive(Default)]
struct Pending {
    devices: HashMap<Key, Slot>,
    /// When to look at a device. May name one twice, or one that is gone.
    due: BinaryHeap<Reverse<(Instant, Key)>>,
    unwritten: usize,
    in_flight: usize,
    /// A task writes this lane.
    running: bool,
}

/// How far a device has come, and what was kept from it on the way.
#[derive(Debug, Default)]
struct Upto {
    position: Position,
    skipped: Vec<Position>,
}

impl Upto {
    fn add(&mut self, more: Self) {
        self.position = self.position.max(more.position);
        self.skipped.extend(more.skipped);
    }
}

#[derive(Default)]
struct Slot {
    unwritten: Option<Upto>,
    written_at: Option<Instant>,
    leaving: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Added {
    Nothing,
    Sooner,
    NeedsTask,
}

#[derive(Debug)]
enum Next {
    Write(Vec<Ack>),
    At(Instant),
    Nothing,
}

impl Pending {
    fn add(&mut self, key: Key, news: Upto, now: Instant) -> Added {
        if self.devices.len() >= MAX_DEVICES && !self.devices.contains_key(&key) {
            metrics::ACKS_DROPPED.increment(1);
            return Added::Nothing;
        }
        let slot = self.devices.entry(key.clone()).or_default();
        slot.leaving = false;
        let due = slot.written_at.map_or(now, |at| at + SPACING);
        match &mut slot.unwritten {
            Some(known) => {
                known.add(news);
                Added::Nothing
            }
            none => {
                *none = Some(news);
                self.unwritten += 1;
                self.due.push(Reverse((due, key)));
                self.has_more()
            }
        }
    }

    fn hurry(&mut self, key: &Key, now: Instant) -> Added {
        let Some(slot) = self.devices.get_mut(key) else {
            return Added::Nothing;
        };
        if slot.unwritten.is_none() {
            self.devices.remove(key);
            return Added::Nothing;
        }
        slot.leaving = true;
        self.due.push(Reverse((now, key.clone())));
        self.has_more()
    }

    fn hurry_all(&mut self, now: Instant) -> Added {
        let waiting = self
            .devices
            .iter()
            .filter(|(_, slot)| slot.unwritten.is_some());
        let due: BinaryHeap<_> = waiting
            .map(|(key, _)| Reverse((now, key.clone())))
            .collect();
        self.due = due;
        if self.due.is_empty() {
            Added::Nothing
        } else {
            self.has_more()
        }
    }

    fn has_more(&mut self) -> Added {
        if std::mem::replace(&mut self.running, true) {
            Added::Sooner
        } else {
            Added::NeedsTask
        }
    }

    fn take(&mut self, now: Instant) -> Next {
        let mut acks = Vec::new();
        while acks.len() < BATCH {
            match self.due.peek() {
                Some(Reverse((due, _))) if *due <= now => {}
                _ => break,
            }
            let Some(Reverse((_, key))) = self.due.pop() else {
                break;
            };
            let slot = self.devices.get_mut(&key);
            if let Some(Upto { position, skipped }) = slot.and_then(|slot| slot.unwritten.take()) {
                self.unwritten -= 1;
                let (user, device, queue) = key;
                acks.push(Ack {
                    user,
                    device,
                    queue,
                    position,
                    skipped,
                });
            }
        }
        if !acks.is_empty() {
            self.in_flight = acks.len();
            return Next::Write(acks);
        }
        if let Some(Reverse((due, _))) = self.due.peek() {
            return Next::At(*due);
        }
        self.running = false;
        Next::Nothing
    }

    fn written(&mut self, acks: &[Ack], now: Instant) {
        self.in_flight = 0;
        for ack in acks {
            let key = (ack.user, ack.device.clone(), ack.queue);
            if let Some(slot) = self.devices.get_mut(&key) {
                slot.written_at = Some(now);
                if slot.leaving && slot.unwritten.is_none() {
                    self.devices.remove(&key);
                }
            }
        }
    }

    fn put_back(&mut self, acks: Vec<Ack>, now: Instant) {
        self.in_flight = 0;
        for Ack {
            user,
            device,
            queue,
            position,
            skipped,
        } in acks
        {
            let key = (user, device, queue);
            // Not known any more: the device left while this was being written.
            let slot = self.devices.entry(key.clone()).or_insert(Slot {
                leaving: true,
                ..Slot::default()
            });
            let upto = Upto { position, skipped };
            if let Some(newer) = &mut slot.unwritten {
                newer.add(upto);
            } else {
                slot.unwritten = Some(upto);
                self.unwritten += 1;
            }
            self.due.push(Reverse((now, key)));
        }
    }

    fn is_settled(&self) -> bool {
        self.unwritten == 0 && self.in_flight == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use uuid::Uuid;

    use super::*;

    fn key(name: &str) -> Key {
        (UserId(Uuid::nil()), name.parse().unwrap(), None)
    }

    fn at(offset: u64) -> Position {
        Position { epoch: 1, offset }
    }

    /// Runs a lane against a store that records, and refuses while `away`.
    struct Bench {
        lane: Arc<Lane>,
        written: Arc<Mutex<Vec<(Instant, u64)>>>,
        away: Arc<AtomicBool>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                lane: Arc::default(),
                written: Arc::default(),
                away: Arc::default(),
            }
        }

        fn act(&self, act: impl FnOnce(&mut Pending) -> Added) {
            let added = act(&mut self.lane.state.lock());
            match added {
                Added::Nothing => {}
                Added::Sooner => self.lane.news.notify_waiters(),
                Added::NeedsTask => {
                    let (lane, written, away) =
                        (self.lane.clone(), self.written.clone(), self.away.clone());
                    Lifecycle::new().spawn("lane", async move {
                        lane.write(|acks| {
                            let refused = away.load(Ordering::Relaxed);
                            if !refused {
                                let offsets = acks.iter().map(|ack| ack.position.offset);
                                let now = Instant::now();
                                written.lock().extend(offsets.map(|offset| (now, offset)));
                            }
                            std::future::ready(if refused {
                                Err(StoreError::Unavailable("test".into()))
                            } else {
                                Ok(())
                            })
                        })
                        .await;
                    });
                }
            }
        }

        fn confirm(&self, name: &str, offset: u64) {
            let upto = Upto {
                position: at(offset),
                ..Upto::default()
            };
            self.act(|pending| pending.add(key(name), upto, Instant::now()));
        }

        fn offsets(&self) -> Vec<u64> {
            self.written
                .lock()
                .iter()
                .map(|(_, offset)| *offset)
                .collect()
        }
    }

    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_is_written_at_once_and_what_follows_within_a_second() {
        let bench = Bench::new();
        let began = Instant::now();
        bench.confirm("a", 1);
        pass(Duration::from_millis(1)).await;
        assert_eq!(bench.offsets(), [1]);
        for offset in 2..=50 {
            bench.confirm("a", offset);
            pass(Duration::from_millis(10)).await;
        }
        assert_eq!(bench.offsets(), [1]);
        pass(Duration::from_secs(2)).await;
        assert_eq!(bench.offsets(), [1, 50]);
        let spacing = bench.written.lock()[1].0 - began;
        assert!(spacing >= SPACING && spacing < SPACING * 2, "{spacing:?}");
        // Idle since long: at once again.
        bench.confirm("a", 51);
        pass(Duration::from_millis(1)).await;
        assert_eq!(bench.offsets(), [1, 50, 51]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_leaves_is_written_at_once_and_forgotten() {
        let bench = Bench::new();
        bench.confirm("a", 1);
        pass(Duration::from_millis(1)).await;
        bench.confirm("a", 2);
        bench.act(|pending| pending.hurry(&key("a"), Instant::now()));
        pass(Duration::from_millis(1)).await;
        assert_eq!(bench.offsets(), [1, 2]);
        assert!(bench.lane.state.lock().devices.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn while_redis_is_away_only_the_highest_is_kept() {
        let bench = Bench::new();
        bench.away.store(true, Ordering::Relaxed);
        for offset in 1..=100 {
            bench.confirm("a", offset);
            bench.confirm("b", offset * 2);
            pass(Duration::from_millis(100)).await;
        }
        assert_eq!(bench.lane.state.lock().unwritten, 2);
        assert!(bench.lane.state.lock().due.len() < 10);
        bench.away.store(false, Ordering::Relaxed);
        pass(LAST_RETRY * 2).await;
        let mut offsets = bench.offsets();
        offsets.sort_unstable();
        assert_eq!(offsets, [100, 200]);
        assert!(bench.lane.state.lock().is_settled());
    }
}
