//! This node's sign of life in Redis. While it is there, workers leave the node's sessions alone.

use std::{sync::Arc, time::Duration};

use shared::redis::NODE_LIFETIME;
use tokio::time::Instant;

use super::Fanout;

/// Time between two signs: two may be lost within [`NODE_LIFETIME`].
const INTERVAL: Duration = Duration::from_secs(5);
/// So long after a node is back a worker may still be busy with its sessions; they are told again and
/// again.
const LAST_REAPED: Duration = Duration::from_secs(2 * NODE_LIFETIME.as_secs());
/// Longest wait for the last word.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

impl Fanout {
    /// The task that gives signs of life, until the process stops.
    pub(super) async fn show_life(self: Arc<Self>) {
        let (node, incarnation) = (&self.settings.node, self.settings.incarnation);
        let mut shown: Option<Instant> = None;
        let mut doubted_until: Option<Instant> = None;
        loop {
            match self
                .store
                .node_heartbeat(node, incarnation, NODE_LIFETIME)
                .await
            {
                Ok(lived) => {
                    let now = Instant::now();
                    // After a long silence the answer that said so may be the one that was lost.
                    let doubt = |at| !lived || now.duration_since(at) > NODE_LIFETIME;
                    if shown.replace(now).is_some_and(doubt) {
                        tracing::warn!("this node was taken for dead");
                        doubted_until = Some(now + LAST_REAPED);
                    }
                    if doubted_until.is_some_and(|until| now < until) {
                        self.register_all_again();
                    }
                }
                Err(error) => tracing::warn!(%error, "this node could not show that it lives"),
            }
            let speaking = self.census.counts();
            let told = self.store.show_sockets(node, &speaking, NODE_LIFETIME);
            if let Err(error) = told.await {
                tracing::debug!(%error, "this node could not say how many sockets it has");
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = self.lifecycle.stopping() => return,
            }
        }
    }

    /// Takes the node's name back once its sessions are closed, so that nobody has to find out.
    pub async fn leave_deployment(&self) {
        let (node, incarnation) = (&self.settings.node, self.settings.incarnation);
        let left = self.store.node_leave(node, incarnation);
        if let Ok(Err(error)) = tokio::time::timeout(LEAVE_TIMEOUT, left).await {
            tracing::debug!(%error, "this node left without a word");
        }
    }
}
