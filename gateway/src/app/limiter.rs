//! How many requests a user may make that create or change something. Per node for now.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use shared::domain::{Code, Refusal, UserId};
use tokio::time::Instant;

/// Users above which those at rest are forgotten.
const FORGET_ABOVE: usize = 10_000;

/// So many in the long run, so many at once after a pause.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Requests per second in the long run.
    pub per_second: u32,
    /// Requests at once after a pause.
    pub burst: u32,
}

/// A token bucket per user, kept as the one instant at which it would be full again (GCRA).
#[derive(Debug)]
pub struct Limiter {
    spacing: Duration,
    tolerance: Duration,
    full_at: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    users: HashMap<UserId, Instant>,
    forget_above: usize,
}

impl Limiter {
    /// A limiter at which nobody has asked for anything.
    pub fn new(rate: Rate) -> Self {
        let spacing = Duration::from_secs(1) / rate.per_second.max(1);
        Self {
            spacing,
            tolerance: spacing * rate.burst.max(1),
            full_at: Mutex::new(Buckets {
                users: HashMap::new(),
                forget_above: FORGET_ABOVE,
            }),
        }
    }

    /// Takes one request of a user's allowance, or says when there is one.
    pub fn take(&self, user: UserId) -> Result<(), Refusal> {
        let now = Instant::now();
        let mut buckets = self.full_at.lock();
        if buckets.users.len() >= buckets.forget_above {
            buckets.users.retain(|_, full_at| *full_at > now);
            // Amortised: the next sweep comes after as many newcomers as there are busy users.
            buckets.forget_above = FORGET_ABOVE.max(buckets.users.len() * 2);
        }
        let full_at = buckets.users.entry(user).or_insert(now);
        let next = (*full_at).max(now) + self.spacing;
        let ahead = next - now;
        if ahead > self.tolerance {
            return Err(Refusal::new(Code::RateLimited, "too many requests")
                .retry_after(ahead.saturating_sub(self.tolerance)));
        }
        *full_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate() {
        let limiter = Limiter::new(Rate {
            per_second: 20,
            burst: 60,
        });
        let (anna, bert) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        for _ in 0..60 {
            assert!(limiter.take(anna).is_ok());
        }
        let refusal = limiter.take(anna).unwrap_err();
        assert_eq!(refusal.code, Code::RateLimited);
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(50)));
        assert!(limiter.take(bert).is_ok());
        tokio::time::advance(Duration::from_millis(50)).await;
        assert!(limiter.take(anna).is_ok());
        assert!(limiter.take(anna).is_err());
        // Nine tenths of the rate are never limited.
        tokio::time::advance(Duration::from_secs(10)).await;
        for _ in 0..10_000 {
            assert!(limiter.take(anna).is_ok());
            tokio::time::advance(Duration::from_micros(55_556)).await;
        }
    }
}
