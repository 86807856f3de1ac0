//! The fan-out without servers: queues, and topics against a model of the log.

mod outbox;
mod topics;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::task::{Context, Poll, Wake, Waker};

use shared::domain::{Entry, Kind, MessageId, Position, Timestamp, Topic, UserId};
use uuid::Uuid;

use super::{Batch, Outbox, Taken};

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
