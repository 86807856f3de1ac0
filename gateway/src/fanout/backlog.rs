//! What waits for one socket and what it has not confirmed: the rules of an [`Outbox`], for whoever
//! holds its lock.
//!
//! [`Outbox`]: super::Outbox

use std::{collections::VecDeque, io::IoSlice, sync::Arc};

use shared::domain::{MessageId, Position};

use super::{
    line::{Lent, Written},
    outbox::{CloseReason, MAX_FRAMES, OutboxLimits},
    place::{Mode, Place, Reach, Receipts, Skipped, Window},
    shared_entry::SharedEntry,
};
use crate::dialect::{DialectId, Feed};

/// See the module.
#[derive(Default)]
pub(super) struct Backlog {
    pub(super) queue: VecDeque<Arc<SharedEntry>>,
    /// Of the frames in the queue.
    pub(super) bytes: usize,
    /// The session was woken and has not looked since, or a write is due: nobody else has to
    /// see to the queue.
    pub(super) woken: bool,
    pub(super) lent: Lent,
    pub(super) took_entry: bool,
    pub(super) close: Option<CloseReason>,
    /// By [`Feed`].
    pub(super) places: [Place; 2],
    /// What of the user's log is queued or sent and not confirmed.
    pub(super) window: Window,
    pub(super) skipped: Skipped,
    pub(super) receipts: Receipts,
}

/// What a client has confirmed, and nobody was told of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Confirmed {
    /// Of the user's log: up to where, and what in between was kept from the user.
    pub(super) user: Option<(Position, Vec<Position>)>,
    /// Of the log of broadcasts: up to where, and the commands among it.
    pub(super) broadcast: Option<(Position, Vec<MessageId>)>,
}

/// How a socket left a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// How it was brought its entries until then.
    pub(super) mode: Mode,
    /// It has confirmed all that was given to it.
    pub(super) is_settled: bool,
    /// The last entry given to it, or where it began.
    pub(super) handed: Position,
    /// What was kept from the user since it last confirmed anything.
    pub(super) skipped: Vec<Position>,
}

impl Backlog {
    pub(super) fn place(&mut self, feed: Feed) -> &mut Place {
        &mut self.places[feed as usize]
    }

    /// How many entries of a log are unconfirmed.
    pub(super) fn unconfirmed(&self, feed: Feed) -> u32 {
        match feed {
            Feed::User => self.window.count(),
            Feed::Broadcast => self.receipts.count(),
        }
    }

    pub(super) fn all_unconfirmed(&self) -> u32 {
        self.window.count() + self.receipts.count()
    }

    pub(super) fn has_room(&self, limits: &OutboxLimits, feed: Feed, bytes: usize) -> bool {
        self.queue.len() < limits.frames as usize
            && (self.queue.is_empty() || self.bytes + bytes <= limits.bytes as usize)
            && self.unconfirmed(feed) < limits.window
            && (feed == Feed::Broadcast || self.skipped.count() < limits.window)
    }

    pub(super) fn push_entry(&mut self, entry: &Arc<SharedEntry>, bytes: usize) {
        let (feed, position) = (entry.feed(), entry.position());
        self.bytes += bytes;
        self.place(feed).sent = position;
        match feed {
            Feed::User => self.window.push(position),
            Feed::Broadcast => self.receipts.push(position, entry.receipt()),
        }
        self.queue.push_back(entry.clone());
    }

    /// Takes out what is confirmed; what was not sent yet cannot be.
    pub(super) fn confirm(&mut self, reach: Reach) -> Confirmed {
        let [user, broadcast] = self.places;
        let mut upto = reach.user.min(user.handed);
        let before = self.window.count();
        self.window.confirm(upto);
        if self.window.count() == 0
            && let Some(last) = self.skipped.last()
        {
            // Nothing is left to be confirmed: what was kept from the device does not wait for more.
            upto = upto.max(last);
            self.place(Feed::User).handed = user.handed.max(last);
        }
        let skipped = self.skipped.confirm(upto);
        let moved = self.window.count() < before || !skipped.is_empty();
        let of_user = moved.then_some((upto, skipped));
        let upto = reach.broadcast.min(broadcast.handed);
        let before = self.receipts.count();
        let commands = self.receipts.confirm(upto);
        let moved = self.receipts.count() < before;
        Confirmed {
            user: of_user,
            broadcast: moved.then_some((upto, commands)),
        }
    }

    /// True if the session has to be woken.
    pub(super) fn wake(&mut self) -> bool {
        !std::mem::replace(&mut self.woken, true)
    }

    /// Whether what is queued may be written without the session.
    pub(super) fn may_write(&self) -> bool {
        self.places.iter().all(|place| place.mode == Mode::Live)
            && self.close.is_none()
            && self.lent.is_usable(self.all_unconfirmed())
    }

    /// Writes the queue to the lent line. False if the session has to go on.
    pub(super) fn write(&mut self, dialect: DialectId, written: &mut Written) -> bool {
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

    pub(super) fn pop(&mut self, dialect: DialectId) -> Option<Arc<SharedEntry>> {
        let entry = self.queue.pop_front()?;
        self.bytes -= entry.frame(dialect).len();
        self.took_entry = true;
        self.place(entry.feed()).handed = entry.position();
        Some(entry)
    }
}

impl Backlog {
    /// A socket behind in a log that has room for half of everything begins to catch up there;
    /// less would read the log for one entry at a time.
    pub(super) fn begin_catch_ups(&mut self, limits: &OutboxLimits) -> [Option<Feed>; 2] {
        let has_room = self.close.is_none()
            && self.queue.len() <= limits.frames as usize / 2
            && self.bytes <= limits.bytes as usize / 2;
        Feed::ALL.map(|feed| {
            let begin = has_room
                && self.place(feed).mode == Mode::Behind
                && self.unconfirmed(feed) <= limits.window / 2
                && (feed == Feed::Broadcast || self.skipped.count() <= limits.window / 2);
            begin.then(|| {
                self.place(feed).mode = Mode::CatchingUp;
                feed
            })
        })
    }
}
