//! What waits to be written to one socket.
//!
//! A small queue of shared entries and a [`Place`] in each feed that comes to the socket: the
//! user's own log, or queues of it, that of broadcasts, those of conversations. The hub and
//! catch-ups put entries in; the session's task takes them out in batches, one write each. While
//! the session has nothing to write it lends the [`Line`], and entries are written without waking
//! it. Nothing is allocated while a socket is idle. Entries are bounded by number, by bytes and,
//! for each log, by the window of unconfirmed ones. A socket without room for an entry of a log
//! holds nothing of what follows in it: it falls behind there, and reads by its position once it
//! has room.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use shared::domain::{MessageId, Position};

use super::{
    backlog::{Backlog, Stage},
    chosen::Notice,
    item::{Happening, Item, SharedSignal},
    line::{Lent, Line, Written},
    listeners::owes,
    member::Member,
    metrics,
    place::{Ended, Mode, Place},
    reach::Reach,
    shared_entry::SharedEntry,
    track::Confirmed,
};
use crate::dialect::{DialectId, Feed};

/// Frames on their way into one write.
pub type Batch = VecDeque<Bytes>;

/// Most frames that [`Outbox::poll_batch`] takes at once.
pub const MAX_FRAMES: usize = 32;
/// So many entries are kept from the user before a cursor moves for their sake alone.
const SETTLE: u32 = 64;
/// Most bytes that go out in one batch, unless a single frame is longer.
const BATCH_BYTES: usize = 256 * 1024;

/// How much may wait for a socket.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// Most entries in the queue.
    pub frames: u32,
    /// Most bytes of entries in the queue; a single longer one still passes.
    pub bytes: u32,
    /// Most entries of a log queued or sent that the client has not confirmed.
    pub window: u32,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            frames: 256,
            bytes: 1024 * 1024,
            window: 256,
        }
    }
}

/// Why a socket has to close. The session decides how that looks in its dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The user opened more sessions than allowed, and this was the oldest.
    Displaced,
    /// The token counts no longer.
    Unauthorized,
    /// The user may take part no longer.
    Banned,
    /// An administrator ended the session.
    Disconnected,
    /// It takes nothing.
    SlowConsumer,
    /// The node is going away.
    Draining {
        /// How long this client should wait before it connects again.
        reconnect_after: Duration,
    },
}

/// What [`Outbox::poll_batch`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The batch holds this many frames.
    Frames(usize),
    /// Everything queued was taken, and the session has to tell its client something.
    Notice(Notice),
    /// Everything queued was taken, and the socket has to close.
    Close(CloseReason),
}

/// What became of an entry that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    /// Queued, or sent before. What has to happen after the batch.
    Taken(Then),
    /// No room: the socket is behind from here on.
    FellBehind,
    /// Somebody else brings the socket its entries, or nobody.
    NotLive,
}

/// How what was queued gets on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Somebody sees to it already.
    Nothing,
    /// By the session, which has to be woken.
    Wake,
    /// By [`Outbox::write`].
    Write,
}

/// The queue of one socket. Shared by its session, the hub and its catch-up.
pub struct Outbox {
    pub(super) dialect: DialectId,
    pub(super) limits: OutboxLimits,
    pub(super) state: Mutex<Backlog>,
    pub(super) waker: AtomicWaker,
    member: OnceLock<Member>,
}

/// The session's side.
impl Outbox {
    /// An empty queue of a socket that follows nothing yet.
    pub fn new(limits: OutboxLimits, dialect: DialectId) -> Arc<Self> {
        Self::of(limits, dialect, !dialect.takes_whole_log())
    }

    pub(super) fn of(limits: OutboxLimits, dialect: DialectId, by_queue: bool) -> Arc<Self> {
        Arc::new(Self {
            dialect,
            limits,
            state: Mutex::new(Backlog::new(by_queue, dialect.gives_messages())),
            waker: AtomicWaker::new(),
            member: OnceLock::new(),
        })
    }

    /// From now on the line may be borrowed, see [`Outbox::drained`].
    pub fn connect(&self, line: Arc<dyn Line>) {
        self.state.lock().lent.connect(line);
    }

    /// Nothing is written to the line any more. What an entry begun on it lacks goes to the
    /// front of `batch`.
    pub fn disconnect(&self, batch: &mut Batch) {
        let mut state = self.state.lock();
        state.lent.take_back(batch);
        state.lent = Lent::default();
    }

