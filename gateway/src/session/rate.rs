//! How many frames a client may send.

use std::time::Duration;

use tokio::time::Instant;

/// How long a client may stay above its limit.
const PATIENCE: Duration = Duration::from_secs(10);

/// The limit, as settings have it.
#[derive(Debug, Clone, Copy)]
pub struct FrameRate {
    /// Frames a second in the long run; at least 1.
    pub per_second: u32,
    /// Frames that may come at once.
    pub burst: u32,
}

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// Refuse the frame; the next one may come after this time.
    Refuse(Duration),
    /// The client has been above its limit for too long.
    Close,
}

/// A bucket that is a single point in time (GCRA): the time at which it would be full of
/// room again.
#[derive(Debug)]
pub(super) struct FrameLimiter {
    empty_at: Instant,
    /// The first refusal since the bucket was last half empty.
    above_since: Option<Instant>,
}

impl FrameLimiter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            empty_at: now,
            above_since: None,
        }
    }

    pub(super) fn check(&mut self, rate: FrameRate, now: Instant) -> Verdict {
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        let room = interval * rate.burst.max(1);
        let fill = self.empty_at.saturating_duration_since(now);
        if fill <= room / 2 {
            self.above_since = None;
        }
        if fill + interval <= room {
            self.empty_at = now + fill + interval;
            return Verdict::Pass;
        }
        let since = *self.above_since.get_or_insert(now);
        if now.duration_since(since) >= PATIENCE {
            return Verdict::Close;
        }
        Verdict::Refuse((fill + interval).saturating_sub(room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: FrameRate = FrameRate {
        per_second: 50,
        burst: 150,
    };

    /// Sends `per_second` frames a second for `seconds` and counts what passes.
    fn send(
        limiter: &mut FrameLimiter,
        now: &mut Instant,
        per_second: u32,
        seconds: u32,
    ) -> (u32, bool) {
        let mut passed = 0;
        for _ in 0..per_second * seconds {
            match limiter.check(RATE, *now) {
                Verdict::Pass => passed += 1,
                Verdict::Refuse(_) => {}
                Verdict::Close => return (passed, true),
            }
            *now += Duration::from_secs(1) / per_second;
        }
        (passed, false)
    }

    #[test]
    fn a_burst_passes_and_the_next_frame_is_told_when_to_come() {
        let now = Instant::now();
        let mut limiter = FrameLimiter::new(now);
        for _ in 0..150 {
            assert_eq!(limiter.check(RATE, now), Verdict::Pass);
        }
        let Verdict::Refuse(wait) = limiter.check(RATE, now) else {
            panic!()
        };
        assert_eq!(wait, Duration::from_millis(20));
        assert_eq!(limiter.check(RATE, now + wait), Verdict::Pass);
    }

    #[test]
    fn a_client_at_its_limit_is_never_refused() {
        let mut now = Instant::now();
        let mut limiter = FrameLimiter::new(now);
        assert_eq!(send(&mut limiter, &mut now, 50, 60), (3_000, false));
    }

    #[test]
    fn a_client_slightly_above_is_closed_in_the_end() {
        let mut now = Instant::now();
        let mut limiter = FrameLimiter::new(now);
        let (passed, closed) = send(&mut limiter, &mut now, 60, 60);
        assert!(closed);
        assert!((1_300..1_500).contains(&passed), "{passed}");
    }

    #[test]
    fn a_client_that_slows_down_is_forgiven() {
        let mut now = Instant::now();
        let mut limiter = FrameLimiter::new(now);
        for _ in 0..10 {
            assert!(!send(&mut limiter, &mut now, 200, 5).1);
            now += Duration::from_secs(2);
        }
    }
}
