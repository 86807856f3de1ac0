//! Frames that wait for their transaction to be committed.

use bytes::Bytes;
use shared::domain::Code;

use super::{Broken, Trouble};

/// Most frames that wait, in all transactions of a connection together.
const MOST_FRAMES: usize = 100;
/// Most transactions of a connection that are open, and the longest name of one in bytes.
const MOST_OPEN: usize = 16;
const LONGEST_ID: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Transactions(Vec<Transaction>);

#[derive(Debug)]
struct Transaction {
    id: Box<str>,
    /// As they were received, without their NULs.
    frames: Vec<Bytes>,
}

impl Transactions {
    /// Whether a transaction of this name may be begun.
    pub(super) fn check_new(&self, id: &str) -> Result<(), Trouble> {
        if self.is_open(id) {
            return Err(Broken::malformed("a transaction of this name is open already").into());
        }
        if id.len() > LONGEST_ID {
            let message = format!("transaction: more than {LONGEST_ID} bytes");
            return Err(Broken::malformed(message).into());
        }
        if self.0.len() >= MOST_OPEN {
            let message = format!("a connection has at most {MOST_OPEN} open transactions");
            return Err(Trouble::refused(Code::BadRequest, message));
        }
        Ok(())
    }

    /// Whether there is a transaction of this name.
    pub(super) fn check_open(&self, id: &str) -> Result<(), Broken> {
        if self.is_open(id) {
            return Ok(());
        }
        Err(Broken::malformed("no transaction of this name is open"))
    }

    /// Whether a frame may wait, too; `most` bytes may in all.
    pub(super) fn check_room(&self, frame: &[u8], most: usize) -> Result<(), Broken> {
        let frames = || self.0.iter().flat_map(|it| &it.frames);
        if frames().count() >= MOST_FRAMES {
            let message = format!("more than {MOST_FRAMES} frames in transactions");
            return Err(Broken::too_large(message));
        }
        if frames().map(Bytes::len).sum::<usize>() + frame.len() > most {
            let message = format!("more than {most} bytes in transactions");
            return Err(Broken::too_large(message));
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, id: Box<str>) {
        self.0.push(Transaction {
            id,
            frames: Vec::new(),
        });
    }

    /// Keeps a copy, so that nothing else of the message it came in is kept.
    pub(super) fn keep(&mut self, id: &str, frame: &[u8]) {
        if let Some(transaction) = self.0.iter_mut().find(|it| *it.id == *id) {
            transaction.frames.push(Bytes::copy_from_slice(frame));
        }
    }

    /// Ends a transaction and gives its frames.
    pub(super) fn take(&mut self, id: &str) -> Vec<Bytes> {
        let Some(index) = self.0.iter().position(|it| *it.id == *id) else {
            return Vec::new();
        };
        self.0.swap_remove(index).frames
    }

    fn is_open(&self, id: &str) -> bool {
        self.0.iter().any(|it| *it.id == *id)
    }
}
