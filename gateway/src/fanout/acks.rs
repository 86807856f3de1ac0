//! Entries that the client itself confirms, one by one or all up to one, or refuses.

use std::collections::VecDeque;

use shared::domain::{MessageId, Position};

use super::track::Confirmed;

/// Entries of a feed that are queued or sent and lie behind its cursor, in order. What is done with
/// stays until everything before it is, too: the cursor never passes what is not.
#[derive(Debug, Default)]
pub(super) struct Acks(VecDeque<Given>);

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
    pub(super) fn count(&self) -> u32 {
        self.0.len() as u32
    }

    pub(super) fn first(&self) -> Option<Position> {
        self.0.front().map(|it| it.at)
    }

    pub(super) fn push(&mut self, at: Position, receipt: MessageId, turn: u64) {
        self.0.push_back(Given {
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
        self.0.iter().filter(open).map(|it| it.at).collect()
    }

    /// What was refused does not come again.
    pub(super) fn park(&mut self, position: Position) {
        for it in &mut self.0 {
            if it.at == position && it.state == State::Refused {
                it.state = State::Parked;
            }
        }
    }

    /// The turn of the last entry up to a position.
    pub(super) fn turn_of(&self, position: Position) -> Option<u64> {
        let upto = self.0.partition_point(|it| it.at <= position);
        self.0.get(upto.checked_sub(1)?).map(|it| it.turn)
    }

    fn change(&mut self, which: impl Fn(&Given) -> bool, to: State) -> usize {
        let open = |it: &&mut Given| it.state == State::Open && which(it);
        let changed = self.0.iter_mut().filter(open);
        changed.map(|it| it.state = to).count()
    }

    /// Takes out what is done with at the front. `None` if that is nothing.
    pub(super) fn settle(&mut self) -> Option<Confirmed> {
        let mut settled: Option<Confirmed> = None;
        while let Some(front) = self.0.front()
            && matches!(front.state, State::Done | State::Parked)
            && let Some(it) = self.0.pop_front()
        {
            let settled = settled.get_or_insert_default();
            settled.upto = it.at;
            if it.state == State::Parked {
                settled.skipped.push(it.at);
            } else if !it.receipt.0.is_nil() {
                settled.commands.push(it.receipt);
            }
        }
        if self.0.is_empty() {
            // Idle sockets keep nothing.
            self.0 = VecDeque::new();
        }
        settled
    }
}
