//! From the subscriber to the hub: one task per node.

use std::sync::Arc;

use shared::redis::BellEvent;
use tokio::sync::mpsc;

use super::{Fanout, topic::Effects};

/// Most batches of the subscriber that are taken before sockets are woken.
const BATCHES: usize = 64;

impl Fanout {
    /// Drains the subscriber. Everything that is there is applied before any socket is woken,
    /// so a burst costs a socket one wake-up and one write.
    pub(super) async fn hear_bells(self: Arc<Self>, mut bells: mpsc::Receiver<Vec<BellEvent>>) {
        let mut batches = Vec::with_capacity(BATCHES);
        loop {
            tokio::select! {
                count = bells.recv_many(&mut batches, BATCHES) => if count == 0 {
                    return;
                },
                () = self.lifecycle.stopping() => return,
            }
            let mut effects = Effects::default();
            self.hub.hear(batches.drain(..).flatten(), &mut effects);
            self.apply(effects);
        }
    }

    /// Does what follows from entries that were applied.
    pub(super) fn apply(&self, effects: Effects) {
        for outbox in effects.wake {
            outbox.wake();
        }
        for topic in effects.repair {
            self.repairs.push(topic);
        }
        for entry in effects.revocations {
            self.revoke(&entry);
        }
        for shard in effects.gaps {
            self.gaps.push(shard);
        }
    }
}
