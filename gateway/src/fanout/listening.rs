//! The conversations that sockets listen to.
//!
//! A right is looked at when somebody asks, and from then on the conversation's own log says when
//! it is lost. In between nothing is missed: first bells ring, then the version of the conversation
//! and the end of its log are read in one instant. If that is the version the right was judged by,
//! the socket hears what stands behind that end; whatever takes the right away stands there, too.
//!
//! What stands before that end is in the user's own log. Where the conversation is, or was, too large
//! for that, the socket begins where its device has read to, and is given first what is in no inbox.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream};
use shared::{
    domain::{Code, ConversationId, MessageId, Position, Refusal, Timestamp, Topic, UserId},
    redis::{ConversationReader, Reading},
};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{
    Fanout,
    chosen::{Begun, Wants},
    outbox::Outbox,
    place::Mode,
    refusal::{postgres_refusal, store_refusal},
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

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// For so long it is tried to let a socket hear a conversation while a store is away.
const RETRY_FOR: Duration = Duration::from_mins(15);
/// How far back somebody begins at the most of whom no device has a cursor in a conversation: after as
/// long, devices are forgotten.
const LOOK_BACK: Duration = Duration::from_hours(14 * 24);

/// By what a user may hear a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The version of the conversation.
    pub version: u64,
    /// The version by which the user joined.
    pub joined: u64,
    /// It is known to be too large for copies in inboxes.
    pub is_large: bool,
}

/// Knows who may hear what. The application does.
pub trait Rights: Send + Sync {
    /// The right of a user to hear a conversation: a participant may, while it is not archived. There
    /// is a version `least`, so nothing older is to be judged by; `u64::MAX` asks the record itself.
    fn right(
        &self,
        user: UserId,
        conversation: ConversationId,
        least: u64,
    ) -> BoxFuture<'_, Result<Right, Refusal>>;

    /// The conversations that a user may hear; those where something happened last come first.
    fn conversations(
        &self,
        user: UserId,
    ) -> BoxFuture<'_, Result<Vec<(ConversationId, Right)>, Refusal>>;
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

    /// Lets a socket hear a conversation, which its user may by a right.
    pub(super) async fn listen(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        user: UserId,
        conversation: ConversationId,
        mut right: Right,
    ) -> Result<(), Refusal> {
        let Some(member) = outbox.member() else {
            return Ok(());
        };
        if !self.hub.listen(conversation, outbox) {
            // It does so already; the log tells when it may not any more.
            return Ok(());
        }
        let topic = Topic::Conversation(conversation);
        self.follow(topic).await?;
        for _ in 0..ATTEMPTS {
            let reader = member.reads(conversation, right.joined);
            let reading = self.store.reading(&reader).await;
            let reading = reading.map_err(|error| store_refusal(&error))?;
            match reading.version {
                Some(known) if known == right.version => {
                    let head = reading.head;
                    let mut begun = Begun::at(head, right.joined);
                    let mut from = head;
                    let is_read = outbox.dialect.gives_messages()
                        && outbox.wants(conversation).entries.is_some();
                    if is_read && (right.is_large || reading.uncopied > Position::START) {
                        (from, begun.after) = self.begin_reading(&reader, &reading).await?;
                    }
                    let mut effects = Effects::default();
                    self.hub.learn_head(topic, head, None, &mut effects);
                    self.apply(effects);
                    outbox.set_begun(conversation, begun);
                    self.begin_feed(outbox, user, Feed::Conversation(conversation), from);
                    return Ok(());
                }
                Some(known) if known > right.version => {
                    right = self.rights()?.right(user, conversation, known).await?;
                }
                // Redis vouches for nothing (a failover, a long silence): what this node knows may
                // be old, so the record is asked.
                _ => {
                    right = self.rights()?.right(user, conversation, u64::MAX).await?;
                    let kept = self.store.keep_version(conversation, right.version);
                    kept.await.map_err(|error| store_refusal(&error))?;
                }
            }
        }
        Err(unavailable("the conversation keeps changing"))
    }

    /// Where a device begins in a conversation of which something is in no inbox: at its cursor; a new
    /// one where the user's furthest stands, and if none was ever there, behind what they have received
    /// or read. That is written down: otherwise what other devices confirm would move it ahead of what
    /// it has seen. With it the message up to which it has all.
    async fn begin_reading(
        &self,
        reader: &ConversationReader,
        reading: &Reading,
    ) -> Result<(Position, MessageId), Refusal> {
        let nothing = MessageId(Uuid::nil());
        let (mut from, after) = if let Some(cursor) = reading.own.or(reading.furthest) {
            (cursor, nothing)
        } else {
            let now = self.store.clock().now();
            let at = Timestamp(now.0 - LOOK_BACK.as_millis() as i64);
            let start = self
                .postgres
                .reading_start(reader.conversation, reader.user, at);
            let start = start.await.map_err(|error| postgres_refusal(&error))?;
            // Who is none in the record any more begins at the end, and the log will tell them.
            start.map_or((reading.head, nothing), |it| (it.position, it.after))
        };
        if reading.uncopied > Position::START && from >= reading.uncopied {
            // All that follows is in inboxes.
            from = from.max(reading.head);
        }
        if reading.own.is_none() {
            let begun = [(reader.clone(), from)];
            let written = self.store.read_upto(&begun).await;
            written.map_err(|error| store_refusal(&error))?;
        }
        Ok((from, after))
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
            async |(conversation, right)| {
                let listens = self.listen(outbox, user, conversation, right).await;
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

    /// A user may hear a conversation from now on: their sockets that want all of them do. While a store
    /// is away that is tried again: nobody else tells them.
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
            let mut retry = FIRST_RETRY;
            let deadline = Instant::now() + RETRY_FOR;
            loop {
                let mut left = Vec::new();
                for outbox in wanting {
                    let listens = fanout.listen_if_possible(&outbox, user, conversation);
                    if !listens.await {
                        left.push(outbox);
                    }
                }
                if left.is_empty() {
                    return;
                }
                if Instant::now() > deadline {
                    let count = left.len();
                    return tracing::warn!(%user, %conversation, count, "sockets do not hear it");
                }
                tokio::select! {
                    () = tokio::time::sleep(retry) => {}
                    () = fanout.lifecycle.stopping() => return,
                }
                retry = (retry * 2).min(LAST_RETRY);
                left.retain(|outbox| outbox.wants_all() && !outbox.is_ended());
                wanting = left;
            }
        });
    }

    /// Lets a socket hear a conversation, if its user may. False if that is to be tried again.
    async fn listen_if_possible(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        user: UserId,
        conversation: ConversationId,
    ) -> bool {
        let begun = timeout(DEADLINE, self.listen_anew(outbox, user, conversation)).await;
        let is_done = matches!(begun, Ok(Ok(())));
        // What it listens to already is not lost by that.
        if !is_done && outbox.mode(Feed::Conversation(conversation)) == Mode::Opening {
            self.stop_listening(outbox, conversation);
        }
        is_done || matches!(begun, Ok(Err(refusal)) if refusal.code != Code::Unavailable)
    }

    async fn listen_anew(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<(), Refusal> {
        let right = self.rights()?.right(user, conversation, 0).await?;
        self.listen(outbox, user, conversation, right).await
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
            if let (Some(member), Some(begun)) = (outbox.member(), outbox.begun(conversation)) {
                self.readers.hurry(member.reads(conversation, begun.joined));
            }
            outbox.unlisten(conversation);
            if left.is_unused {
                self.linger.push(topic);
            }
        }
    }
}
