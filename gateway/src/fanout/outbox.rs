//! What waits to be written to one socket.
//!
//! A small queue of shared entries and a [`Place`] in the user's topic. The hub and catch-ups
//! put entries in; the session's task takes them out in batches, one write each. While the
//! session has nothing to write it lends the [`Line`], and entries are written without waking
//! it. Nothing is allocated while a socket is idle. Entries are bounded by number, by bytes
//! and by the window of unconfirmed ones. A socket without room for an entry holds nothing of
//! what follows: it falls behind, and reads by its position once it has room.

use std::{
    collections::VecDeque,
    io::IoSlice,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use shared::domain::{Code, Position, Refusal};

use super::{
    line::{Lent, Line, Written},
    member::Member,
    place::{Mode, Place},
    shared_entry::SharedEntry,
};
use crate::dialect::DialectId;

/// Frames on their way into one write.
pub type Batch = VecDeque<Bytes>;

/// Most frames that [`Outbox::poll_batch`] takes at once.
pub const MAX_FRAMES: usize = 32;
/// Most bytes that go out in one batch, unless a single frame is longer.
const BATCH_BYTES: usize = 256 * 1024;

/// How much may wait for a socket.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// Most entries in the queue.
    pub frames: u32,
    /// Most bytes of entries in the queue; a single longer one still passes.
    pub bytes: u32,
    /// Most entries queued or sent that the client has not confirmed.
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
    dialect: DialectId,
    limits: OutboxLimits,
    state: Mutex<State>,
    waker: AtomicWaker,
    member: OnceLock<Member>,
}

struct State {
    queue: VecDeque<Arc<SharedEntry>>,
    /// Of the frames in the queue.
    bytes: usize,
    /// The session was woken and has not looked since, or a write is due: nobody else has to
    /// see to the queue.
    woken: bool,
    lent: Lent,
    took_entry: bool,
    close: Option<CloseReason>,
    place: Place,
}

impl State {
    fn has_room(&self, limits: &OutboxLimits, bytes: usize) -> bool {
        self.queue.len() < limits.frames as usize
            && (self.queue.is_empty() || self.bytes + bytes <= limits.bytes as usize)
            && self.place.window.count() < limits.window
    }

    fn push_entry(&mut self, entry: &Arc<SharedEntry>, bytes: usize) {
        self.bytes += bytes;
        self.place.sent = entry.position();
        self.place.window.push(entry.position());
        self.queue.push_back(entry.clone());
    }

    /// True if the session has to be woken.
    fn wake(&mut self) -> bool {
        !std::mem::replace(&mut self.woken, true)
    }

    /// Whether what is queued may be written without the session.
    fn may_write(&self) -> bool {
        self.place.mode == Mode::Live
            && self.close.is_none()
            && self.lent.is_usable(self.place.window.count())
    }

    /// Writes the queue to the lent line. False if the session has to go on.
    fn write(&mut self, dialect: DialectId, written: &mut Written) -> bool {
        while !self.queue.is_empty() {
            if !self.may_write() {
                return false;
            }
            let mut slices = [IoSlice::new(&[]); MAX_FRAMES];
            let count = self.queue.len().min(MAX_FRAMES);
            for (slice, entry) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(entry.frame(dialect));
            }
            let mut taken = self.lent.write(&slices[..count]);
            written.bytes += taken as u64;
            while taken > 0
                && let Some(entry) = self.pop(dialect)
            {
                let frame = entry.frame(dialect);
                let of_frame = taken.min(frame.len());
                self.lent.wrote(frame, of_frame);
                written.frames += u64::from(of_frame == frame.len());
                taken -= of_frame;
            }
        }
        true
    }

    fn pop(&mut self, dialect: DialectId) -> Option<Arc<SharedEntry>> {
        let entry = self.queue.pop_front()?;
        self.bytes -= entry.frame(dialect).len();
        self.took_entry = true;
        self.place.handed = entry.position();
        Some(entry)
    }
}

