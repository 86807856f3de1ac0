//! What lost bells mean for readiness.
//!
//! Every ten seconds a gateway publishes to itself through every shard and measures how long the
//! bell takes. When a shard's does not ring, there are two cases:
//!
//! * The shard takes what is published: other nodes most likely hear its bells, so the fault is this
//!   node's (its subscriber connection, its network). It takes no new sockets until it hears again.
//! * The shard takes nothing: nodes cannot tell each other, for Redis is how they would. Far more
//!   likely than one node being cut off is that the shard is away for all; if each of them became
//!   unready, the load balancer would have nobody left. So a node that was ready stays ready, and
//!   says that it is degraded; users of that shard are told to come back later. One that was never
//!   ready stays unready.
//!
//! Both may be the case at once, of different shards: then the first counts.
//!
//! The fault of a single lost bell is too easily had (a reconnect): two in a row count.

use std::time::Duration;

use super::Check;
use crate::{lifecycle::Lifecycle, redis::Echo};

/// Pause between two looks at the newest probe. Long enough that after a lost one, which is
/// repeated a second later and waits three for its bell, the next look sees another probe.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Pause before the first good look: nobody should wait for a node that is ready.
const FIRST_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A result older than this means that looking itself hangs.
pub const LOOK_MAX_AGE: Duration = Duration::from_secs(20);
/// So many lost bells in a row make a node unready.
const TOLERATED: u32 = 2;

/// Judges round after round of probes.
#[derive(Debug, Default)]
pub struct Judge {
    was_ready: bool,
    /// Rounds in a row in which a shard published what was not heard.
    deaf_in_a_row: u32,
}

impl Judge {
    /// Tells the check what the probes of all shards mean.
    pub fn judge(&mut self, shards: &[Echo], check: &Check) {
        let which = |echo: fn(&Echo) -> bool| -> Vec<usize> {
            (0..shards.len()).filter(|n| echo(&shards[*n])).collect()
        };
        let deaf = which(|echo| *echo == Echo::Deaf);
        let silent = which(|echo| *echo == Echo::Silent);
        if deaf.is_empty() {
            self.deaf_in_a_row = 0;
        } else {
            self.deaf_in_a_row += 1;
        }
        let latencies = shards.iter().filter_map(|echo| match echo {
            Echo::Heard(latency) => Some(*latency),
            Echo::Deaf | Echo::Silent => None,
        });
        let slowest = latencies.max().unwrap_or_default();
        let away = if silent.len() == shards.len() {
            "redis does not answer".to_owned()
        } else {
            format!("shards {silent:?} of redis do not answer")
        };
        if deaf.is_empty() && silent.is_empty() && !shards.is_empty() {
            self.was_ready = true;
            check.ok(slowest);
        } else if !self.was_ready && deaf.is_empty() {
            check.starting(away);
        } else if !self.was_ready {
            check.starting(format!("no bell was heard from shards {deaf:?} yet"));
        } else if deaf.is_empty() {
            check.degraded(away);
        } else if self.deaf_in_a_row < TOLERATED {
            check.degraded(format!("a bell of shards {deaf:?} was lost"));
        } else {
            check.failed(format!(
                "redis answers, but bells of shards {deaf:?} are not heard"
            ));
        }
    }
}

/// Asks over and over and tells the check, until the process stops.
pub async fn watch<Asked: Future<Output = Vec<Echo>>>(
    check: Check,
    lifecycle: Lifecycle,
    every: Duration,
    ask: impl Fn() -> Asked,
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

    const HEARD: Echo = Echo::Heard(Duration::from_millis(1));
    use Echo::{Deaf, Silent};

    fn run(rounds: &[&[Echo]]) -> Vec<Status> {
        let health = Health::new(Clock::system(), None);
        let check = health.check("redis", LOOK_MAX_AGE);
        let mut judge = Judge::default();
        let round = |shards: &&[Echo]| {
            judge.judge(shards, &check);
            check.status()
        };
        rounds.iter().map(round).collect()
    }

    #[tokio::test]
    async fn a_node_that_alone_is_deaf_becomes_unready() {
        let statuses = run(&[
            &[HEARD, HEARD],
            &[HEARD, Deaf],
            &[HEARD, Deaf],
            &[HEARD, HEARD],
            &[Deaf, HEARD],
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
        let away: &[_] = &[Silent];
        assert_eq!(run(&[&[HEARD], away, away, away])[3], Status::Degraded);
    }

    #[tokio::test]
    async fn a_shard_that_is_away_for_all_leaves_nodes_ready() {
        let away: &[_] = &[HEARD, Silent, HEARD];
        let statuses = run(&[&[HEARD; 3], away, away, away, &[HEARD; 3]]);
        assert_eq!(statuses[1..4], [Status::Degraded; 3]);
        assert_eq!(statuses[4], Status::Ok);
    }

    #[tokio::test]
    async fn an_absent_shard_does_not_hide_that_another_is_not_heard() {
        let statuses = run(&[
            &[HEARD; 2],
            &[Silent, HEARD],
            &[Silent, Deaf],
            &[Silent, Deaf],
        ]);
        assert_eq!(
            statuses[1..],
            [Status::Degraded, Status::Degraded, Status::Failed]
        );
    }

    #[tokio::test]
    async fn a_node_that_never_heard_a_bell_is_not_ready() {
        assert_eq!(run(&[&[Silent], &[Deaf], &[]]), [Status::Starting; 3]);
    }
}
