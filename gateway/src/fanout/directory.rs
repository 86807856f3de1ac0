//! What administrators change. A log like any other, which every node follows; an entry only says
//! where to look. What has to be looked at is for the application, which listens.

use std::{sync::Arc, time::Duration};

use shared::domain::{DirectoryChange, Entry, Refusal, SessionId, Topic, UserId};

use super::{Fanout, outbox::CloseReason, store_refusal, topic::Effects};

const RETRY: Duration = Duration::from_millis(500);

/// Told of each change, in order. Called where bells are heard: it must not take long.
pub type DirectoryListener = Box<dyn Fn(DirectoryChange) + Send + Sync>;

impl Fanout {
    /// Who is told of changes; only the first counts. At first it is told to look at everything.
    pub fn on_directory_change(&self, listener: DirectoryListener) {
        listener(DirectoryChange::Everything);
        let _ = self.directory.set(listener);
    }

    /// Ends all sessions of a user on this node.
    pub fn close_user(&self, user: UserId, reason: CloseReason) {
        for outbox in self.hub.members(Topic::User(user)) {
            outbox.request_close(reason);
        }
    }

    /// Ends a session, if it is on this node.
    pub fn close_session(&self, session: SessionId, reason: CloseReason) {
        if let Some(outbox) = self.hub.find(session) {
            outbox.request_close(reason);
        }
    }

    /// Something changed, as the log says.
    pub(super) fn hear_directory(&self, entry: &Entry) {
        let change = match serde_json::from_slice(&entry.body) {
            Ok(change) => change,
            Err(error) => {
                // Of a newer release, perhaps.
                tracing::warn!(%error, position = %entry.position, "unreadable change");
                DirectoryChange::Everything
            }
        };
        if let DirectoryChange::Disconnect { session_id } = change {
            self.close_session(session_id, CloseReason::Disconnected);
        }
        if let Some(listener) = self.directory.get() {
            listener(change);
        }
    }

    /// The task that begins to follow changes. What changed before is in the record.
    pub(super) async fn follow_directory(self: Arc<Self>) {
        self.hub.pin(Topic::Directory);
        while let Err(refusal) = self.begin_directory().await {
            tracing::warn!(%refusal, "changes of the directory cannot be followed yet");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.lifecycle.stopping() => return,
            }
        }
    }

    async fn begin_directory(self: &Arc<Self>) -> Result<(), Refusal> {
        self.follow(Topic::Directory).await?;
        let heads = self.store.heads(&[Topic::Directory]).await;
        let heads = heads.map_err(|error| store_refusal(&error))?;
        let mut effects = Effects::default();
        let head = heads.first().copied().unwrap_or_default();
        self.hub
            .learn_head(Topic::Directory, head, None, &mut effects);
        self.apply(effects);
        // Heard nothing before: somebody may have changed something meanwhile.
        if let Some(listener) = self.directory.get() {
            listener(DirectoryChange::Everything);
        }
        Ok(())
    }
}
