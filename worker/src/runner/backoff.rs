//! Waiting longer after each failure.

use std::time::Duration;

use rand::RngExt as _;

/// Doubles from 100 ms to 5 s; each wait is between half and all of it, so that those who failed
/// together do not come back together.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

impl Backoff {
    /// How long to wait after another failure.
    pub fn failed(&mut self, random: &mut impl rand::Rng) -> Duration {
        let most = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        self.failures += 1;
        most.mul_f64(random.random_range(0.5..=1.0))
    }

    /// It worked.
    pub fn worked(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew() {
        let mut random = rand::rng();
        let mut backoff = Backoff::default();
        assert!(backoff.failed(&mut random) <= FIRST);
        for _ in 0..100 {
            backoff.failed(&mut random);
        }
        let long = backoff.failed(&mut random);
        assert!(long >= LONGEST / 2 && long <= LONGEST);
        backoff.worked();
        assert!(backoff.failed(&mut random) <= FIRST);
    }
}
