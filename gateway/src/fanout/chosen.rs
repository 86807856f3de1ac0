//! What a socket asked to hear, besides what it always hears. Most sockets have none of this.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::domain::{Code, ConversationId, MessageId, Position, Queue, Refusal, UserId};
use uuid::Uuid;

use super::{
    addresses::Addresses, heard::Heard, listened::Listened, place::Place, presence::Watching,
    track::Track,
};
use crate::dialect::{AckMode, Interest, Messages};

/// Most wishes of a socket.
pub(super) const MAX_WISHES: usize = 200;
/// Most notices that wait for a session; beyond, the oldest go.
const MAX_NOTICES: usize = MAX_WISHES;

/// Something that a session has to tell its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The user has lost the right to hear a conversation, so the socket hears it no more.
    Unsubscribed {
        /// Which.
        conversation: ConversationId,
        /// How much of its log was heard.
        entries: Option<Messages>,
        /// Whether it was heard who types.
        typing: bool,
    },
    /// The user has lost the right to see how somebody appears.
    Unseen(UserId),
}

impl Notice {
    /// What is not heard any more.
    pub fn interests(self) -> Vec<Interest> {
        let (conversation, entries, typing) = match self {
            Self::Unsubscribed {
                conversation,
                entries,
                typing,
            } => (conversation, entries, typing),
            Self::Unseen(user) => return vec![Interest::Presence(Some(user))],
        };
        let id = Some(conversation);
        let entries = entries.map(|messages| Interest::Conversation { id, messages });
        // Who hears everything hears that, too, without a wish of its own.
        let is_everything = entries.is_some_and(Interest::is_everything);
        let typing = (typing && !is_everything).then_some(Interest::Typing(id));
        entries.into_iter().chain(typing).collect()
    }
}

/// How much of a conversation a socket wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// Of its log.
    pub(super) entries: Option<Messages>,
    /// Who types.
    pub(super) typing: bool,
}

/// A wish, and where its frames are addressed to.
#[derive(Debug, PartialEq, Eq)]
struct Wished {
    interest: Interest,
    /// None if frames have no address. Boxed, for few wishes have one, and it takes 32 bytes.
    address: Option<Box<Bytes>>,
}

impl Wished {
    fn address(&self) -> Option<&Bytes> {
        self.address.as_deref()
    }
}

/// A queue that a socket follows.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) track: Track,
    /// The addresses of its frames.
    pub(super) to: Addresses,
}

/// The queues of the user's log, where a socket follows one by one.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// By [`Queue::index`].
    following: [Option<Box<Following>>; Queue::ALL.len()],
    /// Where the device stands in each, until it follows that.
    pub(super) cursors: [Position; Queue::ALL.len()],
    /// Where it stands in the log of broadcasts, until it follows that.
    pub(super) broadcasts_from: Position,
}

/// A conversation that a socket listens to.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) place: Place,
    pub(super) begun: Begun,
    /// Where it sits among the conversation's listeners. Only touched under the topic's lock.
    pub(super) seat: u32,
    pub(super) wants: Wants,
    /// Where its frames are addressed to. `None` if none of them has an address, as in most dialects: what
    /// is wanted goes out, and nothing else.
    to: Option<Box<Destinations>>,
}

/// The addresses of frames of a conversation.
#[derive(Debug)]
struct Destinations {
    entries: Addresses,
    typing: Addresses,
}

impl Destinations {
    /// Whether frames have no address.
    fn is_unaddressed(&self) -> bool {
        let mut all = [&self.entries, &self.typing].into_iter();
        all.all(|it| it.is_nowhere() || *it == Addresses::WHOLE)
    }
}

impl Listening {
    /// Nobody brings it anything yet.
    pub(super) fn new(seat: u32) -> Self {
        Self {
            place: Place::default(),
            begun: Begun::at(Position::START, 0),
            seat,
            wants: Wants::default(),
            to: None,
        }
    }

    /// The addresses of frames of entries.
    pub(super) fn to(&self) -> &Addresses {
        match &self.to {
            Some(to) => &to.entries,
            None => Addresses::unaddressed(self.wants.entries.is_some()),
        }
    }

    /// The addresses of frames about who types.
    pub(super) fn typing_to(&self) -> &Addresses {
        match &self.to {
            Some(to) => &to.typing,
            None => Addresses::unaddressed(self.wants.typing),
        }
    }
}

