//! Writes who has received which broadcasts: every 30 s, and soon for a device that leaves. One
//! write per user and broadcast would be a fan-out on write through the back door; so what a
//! device has confirmed is gathered first. What is lost with the process costs duplicates,
//! and states that stay `pending`, never entries.

use std::sync::Arc;

use shared::{
    domain::{Device, MessageId, Position, Topic, UserId},
    redis::{Receive, Store, StoreError},
};

use super::{
    Fanout,
    gather::{Gather, Gathered},
};

/// A device that waits with so many commands is written soon.
const MANY: usize = 64;

/// What devices have confirmed of broadcasts.
pub(super) type Receiver = Gather<Received>;

/// What a device has confirmed since that was last written.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// It is done with all broadcasts up to here.
    pub(super) upto: Position,
    /// The commands it has.
    pub(super) commands: Vec<MessageId>,
}

impl Gathered for Received {
    type Key = (UserId, Device);

    fn add(&mut self, more: Self) {
        self.upto = self.upto.max(more.upto);
        self.commands.extend(more.commands);
    }

    fn is_much(&self) -> bool {
        self.commands.len() >= MANY
    }

    fn shard(store: &Store, (user, _): &Self::Key) -> usize {
        store.shard_of(Topic::User(*user))
    }

    async fn write(store: &Store, part: &[(Self::Key, Self)]) -> Result<(), StoreError> {
        let received = part.iter().map(|((user, device), it)| Receive {
            user: *user,
            device: device.clone(),
            position: it.upto,
            commands: it.commands.clone(),
        });
        store.receive(&received.collect::<Vec<_>>()).await
    }
}

impl Fanout {
    /// The task that writes.
    pub(super) async fn write_receipts(self: Arc<Self>) {
        let interval = self.settings.receipt_interval;
        self.receiver
            .write(&self.store, &self.lifecycle, interval)
            .await;
    }
}
