//! From the subscriber to the hub: one task per node.

use std::sync::Arc;

use shared::redis::BellEvent;
use tokio::sync::mpsc;

use super::{Fanout, line::Written, outbox::Outbox, topic::Effects};

/// Most batches of the subscriber that are taken before sockets are woken.
const BATCHES: usize = 64;
/// Sockets that one task writes to, within half a millisecond. More are worth more than one core.
const WRITES: usize = 256;

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
    pub(super) fn apply(self: &Arc<Self>, effects: Effects) {
        for outbox in effects.wake {
            outbox.wake();
        }
        self.write(effects.write);
        for topic in effects.repair {
            self.repairs.push(topic);
        }
        for (user, event) in &effects.calls {
            self.heard_of_call(*user, event);
        }
        for entry in effects.directory {
            self.hear_directory(&entry);
        }
        for entry in effects.revocations {
            self.revoke(&entry);
        }
        for (user, conversation) in effects.admitted {
            self.admitted(user, conversation);
        }
        if !effects.presences.is_empty() {
            self.hear_presences(effects.presences);
        }
        for user in effects.met {
            self.look_at_sight_of(user);
        }
        for topic in effects.unused {
            self.linger.push(topic);
        }
        for shard in effects.gaps {
            self.gap(shard);
        }
    }

    /// Has entries written. Not by the caller: whoever hears the bells has no time for it.
    fn write(&self, mut outboxes: Vec<Arc<Outbox>>) {
        while !outboxes.is_empty() {
            let more = outboxes.split_off(outboxes.len().min(WRITES));
            self.lifecycle
                .spawn("write entries", async move { write_each(&outboxes) });
            outboxes = more;
        }
    }
}

fn write_each(outboxes: &[Arc<Outbox>]) {
    let mut written = Written::default();
    for outbox in outboxes {
        outbox.write(&mut written);
    }
    written.count();
}
