//! How far a client has got the entries that were written to it.

use shared::domain::{Position, Queue};

/// The furthest entry in each feed whose entries are confirmed by the transport.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// The user's own log.
    pub user: Position,
    /// The log of broadcasts.
    pub broadcast: Position,
    /// Queues of the user's own log, by [`Queue::index`]. Sockets that take the log as a whole have
    /// none, and no room for any.
    pub queues: Option<Box<[Position; Queue::ALL.len()]>>,
    /// How many messages it was given of conversations' own logs, of those that no inbox has.
    pub heard: u64,
}

impl Reach {
    /// The furthest entry of a queue.
    pub fn queue(&self, queue: Queue) -> Position {
        self.queues
            .as_ref()
            .map_or(Position::START, |queues| queues[queue.index()])
    }

    /// Puts the furthest entry of a queue.
    #[must_use]
    pub fn with_queue(mut self, queue: Queue, position: Position) -> Self {
        self.queues.get_or_insert_default()[queue.index()] = position;
        self
    }

    /// Goes on to the further of the two in each feed.
    pub fn extend(&mut self, other: &Self) {
        self.user = self.user.max(other.user);
        self.broadcast = self.broadcast.max(other.broadcast);
        self.heard = self.heard.max(other.heard);
        if let Some(others) = &other.queues {
            let queues = self.queues.get_or_insert_default();
            for (mine, theirs) in queues.iter_mut().zip(others.iter()) {
                *mine = (*mine).max(*theirs);
            }
        }
    }

    /// True if it is further in any feed.
    pub fn is_beyond(&self, other: &Self) -> bool {
        self.user > other.user
            || self.broadcast > other.broadcast
            || self.heard > other.heard
            || self.queues.is_some()
                && Queue::ALL
                    .into_iter()
                    .any(|queue| self.queue(queue) > other.queue(queue))
    }
}
