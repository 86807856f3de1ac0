//! How far a socket has come in one of the feeds it gets, and what of it is not confirmed. What is not
//! confirmed of conversations the socket keeps as a whole.

use shared::domain::{MessageId, Position};

use super::{
    acks::Acks,
    place::{Ended, Place, Receipts, Skipped, Window},
};
use crate::dialect::{AckMode, Feed};

/// See the module.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) place: Place,
    unconfirmed: Unconfirmed,
    skipped: Skipped,
}

/// What is queued or sent, and not confirmed.
#[derive(Debug)]
enum Unconfirmed {
    /// Positions, which are confirmed in order.
    Window(Window),
    /// Broadcasts, of which the record is told one by one.
    Receipts(Receipts),
    /// What the client itself confirms in any order.
    Acks(Box<Acks>),
}

/// What a client has confirmed of a feed, and nobody was told of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Confirmed {
    /// Up to where.
    pub(super) upto: Position,
    /// What in between was kept from the user.
    pub(super) skipped: Vec<Position>,
    /// The commands for many among it.
    pub(super) commands: Vec<MessageId>,
    /// Of a conversation: the version by which the user joined.
    pub(super) joined: u64,
}

impl Track {
    /// Of a log for one user. Nobody brings it anything yet.
    pub(super) fn of_user(acks: AckMode) -> Self {
        Self::new(match acks {
            AckMode::Client => Unconfirmed::Acks(Box::default()),
            AckMode::Auto => Unconfirmed::Window(Window::default()),
        })
    }

    /// The same of that for everybody.
    pub(super) fn of_broadcasts(acks: AckMode) -> Self {
        Self::new(match acks {
            AckMode::Client => Unconfirmed::Acks(Box::default()),
            AckMode::Auto => Unconfirmed::Receipts(Receipts::default()),
        })
    }

    fn new(unconfirmed: Unconfirmed) -> Self {
        Self {
            place: Place::default(),
            unconfirmed,
            skipped: Skipped::default(),
        }
    }

    /// How many entries are unconfirmed.
    pub(super) fn unconfirmed(&self) -> u32 {
        match &self.unconfirmed {
            Unconfirmed::Window(window) => window.count(),
            Unconfirmed::Receipts(receipts) => receipts.count(),
            Unconfirmed::Acks(acks) => acks.count(),
        }
    }

    /// Where to begin again so that what is unconfirmed comes again.
    pub(super) fn confirmed_up_to(&self) -> Position {
        let first = match &self.unconfirmed {
            Unconfirmed::Window(window) => window.first(),
            Unconfirmed::Receipts(receipts) => receipts.first(),
            Unconfirmed::Acks(acks) => acks.first(),
        };
        first.map_or(self.place.handed, |first| Position {
            offset: first.offset.saturating_sub(1),
            ..first
        })
    }

    /// How many of them the transport confirms.
    pub(super) fn awaits_transport(&self) -> u32 {
        match &self.unconfirmed {
            Unconfirmed::Acks(_) => 0,
            _ => self.unconfirmed(),
        }
    }

    /// The last entry handed out, if the transport confirms it.
    pub(super) fn handed_to_transport(&self) -> Position {
        match &self.unconfirmed {
            Unconfirmed::Acks(_) => Position::START,
            Unconfirmed::Window(_) | Unconfirmed::Receipts(_) => self.place.handed,
        }
    }

    /// Whether so many entries may be unconfirmed, and one more.
    pub(super) fn is_below(&self, window: u32) -> bool {
        self.unconfirmed() < window && self.skipped.count() < window
    }

    /// Whether something more may be kept from the user.
    pub(super) fn may_skip(&self, window: u32) -> bool {
        self.skipped.count() < window
    }

    pub(super) fn skipped(&self) -> u32 {
        self.skipped.count()
    }

    /// An entry was queued; the `turn`th of the socket.
    pub(super) fn push(&mut self, position: Position, receipt: MessageId, turn: u64) {
        self.place.sent = position;
        match &mut self.unconfirmed {
            Unconfirmed::Window(window) => window.push(position),
            Unconfirmed::Receipts(receipts) => receipts.push(position, receipt),
            Unconfirmed::Acks(acks) => acks.push(position, receipt, turn),
        }
    }

    /// An entry is kept from the user.
    pub(super) fn skip(&mut self, position: Position) {
        self.place.sent = position;
        self.skipped.push(position, ());
    }

    /// Takes out what is confirmed; what was not sent yet cannot be.
    pub(super) fn confirm(&mut self, upto: Position) -> Option<Confirmed> {
        let upto = upto.min(self.place.handed);
        let before = self.unconfirmed();
        let mut confirmed = Confirmed {
            upto,
            ..Confirmed::default()
        };
        match &mut self.unconfirmed {
            Unconfirmed::Window(window) => window.confirm(upto),
            Unconfirmed::Receipts(receipts) => {
                let ids = receipts.confirm(upto).into_iter().map(|(_, id)| id);
                // What is no command needs no receipt.
                confirmed.commands = ids.filter(|id| !id.0.is_nil()).collect();
            }
            Unconfirmed::Acks(acks) => {
                acks.done_up_to(upto);
                confirmed = acks.settle().unwrap_or_default();
            }
        }
        let moved = self.unconfirmed() < before;
        self.with_skipped(confirmed, moved)
    }

    /// Takes out what the client has settled by itself.
    pub(super) fn settle(&mut self) -> Option<Confirmed> {
        let settled = self.acks()?.settle();
        let moved = settled.is_some();
        self.with_skipped(settled.unwrap_or_default(), moved)
    }

    /// Takes out what was kept from the user, if nothing waits to be confirmed.
    pub(super) fn settle_skipped(&mut self) -> Option<Confirmed> {
        self.with_skipped(Confirmed::default(), false)
    }

    /// Adds what was kept from the user up to there.
    fn with_skipped(&mut self, mut confirmed: Confirmed, moved: bool) -> Option<Confirmed> {
        if self.unconfirmed() == 0
            && let Some(last) = self.skipped.last()
        {
            // Nothing is left to be confirmed: what was kept from the device does not wait for more.
            confirmed.upto = confirmed.upto.max(last);
            self.place.handed = self.place.handed.max(last);
        }
        let skipped = self.skipped_up_to(confirmed.upto);
        let moved = moved || !skipped.is_empty();
        confirmed.skipped.extend(skipped);
        confirmed.skipped.sort_unstable();
        moved.then_some(confirmed)
    }

    /// Takes out what was kept from the user up to there.
    fn skipped_up_to(&mut self, upto: Position) -> Vec<Position> {
        let skipped = self.skipped.confirm(upto).into_iter();
        skipped.map(|(at, ())| at).collect()
    }

    /// What the client confirms by itself; `None` if the transport does.
    pub(super) fn acks(&mut self) -> Option<&mut Acks> {
        match &mut self.unconfirmed {
            Unconfirmed::Acks(acks) => Some(acks),
            _ => None,
        }
    }

    /// The socket gets nothing more of the feed.
    pub(super) fn end(&mut self, feed: Feed) -> Ended {
        Ended {
            is_settled: self.unconfirmed() == 0,
            skipped: self.skipped_up_to(Position::END),
            ..self.place.end(feed)
        }
    }
}
