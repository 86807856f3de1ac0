//! Frames of the server, each in a WebSocket message of its own.

use std::fmt::{Display, Write as _};

use bytes::Bytes;

use super::{escape::escape, version::Version};
use crate::dialect::frame::TextFrame;

/// Room for the head of a frame.
const HEAD: usize = 256;

/// A frame in the making: headers, then perhaps a body.
pub(super) struct Frame {
    frame: TextFrame,
    version: Version,
}

impl Frame {
    pub(super) fn new(command: &str, version: Version) -> Self {
        let mut frame = TextFrame::with_capacity(HEAD);
        frame.payload().extend_from_slice(command.as_bytes());
        frame.payload().push(b'\n');
        Self { frame, version }
    }

    /// Begins with what a subscription's frames begin with.
    pub(super) fn to(address: &[u8], version: Version) -> Self {
        let mut frame = TextFrame::with_capacity(HEAD);
        frame.payload().extend_from_slice(address);
        Self { frame, version }
    }

    pub(super) fn header(mut self, name: &str, value: impl Display) -> Self {
        let mut text = String::new();
        // A String takes every write.
        let _ = write!(text, "{value}");
        let out = self.frame.payload();
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        escape(&text, self.version, out);
        out.push(b'\n');
        self
    }

    pub(super) fn header_if(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    /// A frame without a body.
    pub(super) fn end(mut self) -> Bytes {
        self.frame.payload().extend_from_slice(b"\n\0");
        self.frame.finish()
    }

    pub(super) fn body(self, content_type: &str, body: &[u8]) -> Bytes {
        let with_head = self
            .header("content-type", content_type)
            .header("content-length", body.len());
        let mut frame = with_head.frame;
        let out = frame.payload();
        out.push(b'\n');
        out.extend_from_slice(body);
        out.push(0);
        frame.finish()
    }
}

/// The sign of life: a line end.
pub(super) fn line_end() -> Bytes {
    crate::dialect::text("\n")
}
