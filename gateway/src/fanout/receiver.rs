//! Writes who has received which broadcasts: every 30 s, and soon for a device that leaves. One
//! write per user and broadcast would be a fan-out on write through the back door; so what a
//! device has confirmed is gathered here first. What is lost with the process costs duplicates,
//! and states that stay `pending`, never entries.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use shared::{
    domain::{Device, MessageId, Position, Topic, UserId},
    redis::Receive,
};
use tokio::{sync::Notify, time::Instant};

use super::{Fanout, metrics};

/// Most confirmations per call.
const BATCH: usize = 256;
/// Devices that leave at once share calls.
const GATHER: Duration = Duration::from_millis(50);
/// Most devices that wait. Beyond, new ones are not recorded until others are.
const MAX_DEVICES: usize = 500_000;
/// A device that waits with so many commands is written soon.
const MANY: usize = 64;
const RETRY: Duration = Duration::from_secs(1);

type Key = (UserId, Device);

/// See the module.
#[derive(Default)]
pub(super) struct Receiver {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    devices: HashMap<Key, Pending>,
    /// Those that are not to wait for the next round.
    soon: HashSet<Key>,
    in_flight: usize,
    /// Shards that failed, and until when they are left alone.
    away: HashMap<usize, Instant>,
}

#[derive(Debug, Default)]
struct Pending {
    position: Position,
    commands: Vec<MessageId>,
}

impl Receiver {
    /// The device is done with broadcasts up to `position`, and has these.
    pub(super) fn confirm(
        &self,
        user: UserId,
        device: &Device,
        position: Position,
        commands: Vec<MessageId>,
    ) {
        let key = (user, device.clone());
        let mut state = self.state.lock();
        if state.devices.len() >= MAX_DEVICES && !state.devices.contains_key(&key) {
            metrics::ACKS_DROPPED.increment(1);
            return;
        }
        let pending = state.devices.entry(key.clone()).or_default();
        pending.add(position, commands);
        if pending.commands.len() >= MANY {
            state.soon.insert(key);
            self.news.notify_one();
        }
    }

    /// The device leaves: what it has confirmed is written soon.
    pub(super) fn flush_now(&self, user: UserId, device: &Device) {
        let key = (user, device.clone());
        let mut state = self.state.lock();
        if state.devices.contains_key(&key) {
            state.soon.insert(key);
            self.news.notify_one();
        }
    }

    fn flush_all(&self) {
        let mut state = self.state.lock();
        let all: Vec<Key> = state.devices.keys().cloned().collect();
        state.soon.extend(all);
        drop(state);
        self.news.notify_one();
    }

    /// How many devices have something that is not written.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().devices.len()
    }

    /// What is to be written now, of shards that are not away; and when to look again at those.
    fn take(&self, shard_of: impl Fn(UserId) -> usize) -> (Vec<Receive>, Option<Instant>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.away.retain(|_, until| *until > now);
        let is_here = |key: &&Key| !state.away.contains_key(&shard_of(key.0));
        let keys: Vec<Key> = state
            .soon
            .iter()
            .filter(is_here)
            .take(BATCH)
            .cloned()
            .collect();
        let again = state.away.values().min().copied();
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys {
            state.soon.remove(&key);
            if let Some(Pending { position, commands }) = state.devices.remove(&key) {
                let (user, device) = key;
                taken.push(Receive {
                    user,
                    device,
                    position,
                    commands,
                });
            }
        }
        state.in_flight = taken.len();
        (taken, again)
    }

    /// A shard did not take these.
    fn put_back(&self, shard: usize, taken: Vec<Receive>) {
        let mut state = self.state.lock();
        state.away.insert(shard, Instant::now() + RETRY);
        for it in taken {
            let key = (it.user, it.device);
            let pending = state.devices.entry(key.clone()).or_default();
            pending.add(it.position, it.commands);
            state.soon.insert(key);
        }
    }

    fn is_settled(&self) -> bool {
        let state = self.state.lock();
        state.devices.is_empty() && state.in_flight == 0
    }
}

impl Pending {
    fn add(&mut self, position: Position, commands: Vec<MessageId>) {
        self.position = self.position.max(position);
        self.commands.extend(commands);
    }
}

impl Fanout {
    /// The task that writes.
    pub(super) async fn write_receipts(self: Arc<Self>) {
        let mut round = Instant::now() + self.settings.receipt_interval;
        let mut again = None;
        loop {
            tokio::select! {
                () = self.receiver.news.notified() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep_until(again.unwrap_or(round)), if again.is_some() => {}
                () = tokio::time::sleep_until(round) => {
                    round = Instant::now() + self.settings.receipt_interval;
                    self.receiver.flush_all();
                }
                () = self.lifecycle.stopping() => return,
            }
            again = self.write_what_is_due().await;
        }
    }

    /// Answers when there is more to do, if a shard was away.
    async fn write_what_is_due(&self) -> Option<Instant> {
        let shard_of = |user| self.store.shard_of(Topic::User(user));
        loop {
            let (taken, again) = self.receiver.take(shard_of);
            if taken.is_empty() {
                return again;
            }
            let mut by_shard: HashMap<usize, Vec<Receive>> = HashMap::new();
            for it in taken {
                by_shard.entry(shard_of(it.user)).or_default().push(it);
            }
            let calls = by_shard.into_iter().map(async |(shard, part)| {
                if let Err(error) = self.store.receive(&part).await {
                    tracing::warn!(%error, shard, count = part.len(), "receipts cannot be written");
                    self.receiver.put_back(shard, part);
                }
            });
            join_all(calls).await;
            self.receiver.state.lock().in_flight = 0;
        }
    }

    /// Writes everything now; true once nothing waits.
    pub(super) async fn receipts_written(&self, wait: Duration) -> bool {
        self.receiver.flush_all();
        let settled = async {
            while !self.receiver.is_settled() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(wait, settled).await.is_ok()
    }
}
