//! The WebSocket itself: bytes in, messages out, and one queue of frames to write.
//!
//! Reading uses tungstenite without its stream: bytes go from a buffer that all sockets of a
//! thread share into its state machine, which answers pings and Close frames. Writing is
//! ours: whole frames, made elsewhere and shared, as many as wait in one system call.
//! tungstenite only ever writes whole control frames, and they join the same queue, so
//! nothing lands inside another frame. While nothing of ours waits, the fan-out may write to
//! the same connection, see [`Line`]. Knows nothing of sessions.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tungstenite::{
    Error, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::close::CloseReason;
use crate::{
    dialect::Frame,
    fanout::{
        Line,
        metrics::{BYTES, Direction, FRAMES},
    },
};

/// Frames written by one system call.
const BATCH: usize = 32;
/// Bytes read by one system call.
const SCRATCH: usize = 16 * 1024;
/// What tungstenite keeps per socket for the start of the next frame. It grows for long
/// frames; see [`Socket::shrink`].
const READ_BUFFER: usize = 64;
/// From this length on a message does not fit there with its header, and leaves a longer buffer behind.
const BULKY: usize = READ_BUFFER - 14;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

pub(super) struct Socket {
    incoming: OwnedReadHalf,
    outgoing: Arc<Outgoing>,
    context: WebSocketContext,
    /// Read from the connection, not yet taken by the context.
    unread: Bytes,
    /// Frames to write; of the first one, what is left of it.
    out: VecDeque<Bytes>,
    /// Bytes given to the context, less the shortest form of the messages it gave back. Zero
    /// means for sure that it holds none; a client that writes frames in a longer form, or in
    /// fragments, only keeps it above zero.
    held: u64,
    bulky: bool,
    /// Bytes were read since this was last asked.
    heard: bool,
    /// Bytes were written since this was last asked.
    wrote: bool,
    closing: Closing,
}

/// The half that is written to, by the session or by whom it is lent to.
struct Outgoing(OwnedWriteHalf);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// Our Close frame is queued, the peer's answer is awaited.
    Asked,
    /// Nothing the peer sends is understood any more: the Close frame is written, then our
    /// half closed; what still comes is thrown away, for closing with unread bytes would
    /// reset the connection and lose the Close frame on its way.
    Deaf {
        half_closed: bool,
    },
    /// Both sides have closed: what is queued is written, then it is over.
    Agreed,
}

/// Something the peer sent.
#[derive(Debug)]
pub(super) enum Received {
    Data(Frame),
    /// The context has queued the answer.
    Ping,
    Pong(Bytes),
    /// There will be nothing more, or nothing that can be understood.
    End(CloseReason),
}