/// How a socket began to listen to a conversation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    /// Its user's right was judged by what stands up to here. Of that the socket gets only messages that
    /// no inbox has.
    pub(super) judged_at: Position,
    /// And of those none up to this one.
    pub(super) after: MessageId,
    /// The version by which the user joined.
    pub(super) joined: u64,
}

impl Begun {
    /// From here on, with everything.
    pub(super) fn at(judged_at: Position, joined: u64) -> Self {
        Self {
            judged_at,
            after: MessageId(Uuid::nil()),
            joined,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    wishes: Vec<Wished>,
    queues: Option<Box<Queues>>,
    pub(super) conversations: Listened,
    /// The addresses of frames about calls.
    pub(super) calls_to: Addresses,
    /// What it was given of them, and has not confirmed.
    pub(super) heard: Heard,
    notices: Notices,
    /// Whom it watches.
    pub(super) watching: Option<Box<Watching>>,
    /// How many entries the socket was given.
    pub(super) turn: u64,
}

impl Chosen {
    /// Remembers a wish. One that is there already is no second one.
    pub(super) fn wish(
        &mut self,
        interest: Interest,
        address: Option<Bytes>,
    ) -> Result<(), Refusal> {
        let address = address.map(Box::new);
        let wished = Wished { interest, address };
        if self.wishes.contains(&wished) {
            return Ok(());
        }
        if self.wishes.len() >= MAX_WISHES {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("a socket has at most {MAX_WISHES} subscriptions"),
            ));
        }
        // Most sockets have few, and keep no room for more.
        self.wishes.reserve_exact(1);
        self.wishes.push(wished);
        Ok(())
    }

    /// Forgets a wish.
    pub(super) fn forget(&mut self, interest: Interest, address: Option<&Bytes>) {
        self.wishes
            .retain(|it| it.interest != interest || it.address() != address);
        if self.wishes.is_empty() {
            self.wishes = Vec::new();
        }
    }

    /// Forgets everything that was wished of one conversation.
    pub(super) fn forget_conversation(&mut self, conversation: ConversationId) {
        self.wishes
            .retain(|it| scope_of(it.interest) != Some(Scope::One(conversation)));
    }

    /// Whether every conversation of the user is wanted, also those to come.
    pub(super) fn wants_all(&self) -> bool {
        let mut interests = self.wishes.iter().map(|it| it.interest);
        interests.any(|interest| scope_of(interest) == Some(Scope::All))
    }

    /// What is wanted of a conversation.
    pub(super) fn wants(&self, conversation: ConversationId) -> Wants {
        let mut wants = Wants::default();
        for wished in self.of(conversation) {
            match wished.interest {
                Interest::Conversation { messages, .. } => {
                    let all = messages == Messages::All || wants.entries == Some(Messages::All);
                    wants.entries = Some(if all { Messages::All } else { messages });
                    wants.typing |= messages == Messages::All;
                }
                Interest::Typing(_) => wants.typing = true,
                Interest::Queue(_) | Interest::Calls | Interest::Presence(_) => {}
            }
        }
        wants
    }

    fn of(&self, conversation: ConversationId) -> impl Iterator<Item = &Wished> {
        let covers = move |it: &&Wished| match scope_of(it.interest) {
            Some(Scope::All) => true,
            Some(Scope::One(id)) => id == conversation,
            None => false,
        };
        self.wishes.iter().filter(covers)
    }

    /// Sees where frames of a conversation that is listened to are addressed to.
    pub(super) fn address(&mut self, conversation: ConversationId) {
        let to_those = |is_meant: fn(Interest) -> bool| -> Addresses {
            let meant = self.of(conversation).filter(|it| is_meant(it.interest));
            meant.map(Wished::address).collect()
        };
        let to = Destinations {
            entries: to_those(|interest| matches!(interest, Interest::Conversation { .. })),
            typing: to_those(|interest| {
                interest.is_everything() || matches!(interest, Interest::Typing(_))
            }),
        };
        let wants = self.wants(conversation);
        if let Some(listening) = self.conversations.get_mut(conversation) {
            listening.wants = wants;
            listening.to = (!to.is_unaddressed()).then(|| Box::new(to));
        }
    }

    /// The addresses of a queue's wishes.
    pub(super) fn addresses_of(&self, queue: Queue) -> Addresses {
        self.addresses(Interest::Queue(queue))
    }

    /// Sees where frames about calls are addressed to.
    pub(super) fn address_calls(&mut self) {
        self.calls_to = self.addresses(Interest::Calls);
    }

