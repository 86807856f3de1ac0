//! How many sockets, and how many new ones a second, this node takes.

use std::time::Duration;

use parking_lot::Mutex;
use shared::domain::{Code, Refusal};
use tokio::time::Instant;

use crate::session::{Permit, Sockets};

/// The node's door keeper.
#[derive(Debug)]
pub struct Admission {
    max_sockets: usize,
    sockets: Sockets,
    /// One handshake takes this long of the bucket, which holds a second.
    interval: Duration,
    full_at: Mutex<Instant>,
}

/// How much may be taken at once, after a pause.
const BURST: Duration = Duration::from_secs(1);

impl Admission {
    /// At most `max_sockets` at a time and `per_second` new ones, as many of those at once.
    pub fn new(max_sockets: usize, per_second: u32, sockets: Sockets) -> Self {
        Self {
            max_sockets,
            sockets,
            interval: Duration::from_secs(1) / per_second.max(1),
            full_at: Mutex::new(Instant::now()),
        }
    }

    /// The sockets counted.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// True if the node takes no more sockets.
    pub fn is_full(&self) -> bool {
        self.sockets.count() >= self.max_sockets
    }

    /// A place for one more. A refusal says when to come back, at random, so that those who
    /// were refused together do not come back together.
    pub(super) fn admit(&self) -> Result<Permit, Refusal> {
        let Some(permit) = self.sockets.admit(self.max_sockets) else {
            return Err(later("this node is full"));
        };
        let now = Instant::now();
        let mut full_at = self.full_at.lock();
        let fill = full_at.saturating_duration_since(now);
        if fill + self.interval > BURST.max(self.interval) {
            return Err(later("too many new sockets at once"));
        }
        *full_at = now + fill + self.interval;
        Ok(permit)
    }
}

fn later(message: &'static str) -> Refusal {
    let wait = Duration::from_secs(rand::random_range(1..=5));
    Refusal::new(Code::Unavailable, message).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_node_takes_one_when_one_has_left() {
        let admission = Admission::new(2, 100, Sockets::default());
        let first = admission.admit().unwrap();
        let _second = admission.admit().unwrap();
        assert!(admission.is_full());
        let refusal = admission.admit().unwrap_err();
        assert!(refusal.retry_after.is_some());
        assert_eq!(admission.sockets().count(), 2);
        drop(first);
        admission.admit().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_let_in_at_the_rate() {
        let admission = Admission::new(10_000, 50, Sockets::default());
        let mut held: Vec<_> = std::iter::from_fn(|| admission.admit().ok()).collect();
        assert_eq!(held.len(), 50);
        tokio::time::advance(Duration::from_millis(100)).await;
        held.extend(std::iter::from_fn(|| admission.admit().ok()));
        assert_eq!(held.len(), 55);
    }
}