impl Socket {
    /// `early` is what came with the upgrade request.
    pub(super) fn new(tcp: TcpStream, early: &[u8], frame_limit: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(frame_limit))
            .max_frame_size(Some(frame_limit));
        let (incoming, outgoing) = tcp.into_split();
        Self {
            incoming,
            outgoing: Arc::new(Outgoing(outgoing)),
            context: WebSocketContext::new(Role::Server, Some(config)),
            // A copy: the original, even if empty, keeps the whole buffer it was read into.
            unread: Bytes::copy_from_slice(early),
            out: VecDeque::new(),
            held: 0,
            bulky: false,
            heard: false,
            wrote: false,
            closing: Closing::No,
        }
    }

    /// The connection, to be written to while [`Socket::is_backed_up`] is false.
    pub(super) fn line(&self) -> Arc<dyn Line> {
        self.outgoing.clone()
    }

    pub(super) fn set_frame_limit(&mut self, limit: usize) {
        self.context.set_config(|config| {
            config.max_message_size = Some(limit);
            config.max_frame_size = Some(limit);
        });
    }

    /// Queues a frame.
    pub(super) fn push(&mut self, frame: Bytes) {
        self.out.push_back(frame);
    }

    /// The queue, for many frames at once.
    pub(super) fn queue(&mut self) -> &mut VecDeque<Bytes> {
        &mut self.out
    }

    /// Whether there is room for another batch. Without it nothing is read either: a client
    /// that does not take its answers gets no more of them made.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < BATCH
    }

    /// Whether frames wait for the peer to take some.
    pub(super) fn is_backed_up(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether the peer gave a sign of life since this was last asked.
    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Whether bytes were written since this was last asked.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    /// The next thing the peer sent. After [`Received::End`] it is not to be called again.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        loop {
            if self.held > 0 || !self.unread.is_empty() {
                if let Some(received) = self.next_message() {
                    return Poll::Ready(received);
                }
            } else {
                self.shrink();
            }
            let filled = BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                match Pin::new(&mut self.incoming).poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        Poll::Ready(Some(Received::End(CloseReason::Lost)))
                    }
                    Poll::Ready(Err(_)) => Poll::Ready(Some(Received::End(CloseReason::Lost))),
                    Poll::Ready(Ok(())) => {
                        self.heard = true;
                        BYTES
                            .of(Direction::In)
                            .increment(buffer.filled().len() as u64);
                        Poll::Ready(self.first_message(buffer.filled()))
                    }
                }
            });
            if let Some(received) = ready!(filled) {
                return Poll::Ready(received);
            }
        }
    }

    /// A message from what was read earlier.
    fn next_message(&mut self) -> Option<Received> {
        let unread = std::mem::take(&mut self.unread);
        let (received, taken) = self.read(&unread);
        self.unread = unread;
        self.unread.advance(taken);
        if self.unread.is_empty() {
            // Lets go of the allocation.
            self.unread = Bytes::new();
        }
        received
    }

    /// A message from bytes just read; the rest of them is kept.
    fn first_message(&mut self, bytes: &[u8]) -> Option<Received> {
        let (received, taken) = self.read(bytes);
        if taken < bytes.len() {
            self.unread = Bytes::copy_from_slice(&bytes[taken..]);
        }
        received
    }

    /// Lets the context read from `bytes`. Gives what came of it and how many it took.
    fn read(&mut self, bytes: &[u8]) -> (Option<Received>, usize) {
        let mut pipe = Pipe {
            input: bytes,
            out: &mut self.out,
        };
        let mut length = None;
        let received = loop {
            match self.context.read(&mut pipe) {
                Ok(Message::Text(text)) => {
                    length = Some(text.len());
                    break Some(Received::Data(Frame::Text(Bytes::from(text))));
                }
                Ok(Message::Binary(data)) => {
                    length = Some(data.len());
                    break Some(Received::Data(Frame::Binary(data)));
                }
                Ok(Message::Ping(data)) => {
                    // The answer is queued by the next read or flush; at once, so that it
                    // does not wait for the peer's next frame.
                    let _ = self.context.flush(&mut pipe);
                    length = Some(data.len());
                    break Some(Received::Ping);
                }
                Ok(Message::Pong(data)) => {
                    length = Some(data.len());
                    break Some(Received::Pong(data));
                }
                Ok(Message::Close(_)) => {
                    // Queues the answer, if the peer was first.
                    let _ = self.context.flush(&mut pipe);
                    self.closing = Closing::Agreed;
                    break Some(Received::End(CloseReason::Client));
                }
                Ok(Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break None,
                Err(error) => break Some(Received::End(reason(&error))),
            }
        };
        let taken = bytes.len() - pipe.input.len();
        self.held += taken as u64;
        if let Some(length) = length {
            self.held = self.held.saturating_sub(frame_length(length));
            self.bulky |= length >= BULKY;
            FRAMES.of(Direction::In).increment(1);
        }
        (received, taken)
    }

    /// Drops the buffer that a long message left behind. Only while nothing is in it.
    fn shrink(&mut self) {
        if self.bulky && self.closing == Closing::No {
            let config = *self.context.get_config();
            self.context = WebSocketContext::new(Role::Server, Some(config));
            self.bulky = false;
        }
    }

    /// Writes what is queued. Ready when nothing is left.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); BATCH];
            let count = self.out.len().min(BATCH);
            for (slice, frame) in slices.iter_mut().zip(&self.out) {
                *slice = IoSlice::new(frame);
            }
            let written = ready!(self.outgoing.poll_write(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote = true;
            self.drop_written(written);
        }
        // Idle sockets keep nothing.
        self.out = VecDeque::new();
        Poll::Ready(Ok(()))
    }

    fn drop_written(&mut self, mut written: usize) {
        BYTES.of(Direction::Out).increment(written as u64);
        let queued = self.out.len();
        while let Some(frame) = self.out.front_mut() {
            if frame.len() > written {
                frame.advance(written);
                break;
            }
            written -= frame.len();
            self.out.pop_front();
        }
        FRAMES
            .of(Direction::Out)
            .increment((queued - self.out.len()) as u64);
    }

    /// Begins to close, unless that has begun: everything queued so far is still written
    /// first. For what the peer asked for or has caused by vanishing, nothing is said.
    pub(super) fn close(&mut self, reason: CloseReason) {
        if self.closing != Closing::No {
            return;
        }
        let Some(frame) = reason.frame() else {
            self.closing = Closing::Agreed;
            return;
        };
        let mut pipe = Pipe {
            input: &[],
            out: &mut self.out,
        };
        // Fails only if the context was closed before.
        let _ = self.context.close(&mut pipe, Some(frame));
        self.closing = if reason.stream_is_sound() {
            Closing::Asked
        } else {
            Closing::Deaf { half_closed: false }
        };
    }

    /// Drives the closing to its end. `on_pong` hears the pongs that still come. The caller
    /// sets the deadline.
    pub(super) fn poll_closed(
        &mut self,
        cx: &mut Context<'_>,
        mut on_pong: impl FnMut(&Bytes),
    ) -> Poll<()> {
        loop {
            let flushed = match self.poll_write(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => false,
            };
            match self.closing {
                Closing::No | Closing::Agreed => {
                    return if flushed {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    };
                }
                // Read on also while not flushed: a peer may only take once it has given.
                Closing::Asked => match ready!(self.poll_next(cx)) {
                    Received::Pong(data) => on_pong(&data),
                    Received::End(CloseReason::Client) => self.closing = Closing::Agreed,
                    Received::End(_) => return Poll::Ready(()),
                    Received::Data(_) | Received::Ping => {}
                },
                Closing::Deaf { half_closed } => {
                    if flushed && !half_closed {
                        if self.outgoing.shutdown().is_err() {
                            return Poll::Ready(());
                        }
                        self.closing = Closing::Deaf { half_closed: true };
                    }
                    if ready!(self.poll_discard(cx)) {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    /// Reads and forgets. True at the end.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            Pin::new(&mut self.incoming)
                .poll_read(cx, &mut buffer)
                .map(|read| read.is_err() || buffer.filled().is_empty())
        })
    }

    /// Forgets the frames that were not begun to be written, to make way for a Close frame.
    pub(super) fn forget_queued(&mut self) {
        // The first may be half written.
        self.out.truncate(1);
    }
}

impl Outgoing {
    fn poll_write(&self, cx: &mut Context<'_>, frames: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.as_ref().poll_write_ready(cx))?;
            match self.try_write(frames) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        SockRef::from(self.0.as_ref()).shutdown(Shutdown::Write)
    }
}

impl Line for Outgoing {
    fn try_write(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        match frames {
            [frame] => self.0.try_write(frame),
            frames => self.0.try_write_vectored(frames),
        }
    }
}

fn reason(error: &Error) -> CloseReason {
    match error {
        Error::Capacity(_) => CloseReason::TooLarge,
        Error::Utf8(_) => CloseReason::BadUtf8,
        Error::ConnectionClosed | Error::AlreadyClosed => CloseReason::Client,
        Error::Io(_) => CloseReason::Lost,
        _ => CloseReason::Protocol,
    }
}

/// The shortest masked frame with a payload of this length.
fn frame_length(payload: usize) -> u64 {
    let header = match payload {
        0..=125 => 6,
        126..=65_535 => 8,
        _ => 14,
    };
    header + payload as u64
}

/// What the context takes for its stream: it reads from a slice and writes into the queue.
struct Pipe<'a> {
    input: &'a [u8],
    out: &'a mut VecDeque<Bytes>,
}

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Pipe<'_> {
    /// Always whole control frames.
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.out.push_back(Bytes::copy_from_slice(frame));
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
