//! Sockets that are not live read for themselves: from what the topic keeps in memory, from
//! Redis, from Postgres. A task exists only while it reads; a socket without room has none.

use std::{sync::Arc, time::Duration};

use super::{
    Fanout, metrics,
    outbox::Outbox,
    place::Mode,
    reader::{Source, Walk},
    topic::Advance,
};
use crate::dialect::Feed;
use shared::domain::Topic;

/// Entries per read.
const CHUNK: u32 = 256;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(3);

impl Fanout {
    /// Goes on for a socket that was just set to catch up in a log; with `walk`, if it began to read.
    pub(super) fn spawn_catch_up(
        self: &Arc<Self>,
        outbox: Arc<Outbox>,
        feed: Feed,
        walk: Option<Walk>,
    ) {
        metrics::CATCH_UPS.increment(1);
        let fanout = self.clone();
        self.lifecycle.spawn("catch-up", async move {
            fanout.catch_up(&outbox, feed, walk).await;
            if let Feed::Conversation(conversation) = feed {
                // What was read may have taken a right, and the topic its last listener; or whoever
                // lost it may have come back before that was read.
                fanout.linger_if_unused(Topic::Conversation(conversation));
                if let Some(member) = outbox.member()
                    && outbox.mode(feed) == Mode::Gone
                {
                    fanout.admitted(member.user, conversation);
                }
            }
        });
    }

    async fn catch_up(&self, outbox: &Arc<Outbox>, feed: Feed, mut walk: Option<Walk>) {
        let Some(member) = outbox.member() else {
            return;
        };
        let topic = feed.topic(member.user);
        let mut retry = FIRST_RETRY;
        let mut advance = self.hub.advance(topic, outbox, feed);
        outbox.wake_if_queued();
        while let Advance::Read { after, target } = advance {
            // While in Postgres, a walk knows more than the position.
            let mut at = walk
                .filter(|walk| walk.at() == after)
                .unwrap_or(Walk::from(after));
            // Not the same for both: who waits for Postgres must not hold up who does not.
            let gate = match at.next() {
                Source::Hot(_) => &self.catch_ups,
                Source::Cold(..) => &self.cold_catch_ups,
            };
            let permit = tokio::select! {
                permit = gate.acquire() => permit,
                () = self.lifecycle.stopping() => return,
            };
            match self.reader.next(topic, &mut at, CHUNK).await {
                Ok(chunk) => {
                    retry = FIRST_RETRY;
                    at.expect(chunk.end, target);
                    advance = self.hub.feed(topic, outbox, feed, chunk.entries, at.at());
                    walk = Some(at);
                }
                Err(error) => {
                    tracing::debug!(%error, session = %member.session, "catching up waits");
                    drop(permit);
                    tokio::select! {
                        () = tokio::time::sleep(retry) => {}
                        () = self.lifecycle.stopping() => return,
                    }
                    retry = (retry * 2).min(LAST_RETRY);
                    if outbox.mode(feed) != Mode::CatchingUp {
                        return;
                    }
                }
            }
        }
    }
}
