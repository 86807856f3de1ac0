//! The time of day, handed in where it is needed so that tests can set it. Waiting and
//! measuring use tokio's clock, which tests can pause. What is durable gets its time from
//! Redis, never from here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use crate::domain::Timestamp;

/// A source of the time of day. Cheap to clone; clones of one clock are the same clock.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Host,
    Told {
        since: Instant,
        /// The time of day at `since`.
        then: Arc<AtomicI64>,
    },
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The host's clock.
    pub fn system() -> Self {
        Self(Source::Host)
    }

    /// A clock that somebody else [sets](Clock::set) and that runs evenly in between, however the
    /// host's is turned meanwhile. Until it is set it shows what the host's showed when it was made.
    pub fn told() -> Self {
        Self(Source::Told {
            since: Instant::now(),
            then: Arc::new(AtomicI64::new(host_now().0)),
        })
    }

    /// A clock that stands still until [`Clock::advance`] moves it: for tests.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.0))))
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Host => host_now(),
            Source::Told { since, then } => {
                Timestamp(then.load(Ordering::Relaxed) + since.elapsed().as_millis() as i64)
            }
            Source::Manual(now) => Timestamp(now.load(Ordering::Relaxed)),
        }
    }

    /// The time of day in whole seconds, as tokens have it.
    pub fn unix_seconds(&self) -> i64 {
        self.now().0.div_euclid(1000)
    }

    /// Sets a clock that can be told what it was at a moment; the host's clock stays as it is.
    pub fn set(&self, now: Timestamp, moment: Instant) {
        match &self.0 {
            Source::Host => {}
            Source::Told { since, then } => {
                let elapsed = moment.duration_since(*since).as_millis() as i64;
                then.store(now.0 - elapsed, Ordering::Relaxed);
            }
            Source::Manual(time) => time.store(now.0, Ordering::Relaxed),
        }
    }

    /// Moves a manual clock; others stay as they are.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(by.as_millis() as i64, Ordering::Relaxed);
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
fn host_now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_told_runs_on_from_there() {
        let clock = Clock::told();
        let same = clock.clone();
        let moment = Instant::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        clock.set(Timestamp(1_000_000), moment);
        assert_eq!(same.now(), Timestamp(1_002_000));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(same.now(), Timestamp(1_005_000));
    }
}
