//! How often somebody may try: so many times a minute for each account, and for each address.
//! Counted per node.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_mins(1);
/// Accounts and addresses are looked through for stale ones when there are this many, and
/// again at each doubling.
const FEW: usize = 10_000;

/// A bucket for each key (GCRA): `per_minute` attempts at once, then one each `per_minute`-th
/// of a minute. A key that is at rest needs no memory.
pub(super) struct Attempts<K> {
    interval: Duration,
    state: Mutex<State<K>>,
}

struct State<K> {
    /// When the key's bucket will be full again.
    full_at: HashMap<K, Instant>,
    sweep_at: usize,
}

impl<K: Eq + Hash> Attempts<K> {
    pub(super) fn new(per_minute: u32) -> Self {
        let state = State {
            full_at: HashMap::new(),
            sweep_at: FEW,
        };
        Self {
            interval: MINUTE / per_minute.max(1),
            state: Mutex::new(state),
        }
    }

    /// Counts an attempt, or says how long to wait for the next one.
    pub(super) fn take(&self, key: K) -> Result<(), Duration> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.full_at.len() >= state.sweep_at {
            state.full_at.retain(|_, full_at| *full_at > now);
            state.sweep_at = (state.full_at.len() * 2).max(FEW);
        }
        let full_at = state.full_at.entry(key).or_insert(now);
        let next = (*full_at).max(now) + self.interval;
        match next.checked_duration_since(now + MINUTE) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *full_at = next;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_and_then_one_by_one() {
        let attempts = Attempts::new(10);
        for _ in 0..10 {
            assert_eq!(attempts.take("anna"), Ok(()));
        }
        assert_eq!(attempts.take("anna"), Err(Duration::from_secs(6)));
        assert_eq!(attempts.take("ben"), Ok(()));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(attempts.take("anna"), Ok(()));
        assert!(attempts.take("anna").is_err());
        tokio::time::advance(Duration::from_mins(10)).await;
        for _ in 0..10 {
            assert_eq!(attempts.take("anna"), Ok(()));
        }
        assert!(attempts.take("anna").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_at_rest_are_forgotten() {
        let attempts = Attempts::new(60);
        for key in 0..FEW {
            attempts.take(key).unwrap();
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        attempts.take(FEW).unwrap();
        assert_eq!(attempts.state.lock().full_at.len(), 1);
    }
}
