//! Where the ids of entries come from: `UUIDv7` by the clock of Redis, rising within a process.
//!
//! An entry gets its id before it is sent for the first time and keeps it however often it is
//! tried again, here or by its sender. So a receiver that heard it from a server which was lost
//! before it was accepted recognises it when it comes again. (A sender that tries again on
//! another node after that gets another id: the two have only Redis in common, which forgot.)

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::append::IdempotencyKey;
use crate::{clock::Clock, domain::MessageId};

/// Bits below the millisecond that count entries within it.
const COUNTER_BITS: u32 = 12;
/// How far ids may run ahead of the clock after it was set back, before they follow it.
const LEAD: Duration = Duration::from_secs(60);

/// Most appends of unknown outcome whose ids are remembered.
const UNSETTLED: usize = 1 << 16;

/// Mints ids. Clones share the order.
#[derive(Debug, Clone)]
pub(super) struct Mint {
    clock: Clock,
    /// The millisecond and the counter of the last id.
    last: Arc<AtomicU64>,
    unsettled: Arc<Unsettled>,
}

/// Ids of appends whose outcome stayed unknown.
#[derive(Debug, Default)]
struct Unsettled {
    /// So that nobody takes the lock while all is well.
    count: AtomicUsize,
    ids: Mutex<HashMap<IdempotencyKey, (MessageId, Instant)>>,
}

impl Mint {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            last: Arc::default(),
            unsettled: Arc::default(),
        }
    }

    /// The id that an append under `key` was tried with before, or a new one.
    pub(super) fn id_for(&self, key: &IdempotencyKey) -> MessageId {
        if self.unsettled.count.load(Ordering::Relaxed) > 0
            && let Some((id, _)) = self.unsettled.ids.lock().get(key)
        {
            return *id;
        }
        self.next()
    }

    /// Remembers the id of an append whose outcome is unknown, for as long as Redis would.
    pub(super) fn remember(&self, key: IdempotencyKey, id: MessageId, ttl: Duration) {
        let now = Instant::now();
        let mut ids = self.unsettled.ids.lock();
        if ids.len() >= UNSETTLED {
            ids.retain(|_, (_, until)| *until > now);
        }
        if ids.len() < UNSETTLED {
            ids.insert(key, (id, now + ttl));
        }
        self.unsettled.count.store(ids.len(), Ordering::Relaxed);
    }

    /// A new id, greater than those before.
    pub(super) fn next(&self) -> MessageId {
        let now = (self.clock.now().0.max(0) as u64) << COUNTER_BITS;
        let furthest = now + ((LEAD.as_millis() as u64) << COUNTER_BITS);
        let after = |last: u64| {
            if last < furthest {
                now.max(last + 1)
            } else {
                now
            }
        };
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(after(last))
            })
            .unwrap_or_else(|last| last);
        compose(after(last), rand::random())
    }
}

/// The layout of RFC 9562: 48 bits of milliseconds, version, 12 bits of counter, variant, random.
fn compose(time_and_counter: u64, random: u64) -> MessageId {
    let (ms, counter) = (time_and_counter >> COUNTER_BITS, time_and_counter & 0xfff);
    let high = (ms << 16) | 0x7000 | counter;
    let low = (random >> 2) | (1 << 63);
    MessageId(Uuid::from_u64_pair(high, low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn at(ms: i64) -> (Mint, Clock) {
        let clock = Clock::manual(Timestamp(ms));
        (Mint::new(clock.clone()), clock)
    }

    #[tokio::test(start_paused = true)]
    async fn ids_are_version_7_and_rise() {
        let (mint, _clock) = at(1_790_000_000_000);
        let ids: Vec<Uuid> = (0..10_000).map(|_| mint.next().0).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!(
            ids.iter()
                .all(|id| id.get_variant() == uuid::Variant::RFC4122)
        );
        let (seconds, nanos) = ids[0].get_timestamp().unwrap().to_unix();
        assert_eq!(
            seconds * 1000 + u64::from(nanos) / 1_000_000,
            1_790_000_000_000
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_try_gets_the_id_of_the_first() {
        let (mint, _clock) = at(1_790_000_000_000);
        let key = |n: usize| IdempotencyKey(n.to_string());
        let ttl = Duration::from_secs(60);
        let first = mint.id_for(&key(0));
        mint.remember(key(0), first, ttl);
        assert_eq!(mint.id_for(&key(0)), first);
        assert_ne!(mint.id_for(&key(1)), first);

        tokio::time::advance(ttl).await;
        for n in 1..=UNSETTLED {
            mint.remember(key(n), mint.next(), ttl);
        }
        assert_ne!(mint.id_for(&key(0)), first, "forgotten in time");
        let full = mint.unsettled.ids.lock().len();
        mint.remember(key(0), first, ttl);
        assert_eq!(mint.unsettled.ids.lock().len(), full, "bounded");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_wrong_for_a_moment_leaves_no_trace() {
        let (mint, clock) = at(1_790_000_000_000);
        let year = 365 * 86_400_000;
        clock.set(Timestamp(1_790_000_000_000 + year), Instant::now());
        let wrong = mint.next();
        clock.set(Timestamp(1_790_000_000_000), Instant::now());
        assert!(mint.next() < wrong);

        clock.set(Timestamp(1_790_000_000_000 - 1000), Instant::now());
        let (before, after) = (mint.next(), mint.next());
        assert!(before < after, "a second back: ids go on rising");
    }
}
