//! What was received and not understood yet.

use bytes::{Buf, Bytes};

use super::{
    Broken,
    cut::{Cut, Parts, cut, line_ends},
};

/// The bytes of messages, of which frames are cut off. Holds less than one frame between
/// messages, and nothing while a client is idle.
pub(super) struct Stream {
    bytes: Bytes,
    /// Longest frame.
    most: usize,
}

impl Stream {
    pub(super) fn new(most: usize) -> Self {
        Self {
            bytes: Bytes::new(),
            most,
        }
    }

    pub(super) fn push(&mut self, message: Bytes) {
        self.bytes = if self.bytes.is_empty() {
            message
        } else {
            [&self.bytes[..], &message[..]].concat().into()
        };
    }

    /// Cuts off the next whole frame.
    pub(super) fn next(&mut self) -> Result<Option<(Bytes, Parts)>, Broken> {
        self.bytes.advance(line_ends(&self.bytes));
        if self.bytes.is_empty() {
            // Lets go of the message.
            self.bytes = Bytes::new();
            return Ok(None);
        }
        match cut(&self.bytes, self.most)? {
            Cut::Frame(parts) => {
                let frame = self.bytes.split_to(parts.end);
                self.bytes.advance(1);
                Ok(Some((frame, parts)))
            }
            Cut::Partial => {
                // Of a long message only this is kept.
                self.bytes = Bytes::copy_from_slice(&self.bytes);
                Ok(None)
            }
        }
    }
}
