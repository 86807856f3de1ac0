//! Questions to one Redis shard: those that come while others are under way go together.

use std::time::Duration;

use parking_lot::Mutex;
use shared::redis::LimitStep;
use tokio::time::Instant;

use super::Key;

/// Most questions in a call.
const BATCH: usize = 128;
/// Most calls under way.
const CALLS: usize = 4;
/// Most questions that wait.
const QUEUE: usize = 10_000;
/// How long a shard that failed is left alone.
const AWAY: Duration = Duration::from_secs(1);

/// Something to ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) key: Key,
    pub(super) step: LimitStep,
    /// When it was put.
    pub(super) asked: Instant,
}

/// What to do with a new question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// Somebody sees to it.
    Waits,
    /// It waits for a task that sends it.
    NeedsTask,
    /// The shard is away, or too many wait.
    Refused,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lane(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Question>,
    calls: usize,
    /// The last call failed; before this moment there is no other.
    away_until: Option<Instant>,
}

impl Lane {
    pub(super) fn put(&self, question: Question, now: Instant) -> Put {
        let mut state = self.0.lock();
        let is_away = state.away_until.is_some_and(|until| now < until);
        if is_away || state.waiting.len() >= QUEUE {
            return Put::Refused;
        }
        state.waiting.push(question);
        // To a shard that has failed one call is enough to see whether it is back.
        let most = if state.away_until.is_some() { 1 } else { CALLS };
        if state.calls < most {
            state.calls += 1;
            Put::NeedsTask
        } else {
            Put::Waits
        }
    }

    /// The questions of the next call; without any, the task that asks has to end.
    pub(super) fn next(&self) -> Option<Vec<Question>> {
        let mut state = self.0.lock();
        if state.waiting.is_empty() {
            state.calls -= 1;
            return None;
        }
        let count = state.waiting.len().min(BATCH);
        Some(state.waiting.drain(..count).collect())
    }

    /// How a call ended.
    pub(super) fn note(&self, is_well: bool, now: Instant) {
        self.0.lock().away_until = (!is_well).then(|| now + AWAY);
    }

    /// True if nobody should wait for an answer.
    pub(super) fn is_doubtful(&self) -> bool {
        self.0.lock().away_until.is_some()
    }
}
