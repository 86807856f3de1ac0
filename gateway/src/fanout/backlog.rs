//! What waits for one socket and what it has not confirmed: the rules of an [`Outbox`], for whoever
//! holds its lock.
//!
//! [`Outbox`]: super::Outbox

use std::{collections::VecDeque, io::IoSlice, ops::Range};

use bytes::Bytes;
use shared::domain::{ConversationId, Position, Presence, Queue};

use super::{
    addresses::Addresses,
    beginning::Beginning,
    chosen::{Begun, Chosen, Listening, Notice},
    heard::Reads,
    item::{Happening, Item},
    line::{Lent, Written},
    outbox::{Batch, CloseReason, MAX_FRAMES, OutboxLimits},
    place::{Ended, Mode, Place},
    reach::Reach,
    shared_entry::SharedEntry,
    track::{Confirmed, Track},
};
use crate::dialect::{self, AckMode, DialectId, Feed};

/// See the module.
pub(super) struct Backlog {
    pub(super) queue: VecDeque<Item>,
    /// Of the frames in the queue.
    pub(super) bytes: usize,
    /// The session was woken and has not looked since, or a write is due: nobody else has to
    /// see to the queue.
    pub(super) woken: bool,
    pub(super) lent: Lent,
    pub(super) took_entry: bool,
    takes: Takes,
    /// Boxed, as it comes at the end.
    pub(super) close: Option<Box<CloseReason>>,
    pub(super) stage: Stage,
    pub(super) client: Client,
    /// Feeds that are read for the socket, or have to be; of all feeds there are some thousand at most.
    unsettled: u16,
    /// The user's log as a whole.
    own: Track,
    broadcasts: Track,
    chosen: Option<Box<Chosen>>,
    /// While it matters how the socket began to hear of calls.
    pub(super) beginning: Option<Box<Beginning>>,
}

/// What a socket is given of its user's log and of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// The log as a whole.
    WholeLog,
    /// It queue by queue, as far as it was asked for.
    Queues,
    /// The same, and of conversations only that something was said: that is not receiving it.
    News,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Opening,
    Open,
    Ended,
}

/// What the client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Active,
    /// Nothing for long.
    Idle,
}

