//! Where a socket stands in a log.

use std::collections::VecDeque;

use shared::domain::{MessageId, Position};

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
    /// Nobody any more: the socket is closing.
    Gone,
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

impl Default for Place {
    fn default() -> Self {
        Self {
            sent: Position::START,
            handed: Position::START,
            mode: Mode::Opening,
        }
    }
}

/// How far a client has confirmed, in each of the logs that come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// The user's own log.
    pub user: Position,
    /// The log of broadcasts.
    pub broadcast: Position,
}

impl Reach {
    /// The further of the two in each log.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            user: self.user.max(other.user),
            broadcast: self.broadcast.max(other.broadcast),
        }
    }

    /// True if it is further in any log.
    pub fn is_beyond(self, other: Self) -> bool {
        self.user > other.user || self.broadcast > other.broadcast
    }
}

/// Broadcasts that are queued or sent, and not confirmed, in order. Idle sockets keep nothing.
#[derive(Debug, Default)]
pub(super) struct Receipts(Vec<(Position, MessageId)>);

impl Receipts {
    pub(super) fn count(&self) -> u32 {
        self.0.len() as u32
    }

    pub(super) fn push(&mut self, position: Position, id: MessageId) {
        self.0.push((position, id));
    }

    /// Takes out everything up to `position`.
    pub(super) fn confirm(&mut self, position: Position) -> Vec<MessageId> {
        let upto = self.0.partition_point(|(at, _)| *at <= position);
        let rest = self.0.split_off(upto);
        let confirmed = std::mem::replace(&mut self.0, rest);
        let ids = confirmed.into_iter().map(|(_, id)| id);
        // What is no command needs no receipt.
        ids.filter(|id| !id.0.is_nil()).collect()
    }
}

/// Entries that were kept from the user and lie behind what is confirmed, in order.
#[derive(Debug, Default)]
pub(super) struct Skipped(Vec<Position>);

impl Skipped {
    pub(super) fn count(&self) -> u32 {
        self.0.len() as u32
    }

    pub(super) fn push(&mut self, position: Position) {
        self.0.push(position);
    }

    pub(super) fn last(&self) -> Option<Position> {
        self.0.last().copied()
    }

    /// Takes out everything up to `position`.
    pub(super) fn confirm(&mut self, position: Position) -> Vec<Position> {
        let upto = self.0.partition_point(|at| *at <= position);
        let rest = self.0.split_off(upto);
        std::mem::replace(&mut self.0, rest)
    }
}

/// Positions that are queued or sent, and not confirmed. Kept as runs of neighbouring
/// offsets: usually one, whatever its length.
#[derive(Debug, Default)]
pub(super) struct Window {
    runs: VecDeque<Run>,
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
        self.count
    }

    /// Adds a position beyond all others.
    pub(super) fn push(&mut self, position: Position) {
        self.count += 1;
        match self.runs.back_mut() {
            Some(run) if run.last().is_followed_by(position) => run.count += 1,
            _ => self.runs.push_back(Run {
                first: position,
                count: 1,
            }),
        }
    }

    /// Removes everything up to `position`.
    pub(super) fn confirm(&mut self, position: Position) {
        while let Some(run) = self.runs.front_mut() {
            if run.first > position {
                return;
            }
            let gone = if run.last() <= position {
                run.count
            } else {
                // Same epoch: the position lies inside the run.
                (position.offset - run.first.offset + 1) as u32
            };
            self.count -= gone;
            if gone == run.count {
                self.runs.pop_front();
            } else {
                run.first.offset += u64::from(gone);
                run.count -= gone;
            }
        }
        // Idle sockets keep nothing.
        self.runs = VecDeque::new();
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
