//! How a session gets its user's entries, from the first to the last.
//!
//! Subscribe and wait for the confirmation, then open the session, which reads: in the other
//! order an entry between the two would be missed. What is heard meanwhile only raises how
//! far the topic has come; the socket reads up to there and is then live.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use shared::{
    domain::{Code, Device, Entry, Position, Preferences, Refusal, SessionId, Topic, UserId},
    redis::{Known, OpenSession, OpenedSession, Page},
};
use tokio::time::timeout;

use super::{
    Fanout, TokenRef,
    backlog::Stage,
    hub::{Left, Step},
    member::{Member, Seat},
    outbox::{CloseReason, Outbox},
    place::{Ended, Mode},
    reader::Walk,
    receiver::Received,
    refusal::store_refusal,
    topic::{Advance, Effects},
};
use crate::dialect::Feed;

/// Longest wait for everything an attachment needs.
const DEADLINE: Duration = Duration::from_secs(5);

/// Who wants entries, and from where.
#[derive(Debug)]
pub struct Attach {
    /// Whose topic.
    pub user: UserId,
    /// The socket's name.
    pub session: SessionId,
    /// Whose cursor moves.
    pub device: Device,
    /// What the session was opened with.
    pub token: TokenRef,
    /// Replay from here instead of from the device's cursor, if the log has come so far.
    pub after: Option<Position>,
    /// Where the entries go.
    pub outbox: Arc<Outbox>,
}

/// A session that is open in Redis and whose topic is followed. Nothing is delivered before
/// [`Attached::start`], so that the client can be greeted first.
#[derive(Debug)]
#[must_use = "dropping it ends the session"]
pub struct Attached {
    /// Entries after this position follow.
    pub cursor: Position,
    /// Where the log ended when the session was opened.
    pub head: Position,
    /// How many entries follow at once: those of the first page.
    pub replayed: u32,
    /// True if those are all there are, from the position asked for. False if more may follow (the
    /// log is longer, or older than Redis), or if the position is not of this log.
    pub complete: bool,
    user: UserId,
    first: Vec<Entry>,
    walk: Walk,
    attachment: Attachment,
}

impl Attached {
    /// Begins to deliver. Dropping what it answers ends the session.
    pub fn start(self) -> Attachment {
        let Attachment { fanout, outbox, .. } = &self.attachment;
        // Who takes the log apart says first what of it.
        if !outbox.is_by_queue() {
            let (own, first) = (Topic::User(self.user), self.first);
            let advance = fanout
                .hub
                .feed(own, outbox, Feed::User, first, self.walk.at());
            if let Advance::Read { .. } = advance {
                fanout.spawn_catch_up(outbox.clone(), Feed::User, Some(self.walk));
            }
            fanout.hub.join_broadcasts(self.user, outbox);
            let advance = fanout
                .hub
                .advance(Topic::Broadcast, outbox, Feed::Broadcast);
            if let Advance::Read { .. } = advance {
                fanout.spawn_catch_up(outbox.clone(), Feed::Broadcast, None);
            }
        }
        if outbox.hears_calls() {
            fanout.arrived_for_calls(outbox);
        }
        outbox.wake_if_queued();
        self.attachment
    }
}

/// A socket's hold on its topic. Dropping it takes the socket off the topic, flushes the
/// device's cursor and closes the session, the last two in the background.
#[derive(Debug)]
#[must_use = "dropping it ends the session"]
pub struct Attachment {
    fanout: Arc<Fanout>,
    outbox: Arc<Outbox>,
    /// Redis may know the session.
    is_open: bool,
}

impl Attachment {
    /// The client identified itself anew: from now on this token counts.
    pub fn refresh(&self, token: TokenRef) -> Result<(), Refusal> {
        let Some(member) = self.outbox.member() else {
            return Ok(());
        };
        if self.fanout.is_revoked(member.user, &token) {
            return Err(revoked());
        }
        *member.token.lock() = token;
        Ok(())
    }

