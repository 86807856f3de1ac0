//! Where a socket stands in its user's topic.

use std::collections::VecDeque;

use shared::domain::Position;

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

/// A place in a topic and the window of what is not confirmed yet.
#[derive(Debug)]
pub(super) struct Place {
    /// Everything up to here was queued, or is known not to exist.
    pub(super) sent: Position,
    /// The last entry that left the queue towards the socket, or where the socket began.
    pub(super) handed: Position,
    /// What was queued and is not confirmed.
    pub(super) window: Window,
    pub(super) mode: Mode,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            sent: Position::START,
            handed: Position::START,
            window: Window::default(),
            mode: Mode::Opening,
        }
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
