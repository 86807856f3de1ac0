//! What devices confirmed and does not have to be written at once: gathered for a while, then
//! written many in a call. What is lost with the process costs duplicates, never entries.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use shared::{
    lifecycle::Lifecycle,
    redis::{Store, StoreError},
};
use tokio::{sync::Notify, time::Instant};

use super::metrics;

/// Most confirmations per call.
const BATCH: usize = 256;
/// Devices that leave at once share calls.
const PAUSE: Duration = Duration::from_millis(50);
/// Most keys that wait. Beyond, new ones are not recorded until others are.
const MAX_KEYS: usize = 500_000;
const RETRY: Duration = Duration::from_secs(1);

/// What is confirmed under a key.
pub(super) trait Gathered: Default + Send + Sync {
    /// Whose, and of what.
    type Key: Clone + Eq + Hash + Send + Sync;

    /// More of it.
    fn add(&mut self, more: Self);

    /// Whether that is so much that it is not to wait for the next round.
    fn is_much(&self) -> bool {
        false
    }

    /// The shard that it is written to.
    fn shard(store: &Store, key: &Self::Key) -> usize;

    /// Writes what belongs to one shard.
    fn write(
        store: &Store,
        part: &[(Self::Key, Self)],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// See the module. What belongs to a shard that is away waits and holds up no other.
pub(super) struct Gather<P: Gathered> {
    state: Mutex<State<P>>,
    news: Notify,
}

struct State<P: Gathered> {
    pending: HashMap<P::Key, P>,
    /// Those that are not to wait for the next round.
    soon: HashSet<P::Key>,
    in_flight: usize,
    /// Shards that failed, and until when they are left alone.
    away: HashMap<usize, Instant>,
}

impl<P: Gathered> Default for Gather<P> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                pending: HashMap::new(),
                soon: HashSet::new(),
                in_flight: 0,
                away: HashMap::new(),
            }),
            news: Notify::new(),
        }
    }
}

impl<P: Gathered> Gather<P> {
    /// Takes what was confirmed.
    pub(super) fn add(&self, key: P::Key, confirmed: P) {
        let mut state = self.state.lock();
        if state.pending.len() >= MAX_KEYS && !state.pending.contains_key(&key) {
            metrics::ACKS_DROPPED.increment(1);
            return;
        }
        let pending = state.pending.entry(key.clone()).or_default();
        pending.add(confirmed);
        if pending.is_much() {
            state.soon.insert(key);
            self.news.notify_one();
        }
    }

    /// What waits under a key is written soon.
    pub(super) fn hurry(&self, key: P::Key) {
        let mut state = self.state.lock();
        if state.pending.contains_key(&key) {
            state.soon.insert(key);
            self.news.notify_one();
        }
    }

    /// How many keys have something that is not written.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// Writes everything now; true once nothing waits.
    pub(super) async fn written(&self, wait: Duration) -> bool {
        self.hurry_all();
        let settled = async {
            while !self.is_settled() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(wait, settled).await.is_ok()
    }

    /// The task that writes: everything once in an `interval`, and soon what is in a hurry.
    pub(super) async fn write(&self, store: &Store, lifecycle: &Lifecycle, interval: Duration) {
        let mut round = Instant::now() + interval;
        let mut again = None;
        loop {
            tokio::select! {
                () = self.news.notified() => tokio::time::sleep(PAUSE).await,
                () = tokio::time::sleep_until(again.unwrap_or(round)), if again.is_some() => {}
                () = tokio::time::sleep_until(round) => {
                    round = Instant::now() + interval;
                    self.hurry_all();
                }
                () = lifecycle.stopping() => return,
            }
            again = self.write_what_is_due(store).await;
        }
    }

    /// Answers when there is more to do, if a shard was away.
    async fn write_what_is_due(&self, store: &Store) -> Option<Instant> {
        loop {
            let (taken, again) = self.take(store);
            if taken.is_empty() {
                return again;
            }
            let mut by_shard: HashMap<usize, Vec<(P::Key, P)>> = HashMap::new();
            for it in taken {
                let shard = P::shard(store, &it.0);
                by_shard.entry(shard).or_default().push(it);
            }
            let calls = by_shard.into_iter().map(async |(shard, part)| {
                if let Err(error) = P::write(store, &part).await {
                    let count = part.len();
                    tracing::warn!(%error, shard, count, "confirmations cannot be written");
                    self.put_back(shard, part);
                }
            });
            join_all(calls).await;
            self.state.lock().in_flight = 0;
        }
    }

    fn hurry_all(&self) {
        let mut state = self.state.lock();
        let all: Vec<P::Key> = state.pending.keys().cloned().collect();
        state.soon.extend(all);
        drop(state);
        self.news.notify_one();
    }

    /// What is to be written now, of shards that are not away; and when to look again at those.
    fn take(&self, store: &Store) -> (Vec<(P::Key, P)>, Option<Instant>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.away.retain(|_, until| *until > now);
        let is_here = |key: &&P::Key| !state.away.contains_key(&P::shard(store, key));
        let soon = state.soon.iter().filter(is_here).take(BATCH);
        let keys: Vec<P::Key> = soon.cloned().collect();
        let again = state.away.values().min().copied();
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys {
            state.soon.remove(&key);
            if let Some(pending) = state.pending.remove(&key) {
                taken.push((key, pending));
            }
        }
        state.in_flight = taken.len();
        (taken, again)
    }

    /// A shard did not take these.
    fn put_back(&self, shard: usize, part: Vec<(P::Key, P)>) {
        let mut state = self.state.lock();
        state.away.insert(shard, Instant::now() + RETRY);
        for (key, confirmed) in part {
            let pending = state.pending.entry(key.clone()).or_default();
            pending.add(confirmed);
            state.soon.insert(key);
        }
    }

    fn is_settled(&self) -> bool {
        let state = self.state.lock();
        state.pending.is_empty() && state.in_flight == 0
    }
}
