//! Writes who has received which broadcasts: every 30 s, and soon for a device that leaves. One
//! write per user and broadcast would be a fan-out on write through the back door; so what a
//! device has confirmed is gathered here first. What is lost with the process costs duplicates,
//! and states that stay `pending`, never entries.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use shared::{
    domain::{Device, MessageId, Position, UserId},
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

    fn take(&self) -> Vec<Receive> {
        let mut state = self.state.lock();
        let keys: Vec<Key> = state.soon.iter().take(BATCH).cloned().collect();
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
        taken
    }

    fn put_back(&self, taken: Vec<Receive>) {
        let mut state = self.state.lock();
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
        loop {
            tokio::select! {
                () = self.receiver.news.notified() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep_until(round) => {
                    round = Instant::now() + self.settings.receipt_interval;
                    self.receiver.flush_all();
                }
                () = self.lifecycle.stopping() => return,
            }
            self.write_what_is_due().await;
        }
    }

    async fn write_what_is_due(&self) {
        loop {
            let taken = self.receiver.take();
            if taken.is_empty() {
                return;
            }
            let written = self.store.receive(&taken).await;
            self.receiver.state.lock().in_flight = 0;
            if let Err(error) = written {
                tracing::warn!(%error, count = taken.len(), "receipts cannot be written");
                self.receiver.put_back(taken);
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = self.lifecycle.stopping() => return,
                }
            }
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
