//! The log of broadcasts on this node: followed from the start, its hot end kept in memory, so
//! that who comes back finds what was missed without asking Redis.

use std::{sync::Arc, time::Duration};

use shared::{
    domain::{Position, Refusal, Topic, UserId},
    redis::{OpenedSession, Page},
};

use super::{
    Fanout, Outbox, postgres_refusal, receiver::Received, recent::Recent, store_refusal,
    topic::Effects,
};
use crate::dialect::Feed;

const CHUNK: u32 = 512;
const RETRY: Duration = Duration::from_millis(500);

impl Fanout {
    /// Whether this node knows the end of the log of broadcasts. Until then no session opens.
    pub fn follows_broadcasts(&self) -> bool {
        *self.broadcasts_loaded.borrow()
    }

    /// Waits for that.
    pub(super) async fn broadcasts_followed(&self) {
        let mut loaded = self.broadcasts_loaded.subscribe();
        // The sender is this fan-out's own.
        let _ = loaded.wait_for(|loaded| *loaded).await;
    }

    /// The task that loads the end of the log.
    pub(super) async fn follow_broadcasts(self: Arc<Self>) {
        while let Err(refusal) = self.load_broadcasts().await {
            tracing::warn!(%refusal, "broadcasts cannot be followed yet");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.lifecycle.stopping() => return,
            }
        }
        self.broadcasts_loaded.send_replace(true);
    }

    async fn load_broadcasts(self: &Arc<Self>) -> Result<(), Refusal> {
        self.follow(Topic::Broadcast).await?;
        let heads = self.store.heads(&[Topic::Broadcast]).await;
        let heads = heads.map_err(|error| store_refusal(&error))?;
        let head = heads.first().copied().unwrap_or_default();
        let mut from = Position {
            offset: head.offset.saturating_sub(Recent::broadcasts()),
            ..head
        };
        let (mut at, mut entries) = (from, Vec::new());
        let end = loop {
            let page = self.store.read(Topic::Broadcast, at, CHUNK).await;
            match page.map_err(|error| store_refusal(&error))? {
                Page::Entries {
                    entries: more,
                    end,
                    head,
                } => {
                    entries.extend(more);
                    at = at.max(end);
                    if end >= head {
                        break at;
                    }
                }
                // Older than Redis surely has: what is kept begins behind it.
                Page::Cold { first, .. } => {
                    from = Position {
                        offset: first.offset.saturating_sub(1),
                        ..first
                    };
                    at = from;
                    entries.clear();
                }
                Page::Reset { head } => {
                    from = head;
                    at = head;
                    entries.clear();
                }
            }
        };
        let mut effects = Effects::default();
        self.hub.preload(from, entries, end, &mut effects);
        self.apply(effects);
        Ok(())
    }

    /// Says where a session takes up the log of broadcasts, and what of it its user has completed.
    pub(super) async fn begin_broadcasts(
        &self,
        user: UserId,
        opened: &OpenedSession,
        outbox: &Outbox,
    ) -> Result<(), Refusal> {
        let Some(member) = outbox.member() else {
            return Ok(());
        };
        let begin = if let Some(position) = opened.broadcasts {
            position
        } else {
            let first = self.first_broadcast_of(user).await?;
            let received = Received {
                upto: first,
                ..Received::default()
            };
            self.receiver.add((user, member.device.clone()), received);
            first
        };
        let completed = self.completed_since(user, opened, begin).await;
        if !completed.is_empty() {
            *member.completed.lock() = Some(Box::new(completed));
        }
        if outbox.is_by_queue() {
            // They come with a queue, once that is asked for.
            outbox.open_broadcasts(begin);
        } else {
            outbox.begin(Feed::Broadcast, begin);
        }
        Ok(())
    }

    /// Where a user begins who has no cursor in the log of broadcasts: with the first that came
    /// after they registered, which their id tells.
    pub(super) async fn first_broadcast_of(&self, user: UserId) -> Result<Position, Refusal> {
        let registered = user.registered_at();
        if let Some(position) = self.hub.last_broadcast_before(registered) {
            return Ok(position);
        }
        let found = self.postgres.last_broadcast_before(registered).await;
        let found = found.map_err(|error| postgres_refusal(&error))?;
        Ok(found.unwrap_or_default())
    }
}