    /// The client did nothing for long, or does something again.
    pub fn note_activity(&self, is_idle: bool) {
        self.fanout.note_activity(&self.outbox, is_idle);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.fanout.leave(&self.outbox, self.is_open);
    }
}

impl Fanout {
    /// Opens a session and follows its user's topic. The caller may be dropped at any point:
    /// nothing stays behind.
    pub async fn attach(self: &Arc<Self>, attach: Attach) -> Result<Attached, Refusal> {
        match timeout(DEADLINE, self.attach_in_time(attach)).await {
            Ok(result) => result,
            Err(_) => Err(Refusal::new(
                Code::Unavailable,
                "the session could not be opened in time",
            )
            .retry_after(Duration::from_secs(1))),
        }
    }

    async fn attach_in_time(self: &Arc<Self>, attach: Attach) -> Result<Attached, Refusal> {
        let Attach {
            user,
            session,
            device,
            token,
            after,
            outbox,
        } = attach;
        let topic = Topic::User(user);
        let member = Member {
            fanout: Arc::downgrade(self),
            user,
            session,
            device: device.clone(),
            token: Mutex::new(token),
            seat: AtomicU64::new(Seat::NONE),
            completed: Mutex::default(),
        };
        outbox
            .set_member(member)
            .map_err(|_| Refusal::new(Code::Internal, "the socket is attached already"))?;
        // Joined first, so that being displaced or revoked from here on finds the socket.
        self.hub.join(topic, outbox.clone());
        let mut attachment = Attachment {
            fanout: self.clone(),
            outbox,
            is_open: false,
        };
        if let Some(member) = attachment.outbox.member() {
            self.refuse_if_revoked(member)?;
        }
        self.follow(topic).await?;
        self.broadcasts_followed().await;

        let by_queue = attachment.outbox.is_by_queue();
        let open = OpenSession {
            user,
            session,
            device,
            dialect: attachment.outbox.dialect.name(),
            hears_calls: attachment.outbox.hears_calls(),
            node: self.settings.node.clone(),
            incarnation: self.settings.incarnation,
            max_sessions: self.settings.max_sessions,
            after,
            by_queue,
            page: if by_queue {
                0
            } else {
                self.settings.first_page
            },
        };
        attachment.is_open = true;
        self.census.came(attachment.outbox.dialect);
        let mut opened = self.open_session(topic, open.clone()).await?;
        let is_known = !matches!(opened.page, Page::Reset { .. });
        if !is_known && open.after.is_some() {
            // Nobody gave that position out: the device goes on where it stands.
            let open = OpenSession {
                after: None,
                ..open
            };
            opened = self.open_session(topic, open).await?;
        }
        let preferences = std::mem::replace(&mut opened.preferences, Known::Nothing);
        let preferences = self.recall(user, preferences).await?;
        self.begin_broadcasts(user, &opened, &attachment.outbox)
            .await?;
        Ok(self.opened(user, opened, preferences, is_known, attachment))
    }

    async fn open_session(
        &self,
        topic: Topic,
        open: OpenSession,
    ) -> Result<OpenedSession, Refusal> {
        let opened = self
            .store
            .session_open(open)
            .await
            .map_err(|error| store_refusal(&error))?;
        for displaced in &opened.displaced {
            self.hub.close(topic, *displaced, CloseReason::Displaced);
        }
        Ok(opened)
    }

    fn opened(
        self: &Arc<Self>,
        user: UserId,
        opened: OpenedSession,
        preferences: Arc<Preferences>,
        is_known: bool,
        attachment: Attachment,
    ) -> Attached {
        let (Page::Entries { head, .. } | Page::Cold { head, .. } | Page::Reset { head }) =
            opened.page;
        let mut effects = Effects::default();
        let topic = Topic::User(user);
        self.hub
            .learn_head(topic, head, Some(preferences), &mut effects);
        self.apply(effects);

        let mut walk = Walk::from(opened.cursor);
        let first = walk.hot(opened.page);
        // A cursor ahead of the log: Redis lost what it counted. Start over from what there is.
        let mut cursor = opened.cursor;
        if first.reset {
            cursor = Position::START;
            walk = Walk::from(cursor);
        }
        attachment.outbox.enter_open();
        if attachment.outbox.is_by_queue() {
            attachment.outbox.open_queues(opened.queues);
        } else {
            attachment.outbox.begin(Feed::User, cursor);
        }
        Attached {
            cursor,
            head,
            replayed: first.entries.len() as u32,
            complete: is_known && first.end.is_some(),
            user,
            first: first.entries,
            walk,
            attachment,
        }
    }

