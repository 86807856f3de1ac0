//! The fan-out without servers: queues, and topics against a model of the log.

mod audiences;
mod beginnings;
mod outbox;
mod topics;
mod wishes;

use std::{
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::Mutex;
use shared::domain::{Entry, Kind, MessageId, Position, Timestamp, Topic, UserId};
use uuid::Uuid;

use super::{Batch, Line, Outbox, Taken};

const TOPIC: Topic = Topic::User(UserId(Uuid::from_u128(7)));

fn entry(position: Position) -> Entry {
    let id = u128::from(position.epoch) << 64 | u128::from(position.offset);
    Entry {
        topic: TOPIC,
        position,
        id: MessageId(Uuid::from_u128(id)),
        kind: Kind::CommandNew,
        at: Timestamp(0),
        body: format!(r#"{{"content":"{position}"}}"#).into(),
    }
}

/// Counts how often a task was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes a batch; the frames are texts.
fn take(outbox: &Outbox, waker: &Waker) -> Poll<(Vec<String>, Option<Taken>)> {
    let mut batch = Batch::new();
    let taken = outbox.poll_batch(&mut Context::from_waker(waker), &mut batch);
    let texts = batch
        .iter()
        .map(|frame| String::from_utf8_lossy(frame).into_owned())
        .collect();
    match taken {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Taken::Frames(_)) => Poll::Ready((texts, None)),
        Poll::Ready(closed) => Poll::Ready((texts, Some(closed))),
    }
}

/// A connection that takes so many bytes without waiting.
#[derive(Default)]
struct Pipe(Mutex<PipeState>);

#[derive(Default)]
struct PipeState {
    room: usize,
    bytes: Vec<u8>,
}

impl Line for Pipe {
    fn try_write(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pipe = self.0.lock();
        if pipe.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let all = frames.iter().flat_map(|frame| frame.iter().copied());
        let some: Vec<u8> = all.take(pipe.room).collect();
        pipe.room -= some.len();
        pipe.bytes.extend(&some);
        Ok(some.len())
    }
}

impl Pipe {
    fn has_room_for(&self, bytes: usize) {
        self.0.lock().room = bytes;
    }

    /// What a session writes, which waits for room.
    fn write_all(&self, batch: Batch) {
        self.0.lock().bytes.extend(batch.into_iter().flatten());
    }

    /// The texts of all frames; fails if the last is not whole.
    fn texts(&self) -> Vec<String> {
        let pipe = self.0.lock();
        let mut bytes = &pipe.bytes[..];
        let mut texts = Vec::new();
        while let [0x81, length, rest @ ..] = bytes {
            let (length, rest) = match (length, rest) {
                (126, [high, low, rest @ ..]) => (u16::from_be_bytes([*high, *low]).into(), rest),
                (length, rest) => (usize::from(*length), rest),
            };
            texts.push(String::from_utf8_lossy(&rest[..length]).into_owned());
            bytes = &rest[length..];
        }
        assert!(bytes.is_empty(), "a frame begins in another one");
        texts
    }
}
