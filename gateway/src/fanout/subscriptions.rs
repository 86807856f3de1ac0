//! What sockets hear because they asked for it: queues of the user's log, and conversations.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use shared::{
    domain::{Code, ConversationId, Position, Queue, Refusal, Topic, UserId},
    redis::Refused,
};
use tokio::time::{Instant, timeout_at};

use super::{
    Fanout, metrics, outbox::Outbox, presence::unseen, refusal::store_refusal, topic::Advance,
};
use crate::dialect::{AckMode, Feed, Interest, Wish};

/// Longest wait for everything that is begun in one piece.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// So much of what a socket asks for is begun side by side: all that one request of most dialects may name.
const AT_A_TIME: usize = 32;
/// From so many refusals of an entry on it does not come again.
const ENOUGH: u32 = 3;

/// What wishes are about that are begun one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Queue(Queue),
    Calls,
    Conversation(ConversationId),
    Conversations,
    Presences,
}

impl About {
    fn of(interest: Interest) -> Self {
        match interest {
            Interest::Queue(queue) => Self::Queue(queue),
            Interest::Calls => Self::Calls,
            Interest::Conversation { id, .. } | Interest::Typing(id) => {
                id.map_or(Self::Conversations, Self::Conversation)
            }
            Interest::Presence(_) => Self::Presences,
        }
    }
}

impl Fanout {
    /// Lets a socket hear what it wishes, as far as its user may: one answer per wish, in their order.
    /// `forbidden`, `not_found` or what else [`Rights`](super::Rights) says if not, `bad_request` if it
    /// wishes too much, `unavailable` if it could not be begun in time. What cannot be had holds up nothing
    /// else. Of users who are watched see [`Fanout::show_presences`].
    pub async fn subscribe(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        wishes: Vec<Wish>,
    ) -> Vec<(Interest, Result<(), Refusal>)> {
        let interests: Vec<_> = wishes.iter().map(|wish| wish.interest).collect();
        // Whoever wants all conversations touches each.
        let wants_all = interests
            .iter()
            .any(|it| About::of(*it) == About::Conversations);
        let mut groups: Vec<(About, Vec<(usize, Wish)>)> = Vec::new();
        for (index, wish) in wishes.into_iter().enumerate() {
            let about = match About::of(wish.interest) {
                About::Conversation(_) if wants_all => About::Conversations,
                about => about,
            };
            match groups.iter_mut().find(|(of, _)| *of == about) {
                Some((_, wishes)) => wishes.push((index, wish)),
                None => groups.push((about, vec![(index, wish)])),
            }
        }
        let begun = stream::iter(groups).map(async |(about, wishes)| {
            let deadline = Instant::now() + DEADLINE;
            if about == About::Presences {
                let (indices, wishes): (Vec<_>, Vec<_>) = wishes.into_iter().unzip();
                let answers = self.watch(outbox, &wishes, deadline).await;
                return indices.into_iter().zip(answers).collect();
            }
            let mut answers = Vec::with_capacity(wishes.len());
            for (index, wish) in wishes {
                answers.push((index, self.hear(outbox, &wish, deadline).await));
            }
            answers
        });
        let mut answers: Vec<_> = begun.buffer_unordered(AT_A_TIME).concat().await;
        answers.sort_unstable_by_key(|(index, _)| *index);
        let answers = answers.into_iter().map(|(_, answer)| answer);
        let mut answers: Vec<_> = interests.into_iter().zip(answers).collect();
        // Sight of somebody may be lost while others are waited for.
        for (interest, answer) in answers.iter_mut().filter(|(_, it)| it.is_ok()) {
            if let Interest::Presence(Some(user)) = *interest
                && !outbox.is_watching(user)
            {
                *answer = Err(unseen());
            }
        }
        answers
    }

    /// The same of one thing that is no presence.
    async fn hear(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        wish: &Wish,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let begun = match timeout_at(deadline, self.begin(outbox, wish)).await {
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
            // Many users are watched at once.
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
