//! What sockets hear because they asked for it: queues of the user's log, and conversations.
//!
//! A right is looked at when somebody asks, and from then on the conversation's own log says when
//! it is lost. In between nothing is missed: first bells ring, then the version of the conversation
//! and the end of its log are read in one instant. If that is the version the right was judged by,
//! the socket hears what stands behind that end; whatever takes the right away stands there, too.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream};
use shared::domain::{Code, ConversationId, Position, Queue, Refusal, Topic, UserId};
use tokio::time::timeout;

use super::{
    Fanout,
    chosen::Wants,
    metrics,
    outbox::Outbox,
    place::Mode,
    refusal::store_refusal,
    topic::{Advance, Effects},
};
use crate::dialect::{AckMode, Feed, Interest, Wish};

/// Longest wait for everything a subscription needs.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most conversations that a socket listens to because it wants all of them.
const MAX_CONVERSATIONS: usize = 1000;
/// So many of them are begun at a time.
const AT_A_TIME: usize = 16;
/// How often a conversation may change while somebody begins to listen to it.
const ATTEMPTS: u32 = 5;
/// From so many refusals of an entry on it does not come again.
const ENOUGH: u32 = 3;

/// Knows who may hear what. The application does.
pub trait Rights: Send + Sync {
    /// The version of a conversation by which a user may hear it: a participant may, while it is
    /// not archived. There is a version `least`, so nothing older is to be judged by; `u64::MAX`
    /// asks the record itself.
    fn version(
        &self,
        user: UserId,
        conversation: ConversationId,
        least: u64,
    ) -> BoxFuture<'_, Result<u64, Refusal>>;

    /// The conversations that a user may hear, each with that version; those where something
    /// happened last come first.
    fn conversations(
        &self,
        user: UserId,
    ) -> BoxFuture<'_, Result<Vec<(ConversationId, u64)>, Refusal>>;
}

impl Fanout {
    /// Who is asked for rights; only the first counts. Until then nobody has any.
    pub fn ask_for_rights(&self, rights: Arc<dyn Rights>) {
        let _ = self.rights.set(rights);
    }

