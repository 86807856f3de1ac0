//! Where a socket stands in a log, and what of it is not confirmed.

use std::collections::VecDeque;

use shared::domain::{MessageId, Position};

use crate::dialect::Feed;

/// Who brings the socket its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nobody yet: attached to the topic, the session is still being opened.
    Opening,
    /// A catch-up reads for it.
    CatchingUp,
    /// Nobody: it had no room. A catch-up begins when it has.
    Behind,
    /// The hub, as entries are heard.
    Live,
    /// Nobody any more: the socket is closing, or does not follow the log.
    Gone,
}

impl Mode {
    /// Whether it is read for the socket, or has to be.
    pub(super) fn is_unsettled(self) -> bool {
        matches!(self, Self::CatchingUp | Self::Behind)
    }
}

/// A place in a log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Everything up to here was queued, is kept from the user, or is known not to exist.
    pub(super) sent: Position,
    /// The last entry that left the queue towards the socket, or where the socket began.
    pub(super) handed: Position,
    pub(super) mode: Mode,
}

/// How a socket left a feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Which.
    pub(super) feed: Feed,
    /// How it was brought its entries until then.
    pub(super) mode: Mode,
    /// It has confirmed all that was given to it.
    pub(super) is_settled: bool,
    /// The last entry given to it, or where it began.
    pub(super) handed: Position,
    /// What was kept from the user since it last confirmed anything.
    pub(super) skipped: Vec<Position>,
}

impl Place {
    /// Whether entries are read for the socket.
    pub(super) fn is_catching_up(&self) -> bool {
        self.mode == Mode::CatchingUp
    }

    /// Up to where a live socket has been given everything.
    pub(super) fn live_at(&self) -> Option<Position> {
        (self.mode == Mode::Live).then_some(self.sent)
    }

    /// The socket gets nothing more of the feed. Nothing of it is unconfirmed here.
    pub(super) fn end(&mut self, feed: Feed) -> Ended {
        Ended {
            feed,
            mode: std::mem::replace(&mut self.mode, Mode::Gone),
            is_settled: true,
            handed: self.handed,
            skipped: Vec::new(),
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self {
            sent: Position::START,
            handed: Position::START,
            mode: Mode::Opening,
        }
    }
}

/// What is known of single entries of a log until something is confirmed behind them, in order. Idle
/// sockets keep nothing.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "a list takes 24 bytes in each feed, and few sockets have one"
)]
pub(super) struct Marks<T>(Option<Box<Vec<(Position, T)>>>);

/// Broadcasts that are queued or sent, and not confirmed.
pub(super) type Receipts = Marks<MessageId>;

/// Entries that were kept from the user and lie behind what is confirmed.
pub(super) type Skipped = Marks<()>;

impl<T> Default for Marks<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Marks<T> {
    pub(super) fn count(&self) -> u32 {
        self.0.as_ref().map_or(0, |all| all.len() as u32)
    }

    pub(super) fn first(&self) -> Option<Position> {
        self.0.as_ref()?.first().map(|(at, _)| *at)
    }

    pub(super) fn last(&self) -> Option<Position> {
        self.0.as_ref()?.last().map(|(at, _)| *at)
    }

    pub(super) fn push(&mut self, position: Position, what: T) {
        self.0.get_or_insert_default().push((position, what));
    }

    /// Takes out everything up to `position`.
    pub(super) fn confirm(&mut self, position: Position) -> Vec<(Position, T)> {
        let Some(all) = &mut self.0 else {
            return Vec::new();
        };
        let upto = all.partition_point(|(at, _)| *at <= position);
        let confirmed = all.drain(..upto).collect();
        if all.is_empty() {
            self.0 = None;
        }
        confirmed
    }
}

/// Positions that are queued or sent, and not confirmed. Kept as runs of neighbouring
/// offsets: usually one, whatever its length. Idle sockets keep nothing.
#[derive(Debug, Default)]
pub(super) struct Window(Option<Box<Runs>>);

#[derive(Debug)]
struct Runs {
    first: Run,
    more: VecDeque<Run>,
    /// Of all.
    count: u32,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    first: Position,
    count: u32,
}

impl Run {
    fn last(self) -> Position {
        Position {
            epoch: self.first.epoch,
            offset: self.first.offset + u64::from(self.count) - 1,
        }
    }
}

impl Window {
    /// How many positions are unconfirmed.
    pub(super) fn count(&self) -> u32 {
        self.0.as_ref().map_or(0, |runs| runs.count)
    }

    pub(super) fn first(&self) -> Option<Position> {
        self.0.as_ref().map(|runs| runs.first.first)
    }

    /// Adds a position beyond all others.
    pub(super) fn push(&mut self, position: Position) {
        let run = Run {
            first: position,
            count: 1,
        };
        let Some(runs) = &mut self.0 else {
            self.0 = Some(Box::new(Runs {
                first: run,
                more: VecDeque::new(),
                count: 1,
            }));
            return;
        };
        runs.count += 1;
        let last = runs.more.back_mut().unwrap_or(&mut runs.first);
        if last.last().is_followed_by(position) {
            last.count += 1;
        } else {
            runs.more.push_back(run);
        }
    }

    /// Removes everything up to `position`.
    pub(super) fn confirm(&mut self, position: Position) {
        while let Some(runs) = &mut self.0 {
            let first = &mut runs.first;
            if first.first > position {
                return;
            }
            if first.last() > position {
                // Same epoch: the position lies inside the run.
                let gone = (position.offset - first.first.offset + 1) as u32;
                first.first.offset += u64::from(gone);
                first.count -= gone;
                runs.count -= gone;
                return;
            }
            runs.count -= first.count;
            match runs.more.pop_front() {
                Some(next) => *first = next,
                None => self.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn window_counts_like_a_naive_set(
            steps in prop::collection::vec((any::<bool>(), 0u64..4, 0u64..12), 1..200),
        ) {
            let mut window = Window::default();
            let mut naive = BTreeSet::new();
            let mut last = Position { epoch: 1, offset: 0 };
            for (push, epochs, offsets) in steps {
                if push {
                    // Mostly neighbours, sometimes holes, sometimes a new epoch.
                    last = match epochs {
                        3 => Position { epoch: last.epoch + 1, offset: last.offset + 1_000_000 },
                        2 => Position { offset: last.offset + 1 + offsets, ..last },
                        _ => Position { offset: last.offset + 1, ..last },
                    };
                    window.push(last);
                    naive.insert(last);
                } else {
                    let upto = Position {
                        epoch: last.epoch.saturating_sub(epochs / 2),
                        offset: last.offset.saturating_sub(offsets),
                    };
                    window.confirm(upto);
                    naive.retain(|position| *position > upto);
                }
                prop_assert_eq!(window.count() as usize, naive.len());
            }
        }
    }
}