    /// Returns once bells ring for a topic that was joined or pinned.
    pub(super) async fn follow(self: &Arc<Self>, topic: Topic) -> Result<(), Refusal> {
        loop {
            match self.hub.follow(topic) {
                Step::Followed => return Ok(()),
                Step::Wait(changed) => changed.await,
                Step::Subscribe => {
                    // In a task, as others wait for it even if this caller is dropped.
                    let fanout = self.clone();
                    let subscribing = self.lifecycle.spawn("subscribe", async move {
                        let subscribed = fanout.bells.subscribe(topic).await;
                        if fanout.hub.followed(topic, subscribed.is_ok()) {
                            fanout.linger.push(topic);
                        }
                        subscribed
                    });
                    return match subscribing.await {
                        Ok(subscribed) => subscribed.map_err(|error| store_refusal(&error)),
                        Err(_) => Err(Refusal::new(Code::Unavailable, "the node is stopping")),
                    };
                }
            }
        }
    }

    fn leave(self: &Arc<Self>, outbox: &Arc<Outbox>, is_open: bool) {
        let Some(member) = outbox.member() else {
            return;
        };
        outbox.enter(Stage::Ended);
        self.leave_typing(member.session);
        self.leave_watches(outbox);
        for conversation in outbox.conversations() {
            self.stop_listening(outbox, conversation);
        }
        let topic = member.topic();
        if let Some(left) = self.hub.leave(topic, outbox) {
            if left.is_unused {
                self.linger.push(topic);
            }
            self.confirm_kept(member, left);
        }
        if let Some(left) = self.hub.leave(Topic::Broadcast, outbox) {
            self.confirm_passed(member, &left);
        }
        // Not before it has left: who looks for it now does not find it.
        self.left_calls(member);
        self.acker.flush_now(member.user, &member.device);
        self.receiver.hurry((member.user, member.device.clone()));
        if is_open {
            self.census.went(outbox.dialect);
            self.closer.close(member.user, member.session);
        }
    }

    /// A device that has confirmed everything, and from which the rest was kept, is done with
    /// that. One that follows queues is also done with what is in others: otherwise it would look at
    /// that again whenever it comes back.
    fn confirm_kept(&self, member: &Member, left: Left) {
        for Ended {
            feed,
            mode,
            is_settled,
            handed,
            skipped,
        } in left.ended
        {
            let last = skipped.last().copied();
            let (queue, upto) = match feed {
                Feed::Queue(queue) => (Some(queue), left.position.max(last)),
                _ => (None, last),
            };
            if let Some(upto) = upto
                && upto > handed
                && mode == Mode::Live
                && is_settled
            {
                self.acker
                    .confirm(member.user, &member.device, queue, upto, skipped);
            }
        }
    }

    /// A device that has confirmed all broadcasts that reached it is done with the others, too:
    /// otherwise it would look at them again whenever it comes back.
    fn confirm_passed(&self, member: &Member, left: &Left) {
        if let Some(position) = left.position
            && let Some(ended) = left.ended.first()
            && ended.mode == Mode::Live
            && ended.is_settled
            && position > ended.handed
        {
            let received = Received {
                upto: position,
                ..Received::default()
            };
            self.receiver
                .add((member.user, member.device.clone()), received);
        }
    }

    fn refuse_if_revoked(&self, member: &Member) -> Result<(), Refusal> {
        if self.is_revoked(member.user, &member.token.lock()) {
            return Err(revoked());
        }
        Ok(())
    }
}

fn revoked() -> Refusal {
    Refusal::new(Code::Unauthorized, "the token was revoked")
}
