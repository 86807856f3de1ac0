//! What sockets hear because they asked for it: queues of the user's log, and conversations.

use std::{sync::Arc, time::Duration};

use shared::{
    domain::{Code, Position, Queue, Refusal, Topic, UserId},
    redis::Refused,
};
use tokio::time::timeout;

use super::{Fanout, metrics, outbox::Outbox, refusal::store_refusal, topic::Advance};
use crate::dialect::{AckMode, Feed, Interest, Wish};

/// Longest wait for everything a subscription needs.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// From so many refusals of an entry on it does not come again.
const ENOUGH: u32 = 3;

impl Fanout {
    /// Lets a socket hear what it wishes, if its user may: `forbidden`, `not_found` or what else
    /// [`Rights`](super::Rights) says if not, `bad_request` if it wishes too much.
    pub async fn subscribe(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        wish: &Wish,
    ) -> Result<(), Refusal> {
        let begun = match timeout(DEADLINE, self.begin(outbox, wish)).await {
            Ok(begun) => begun,
            Err(_) => Err(unavailable("nothing could be heard in time")),
        };
        if begun.is_err() {
            self.unsubscribe(outbox, wish);
        }
        begun
    }

    /// Lets a socket hear that no more. What was queued of it is not sent.
    pub fn unsubscribe(self: &Arc<Self>, outbox: &Arc<Outbox>, wish: &Wish) {
        outbox.forget(wish.interest, wish.address.as_ref());
        match wish.interest {
            Interest::Queue(queue) => {
                if !outbox.address_queue(queue) {
                    self.leave_queue(outbox, queue);
                }
            }
            Interest::Calls => self.hear_no_calls(outbox),
            Interest::Conversation { id: Some(id), .. } | Interest::Typing(Some(id)) => {
                self.reconsider(outbox, id);
            }
            Interest::Conversation { id: None, .. } | Interest::Typing(None) => {
                for id in outbox.conversations() {
                    self.reconsider(outbox, id);
                }
            }
            Interest::Presence(_) => self.unwatch(outbox, wish),
        }
    }

    async fn begin(self: &Arc<Self>, outbox: &Arc<Outbox>, wish: &Wish) -> Result<(), Refusal> {
        let Some(member) = outbox.member() else {
            return Err(Refusal::new(Code::Internal, "the socket is not attached"));
        };
        let user = member.user;
        let only_watched = outbox.only_watched();
        outbox.wish(wish.interest, wish.address.clone())?;
        for conversation in only_watched {
            if outbox.wants(conversation).entries.is_some() {
                // It begins anew, where its device stands.
                self.stop_listening(outbox, conversation);
            }
        }
        match wish.interest {
            Interest::Queue(queue) => self.begin_queue(outbox, user, queue, wish.acks).await,
            Interest::Calls => self.hear_calls(outbox).await,
            Interest::Conversation { id: Some(id), .. } | Interest::Typing(Some(id)) => {
                let right = self.rights()?.right(user, id, 0).await?;
                self.listen(outbox, user, id, right).await
            }
            Interest::Conversation { id: None, .. } | Interest::Typing(None) => {
                self.listen_to_all(outbox, user).await
            }
            // Many users are watched at once, see [`Fanout::watch`].
            Interest::Presence(_) => Err(Refusal::new(Code::Internal, "watched elsewhere")),
        }
    }

    /// Reads a queue from where the device stands; broadcasts come with the commands.
    async fn begin_queue(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        user: UserId,
        queue: Queue,
        acks: AckMode,
    ) -> Result<(), Refusal> {
        let Some(cursor) = self.hub.follow_queue(user, outbox, queue, acks) else {
            outbox.address_queue(queue);
            return Ok(());
        };
        if let Some(member) = outbox.member() {
            self.store
                .begin_queue(user, &member.device, queue, cursor)
                .await
                .map_err(|error| store_refusal(&error))?;
        }
        self.begin_feed(outbox, user, Feed::Queue(queue), cursor);
        if queue == Queue::Commands {
            let from = outbox.reopen_broadcasts(acks);
            self.hub.join_broadcasts(user, outbox);
            self.begin_feed(outbox, user, Feed::Broadcast, from);
        }
        Ok(())
    }

    /// Brings a feed that was joined from a place on.
    pub(super) fn begin_feed(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        user: UserId,
        feed: Feed,
        from: Position,
    ) {
        outbox.begin(feed, from);
        let advance = self.hub.advance(feed.topic(user), outbox, feed);
        if let Advance::Read { .. } = advance {
            self.spawn_catch_up(outbox.clone(), feed, None);
        }
        outbox.wake_if_queued();
    }

    fn leave_queue(&self, outbox: &Arc<Outbox>, queue: Queue) {
        let Some(member) = outbox.member() else {
            return;
        };
        self.hub.leave_queue(member.user, outbox, queue);
        if queue == Queue::Commands && self.hub.leave(Topic::Broadcast, outbox).is_some() {
            outbox.close_broadcasts();
        }
    }

    /// A client did not take these entries. What it refused too often does not come again.
    pub(super) fn refused(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        feed: Feed,
        refused: Vec<Position>,
    ) {
        let queue = match feed {
            Feed::Queue(queue) => Some(queue),
            Feed::Broadcast => None,
            Feed::User | Feed::Conversation(_) => return,
        };
        let (fanout, outbox) = (self.clone(), outbox.clone());
        self.lifecycle.spawn("count refusals", async move {
            let Some(member) = outbox.member() else {
                return;
            };
            let (user, session) = (member.user, member.session);
            for position in refused {
                let refused = Refused {
                    device: member.device.clone(),
                    queue,
                    position,
                };
                match fanout.store.nack(user, &refused).await {
                    Ok(count) if count >= ENOUGH => {
                        metrics::PARKED.increment(1);
                        tracing::info!(%user, %session, %refused, "an entry is parked");
                        outbox.park(feed, position);
                        let forgotten = fanout.store.forget_nack(user, &refused).await;
                        if let Err(error) = forgotten {
                            tracing::debug!(%error, "refusals are remembered for nothing");
                        }
                    }
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "a refusal is not counted"),
                }
            }
        });
    }
}

pub(super) fn unavailable(message: &'static str) -> Refusal {
    Refusal::new(Code::Unavailable, message).retry_after(Duration::from_secs(1))
}
