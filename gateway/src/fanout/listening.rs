//! The conversations that sockets listen to.
//!
//! A right is looked at when somebody asks, and from then on the conversation's own log says when
//! it is lost. In between nothing is missed: first bells ring, then the version of the conversation
//! and the end of its log are read in one instant. If that is the version the right was judged by,
//! the socket hears what stands behind that end; whatever takes the right away stands there, too.

use std::sync::Arc;

use futures_util::{StreamExt, future::BoxFuture, stream};
use shared::domain::{Code, ConversationId, Refusal, Topic, UserId};
use tokio::time::timeout;

use super::{
    Fanout,
    chosen::Wants,
    outbox::Outbox,
    place::Mode,
    refusal::store_refusal,
    subscriptions::{DEADLINE, unavailable},
    topic::Effects,
};
use crate::dialect::Feed;

/// Most conversations that a socket listens to because it wants all of them.
const MAX_CONVERSATIONS: usize = 1000;
/// So many of them are begun at a time.
const AT_A_TIME: usize = 16;
/// How often a conversation may change while somebody begins to listen to it.
const ATTEMPTS: u32 = 5;

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

    pub(super) fn rights(&self) -> Result<&Arc<dyn Rights>, Refusal> {
        let rights = self.rights.get();
        rights.ok_or_else(|| unavailable("the node is starting"))
    }

    /// Lets a socket hear a conversation, which its user may by a version of it.
    pub(super) async fn listen(
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
    pub(super) async fn listen_to_all(
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
    pub(super) fn reconsider(&self, outbox: &Arc<Outbox>, conversation: ConversationId) {
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
}
