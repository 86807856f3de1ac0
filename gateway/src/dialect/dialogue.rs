//! What a dialect keeps of one socket.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{Event, Frame, Incoming, Unreadable};

/// One socket's conversation with its client in a dialect. Its session owns it, and brings
/// everything that was said to an answer before it asks for more.
pub trait Dialogue: Send {
    /// Takes a data frame. Gives the first thing it says, if with it something is said to its
    /// end.
    fn read(&mut self, frame: Frame) -> Option<Result<Incoming, Unreadable>>;

    /// What else was said by frames that were read.
    fn more(&mut self) -> Option<Result<Incoming, Unreadable>> {
        None
    }

    /// Writes an event as whole, unmasked WebSocket frames.
    fn write(&mut self, event: &Event<'_>, out: &mut VecDeque<Bytes>) -> Then;

    /// The signs of life that were agreed on besides those of the transport.
    fn rhythm(&self) -> Rhythm {
        Rhythm::default()
    }
}

/// What has to happen behind what was written.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    GoOn,
    /// The dialect knows no way to go on: the socket has to close.
    Close,
}

/// Signs of life of a dialect's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rhythm {
    /// How often the server gives one when it writes nothing else.
    pub send: Option<Duration>,
    /// How often the client wants to give one.
    pub expect: Option<Duration>,
}

/// What a dialogue is begun with.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Longest frame, in bytes; also where a dialect's frame and a WebSocket message are not
    /// the same.
    pub frame_bytes: usize,
    /// How often the server is ready to give a sign of life, and wants to see one.
    pub heartbeat: Duration,
}