    /// Takes the line back, and appends what is queued to `batch`, in order; what an entry
    /// begun on the line lacks goes to the front. Pending registers the task; after `Ready` the
    /// caller polls again until it is pending. A request to close is reported when everything
    /// queued before it was taken, and again each time.
    pub fn poll_batch(&self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Taken> {
        self.waker.register(cx.waker());
        let mut state = self.state.lock();
        state.woken = false;
        state.lent.take_back(batch);
        state.take_late(self.dialect);
        let (mut frames, queued) = (0, state.bytes);
        while frames < MAX_FRAMES
            && queued - state.bytes < BATCH_BYTES
            && let Some(taken) = state.take(self.dialect, batch)
        {
            frames += taken;
        }
        if frames > 0 {
            return Poll::Ready(Taken::Frames(frames));
        }
        if state.queue.capacity() > 8 {
            state.queue = VecDeque::new();
        }
        if let Some(reason) = &state.close {
            return Poll::Ready(Taken::Close(**reason));
        }
        match state.take_notice() {
            Some(notice) => Poll::Ready(Taken::Notice(notice)),
            None => Poll::Pending,
        }
    }

    /// Takes the line back like [`Outbox::poll_batch`], but no entries. Tells whether and why
    /// the socket has to close, even though frames still wait. Registers the task, so a session
    /// that is stuck in a write hears of it too.
    pub fn poll_close_requested(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<CloseReason> {
        self.waker.register(cx.waker());
        let mut state = self.state.lock();
        state.woken = false;
        state.lent.take_back(batch);
        let reason = state.close.as_deref().copied();
        reason.map_or(Poll::Pending, Poll::Ready)
    }

    /// How many entries were queued or sent and are not confirmed, of those that pongs confirm.
    pub fn unconfirmed(&self) -> u32 {
        self.state.lock().awaits_transport()
    }

    /// The last entries that were taken out or written, of those that pongs confirm; `None` before
    /// the first. A ping queued now is written after these entries.
    pub fn written(&self) -> Option<Reach> {
        let state = self.state.lock();
        state.took_entry.then(|| state.handed())
    }

    /// The client has everything up to `reach`: makes room in the windows and moves the
    /// device's cursors. What was not sent yet cannot be confirmed.
    pub fn confirmed(self: &Arc<Self>, reach: &Reach) {
        let mut state = self.state.lock();
        let confirmed = state.confirm(reach);
        self.settled(state, confirmed);
    }

    /// Tells of what was confirmed. A socket that has room by it begins to catch up.
    pub(super) fn settled(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, Backlog>,
        confirmed: Vec<(Feed, Confirmed)>,
    ) {
        let begin = state.begin_catch_ups(&self.limits);
        drop(state);
        if let Some(member) = self.member.get() {
            for (feed, confirmed) in confirmed {
                member.confirmed(feed, confirmed);
            }
            member.catch_up(self, begin);
        }
    }

    /// Everything taken out has been written, and the session has nothing to write: the line is
    /// lent for as long as fewer than `below` entries are unconfirmed. A socket that fell
    /// behind begins to catch up.
    pub fn drained(self: &Arc<Self>, below: u32) {
        let mut state = self.state.lock();
        // What came since then has woken the session: it may be under way with it.
        if state.queue.is_empty() {
            // What nobody has to confirm needs no session to ask for that.
            state.lent.lend(below.max(1));
        }
        let begin = state.begin_catch_ups(&self.limits);
        drop(state);
        if let Some(member) = self.member.get() {
            member.catch_up(self, begin);
        }
    }

    /// Asks the session to close. The first reason counts. After [`CloseReason::Unauthorized`]
    /// and [`CloseReason::Banned`] no further entry leaves the queue.
    pub fn request_close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        if state.close.is_some() {
            return;
        }
        state.close = Some(Box::new(reason));
        if matches!(reason, CloseReason::Unauthorized | CloseReason::Banned) {
            state.queue.clear();
            state.bytes = 0;
        }
        state.wake();
        drop(state);
        self.waker.wake();
    }
}

/// The side of the hub and of catch-ups. What changes whether a socket is live happens under
/// the lock of its topic.
impl Outbox {
    pub(super) fn set_member(&self, member: Member) -> Result<(), Member> {
        self.member.set(member)
    }

    pub(super) fn member(&self) -> Option<&Member> {
        self.member.get()
    }

    /// Whether the user had completed a broadcast before this socket could get it.
    pub(super) fn has_completed(&self, broadcast: MessageId) -> bool {
        self.member.get().is_some_and(|member| {
            let completed = member.completed.lock();
            completed.as_ref().is_some_and(|it| it.contains(&broadcast))
        })
    }

    /// The socket has all broadcasts that it may be given.
    pub(super) fn forget_completed(&self) {
        if let Some(member) = self.member.get() {
            *member.completed.lock() = None;
        }
    }

    /// The user has completed a broadcast. Only a socket that is not live there may still be given it.
    pub(super) fn complete(&self, broadcast: MessageId) {
        if self.mode(Feed::Broadcast) != Mode::Live
            && let Some(member) = self.member.get()
        {
            let mut completed = member.completed.lock();
            completed.get_or_insert_default().insert(broadcast);
        }
    }

