//! Entries that the client itself confirms, one by one or all up to one, or refuses.

use std::collections::VecDeque;

use shared::domain::{MessageId, Position};

use super::track::Confirmed;

/// Entries of a feed that are queued or sent and lie behind its cursor, in order. What is done with
/// stays until everything before it is, too: the cursor never passes what is not.
#[derive(Debug, Default)]
pub(super) struct Acks {
    given: VecDeque<Given>,
    /// How many of them the client is not done with.
    undone: u32,
}

/// What is done with waits for what was refused before it; so much more of it may wait than of what
/// is not.
const PATIENCE: u32 = 4;

#[derive(Debug)]
struct Given {
    at: Position,
    /// What the record is told once it is confirmed.
    receipt: MessageId,
    /// Which entry it is of all that the socket was given.
    turn: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was said about it.
    Open,
    /// The client is done with it.
    Done,
    /// The client did not take it: it comes again.
    Refused,
    /// The client refused it so often that it does not come again.
    Parked,
}

impl Acks {
    /// How many are unconfirmed. Should very many wait for one that was refused, they count, too.
    pub(super) fn count(&self) -> u32 {
        self.undone.max(self.given.len() as u32 / PATIENCE)
    }

    pub(super) fn first(&self) -> Option<Position> {
        self.given.front().map(|it| it.at)
    }

    pub(super) fn push(&mut self, at: Position, receipt: MessageId, turn: u64) {
        self.undone += 1;
        self.given.push_back(Given {
            at,
            receipt,
            turn,
            state: State::Open,
        });
    }

    /// The client is done with everything up to a position.
    pub(super) fn done_up_to(&mut self, position: Position) {
        self.change(|it| it.at <= position, State::Done);
    }

    /// The client is done with everything that was given by this turn.
    pub(super) fn done_by(&mut self, turn: u64) {
        self.change(|it| it.turn <= turn, State::Done);
    }

    /// The client is done with this one. False if that is nothing it could be done with.
    pub(super) fn done(&mut self, position: Position) -> bool {
        self.change(|it| it.at == position, State::Done) > 0
    }

    /// The client does not take this one. False if that is nothing it could refuse.
    pub(super) fn refuse(&mut self, position: Position) -> bool {
        self.change(|it| it.at == position, State::Refused) > 0
    }

    /// What of everything up to a position is open.
    pub(super) fn open_up_to(&self, position: Position) -> Vec<Position> {
        let open = |it: &&Given| it.at <= position && it.state == State::Open;
        self.given.iter().filter(open).map(|it| it.at).collect()
    }

    /// What was refused does not come again.
    pub(super) fn park(&mut self, position: Position) {
        for it in &mut self.given {
            if it.at == position && it.state == State::Refused {
                it.state = State::Parked;
                self.undone -= 1;
            }
        }
    }

    /// The turn of the last entry up to a position.
    pub(super) fn turn_of(&self, position: Position) -> Option<u64> {
        let upto = self.given.partition_point(|it| it.at <= position);
        self.given.get(upto.checked_sub(1)?).map(|it| it.turn)
    }

    fn change(&mut self, which: impl Fn(&Given) -> bool, to: State) -> usize {
        let open = |it: &&mut Given| it.state == State::Open && which(it);
        let changed = self.given.iter_mut().filter(open);
        let count = changed.map(|it| it.state = to).count();
        if to == State::Done {
            self.undone -= count as u32;
        }
        count
    }

    /// Takes out what is done with at the front. `None` if that is nothing.
    pub(super) fn settle(&mut self) -> Option<Confirmed> {
        let mut settled: Option<Confirmed> = None;
        while let Some(front) = self.given.front()
            && matches!(front.state, State::Done | State::Parked)
            && let Some(it) = self.given.pop_front()
        {
            let settled = settled.get_or_insert_default();
            settled.upto = it.at;
            if it.state == State::Parked {
                settled.skipped.push(it.at);
            } else if !it.receipt.0.is_nil() {
                settled.commands.push(it.receipt);
            }
        }
        if self.given.is_empty() {
            // Idle sockets keep nothing.
            self.given = VecDeque::new();
        }
        settled
    }
}
