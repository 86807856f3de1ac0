//! A socket's connection, as far as entries are written to it without its session.
//!
//! A session that has nothing to write lends its line. Then entries that are heard need no
//! task to be woken, which costs about as much as to write them. The session takes the line
//! back, under the lock of its outbox, before it writes anything itself; a line that does not
//! take everything at once returns to the session, which knows how to wait for it.

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    metrics::{BYTES, Direction, FRAMES},
    outbox::Batch,
};

/// Where frames are written to.
pub trait Line: Send + Sync {
    /// Writes what it takes of these frames without waiting; answers how many bytes that were.
    fn try_write(&self, frames: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// What was written without sessions, to be counted for many sockets at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Frames written to their end; one that was only begun is counted by the session, which
    /// writes the rest.
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

impl Written {
    pub(super) fn count(&self) {
        FRAMES.of(Direction::Out).increment(self.frames);
        BYTES.of(Direction::Out).increment(self.bytes);
    }
}

/// The line of one socket, and for how long it is lent. At first there is none.
#[derive(Default)]
pub(super) struct Lent {
    line: Option<Arc<dyn Line>>,
    /// The line is lent while fewer entries than this are unconfirmed.
    below: u32,
    /// What the line did not take of an entry, until the session takes it back. Seldom there,
    /// so it takes little room.
    rest: Option<Box<Bytes>>,
}

impl Lent {
    pub(super) fn connect(&mut self, line: Arc<dyn Line>) {
        self.line = Some(line);
    }

    pub(super) fn lend(&mut self, below: u32) {
        self.below = below;
    }

    /// The line is the session's again, and what an entry begun on it lacks.
    pub(super) fn take_back(&mut self, batch: &mut Batch) {
        self.below = 0;
        if let Some(rest) = self.rest.take() {
            batch.push_front(*rest);
        }
    }

    pub(super) fn is_usable(&self, unconfirmed: u32) -> bool {
        unconfirmed < self.below && self.line.is_some()
    }

    /// How many bytes the line took. If it took none it is lent no longer: the session waits
    /// until it takes some, or finds out what is wrong with it.
    pub(super) fn write(&mut self, frames: &[IoSlice<'_>]) -> usize {
        let written = match &self.line {
            Some(line) => line.try_write(frames).unwrap_or(0),
            None => 0,
        };
        if written == 0 {
            self.below = 0;
        }
        written
    }

    /// The line took a frame only in part; this is what it lacks.
    pub(super) fn keep_rest(&mut self, rest: Bytes) {
        self.rest = Some(Box::new(rest));
        self.below = 0;
    }
}