    fn addresses(&self, interest: Interest) -> Addresses {
        let of_it = |it: &&Wished| it.interest == interest;
        let found = self.wishes.iter().filter(of_it);
        found.map(Wished::address).collect()
    }

    /// A queue that it follows.
    pub(super) fn following(&self, queue: Queue) -> Option<&Following> {
        self.queues.as_ref()?.following[queue.index()].as_deref()
    }

    pub(super) fn following_mut(&mut self, queue: Queue) -> Option<&mut Following> {
        self.queues.as_mut()?.following[queue.index()].as_deref_mut()
    }

    /// Those that it follows.
    pub(super) fn followed(&self) -> impl Iterator<Item = &Following> {
        let queues = self.queues.iter();
        queues.flat_map(|it| it.following.iter().flatten().map(AsRef::as_ref))
    }

    /// What it has of queues, also of those that it does not follow.
    pub(super) fn queues_mut(&mut self) -> &mut Queues {
        self.queues.get_or_insert_default()
    }

    /// Begins to follow a queue. `None` if it does already; otherwise where the device stands.
    pub(super) fn follow(&mut self, queue: Queue, acks: AckMode) -> Option<Position> {
        let to = self.addresses_of(queue);
        let queues = self.queues_mut();
        let slot = &mut queues.following[queue.index()];
        if let Some(following) = slot {
            following.to = to;
            return None;
        }
        let track = Track::of_user(acks);
        *slot = Some(Box::new(Following { track, to }));
        Some(queues.cursors[queue.index()])
    }

    /// Follows a queue no more, in which the device stands there if it is known.
    pub(super) fn unfollow(&mut self, queue: Queue, is_known: bool) {
        let queues = self.queues_mut();
        if let Some(following) = queues.following[queue.index()].take()
            && is_known
        {
            queues.cursors[queue.index()] = following.track.confirmed_up_to();
        }
    }

    /// The session has to tell its client something.
    pub(super) fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// What was to be told is not true any more.
    pub(super) fn withdraw(&mut self, which: ConversationId) {
        self.notices.retain(|it| match it {
            Notice::Unsubscribed { conversation, .. } => *conversation != which,
            Notice::Unseen(_) => true,
        });
    }

    /// The same of somebody who is watched again.
    pub(super) fn withdraw_unseen(&mut self, user: UserId) {
        self.notices.retain(|it| *it != Notice::Unseen(user));
    }

    /// Whether there is such a wish, whatever its address.
    pub(super) fn wishes_for(&self, interest: Interest) -> bool {
        self.wishes.iter().any(|it| it.interest == interest)
    }

    /// Forgets every wish to watch one user.
    pub(super) fn forget_presence(&mut self, user: UserId) {
        self.wishes
            .retain(|it| it.interest != Interest::Presence(Some(user)));
    }

    /// The addresses of frames about a user who is watched.
    pub(super) fn presence_addresses(&self, user: UserId) -> Addresses {
        let is_about = |it: &&Wished| match it.interest {
            Interest::Presence(of) => of.is_none_or(|of| of == user),
            _ => false,
        };
        let found = self.wishes.iter().filter(is_about);
        found.map(Wished::address).collect()
    }

    pub(super) fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    pub(super) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }
}

/// Notices that wait, oldest first. Few sockets ever have one.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "a list takes 32 bytes, and few sockets have one"
)]
struct Notices(Option<Box<VecDeque<Notice>>>);

impl Notices {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn push(&mut self, notice: Notice) {
        let all = self.0.get_or_insert_default();
        if all.len() >= MAX_NOTICES {
            all.pop_front();
        }
        all.push_back(notice);
    }

    fn pop(&mut self) -> Option<Notice> {
        let notice = self.0.as_mut()?.pop_front();
        self.0.take_if(|all| all.is_empty());
        notice
    }

    fn retain(&mut self, is_true: impl Fn(&Notice) -> bool) {
        if let Some(all) = &mut self.0 {
            all.retain(is_true);
        }
        self.0.take_if(|all| all.is_empty());
    }
}

/// The conversations that a wish is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// None of the user's is left out.
    All,
    One(ConversationId),
}

fn scope_of(interest: Interest) -> Option<Scope> {
    match interest {
        Interest::Conversation { id, .. } | Interest::Typing(id) => {
            Some(id.map_or(Scope::All, Scope::One))
        }
        Interest::Queue(_) | Interest::Calls | Interest::Presence(_) => None,
    }
}
