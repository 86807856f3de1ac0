use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use shared::domain::Position;

use super::{Pipe, Woken, entry, take};
use crate::{
    dialect::{DialectId, Feed},
    fanout::{
        Batch, CloseReason, Outbox, OutboxLimits, Reach, SharedEntry, Taken,
        chosen::{Chosen, Listening},
        line::Written,
        outbox::{Offered, Then},
        place::Mode,
        topic::TopicState,
    },
};

const LIMITS: OutboxLimits = OutboxLimits {
    frames: 4,
    bytes: 10_000,
    window: 6,
};

fn at(offset: u64) -> Position {
    Position { epoch: 1, offset }
}

fn reach(offset: u64) -> Reach {
    Reach {
        user: at(offset),
        // Where `go_live` begins.
        broadcast: at(0),
        ..Reach::default()
    }
}

/// A live socket at position 0.
fn live(limits: OutboxLimits) -> Arc<Outbox> {
    let outbox = Outbox::new(limits, DialectId::Json);
    outbox.go_live(at(0));
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
fn an_idle_outbox_is_small_and_so_is_a_subscription() {
    assert!(size_of::<Outbox>() <= 400, "{}", size_of::<Outbox>());
    assert!(size_of::<Chosen>() <= 112, "{}", size_of::<Chosen>());
    assert!(size_of::<Listening>() <= 96, "{}", size_of::<Listening>());
    assert!(
        size_of::<TopicState>() <= 128,
        "{}",
        size_of::<TopicState>()
    );
}

#[test]
fn entries_are_bounded_by_queue_and_window_and_the_socket_falls_behind() {
    let outbox = live(LIMITS);
    for offset in 1..=4 {
        assert!(matches!(offer(&outbox, offset), Offered::Taken(_)));
    }
    assert_eq!(offer(&outbox, 5), Offered::FellBehind);
    assert_eq!(offer(&outbox, 6), Offered::NotLive);
    assert_eq!(frames(&outbox), 4);
    assert_eq!(outbox.written(), Some(reach(4)));
    assert_eq!(outbox.unconfirmed(), 4);
    // The window is more than half full: no catch-up yet.
    outbox.drained(0);
    assert_eq!(outbox.go_live_at(Feed::User, at(4)), None);
    outbox.confirmed(&reach(2));
    assert_eq!(outbox.go_live_at(Feed::User, at(6)), Some(Err(at(4))));
    for offset in 5..=6 {
        assert!(outbox.offer_read(Feed::User, &SharedEntry::new(entry(at(offset)))));
    }
    assert_eq!(outbox.go_live_at(Feed::User, at(6)), Some(Ok(())));
    assert!(matches!(offer(&outbox, 7), Offered::Taken(_)));
    assert!(matches!(offer(&outbox, 8), Offered::Taken(_)));
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
    assert_eq!(offer(&outbox, 2), Offered::Taken(Then::Nothing));
    assert_eq!(offer(&outbox, 1), Offered::Taken(Then::Nothing));
    assert_eq!(frames(&outbox), 2);
}

#[test]
fn a_long_entry_passes_an_empty_queue() {
    let outbox = live(OutboxLimits {
        bytes: 10,
        ..LIMITS
    });
    assert!(matches!(offer(&outbox, 1), Offered::Taken(_)));
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
        outbox.poll_close_requested(&mut cx, &mut Batch::new()),
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
    assert_eq!(offer(&outbox, 1), Offered::Taken(Then::Wake));
    assert_eq!(offer(&outbox, 2), Offered::Taken(Then::Nothing));
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
    assert_eq!(offer(&outbox, 3), Offered::Taken(Then::Wake));
}

#[test]
fn only_what_was_sent_can_be_acknowledged() {
    let outbox = live(LIMITS);
    offer(&outbox, 1);
    offer(&outbox, 2);
    assert!(outbox.acknowledged(Feed::User, at(1)).is_err());
    frames(&outbox);
    assert!(outbox.acknowledged(Feed::User, at(3)).is_err());
    assert!(outbox.acknowledged(Feed::User, at(2)).is_ok());
    assert_eq!(outbox.unconfirmed(), 0);
    assert!(outbox.acknowledged(Feed::User, at(0)).is_ok());
}

/// A live socket at position 0 whose session has lent its line, which takes so many bytes.
fn lent(below: u32, room: usize) -> (Arc<Outbox>, Arc<Pipe>, Arc<Woken>) {
    let (outbox, line, woken) = (live(LIMITS), Arc::new(Pipe::default()), Arc::default());
    outbox.connect(line.clone());
    assert!(take(&outbox, &Waker::from(Arc::clone(&woken))).is_pending());
    line.has_room_for(room);
    outbox.drained(below);
    (outbox, line, woken)
}

fn write(outbox: &Outbox) -> Written {
    let mut written = Written::default();
    outbox.write(&mut written);
    written
}

#[test]
fn entries_are_written_to_a_lent_line_and_the_session_sleeps_on() {
    let (outbox, line, woken) = lent(3, usize::MAX);
    assert_eq!(offer(&outbox, 1), Offered::Taken(Then::Write));
    assert_eq!(offer(&outbox, 2), Offered::Taken(Then::Nothing));
    assert_eq!(write(&outbox).frames, 2);
    assert_eq!(line.texts().len(), 2);
    assert_eq!(outbox.written(), Some(reach(2)));
    assert_eq!(outbox.unconfirmed(), 2);
    assert_eq!(woken.count(), 0);
    // The third is one more than the session has seen to.
    assert_eq!(offer(&outbox, 3), Offered::Taken(Then::Wake));
    assert_eq!(write(&outbox), Written::default());
    assert_eq!(woken.count(), 1);
    assert_eq!(frames(&outbox), 1);
}

#[test]
fn what_a_line_does_not_take_goes_ahead_of_all_that_the_session_has() {
    for room in [0, 1, 100, 250] {
        let (outbox, line, woken) = lent(u32::MAX, room);
        for offset in 1..=3 {
            offer(&outbox, offset);
        }
        assert_eq!(write(&outbox).bytes, room as u64);
        assert_eq!(woken.count(), 1);
        // The session has the line: nobody else writes.
        assert_eq!(write(&outbox), Written::default());
        let own = SharedEntry::new(entry(at(9)));
        let mut batch = Batch::from([own.frame(DialectId::Json).clone()]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(outbox.poll_batch(&mut cx, &mut batch).is_ready());
        line.write_all(batch);
        assert_eq!(line.texts().len(), 4);
    }
}

#[test]
fn a_session_that_ends_takes_the_line_and_the_rest_with_it() {
    let (outbox, line, _) = lent(u32::MAX, 10);
    offer(&outbox, 1);
    offer(&outbox, 2);
    write(&outbox);
    let mut batch = Batch::new();
    outbox.disconnect(&mut batch);
    line.write_all(batch);
    assert_eq!(line.texts().len(), 1);
    line.has_room_for(usize::MAX);
    outbox.drained(u32::MAX);
    assert_eq!(write(&outbox), Written::default());
    assert_eq!(Arc::strong_count(&line), 1);
}

#[test]
fn nothing_is_written_behind_a_request_to_close() {
    let (outbox, _, woken) = lent(u32::MAX, usize::MAX);
    offer(&outbox, 1);
    outbox.request_close(CloseReason::Displaced);
    assert_eq!(write(&outbox), Written::default());
    assert!(woken.count() > 0);
    assert_eq!(frames(&outbox), 1);
}

#[test]
fn what_is_kept_from_a_device_does_not_hold_it_up_once_it_has_confirmed_the_rest() {
    let outbox = live(LIMITS);
    assert!(matches!(offer(&outbox, 1), Offered::Taken(_)));
    assert_eq!(frames(&outbox), 1);
    let window = u64::from(LIMITS.window);
    for offset in 2..2 + window {
        assert!(outbox.keep_live(&SharedEntry::new(entry(at(offset)))));
    }
    // So much may be kept before the first is confirmed.
    assert!(!outbox.keep_live(&SharedEntry::new(entry(at(2 + window)))));
    assert_eq!(outbox.mode(Feed::User), Mode::Behind);
    outbox.confirmed(&reach(1));
    // Without a member nobody begins the catch-up, but it is due.
    assert_eq!(outbox.mode(Feed::User), Mode::CatchingUp);
    assert!(outbox.keep_read(Feed::User, at(2 + window)));
    assert_eq!(outbox.go_live_at(Feed::User, at(2 + window)), Some(Ok(())));
}
