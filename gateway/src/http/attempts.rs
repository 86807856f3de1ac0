//! How often somebody may try: so many times a minute for each account, and for each address, over
//! all nodes together.
//!
//! Each attempt asks Redis: beside what a password costs, that is nothing. While Redis is away each
//! node counts by itself, at the full rate: nobody is locked out, and who tries at several nodes
//! has as many attempts at each.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use shared::redis::{Limit, LimitOwner, LimitStep, Store};
use tokio::time::{Instant, timeout};

use crate::app::limiter::{
    Gcra, Limited, PATIENCE, Rate,
    metrics::{ALONE, REFUSED},
};

/// Accounts and addresses are looked through for stale ones when there are this many, and
/// again at each doubling.
const FEW: usize = 10_000;

/// A bucket for each key: `per_minute` attempts at once, then one each `per_minute`-th of a minute.
/// A key that is at rest needs no memory.
pub(super) struct Attempts {
    what: Limited,
    rate: Rate,
    here: Mutex<Here>,
}

/// What this node has let pass.
struct Here {
    buckets: HashMap<String, Gcra>,
    sweep_at: usize,
}

impl Attempts {
    pub(super) fn new(what: Limited, per_minute: u32) -> Self {
        let here = Here {
            buckets: HashMap::new(),
            sweep_at: FEW,
        };
        Self {
            what,
            rate: Rate::per_minute(per_minute, per_minute),
            here: Mutex::new(here),
        }
    }

    /// Counts an attempt, or says how long to wait for the next one. `store`: none, while the node
    /// starts.
    pub(super) async fn take(&self, store: Option<&Store>, key: String) -> Result<(), Duration> {
        // Nobody has more attempts than one who tries only here.
        let mut taken = self.here(&key, false);
        if taken.is_ok() {
            taken = match self.ask(store, key.clone()).await {
                Some(Err(wait)) => Err(wait),
                Some(Ok(())) => {
                    // The others' attempts may have come first: then it counts all the same.
                    let _ = self.here(&key, true);
                    Ok(())
                }
                None => self.here(&key, true),
            };
        }
        if taken.is_err() {
            REFUSED.of(self.what).increment(1);
        }
        taken
    }

    /// What this node would say alone; where it is about to let the attempt pass, it counts it.
    fn here(&self, key: &str, count: bool) -> Result<(), Duration> {
        let now = Instant::now();
        let mut here = self.here.lock();
        let wait = here
            .buckets
            .get(key)
            .map_or(Duration::ZERO, |bucket| bucket.wait(self.rate, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        if count {
            if here.buckets.len() >= here.sweep_at {
                here.buckets.retain(|_, bucket| !bucket.is_full(now));
                here.sweep_at = (here.buckets.len() * 2).max(FEW);
            }
            let bucket = here.buckets.entry(key.to_owned());
            bucket
                .or_insert_with(|| Gcra::full(now))
                .take(self.rate, now);
        }
        Ok(())
    }

    /// What all nodes together say; nothing, if Redis does not answer.
    async fn ask(&self, store: Option<&Store>, key: String) -> Option<Result<(), Duration>> {
        let limit = Limit {
            what: self.what.name(),
            owner: LimitOwner::Named(key),
            spacing: self.rate.spacing,
            burst: self.rate.burst,
        };
        let steps = [(limit, LimitStep::Take(1))];
        let asked = timeout(PATIENCE, store?.limit(&steps)).await;
        let Ok([Ok(tokens)]) = asked.as_deref() else {
            ALONE.of(self.what).increment(1);
            return None;
        };
        Some(if tokens.count > 0 {
            Ok(())
        } else {
            Err(tokens.next_in)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(attempts: &Attempts, key: impl ToString) -> Result<(), Duration> {
        attempts.take(None, key.to_string()).await
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_and_then_one_by_one() {
        let attempts = Attempts::new(Limited::Account, 10);
        for _ in 0..10 {
            assert_eq!(take(&attempts, "anna").await, Ok(()));
        }
        assert_eq!(take(&attempts, "anna").await, Err(Duration::from_secs(6)));
        assert_eq!(take(&attempts, "ben").await, Ok(()));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(take(&attempts, "anna").await, Ok(()));
        assert!(take(&attempts, "anna").await.is_err());
        tokio::time::advance(Duration::from_mins(10)).await;
        for _ in 0..10 {
            assert_eq!(take(&attempts, "anna").await, Ok(()));
        }
        assert!(take(&attempts, "anna").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_at_rest_are_forgotten() {
        let attempts = Attempts::new(Limited::Address, 60);
        for key in 0..FEW {
            take(&attempts, key).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        take(&attempts, FEW).await.unwrap();
        assert_eq!(attempts.here.lock().buckets.len(), 1);
    }
}
