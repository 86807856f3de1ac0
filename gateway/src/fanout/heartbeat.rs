//! This node's sign of life in Redis. While it is there, workers leave the node's sessions alone.

use std::{sync::Arc, time::Duration};

use shared::redis::NODE_LIFETIME;

use super::Fanout;

/// Time between two signs: two may be lost within [`NODE_LIFETIME`].
const INTERVAL: Duration = Duration::from_secs(5);
/// Longest wait for the last word.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

impl Fanout {
    /// The task that gives signs of life, until the process stops.
    pub(super) async fn show_life(self: Arc<Self>) {
        let (node, incarnation) = (&self.settings.node, self.settings.incarnation);
        let mut first = true;
        loop {
            match self
                .store
                .node_heartbeat(node, incarnation, NODE_LIFETIME)
                .await
            {
                Ok(true) => {}
                Ok(false) => {
                    if !std::mem::take(&mut first) {
                        tracing::warn!("this node was taken for dead");
                        self.register_all_again();
                    }
                }
                Err(error) => tracing::warn!(%error, "this node could not show that it lives"),
            }
            let speaking = self.census.counts();
            let shown = self.store.show_sockets(node, &speaking, NODE_LIFETIME);
            if let Err(error) = shown.await {
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