/// The session's side.
impl Outbox {
    /// An empty queue of a socket that follows nothing yet.
    pub fn new(limits: OutboxLimits, dialect: DialectId) -> Arc<Self> {
        Arc::new(Self {
            dialect,
            limits,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                woken: false,
                lent: Lent::default(),
                took_entry: false,
                close: None,
                place: Place::new(),
            }),
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
        let (mut frames, mut bytes) = (0, 0);
        while frames < MAX_FRAMES && bytes < BATCH_BYTES {
            let Some(entry) = state.pop(self.dialect) else {
                break;
            };
            let frame = entry.frame(self.dialect).clone();
            frames += 1;
            bytes += frame.len();
            batch.push_back(frame);
        }
        if frames > 0 {
            return Poll::Ready(Taken::Frames(frames));
        }
        if state.queue.capacity() > 8 {
            state.queue = VecDeque::new();
        }
        match state.close {
            Some(reason) => Poll::Ready(Taken::Close(reason)),
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
        state.close.map_or(Poll::Pending, Poll::Ready)
    }

    /// How many entries were queued or sent and are not confirmed.
    pub fn unconfirmed(&self) -> u32 {
        self.state.lock().place.window.count()
    }

    /// The last entry that was taken out or written; `None` before the first. A ping queued now
    /// is written after this entry.
    pub fn written_position(&self) -> Option<Position> {
        let state = self.state.lock();
        state.took_entry.then_some(state.place.handed)
    }

    /// The client has everything up to `position`: makes room in the window and moves the
    /// device's cursor. What was not sent yet cannot be confirmed.
    pub fn confirmed(self: &Arc<Self>, position: Position) {
        let mut state = self.state.lock();
        let position = position.min(state.place.handed);
        state.place.window.confirm(position);
        let begin = state.begin_catch_up(&self.limits);
        drop(state);
        if let Some(member) = self.member.get() {
            member.confirmed(position);
            if begin {
                member.catch_up(self);
            }
        }
    }

    /// The client says itself that it is done with everything up to `position`.
    pub fn acknowledged(self: &Arc<Self>, position: Position) -> Result<(), Refusal> {
        if position > self.state.lock().place.handed {
            return Err(Refusal::new(
                Code::BadRequest,
                "this position was not sent yet",
            ));
        }
        self.confirmed(position);
        Ok(())
    }

    /// Everything taken out has been written, and the session has nothing to write: the line is
    /// lent for as long as fewer than `below` entries are unconfirmed. A socket that fell
    /// behind begins to catch up.
    pub fn drained(self: &Arc<Self>, below: u32) {
        let mut state = self.state.lock();
        // What came since then has woken the session: it may be under way with it.
        if state.queue.is_empty() {
            state.lent.lend(below);
        }
        let begin = state.begin_catch_up(&self.limits);
        drop(state);
        if begin && let Some(member) = self.member.get() {
            member.catch_up(self);
        }
    }

    /// Asks the session to close. The first reason counts. After [`CloseReason::Unauthorized`]
    /// no further entry leaves the queue.
    pub fn request_close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        if state.close.is_some() {
            return;
        }
        state.close = Some(reason);
        if reason == CloseReason::Unauthorized {
            state.queue.clear();
            state.bytes = 0;
        }
        state.wake();
        drop(state);
        self.waker.wake();
    }
}

impl State {
    /// A socket behind that has room for half of everything begins to catch up; less would
    /// read the log for one entry at a time.
    fn begin_catch_up(&mut self, limits: &OutboxLimits) -> bool {
        let begin = self.place.mode == Mode::Behind
            && self.close.is_none()
            && self.queue.len() <= limits.frames as usize / 2
            && self.bytes <= limits.bytes as usize / 2
            && self.place.window.count() <= limits.window / 2;
        if begin {
            self.place.mode = Mode::CatchingUp;
        }
        begin
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

    /// The session is open: entries after `cursor` are read for it.
    pub(super) fn begin(&self, cursor: Position) {
        let mut state = self.state.lock();
        if state.place.mode == Mode::Opening {
            state.place.sent = cursor;
            state.place.handed = cursor;
            state.place.mode = Mode::CatchingUp;
        }
    }

    /// An entry that was heard, for a live socket. `before` is the topic's position before it.
    pub(super) fn offer_live(&self, entry: &Arc<SharedEntry>, before: Position) -> Offered {
        let bytes = entry.frame(self.dialect).len();
        let mut state = self.state.lock();
        if state.place.mode != Mode::Live || state.close.is_some() {
            return Offered::NotLive;
        }
        if entry.position() <= state.place.sent {
            return Offered::Taken(Then::Nothing);
        }
        if state.has_room(&self.limits, bytes) {
            state.push_entry(entry, bytes);
            let then = match (state.wake(), state.may_write()) {
                (false, _) => Then::Nothing,
                (true, false) => Then::Wake,
                (true, true) => Then::Write,
            };
            return Offered::Taken(then);
        }
        state.place.sent = state.place.sent.max(before);
        state.place.mode = Mode::Behind;
        Offered::FellBehind
    }

    /// An entry that was read for a socket that catches up. False if it stopped doing so, for
    /// want of room or because it is closing.
    pub(super) fn offer_read(&self, entry: &Arc<SharedEntry>) -> bool {
        let bytes = entry.frame(self.dialect).len();
        let mut state = self.state.lock();
        if state.place.mode != Mode::CatchingUp || state.close.is_some() {
            return false;
        }
        if entry.position() <= state.place.sent {
            return true;
        }
        if state.has_room(&self.limits, bytes) {
            state.push_entry(entry, bytes);
            return true;
        }
        state.place.mode = Mode::Behind;
        false
    }

    /// Nothing more exists up to `position`.
    pub(super) fn passed(&self, position: Position) {
        let mut state = self.state.lock();
        state.place.sent = state.place.sent.max(position);
    }

    /// A socket that catches up and stands at or beyond `position` becomes live; otherwise
    /// says where it stands. `None` if it does not catch up (any more).
    pub(super) fn go_live_at(&self, position: Position) -> Option<Result<(), Position>> {
        let mut state = self.state.lock();
        if state.place.mode != Mode::CatchingUp || state.close.is_some() {
            return None;
        }
        if state.place.sent < position {
            return Some(Err(state.place.sent));
        }
        state.place.mode = Mode::Live;
        Some(Ok(()))
    }

    pub(super) fn mode(&self) -> Mode {
        self.state.lock().place.mode
    }

    /// The session is over. Answers how it was brought its entries until now.
    pub(super) fn end(&self) -> Mode {
        let mut state = self.state.lock();
        std::mem::replace(&mut state.place.mode, Mode::Gone)
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

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Outbox")
            .field("queued", &state.queue.len())
            .field("place", &state.place)
            .finish_non_exhaustive()
    }
}