    /// Lets a socket hear what it wishes, if its user may: `forbidden`, `not_found` or what else
    /// [`Rights`] says if not, `bad_request` if it wishes too much.
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
    pub fn unsubscribe(&self, outbox: &Arc<Outbox>, wish: &Wish) {
        outbox.forget(wish.interest, &wish.address.clone().unwrap_or_default());
        match wish.interest {
            Interest::Queue(queue) => {
                if !outbox.address_queue(queue) {
                    self.leave_queue(outbox, queue);
                }
            }
            Interest::Calls => outbox.address_calls(),
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
        outbox.wish(wish.interest, wish.address.clone().unwrap_or_default())?;
        match wish.interest {
            Interest::Queue(queue) => self.begin_queue(outbox, user, queue, wish.acks).await,
            Interest::Calls => {
                outbox.address_calls();
                self.arrived_for_calls(outbox);
                Ok(())
            }
            Interest::Conversation { id: Some(id), .. } | Interest::Typing(Some(id)) => {
                let version = self.rights()?.version(user, id, 0).await?;
                self.listen(outbox, user, id, version).await
            }
            Interest::Conversation { id: None, .. } | Interest::Typing(None) => {
                self.listen_to_all(outbox, user).await
            }
            // Many users are watched at once, see [`Fanout::watch`].
            Interest::Presence(_) => Err(Refusal::new(Code::Internal, "watched elsewhere")),
        }
    }

    fn rights(&self) -> Result<&Arc<dyn Rights>, Refusal> {
        let rights = self.rights.get();
        rights.ok_or_else(|| unavailable("the node is starting"))
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
    fn begin_feed(
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

    /// Lets a socket hear a conversation, which its user may by a version of it.
    async fn listen(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        user: UserId,
        conversation: ConversationId,
        mut version: u64,
    ) -> Result<(), Refusal> {
        if !self.hub.listen(conversation, outbox) {
            // It does so already; the log tells when it may not any more.
            return Ok(());
        }
        let topic = Topic::Conversation(conversation);
        self.follow(topic).await?;
        for _ in 0..ATTEMPTS {
            let standing = self.store.standing(conversation).await;
            let (known, head) = standing.map_err(|error| store_refusal(&error))?;
            match known {
                Some(known) if known == version => {
                    let mut effects = Effects::default();
                    self.hub.learn_head(topic, head, None, &mut effects);
                    self.apply(effects);
                    self.begin_feed(outbox, user, Feed::Conversation(conversation), head);
                    return Ok(());
                }
                Some(known) if known > version => {
                    version = self.rights()?.version(user, conversation, known).await?;
                }
                // Redis vouches for nothing (a failover, a long silence): what this node knows may
                // be old, so the record is asked.
                _ => {
                    version = self.rights()?.version(user, conversation, u64::MAX).await?;
                    let kept = self.store.keep_version(conversation, version).await;
                    kept.map_err(|error| store_refusal(&error))?;
                }
            }
        }
        Err(unavailable("the conversation keeps changing"))
    }

    /// Lets a socket hear every conversation of its user. Those that come later are told of in the
    /// user's own log.
    async fn listen_to_all(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        user: UserId,
    ) -> Result<(), Refusal> {
        let all = self.rights()?.conversations(user).await?;
        let begun = stream::iter(all.into_iter().take(MAX_CONVERSATIONS)).map(
            async |(conversation, version)| {
                let listens = self.listen(outbox, user, conversation, version).await;
                if listens.is_err() {
                    self.stop_listening(outbox, conversation);
                }
                listens
            },
        );
        begun
            .buffer_unordered(AT_A_TIME)
            // Who has lost the right to one meanwhile hears the others.
            .filter(|begun| {
                let is_away = matches!(begun, Err(it) if it.code == Code::Unavailable);
                std::future::ready(is_away)
            })
            .fold(Ok(()), async |all, one| all.and(one))
            .await
    }

    /// A user may hear a conversation from now on: their sockets that want all of them do.
    pub(super) fn admitted(self: &Arc<Self>, user: UserId, conversation: ConversationId) {
        let mut wanting = self.hub.members(Topic::User(user));
        wanting.retain(|outbox| {
            outbox.wants_all() && outbox.conversations().len() < MAX_CONVERSATIONS
        });
        if wanting.is_empty() {
            return;
        }
        let fanout = self.clone();
        self.lifecycle.spawn("listen", async move {
            for outbox in wanting {
                let begun = timeout(DEADLINE, fanout.listen_anew(&outbox, user, conversation));
                let is_done = matches!(begun.await, Ok(Ok(())));
                // What it listens to already is not lost by that.
                if !is_done && outbox.mode(Feed::Conversation(conversation)) == Mode::Opening {
                    fanout.stop_listening(&outbox, conversation);
                }
            }
        });
    }

    async fn listen_anew(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<(), Refusal> {
        let version = self.rights()?.version(user, conversation, 0).await?;
        self.listen(outbox, user, conversation, version).await
    }

    /// Looks whether a socket still wants anything of a conversation.
    fn reconsider(&self, outbox: &Arc<Outbox>, conversation: ConversationId) {
        let is_wanted = outbox.wants(conversation) != Wants::default();
        // It may have lost it meanwhile, or be stuck on the way: then it is not taken in again.
        let is_stuck = || outbox.mode(Feed::Conversation(conversation)) == Mode::Opening;
        if !is_wanted || self.hub.listen(conversation, outbox) || is_stuck() {
            self.stop_listening(outbox, conversation);
        }
    }

    /// Takes a socket from a conversation's listeners.
    pub(super) fn stop_listening(&self, outbox: &Arc<Outbox>, conversation: ConversationId) {
        let topic = Topic::Conversation(conversation);
        if let Some(left) = self.hub.leave(topic, outbox) {
            outbox.unlisten(conversation);
            if left.is_unused {
                self.linger.push(topic);
            }
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
            Feed::Queue(queue) => queue,
            // They come by the queue that all other commands are in.
            Feed::Broadcast => Queue::Commands,
            Feed::User | Feed::Conversation(_) => return,
        };
        let (fanout, outbox) = (self.clone(), outbox.clone());
        self.lifecycle.spawn("count refusals", async move {
            let Some(member) = outbox.member() else {
                return;
            };
            let (user, session) = (member.user, member.session);
            for position in refused {
                match fanout.store.nack(user, queue, position).await {
                    Ok(count) if count >= ENOUGH => {
                        metrics::PARKED.increment(1);
                        tracing::info!(%user, %session, %queue, %position, "an entry is parked");
                        outbox.park(feed, position);
                        let forgotten = fanout.store.forget_nack(user, queue, position).await;
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

fn unavailable(message: &'static str) -> Refusal {
    Refusal::new(Code::Unavailable, message).retry_after(Duration::from_secs(1))
}