    /// Whether the user's log is followed queue by queue, as far as it was asked for.
    pub(super) fn is_by_queue(&self) -> bool {
        self.state.lock().is_by_queue()
    }

    /// The session is open in Redis, and did not end yet.
    pub(super) fn is_open(&self) -> bool {
        self.state.lock().stage == Stage::Open
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state.lock().stage == Stage::Ended
    }

    /// The session is open, or over.
    pub(super) fn enter(&self, stage: Stage) {
        self.state.lock().stage = stage;
    }

    /// Entries of a feed after `cursor` are read for the socket.
    pub(super) fn begin(&self, feed: Feed, cursor: Position) {
        self.state.lock().begin(feed, cursor);
    }

    /// The feed by which the socket may get an entry.
    pub(super) fn feed_for(&self, entry: &SharedEntry) -> Feed {
        self.state.lock().feed_for(entry)
    }

    /// An entry that was heard, for a live socket. `before` is the topic's position before it.
    pub(super) fn offer_live(&self, entry: &Arc<SharedEntry>, before: Position) -> Offered {
        let mut state = self.state.lock();
        let feed = state.feed_for(entry);
        let Some(sent) = state.place(feed).and_then(Place::live_at) else {
            return Offered::NotLive;
        };
        if state.close.is_some() {
            return Offered::NotLive;
        }
        if entry.position() <= sent {
            return Offered::Taken(Then::Nothing);
        }
        let user = || self.member.get().map(|member| member.user);
        let begun = state.begun(feed);
        if begun.is_some_and(|begun| !owes(begun, user(), entry)) {
            // It began where this node had not come to the end of the log by which its right was judged.
            state.pass(feed, entry.position());
            return Offered::Taken(Then::Nothing);
        }
        let bytes = entry.frame(self.dialect).len();
        if bytes == 0 {
            // The dialect has no word for it: there is nothing to write and nothing to confirm.
            state.pass(feed, entry.position());
            return Offered::Taken(Then::Nothing);
        }
        if state.has_room(&self.limits, feed, bytes) {
            state.push(Item::Entry(entry.clone()), bytes);
            return Offered::Taken(then(&mut state));
        }
        if let Some(place) = state.place_mut(feed) {
            place.sent = sent.max(before);
        }
        state.set_mode(feed, Mode::Behind);
        Offered::FellBehind
    }

    /// Something that nobody will miss, for a socket that has plenty of room; or that belongs to a
    /// call, for one that has any. Without room it is lost: a call is set up now or not at all.
    pub(super) fn offer_signal(&self, signal: &Arc<SharedSignal>) -> Then {
        let mut state = self.state.lock();
        let is_taken = match signal.what() {
            Happening::Typing(conversation, _) => {
                let mode = state.mode(Feed::Conversation(*conversation));
                !matches!(mode, Mode::Opening | Mode::Gone)
                    && state.has_plenty_of_room(&self.limits)
                    && self.push_signal(&mut state, signal)
            }
            Happening::Call(event) => {
                state.stage == Stage::Open
                    && state.hears_calls()
                    && state.admits(signal, event)
                    && self.tell_call(&mut state, signal)
            }
        };
        if is_taken {
            then(&mut state)
        } else {
            Then::Nothing
        }
    }

    /// Queues something about a call. False if there is no room for it, or no use.
    pub(super) fn tell_call(&self, state: &mut Backlog, signal: &Arc<SharedSignal>) -> bool {
        let bytes = signal.frame(self.dialect).len();
        let has_room = state.has_room_in_queue(&self.limits, bytes);
        if !has_room {
            metrics::CALLS_DROPPED.increment(1);
        }
        has_room && self.push_signal(state, signal)
    }

    fn push_signal(&self, state: &mut Backlog, signal: &Arc<SharedSignal>) -> bool {
        let bytes = signal.frame(self.dialect).len();
        if bytes == 0 || state.close.is_some() {
            return false;
        }
        state.push(Item::Signal(signal.clone()), bytes);
        true
    }

    /// A command that the user's preferences keep from a socket that is live in the user's log.
    /// False if the socket fell behind: so much may be kept from it before it confirms.
    pub(super) fn keep_live(self: &Arc<Self>, entry: &SharedEntry) -> bool {
        let mut state = self.state.lock();
        let feed = state.feed_for(entry);
        let Some(track) = state.track(feed).filter(|it| it.place.live_at().is_some()) else {
            return true;
        };
        if state.close.is_some() {
            return true;
        }
        if track.may_skip(self.limits.window) {
            self.keep(state, feed, entry.position());
            return true;
        }
        state.set_mode(feed, Mode::Behind);
        false
    }

