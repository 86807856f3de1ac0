//! What lost bells mean for readiness.
//!
//! Every ten seconds a gateway publishes to itself through every shard and measures how long the
//! bell takes. When it does not ring, there are two cases:
//!
//! * Redis still answers commands: other nodes most likely hear their bells, so the fault is this
//!   node's (its subscriber connection, its network). It takes no new sockets until it hears again.
//! * Redis answers nothing: nodes cannot tell each other, for Redis is how they would. Far more
//!   likely than one node being cut off is that Redis is away for all; if each of them became unready, the load
//!   balancer would have nobody left. So a node that was ready stays ready, and says that it is degraded;
//!   new sockets are told to come back later. One that was never ready stays unready.
//!
//! The fault of a single lost bell is too easily had (a reconnect): two in a row count.

use std::time::Duration;

use super::Check;
use crate::lifecycle::Lifecycle;

/// Pause between two looks at the newest probe. Long enough that after a lost one, which is
/// repeated a second later and waits three for its bell, the next look sees another probe.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Pause before the first good look: nobody should wait for a node that is ready.
const FIRST_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A result older than this means that looking itself hangs.
pub const LOOK_MAX_AGE: Duration = Duration::from_secs(20);
/// So many lost bells in a row make a node unready.
const TOLERATED: u32 = 2;

/// Judges probe after probe.
#[derive(Debug, Default)]
pub struct Judge {
    was_ready: bool,
    lost_in_a_row: u32,
}

/// What one round of probing found.
#[derive(Debug, Clone, Default)]
pub struct Probed {
    /// Time from publishing to hearing, per shard; `None` where nothing was heard in time.
    pub bells: Vec<Option<Duration>>,
    /// Whether Redis answered a plain command; looked at only if a bell was lost.
    pub answers: bool,
}

impl Judge {
    /// Tells the check what a probe means.
    pub fn judge(&mut self, probed: &Probed, check: &Check) {
        let deaf: Vec<_> = (0..probed.bells.len())
            .filter(|n| probed.bells[*n].is_none())
            .collect();
        if deaf.is_empty() && !probed.bells.is_empty() {
            self.was_ready = true;
            self.lost_in_a_row = 0;
            return check.ok(probed
                .bells
                .iter()
                .flatten()
                .max()
                .copied()
                .unwrap_or_default());
        }
        self.lost_in_a_row += 1;
        match (self.was_ready, probed.answers) {
            (false, true) => check.starting(format!("no bell was heard from shards {deaf:?} yet")),
            (false, false) => check.starting("redis does not answer"),
            (true, false) => check.degraded("redis does not answer"),
            (true, true) if self.lost_in_a_row < TOLERATED => {
                check.degraded(format!("a bell of shards {deaf:?} was lost"));
            }
            (true, true) => check.failed(format!(
                "redis answers, but bells of shards {deaf:?} are not heard"
            )),
        }
    }
}

/// Asks over and over and tells the check, until the process stops.
pub async fn watch(
    check: Check,
    lifecycle: Lifecycle,
    every: Duration,
    ask: impl AsyncFn() -> Probed,
) {
    let mut judge = Judge::default();
    loop {
        judge.judge(&ask().await, &check);
        let pause = if judge.was_ready {
            every
        } else {
            every.min(FIRST_LOOK_INTERVAL)
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = lifecycle.stopping() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    const HEARD: Option<Duration> = Some(Duration::from_millis(1));

    fn run(rounds: &[(&[Option<Duration>], bool)]) -> Vec<Status> {
        let health = Health::new(Clock::system(), None);
        let check = health.check("redis", LOOK_MAX_AGE);
        let mut judge = Judge::default();
        let mut round = |(bells, answers): &(&[Option<Duration>], bool)| {
            judge.judge(
                &Probed {
                    bells: bells.to_vec(),
                    answers: *answers,
                },
                &check,
            );
            check.status()
        };
        rounds.iter().map(&mut round).collect()
    }

    #[tokio::test]
    async fn a_node_that_alone_is_deaf_becomes_unready() {
        let statuses = run(&[
            (&[HEARD, HEARD], true),
            (&[HEARD, None], true),
            (&[HEARD, None], true),
            (&[HEARD, HEARD], true),
            (&[None, HEARD], true),
        ]);
        assert_eq!(
            statuses,
            [
                Status::Ok,
                Status::Degraded,
                Status::Failed,
                Status::Ok,
                Status::Degraded
            ]
        );
    }

    #[tokio::test]
    async fn a_redis_that_is_away_for_all_leaves_nodes_ready() {
        let away: (&[_], _) = (&[None], false);
        assert_eq!(
            run(&[(&[HEARD], true), away, away, away])[3],
            Status::Degraded
        );
    }

    #[tokio::test]
    async fn a_node_that_never_heard_a_bell_is_not_ready() {
        assert_eq!(
            run(&[(&[None], false), (&[None], true), (&[], true)]),
            [Status::Starting; 3]
        );
    }
}
