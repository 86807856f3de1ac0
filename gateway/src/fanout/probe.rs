//! Asks whether what is published is heard, shard by shard, through the real path. A shard
//! whose probe is lost counts as one whose bells were missed.

use std::{sync::Arc, time::Duration};

use shared::redis::Echo;

use super::{Fanout, metrics};

/// What the last probe found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeStatus {
    /// Per shard, in their order. Empty before the first.
    pub shards: Vec<Echo>,
}

impl ProbeStatus {
    /// True if every shard's bells were heard at the last probe.
    pub fn is_healthy(&self) -> bool {
        !self.shards.is_empty() && self.shards.iter().copied().all(Echo::is_heard)
    }
}

impl Fanout {
    /// What the last probe found.
    pub fn probe_status(&self) -> ProbeStatus {
        self.probe.lock().clone()
    }

    /// The task that probes.
    pub(super) async fn probe_bells(self: Arc<Self>) {
        loop {
            let shards = self.store.probe(&self.bells).await;
            for (shard, echo) in shards.iter().enumerate() {
                if let Echo::Heard(latency) = echo {
                    metrics::PROBES.record(latency.as_secs_f64());
                } else {
                    metrics::PROBES_LOST.increment(1);
                    self.gaps.push(shard);
                }
            }
            let healthy = shards.iter().copied().all(Echo::is_heard);
            *self.probe.lock() = ProbeStatus { shards };
            // Ask again soon while something is wrong, so that health recovers quickly.
            let pause = if healthy {
                self.settings.probe_interval
            } else {
                Duration::from_secs(1)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.lifecycle.stopping() => return,
            }
        }
    }
}