    /// The same for a socket that catches up in the user's log. False if it stopped doing so.
    pub(super) fn keep_read(self: &Arc<Self>, feed: Feed, at: Position) -> bool {
        let mut state = self.state.lock();
        let Some(track) = state.track(feed).filter(|it| it.place.is_catching_up()) else {
            return false;
        };
        if track.may_skip(self.limits.window) {
            self.keep(state, feed, at);
            return true;
        }
        state.set_mode(feed, Mode::Behind);
        false
    }

    /// While nothing waits to be confirmed, the device's cursor goes with what is kept from it.
    fn keep(self: &Arc<Self>, mut state: MutexGuard<'_, Backlog>, feed: Feed, at: Position) {
        let Some(track) = state.track_mut(feed).filter(|it| it.place.sent < at) else {
            return;
        };
        track.skip(at);
        if track.unconfirmed() > 0 || track.skipped() < SETTLE {
            return;
        }
        let confirmed = track.settle_skipped();
        drop(state);
        if let (Some(confirmed), Some(member)) = (confirmed, self.member.get()) {
            member.confirmed(feed, confirmed);
        }
    }

    /// An entry that was read for a socket that catches up. False if it stopped doing so, for
    /// want of room or because it is closing.
    pub(super) fn offer_read(&self, feed: Feed, entry: &Arc<SharedEntry>) -> bool {
        let mut state = self.state.lock();
        let Some(place) = state.place(feed).filter(|it| it.is_catching_up()) else {
            return false;
        };
        if state.close.is_some() {
            return false;
        }
        if entry.position() <= place.sent {
            return true;
        }
        let bytes = entry.frame(self.dialect).len();
        if bytes == 0 {
            state.pass(feed, entry.position());
            return true;
        }
        if state.has_room(&self.limits, feed, bytes) {
            state.push(Item::Entry(entry.clone()), bytes);
            return true;
        }
        state.set_mode(feed, Mode::Behind);
        false
    }

    /// An entry that was read and is nothing for a socket that catches up. False if it stopped doing so.
    pub(super) fn pass_read(&self, feed: Feed, at: Position) -> bool {
        let mut state = self.state.lock();
        let place = state.place_mut(feed).filter(|it| it.is_catching_up());
        place.is_some_and(|place| {
            place.sent = place.sent.max(at);
            true
        })
    }

    /// Nothing more exists in a feed up to `position`.
    pub(super) fn passed(&self, feed: Feed, position: Position) {
        self.state.lock().pass(feed, position);
    }

    /// A socket that catches up and stands at or beyond `position` becomes live; otherwise
    /// says where it stands. `None` if it does not catch up (any more).
    pub(super) fn go_live_at(
        &self,
        feed: Feed,
        position: Position,
    ) -> Option<Result<(), Position>> {
        let mut state = self.state.lock();
        let place = state.place(feed).filter(|it| it.is_catching_up())?;
        let sent = place.sent;
        if state.close.is_some() {
            return None;
        }
        if sent < position {
            return Some(Err(sent));
        }
        state.set_mode(feed, Mode::Live);
        Some(Ok(()))
    }

    /// Who brings the socket the entries of a feed.
    pub(super) fn mode(&self, feed: Feed) -> Mode {
        self.state.lock().mode(feed)
    }

    /// The socket gets nothing more of a feed.
    pub(super) fn end(&self, feed: Feed) -> Option<Ended> {
        self.state.lock().end(feed)
    }

    /// The feeds that the socket has of its user's log.
    pub(super) fn feeds_of_user(&self) -> Vec<Feed> {
        self.state.lock().feeds_of_user()
    }

    /// Wakes the session; once per batch, by whoever was told to.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Writes what is queued as far as the line takes it without waiting, and wakes the session
    /// if there is more to do; once per batch, by whoever was told to. The lock is held over
    /// the write: this is what keeps one writer at a time on the line.
    pub(super) fn write(&self, written: &mut Written) {
        let mut state = self.state.lock();
        let done = state.write(self.dialect, written);
        state.woken = !done;
        drop(state);
        if !done {
            self.waker.wake();
        }
    }

    /// Wakes the session if entries were queued without doing so.
    pub(super) fn wake_if_queued(&self) {
        let mut state = self.state.lock();
        let wake = !state.queue.is_empty() && state.wake();
        drop(state);
        if wake {
            self.waker.wake();
        }
    }
}

/// How what was just queued gets on its way.
pub(super) fn then(state: &mut Backlog) -> Then {
    match (state.wake(), state.may_write()) {
        (false, _) => Then::Nothing,
        (true, false) => Then::Wake,
        (true, true) => Then::Write,
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Outbox")
            .field("queued", &state.queue.len())
            .field("stage", &state.stage)
            .finish_non_exhaustive()
    }
}
