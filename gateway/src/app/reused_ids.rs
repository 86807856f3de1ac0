//! Remembers for whom a sender's request ids were used, on this node and for a while, to
//! tell a client that uses one again for somebody else, or for many. A table of fixed size: a newer id may
//! push out an older one, which only means that a mistake goes unnoticed.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use parking_lot::Mutex;
use shared::domain::{ClientId, Topic, UserId};
use tokio::time::Instant;

/// 65 536 slots of 32 bytes.
const SLOTS: usize = 1 << 16;

/// The table.
pub struct ReusedIds {
    /// For how long an id counts as used: as long as Redis remembers it.
    ttl: Duration,
    start: Instant,
    hasher: RandomState,
    slots: Vec<Mutex<Used>>,
}

/// Fingerprints of 64 bits: one in 10^19 is wrong.
#[derive(Debug, Default, Clone, Copy)]
struct Used {
    request: u64,
    topic: u64,
    /// When, in seconds since the table was made.
    at: u32,
}

/// Where a request id is remembered.
pub struct Slot<'a> {
    ids: &'a ReusedIds,
    request: u64,
}

impl ReusedIds {
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            start: Instant::now(),
            hasher: RandomState::new(),
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
        }
    }

    fn now(&self) -> u32 {
        self.start.elapsed().as_secs() as u32
    }

    pub fn slot(&self, sender: UserId, id: &ClientId) -> Slot<'_> {
        Slot {
            ids: self,
            request: self.hasher.hash_one((sender, id)),
        }
    }
}

impl Slot<'_> {
    fn used(&self) -> &Mutex<Used> {
        &self.ids.slots[self.request as usize % SLOTS]
    }

    fn fingerprint(&self, topic: Topic) -> u64 {
        self.ids.hasher.hash_one(topic)
    }

    pub fn is_for_another(&self, topic: Topic) -> bool {
        let used = *self.used().lock();
        let age = Duration::from_secs(self.ids.now().saturating_sub(used.at).into());
        used.request == self.request && used.topic != self.fingerprint(topic) && age < self.ids.ttl
    }

    pub fn remember(&self, topic: Topic) {
        *self.used().lock() = Used {
            request: self.request,
            topic: self.fingerprint(topic),
            at: self.ids.now(),
        };
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_id_used_for_one_recipient_is_not_free_for_another() {
        let ids = ReusedIds::new(Duration::from_hours(1));
        let [anna, bert, carl] = [1, 2, 3].map(|n| UserId(Uuid::from_u128(n)));
        let id: ClientId = "r1".parse().unwrap();
        let [to_bert, to_carl] = [Topic::User(bert), Topic::User(carl)];
        assert!(!ids.slot(anna, &id).is_for_another(to_bert));
        ids.slot(anna, &id).remember(to_bert);
        assert!(!ids.slot(anna, &id).is_for_another(to_bert));
        assert!(ids.slot(anna, &id).is_for_another(to_carl));
        assert!(ids.slot(anna, &id).is_for_another(Topic::Broadcast));
        assert!(!ids.slot(bert, &id).is_for_another(to_carl));
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(!ids.slot(anna, &id).is_for_another(to_carl), "forgotten");
    }
}