impl Backlog {
    pub(super) fn new(by_queue: bool, gives_messages: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            woken: false,
            lent: Lent::default(),
            took_entry: false,
            takes: match (by_queue, gives_messages) {
                (false, _) => Takes::WholeLog,
                (true, true) => Takes::Queues,
                (true, false) => Takes::News,
            },
            close: None,
            stage: Stage::Opening,
            client: Client::Active,
            unsettled: 0,
            own: Track::of_user(AckMode::Auto),
            broadcasts: Track::of_broadcasts(AckMode::Auto),
            chosen: None,
            beginning: None,
        }
    }

    pub(super) fn is_by_queue(&self) -> bool {
        self.takes != Takes::WholeLog
    }

    /// The feed by which the socket may get an entry.
    pub(super) fn feed_for(&self, entry: &SharedEntry) -> Feed {
        match entry.feed() {
            Feed::User if self.is_by_queue() => Feed::Queue(Queue::of(entry.entry().kind)),
            feed => feed,
        }
    }

    pub(super) fn chosen(&self) -> Option<&Chosen> {
        self.chosen.as_deref()
    }

    pub(super) fn chosen_mut(&mut self) -> &mut Chosen {
        self.chosen.get_or_insert_default()
    }

    pub(super) fn track(&self, feed: Feed) -> Option<&Track> {
        match feed {
            Feed::User => Some(&self.own),
            Feed::Broadcast => Some(&self.broadcasts),
            Feed::Queue(queue) => {
                let following = self.chosen.as_ref()?.following(queue)?;
                Some(&following.track)
            }
            Feed::Conversation(_) => None,
        }
    }

    pub(super) fn track_mut(&mut self, feed: Feed) -> Option<&mut Track> {
        match feed {
            Feed::User => Some(&mut self.own),
            Feed::Broadcast => Some(&mut self.broadcasts),
            Feed::Queue(queue) => {
                let following = self.chosen.as_mut()?.following_mut(queue)?;
                Some(&mut following.track)
            }
            Feed::Conversation(_) => None,
        }
    }

    /// Where the socket stands in a feed, if it gets that.
    pub(super) fn place(&self, feed: Feed) -> Option<&Place> {
        match feed {
            Feed::Conversation(id) => {
                let listening = self.chosen.as_ref()?.conversations.get(id)?;
                Some(&listening.place)
            }
            _ => self.track(feed).map(|track| &track.place),
        }
    }

    pub(super) fn place_mut(&mut self, feed: Feed) -> Option<&mut Place> {
        match feed {
            Feed::Conversation(id) => {
                let listening = self.chosen.as_mut()?.conversations.get_mut(id)?;
                Some(&mut listening.place)
            }
            _ => self.track_mut(feed).map(|track| &mut track.place),
        }
    }

    /// Who brings the socket the entries of a feed; nobody if it does not get it.
    pub(super) fn mode(&self, feed: Feed) -> Mode {
        self.place(feed).map_or(Mode::Gone, |it| it.mode)
    }

    pub(super) fn set_mode(&mut self, feed: Feed, mode: Mode) {
        let Some(place) = self.place_mut(feed) else {
            return;
        };
        let before = std::mem::replace(&mut place.mode, mode);
        self.unsettled += u16::from(mode.is_unsettled());
        self.unsettled -= u16::from(before.is_unsettled());
    }

    /// Begins to read a feed for the socket, from a place.
    pub(super) fn begin(&mut self, feed: Feed, cursor: Position) {
        if self.mode(feed) != Mode::Opening {
            return;
        }
        self.set_mode(feed, Mode::CatchingUp);
        if let Some(place) = self.place_mut(feed) {
            *place = Place {
                sent: cursor,
                handed: cursor,
                mode: Mode::CatchingUp,
            };
        }
    }

    /// There is nothing for the socket in a feed up to `position`.
    pub(super) fn pass(&mut self, feed: Feed, position: Position) {
        if let Some(place) = self.place_mut(feed) {
            place.sent = place.sent.max(position);
        }
    }

    /// How the socket began to listen, if the feed is a conversation's.
    pub(super) fn begun(&self, feed: Feed) -> Option<Begun> {
        let Feed::Conversation(id) = feed else {
            return None;
        };
        let listening = self.chosen()?.conversations.get(id)?;
        Some(listening.begun)
    }

    /// Takes a feed from the socket.
    pub(super) fn end(&mut self, feed: Feed) -> Option<Ended> {
        let ended = match self.track_mut(feed) {
            Some(track) => track.end(feed),
            None => self.place_mut(feed)?.end(feed),
        };
        self.unsettled -= u16::from(ended.mode.is_unsettled());
        Some(ended)
    }

    /// Forgets what is queued of a conversation.
    pub(super) fn drop_conversation(&mut self, dialect: DialectId, conversation: ConversationId) {
        let is_of_it = |item: &Item| match item {
            Item::Entry(entry) => entry.feed() == Feed::Conversation(conversation),
            Item::Signal(signal) => match signal.what() {
                Happening::Typing(of, _) => *of == conversation,
                Happening::Call(_) => false,
            },
            Item::Presence(_) => false,
        };
        let dropped = self.queue.iter().filter(|it| is_of_it(it));
        self.bytes -= dropped.map(|it| it.frame(dialect).len()).sum::<usize>();
        self.queue.retain(|it| !is_of_it(it));
        if let Some(chosen) = &mut self.chosen {
            chosen.heard.forget_queued(conversation);
        }
    }

    /// The conversations of whose logs it wants nothing, though it listens to them.
    pub(super) fn only_watched(&self) -> Vec<ConversationId> {
        let Some(chosen) = self.chosen() else {
            return Vec::new();
        };
        let all = chosen.conversations.ids();
        all.filter(|id| chosen.wants(*id).entries.is_none())
            .collect()
    }

    /// The feeds that the socket has of its user's log.
    pub(super) fn feeds_of_user(&self) -> Vec<Feed> {
        if !self.is_by_queue() {
            return vec![Feed::User];
        }
        let followed = |queue: &Queue| self.track(Feed::Queue(*queue)).is_some();
        let queues = Queue::ALL.into_iter().filter(followed);
        queues.map(Feed::Queue).collect()
    }

    /// Puts the log of broadcasts at its beginning again; they are confirmed so.
    pub(super) fn reopen_broadcasts(&mut self, acks: AckMode) {
        self.end(Feed::Broadcast);
        self.broadcasts = Track::of_broadcasts(acks);
    }

    /// How many entries the transport has to confirm.
    pub(super) fn awaits_transport(&self) -> u32 {
        let of_queues = self.chosen.as_ref().map_or(0, |chosen| {
            let followed = chosen.followed();
            followed.map(|it| it.track.awaits_transport()).sum()
        });
        let heard = self.heard_unconfirmed();
        self.own.awaits_transport() + self.broadcasts.awaits_transport() + of_queues + heard
    }

    /// How many messages of conversations' logs are unconfirmed that no inbox has.
    fn heard_unconfirmed(&self) -> u32 {
        let chosen = self.chosen.as_ref();
        chosen.map_or(0, |chosen| chosen.heard.unconfirmed())
    }

    /// The furthest entries that were handed out and that the transport confirms.
    pub(super) fn handed(&self) -> Reach {
        let mut reach = Reach {
            user: self.own.handed_to_transport(),
            broadcast: self.broadcasts.handed_to_transport(),
            heard: self.chosen.as_ref().map_or(0, |it| it.heard.handed()),
            ..Reach::default()
        };
        for queue in Queue::ALL {
            let handed = self.track(Feed::Queue(queue));
            let handed = handed.map_or(Position::START, Track::handed_to_transport);
            if handed > Position::START {
                reach = reach.with_queue(queue, handed);
            }
        }
        reach
    }

    pub(super) fn has_room(&self, limits: &OutboxLimits, feed: Feed, bytes: usize) -> bool {
        let is_below = match feed {
            Feed::Conversation(_) => self.heard_unconfirmed() < limits.window,
            _ => self
                .track(feed)
                .is_some_and(|it| it.is_below(limits.window)),
        };
        is_below && self.has_room_in_queue(limits, bytes)
    }

    /// Whether something may be queued that nobody confirms.
    pub(super) fn has_room_in_queue(&self, limits: &OutboxLimits, bytes: usize) -> bool {
        self.queue.len() < limits.frames as usize
            && (self.queue.is_empty() || self.bytes + bytes <= limits.bytes as usize)
    }

    /// Whether the socket is told of its user's calls: always, or where it asked for it.
    pub(super) fn hears_calls(&self) -> bool {
        !self.is_by_queue() || self.chosen().is_some_and(|it| !it.calls_to.is_nowhere())
    }

    /// Whether something may be queued that nobody will miss.
    pub(super) fn has_plenty_of_room(&self, limits: &OutboxLimits) -> bool {
        self.queue.len() < limits.frames as usize / 2 && self.bytes < limits.bytes as usize / 2
    }

    pub(super) fn push(&mut self, item: Item, bytes: usize) {
        self.bytes += bytes;
        if let Item::Entry(entry) = &item {
            let turn = self.chosen.as_mut().map_or(0, |chosen| {
                chosen.turn += 1;
                chosen.turn
            });
            let feed = self.feed_for(entry);
            match self.track_mut(feed) {
                Some(track) => track.push(entry.position(), entry.receipt(), turn),
                None => self.pass(feed, entry.position()),
            }
            if self.is_heard(feed, entry)
                && let Feed::Conversation(conversation) = feed
                && let Some(chosen) = &mut self.chosen
            {
                let listening = chosen.conversations.get(conversation);
                let reads = Reads {
                    conversation,
                    joined: listening.map_or(0, |it| it.begun.joined),
                };
                chosen.heard.push(reads, entry.position());
            }
        }
        self.queue.push_back(item);
    }

    /// Takes out what is confirmed; what was not sent yet cannot be.
    pub(super) fn confirm(&mut self, reach: &Reach) -> Vec<(Feed, Confirmed)> {
        let mut all = Vec::new();
        let mut confirm = |feed, track: &mut Track, upto| {
            if track.acks().is_none()
                && let Some(confirmed) = track.confirm(upto)
            {
                all.push((feed, confirmed));
            }
        };
        confirm(Feed::User, &mut self.own, reach.user);
        confirm(Feed::Broadcast, &mut self.broadcasts, reach.broadcast);
        if let Some(chosen) = &mut self.chosen {
            for queue in Queue::ALL {
                if let Some(following) = chosen.following_mut(queue) {
                    let feed = Feed::Queue(queue);
                    confirm(feed, &mut following.track, reach.queue(queue));
                }
            }
            for (reads, upto) in chosen.heard.confirm(reach.heard) {
                let confirmed = Confirmed {
                    upto,
                    joined: reads.joined,
                    ..Confirmed::default()
                };
                all.push((Feed::Conversation(reads.conversation), confirmed));
            }
        }
        all
    }

    /// What the session has to tell its client. A conversation that is not listened to any more is
    /// forgotten only now, when all that came of it was taken.
    pub(super) fn take_notice(&mut self) -> Option<Notice> {
        let chosen = self.chosen.as_mut()?;
        let notice = chosen.take_notice()?;
        if let Notice::Unsubscribed { conversation, .. } = notice
            && let Some(listening) = chosen.conversations.get(conversation)
            && listening.place.mode == Mode::Gone
        {
            chosen.conversations.remove(conversation);
        }
        Some(notice)
    }

    /// True if the session has to be woken.
    pub(super) fn wake(&mut self) -> bool {
        !std::mem::replace(&mut self.woken, true)
    }

    /// Whether what is queued may be written without the session.
    pub(super) fn may_write(&self) -> bool {
        self.unsettled == 0
            && self.close.is_none()
            && self.lent.is_usable(self.awaits_transport())
            && !self.chosen().is_some_and(Chosen::has_notices)
    }

    /// Where frames of something are addressed to.
    fn addresses(&self, item: &Item) -> &[Bytes] {
        let Some(chosen) = &self.chosen else {
            return Addresses::WHOLE.as_slice();
        };
        let to = match item {
            Item::Entry(entry) => match self.feed_for(entry) {
                Feed::User => Some(&Addresses::WHOLE),
                Feed::Broadcast if !self.is_by_queue() => Some(&Addresses::WHOLE),
                // Broadcasts come with the queue that all other commands are in.
                Feed::Broadcast => chosen.following(Queue::Commands).map(|it| &it.to),
                Feed::Queue(queue) => chosen.following(queue).map(|it| &it.to),
                Feed::Conversation(id) => chosen.conversations.get(id).map(Listening::to),
            },
            Item::Signal(signal) => match signal.what() {
                Happening::Typing(conversation, _) => {
                    let listening = chosen.conversations.get(*conversation);
                    listening.map(Listening::typing_to)
                }
                Happening::Call(_) if !self.is_by_queue() => Some(&Addresses::WHOLE),
                Happening::Call(_) => Some(&chosen.calls_to),
            },
            Item::Presence(presence) => {
                let watching = chosen.watching.as_ref();
                watching.and_then(|it| it.addresses(presence.presence().user))
            }
        };
        to.map_or(&[], Addresses::as_slice)
    }

    /// Queues some of what waited for room beside the queue, when there is nothing else.
    pub(super) fn take_late(&mut self, dialect: DialectId) {
        if !self.queue.is_empty() {
            return;
        }
        let watching = self.chosen.as_mut().and_then(|it| it.watching.as_mut());
        for presence in watching.map(|it| it.take_late()).unwrap_or_default() {
            let item = Item::Presence(presence);
            let bytes = item.frame(dialect).len();
            self.push(item, bytes);
        }
    }

    /// How many presences at the front of the queue the dialect tells as one frame: if there are
    /// several, or if they answer a wish. Otherwise 0.
    fn together(&self, dialect: DialectId) -> usize {
        if !dialect.joins_presences() {
            return 0;
        }
        let is_first = matches!(self.queue.front(), Some(Item::Presence(it)) if it.is_first());
        let is_presence = |item: &&Item| matches!(item, Item::Presence(_));
        let count = self.queue.iter().take_while(is_presence).count();
        if count > 1 || is_first { count } else { 0 }
    }

    /// Takes them out as one frame, but for those that are not watched any more.
    fn take_together(&mut self, dialect: DialectId, count: usize, batch: &mut Batch) -> usize {
        let watching = self.chosen.as_ref().and_then(|it| it.watching.as_ref());
        let is_watched = |user| watching.is_some_and(|it| it.addresses(user).is_some());
        let presences = self.queue.iter().take(count).filter_map(|item| match item {
            Item::Presence(presence) => Some(presence.presence()),
            Item::Entry(_) | Item::Signal(_) => None,
        });
        let watched: Vec<&Presence> = presences.filter(|it| is_watched(it.user)).collect();
        let frame = dialect::presences(dialect, &watched).filter(|_| !watched.is_empty());
        for _ in 0..count {
            self.pop(dialect);
        }
        let taken = usize::from(frame.is_some());
        batch.extend(frame);
        taken
    }

    /// Writes the queue to the lent line. False if the session has to go on.
    pub(super) fn write(&mut self, dialect: DialectId, written: &mut Written) -> bool {
        while !self.queue.is_empty() {
            if !self.may_write() || self.together(dialect) > 0 {
                return false;
            }
            if self.chosen.is_some() {
                self.write_addressed(dialect, written);
            } else {
                self.write_whole(dialect, written);
            }
            self.take_late(dialect);
        }
        true
    }

    /// Writes what fits into one call, of a socket whose frames are all shared.
    fn write_whole(&mut self, dialect: DialectId, written: &mut Written) {
        let mut slices = [IoSlice::new(&[]); MAX_FRAMES];
        let count = self.queue.len().min(MAX_FRAMES);
        for (slice, item) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(item.frame(dialect));
        }
        let mut taken = self.lent.write(&slices[..count]);
        written.bytes += taken as u64;
        while taken > 0
            && let Some(item) = self.pop(dialect)
        {
            let frame = item.frame(dialect);
            let of_frame = taken.min(frame.len());
            if of_frame < frame.len() {
                self.lent.keep_rest(frame.slice(of_frame..));
            }
            written.frames += u64::from(of_frame == frame.len());
            taken -= of_frame;
        }
    }

    /// The same for one some of whose frames begin with an address.
    fn write_addressed(&mut self, dialect: DialectId, written: &mut Written) {
        let mut heads = Vec::new();
        // For each frame its head, what it shares, and how many items are done with once it is out.
        let mut frames: Vec<(Range<usize>, &[u8], usize)> = Vec::new();
        let mut items = 0;
        for item in &self.queue {
            if frames.len() >= MAX_FRAMES {
                break;
            }
            let shared = item.frame(dialect);
            for address in self.addresses(item) {
                let begin = heads.len();
                if !address.is_empty() {
                    dialect::head(address, shared.len(), &mut heads);
                }
                frames.push((begin..heads.len(), shared, items));
            }
            items += 1;
        }
        let slices: Vec<IoSlice<'_>> = frames
            .iter()
            .flat_map(|(head, shared, _)| [&heads[head.clone()], shared])
            .filter(|part| !part.is_empty())
            .map(IoSlice::new)
            .collect();
        let mut left = 0;
        if !slices.is_empty() {
            left = self.lent.write(&slices);
            if left == 0 {
                return;
            }
        }
        written.bytes += left as u64;
        let (mut done, mut rest, mut last) = (items, Vec::new(), None);
        let mut frames = frames.into_iter();
        while let Some((head, shared, item)) = frames.next() {
            let head = &heads[head];
            let length = head.len() + shared.len();
            if left >= length {
                left -= length;
                written.frames += 1;
                last = Some(item);
                continue;
            }
            done = item;
            if left > 0 || last == Some(item) {
                // What was begun goes on before anything else, with all of its frames.
                done += 1;
                rest.extend_from_slice(&head[left.min(head.len())..]);
                rest.extend_from_slice(&shared[left.saturating_sub(head.len())..]);
                for (head, shared, _) in frames.take_while(|(_, _, other)| *other == item) {
                    rest.extend_from_slice(&heads[head]);
                    rest.extend_from_slice(shared);
                }
            }
            break;
        }
        for _ in 0..done {
            self.pop(dialect);
        }
        if !rest.is_empty() {
            self.lent.keep_rest(rest.into());
        }
    }

    /// Takes the next frames out, each whole. None if there was nothing to take.
    pub(super) fn take(&mut self, dialect: DialectId, batch: &mut Batch) -> Option<usize> {
        let together = self.together(dialect);
        if together > 0 {
            return Some(self.take_together(dialect, together, batch));
        }
        let item = self.queue.front()?;
        let shared = item.frame(dialect);
        let before = batch.len();
        for address in self.addresses(item) {
            batch.push_back(if address.is_empty() {
                shared.clone()
            } else {
                let mut frame = Vec::with_capacity(address.len() + shared.len() + 10);
                dialect::head(address, shared.len(), &mut frame);
                frame.extend_from_slice(shared);
                frame.into()
            });
        }
        let taken = batch.len() - before;
        self.pop(dialect);
        Some(taken)
    }

    /// Whether the transport confirms an entry that comes by a feed of a conversation.
    fn is_heard(&self, feed: Feed, entry: &SharedEntry) -> bool {
        self.takes != Takes::News && matches!(feed, Feed::Conversation(_)) && entry.is_uncopied()
    }

    fn pop(&mut self, dialect: DialectId) -> Option<Item> {
        let item = self.queue.pop_front()?;
        self.bytes -= item.frame(dialect).len();
        if let Item::Entry(entry) = &item {
            self.took_entry = true;
            let feed = self.feed_for(entry);
            if let Some(place) = self.place_mut(feed) {
                place.handed = entry.position();
            }
            if self.is_heard(feed, entry)
                && let Some(chosen) = &mut self.chosen
            {
                chosen.heard.hand_out();
            }
        }
        Some(item)
    }

    /// A socket behind in a feed that has room for half of everything begins to catch up there;
    /// less would read the log for one entry at a time.
    pub(super) fn begin_catch_ups(&mut self, limits: &OutboxLimits) -> Vec<Feed> {
        let has_room = self.unsettled > 0
            && self.close.is_none()
            && self.queue.len() <= limits.frames as usize / 2
            && self.bytes <= limits.bytes as usize / 2;
        if !has_room {
            return Vec::new();
        }
        let is_due = |track: &Track| {
            track.place.mode == Mode::Behind
                && track.unconfirmed() <= limits.window / 2
                && track.skipped() <= limits.window / 2
        };
        let all = [Feed::User, Feed::Broadcast].into_iter();
        let all = all.chain(Queue::ALL.map(Feed::Queue));
        let mut due: Vec<Feed> = all
            .filter(|feed| self.track(*feed).is_some_and(is_due))
            .collect();
        if let Some(chosen) = &self.chosen
            && chosen.heard.unconfirmed() <= limits.window / 2
        {
            let listening = chosen.conversations.iter();
            let behind = listening.filter(|(_, it)| it.place.mode == Mode::Behind);
            due.extend(behind.map(|(id, _)| Feed::Conversation(id)));
        }
        for feed in &due {
            self.set_mode(*feed, Mode::CatchingUp);
        }
        due
    }
}
