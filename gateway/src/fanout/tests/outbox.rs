use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use shared::domain::Position;

use super::{Woken, entry, take};
use crate::{
    dialect::DialectId,
    fanout::{CloseReason, Outbox, OutboxLimits, SharedEntry, Taken, outbox::Offered},
};

const LIMITS: OutboxLimits = OutboxLimits {
    frames: 4,
    bytes: 10_000,
    window: 6,
};

fn at(offset: u64) -> Position {
    Position { epoch: 1, offset }
}

/// A live socket at position 0.
fn live(limits: OutboxLimits) -> Arc<Outbox> {
    let outbox = Outbox::new(limits, DialectId::Json);
    outbox.begin(at(0));
    assert_eq!(outbox.go_live_at(at(0)), Some(Ok(())));
    outbox
}

fn offer(outbox: &Outbox, offset: u64) -> Offered {
    outbox.offer_live(&SharedEntry::new(entry(at(offset))), at(offset - 1))
}

fn frames(outbox: &Outbox) -> usize {
    match take(outbox, Waker::noop()) {
        Poll::Ready((frames, None)) => frames.len(),
        _ => 0,
    }
}

#[test]
fn an_idle_outbox_is_small() {
    assert!(size_of::<Outbox>() <= 320, "{}", size_of::<Outbox>());
}

#[test]
fn entries_are_bounded_by_queue_and_window_and_the_socket_falls_behind() {
    let outbox = live(LIMITS);
    for offset in 1..=4 {
        assert!(matches!(offer(&outbox, offset), Offered::Taken { .. }));
    }
    assert_eq!(offer(&outbox, 5), Offered::FellBehind);
    assert_eq!(offer(&outbox, 6), Offered::NotLive);
    assert_eq!(frames(&outbox), 4);
    assert_eq!(outbox.written_position(), Some(at(4)));
    assert_eq!(outbox.unconfirmed(), 4);
    // The window is more than half full: no catch-up yet.
    outbox.drained();
    assert_eq!(outbox.go_live_at(at(4)), None);
    outbox.confirmed(at(2));
    assert_eq!(outbox.go_live_at(at(6)), Some(Err(at(4))));
    for offset in 5..=6 {
        assert!(outbox.offer_read(&SharedEntry::new(entry(at(offset)))));
    }
    assert_eq!(outbox.go_live_at(at(6)), Some(Ok(())));
    assert!(matches!(offer(&outbox, 7), Offered::Taken { .. }));
    assert!(matches!(offer(&outbox, 8), Offered::Taken { .. }));
    assert_eq!(outbox.unconfirmed(), 6);
    assert_eq!(frames(&outbox), 4);
    // The queue is empty, the window full.
    assert_eq!(offer(&outbox, 9), Offered::FellBehind);
}

#[test]
fn what_was_sent_is_not_sent_again() {
    let outbox = live(LIMITS);
    offer(&outbox, 1);
    offer(&outbox, 2);
    assert_eq!(offer(&outbox, 2), Offered::Taken { wake: false });
    assert_eq!(offer(&outbox, 1), Offered::Taken { wake: false });
    assert_eq!(frames(&outbox), 2);
}

#[test]
fn a_long_entry_passes_an_empty_queue() {
    let outbox = live(OutboxLimits {
        bytes: 10,
        ..LIMITS
    });
    assert!(matches!(offer(&outbox, 1), Offered::Taken { .. }));
    assert_eq!(offer(&outbox, 2), Offered::FellBehind);
}

#[test]
fn a_close_comes_after_what_is_queued_and_is_seen_in_the_middle_of_a_write() {
    let outbox = live(LIMITS);
    offer(&outbox, 1);
    outbox.request_close(CloseReason::Displaced);
    outbox.request_close(CloseReason::SlowConsumer);
    assert_eq!(offer(&outbox, 2), Offered::NotLive);
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(
        outbox.poll_close_requested(&mut cx),
        Poll::Ready(CloseReason::Displaced)
    );
    assert_eq!(frames(&outbox), 1);
    let close = Some(Taken::Close(CloseReason::Displaced));
    for _ in 0..2 {
        assert_eq!(take(&outbox, Waker::noop()), Poll::Ready((vec![], close)));
    }
}

#[test]
fn a_revoked_token_gets_nothing_more_of_the_queue() {
    let outbox = live(LIMITS);
    offer(&outbox, 1);
    offer(&outbox, 2);
    outbox.request_close(CloseReason::Unauthorized);
    let close = Some(Taken::Close(CloseReason::Unauthorized));
    assert_eq!(take(&outbox, Waker::noop()), Poll::Ready((vec![], close)));
}

#[test]
fn a_task_is_told_to_wake_once_until_it_looks_again() {
    let outbox = live(LIMITS);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    assert!(take(&outbox, &waker).is_pending());
    assert_eq!(offer(&outbox, 1), Offered::Taken { wake: true });
    assert_eq!(offer(&outbox, 2), Offered::Taken { wake: false });
    // Whoever hears the batch wakes; not the offer.
    assert_eq!(woken.count(), 0);
    outbox.wake();
    assert_eq!(woken.count(), 1);
    outbox.wake_if_queued();
    assert_eq!(woken.count(), 1);
    assert!(take(&outbox, &waker).is_ready());
    assert!(take(&outbox, &waker).is_pending());
    outbox.wake_if_queued();
    assert_eq!(woken.count(), 1, "nothing is queued");
    assert_eq!(offer(&outbox, 3), Offered::Taken { wake: true });
}

#[test]
fn only_what_was_sent_can_be_acknowledged() {
    let outbox = live(LIMITS);
    offer(&outbox, 1);
    offer(&outbox, 2);
    assert!(outbox.acknowledged(at(1)).is_err());
    frames(&outbox);
    assert!(outbox.acknowledged(at(3)).is_err());
    assert!(outbox.acknowledged(at(2)).is_ok());
    assert_eq!(outbox.unconfirmed(), 0);
    assert!(outbox.acknowledged(at(0)).is_ok());
}
