//! The clock of Redis, as far as a process can know it. Ids and stored deadlines come from it, so
//! pods whose clocks differ, or jump, do not disagree.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::store::Store;
use crate::domain::Timestamp;

const INTERVAL: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

/// Redis' time of day: what it said last, and how long ago that was. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RedisClock {
    start: Instant,
    /// What Redis' clock showed at `start`, in ms.
    at_start: Arc<AtomicI64>,
}

impl RedisClock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            at_start: Arc::default(),
        }
    }

    /// The time of day, within a round trip.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.at_start.load(Ordering::Relaxed) + self.since_start(Instant::now()))
    }

    fn since_start(&self, at: Instant) -> i64 {
        at.saturating_duration_since(self.start).as_millis() as i64
    }

    pub(super) fn set(&self, at: Instant, time: Timestamp) {
        self.at_start
            .store(time.0 - self.since_start(at), Ordering::Relaxed);
    }
}

impl Store {
    /// Asks Redis for the time.
    pub(super) async fn set_clock(&self) -> Result<(), super::StoreError> {
        let asked = Instant::now();
        let time = self.time().await?;
        self.clock().set(asked + asked.elapsed() / 2, time);
        Ok(())
    }
}

/// Keeps the clock right until the store is dropped.
pub(super) async fn follow(store: std::sync::Weak<super::store::Inner>) {
    loop {
        let Some(inner) = store.upgrade() else { return };
        let pause = match (Store { inner }).set_clock().await {
            Ok(()) => INTERVAL,
            Err(_) => RETRY,
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_from_what_was_said_last() {
        let clock = RedisClock::new();
        tokio::time::advance(Duration::from_secs(5)).await;
        clock.set(Instant::now(), Timestamp(1_000_000));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), Timestamp(1_002_000));
        clock.set(Instant::now(), Timestamp(500_000));
        assert_eq!(clock.now(), Timestamp(500_000));
    }
}
