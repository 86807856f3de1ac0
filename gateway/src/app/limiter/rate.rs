//! How much is too much.

use std::time::Duration;

use tokio::time::Instant;

/// So many in the long run, so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time in which one comes back: whole microseconds, as Redis counts.
    pub spacing: Duration,
    /// How many at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// So many a second.
    pub fn per_second(count: u32, burst: u32) -> Self {
        Self::per(Duration::from_secs(1), count, burst)
    }

    /// So many a minute.
    pub fn per_minute(count: u32, burst: u32) -> Self {
        Self::per(Duration::from_mins(1), count, burst)
    }

    /// Rounded so that it is never more than what was asked for.
    fn per(time: Duration, count: u32, burst: u32) -> Self {
        let micros = (time.as_micros() as u64).div_ceil(count.max(1).into());
        Self {
            spacing: Duration::from_micros(micros),
            burst: burst.max(1),
        }
    }

    /// Most tokens that a node asks for at once: a sixth of the burst, so that the others find
    /// some, too.
    pub(super) fn lease(self) -> u32 {
        (self.burst / 6).max(1)
    }
}

/// A bucket of tokens, kept as the one instant at which it would be full again (GCRA).
#[derive(Debug, Clone, Copy)]
pub struct Gcra {
    full_at: Instant,
}

impl Gcra {
    /// A full one.
    pub fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// How long until there is a token; zero if there is one.
    pub fn wait(&self, rate: Rate, now: Instant) -> Duration {
        let ahead = self.full_at.saturating_duration_since(now) + rate.spacing;
        ahead.saturating_sub(rate.spacing * rate.burst)
    }

    /// Takes a token, there or not: an empty bucket stays empty.
    pub fn take(&mut self, rate: Rate, now: Instant) {
        let empty = now + rate.spacing * rate.burst;
        self.full_at = (self.full_at.max(now) + rate.spacing).min(empty);
    }

    /// True if it is full.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate() {
        let rate = Rate::per_second(20, 60);
        let mut now = Instant::now();
        let mut bucket = Gcra::full(now);
        for _ in 0..60 {
            assert_eq!(bucket.wait(rate, now), Duration::ZERO);
            bucket.take(rate, now);
        }
        assert_eq!(bucket.wait(rate, now), Duration::from_millis(50));
        now += Duration::from_millis(50);
        assert_eq!(bucket.wait(rate, now), Duration::ZERO);
        bucket.take(rate, now);
        bucket.take(rate, now);
        assert_eq!(bucket.wait(rate, now), Duration::from_millis(50));
        assert!(!bucket.is_full(now + Duration::from_millis(2999)));
        assert!(bucket.is_full(now + Duration::from_secs(3)));
    }

    #[test]
    fn a_rate_is_never_more_than_what_was_asked_for() {
        let spacing = |rate: Rate| rate.spacing.as_micros();
        assert_eq!(spacing(Rate::per_second(20, 60)), 50_000);
        assert_eq!(spacing(Rate::per_second(3, 3)), 333_334);
        assert_eq!(spacing(Rate::per_second(1_000_000, 1)), 1);
        assert_eq!(spacing(Rate::per_minute(30, 10)), 2_000_000);
        let leases = [1, 5, 10, 60].map(|burst| Rate::per_second(1, burst).lease());
        assert_eq!(leases, [1, 1, 1, 10]);
    }
}
