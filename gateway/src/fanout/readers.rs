//! Writes how far devices have read conversations of which nothing is copied to inboxes: every 30 s,
//! and soon for a device that leaves. A message in such a conversation reaches thousands; were each of
//! them to write at once that they have it, it would be as if it was copied. A stale cursor costs
//! duplicates, never entries.

use std::sync::Arc;

use shared::{
    domain::{Position, Topic},
    redis::{ConversationReader, Store, StoreError},
};

use super::{
    Fanout,
    gather::{Gather, Gathered},
};

/// How far devices have read conversations.
pub(super) type Readers = Gather<ReadUpto>;

/// A device has read a conversation up to here.
#[derive(Debug, Default)]
pub(super) struct ReadUpto(pub(super) Position);

impl Gathered for ReadUpto {
    type Key = ConversationReader;

    fn add(&mut self, more: Self) {
        self.0 = self.0.max(more.0);
    }

    fn shard(store: &Store, reader: &ConversationReader) -> usize {
        store.shard_of(Topic::Conversation(reader.conversation))
    }

    async fn write(store: &Store, part: &[(ConversationReader, Self)]) -> Result<(), StoreError> {
        let read = part.iter().map(|(reader, upto)| (reader.clone(), upto.0));
        store.read_upto(&read.collect::<Vec<_>>()).await
    }
}

impl Fanout {
    /// The task that writes.
    pub(super) async fn write_reading(self: Arc<Self>) {
        let interval = self.settings.receipt_interval;
        self.readers
            .write(&self.store, &self.lifecycle, interval)
            .await;
    }
}
