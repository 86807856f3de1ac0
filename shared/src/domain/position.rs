//! Where a reader stands in a topic's log.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A place in a topic's log: behind the entry with this offset. Ordered first by epoch,
/// then by offset, exactly as the ids of the Redis stream are (`<epoch>-<offset>`), so a
/// position *is* a stream id. Written `<epoch>:<offset>`.
///
/// Epochs only grow, also when Redis lost everything: they are at least the Unix time in
/// seconds at which the epoch began. Within an epoch offsets are contiguous; a new epoch
/// jumps ahead by 1 000 000, so an offset is never used twice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// Raised when a log may have lost its tail (Redis restarted or failed over).
    pub epoch: u64,
    /// Number of the entry within the topic, from 1.
    pub offset: u64,
}

impl Position {
    /// Before every entry.
    pub const START: Self = Self {
        epoch: 0,
        offset: 0,
    };

    /// Behind every entry; fits Postgres' bigint.
    pub const END: Self = Self {
        epoch: i64::MAX as u64,
        offset: i64::MAX as u64,
    };

    /// True if `next` follows this position with nothing in between.
    pub fn is_followed_by(self, next: Self) -> bool {
        self.epoch == next.epoch && self.offset + 1 == next.offset
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a position is written <epoch>:<offset>")]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, offset) = text.split_once(':').ok_or(InvalidPosition)?;
        let number = |part: &str| {
            let digits =
                !part.is_empty() && part.len() <= 15 && part.bytes().all(|b| b.is_ascii_digit());
            digits
                .then(|| part.parse().ok())
                .flatten()
                .ok_or(InvalidPosition)
        };
        Ok(Self {
            epoch: number(epoch)?,
            offset: number(offset)?,
        })
    }
}
