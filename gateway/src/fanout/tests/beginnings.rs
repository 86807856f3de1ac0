use std::{
    sync::Arc,
    task::{Poll, Waker},
};

use shared::domain::{Audience, CallEvent, CallEventKind, CallId};
use uuid::Uuid;

use super::take;
use crate::{
    dialect::{DialectId, Interest},
    fanout::{
        Outbox, OutboxLimits,
        item::{Happening, SharedSignal},
    },
};

const FIRST: CallId = CallId(Uuid::from_u128(1));
const SECOND: CallId = CallId(Uuid::from_u128(2));

fn event(call: CallId, kind: CallEventKind, number: u32) -> Arc<SharedSignal> {
    let body = format!(r#"{{"what":"{kind} {number} of {}"}}"#, call.0.as_u128());
    SharedSignal::new(Happening::Call(CallEvent {
        call,
        kind,
        audience: Audience::All,
        number,
        body: body.into(),
    }))
}

fn incoming(call: CallId) -> Arc<SharedSignal> {
    event(call, CallEventKind::Incoming, 0)
}

fn offer(call: CallId) -> Arc<SharedSignal> {
    event(call, CallEventKind::Offer, 0)
}

fn ice(call: CallId, number: u32) -> Arc<SharedSignal> {
    event(call, CallEventKind::Ice, number)
}

fn ended(call: CallId) -> Arc<SharedSignal> {
    event(call, CallEventKind::Ended, 0)
}

/// A socket whose session was just opened.
fn open() -> Arc<Outbox> {
    let outbox = Outbox::new(OutboxLimits::default(), DialectId::Json);
    outbox.enter_open();
    outbox
}

fn hear(outbox: &Outbox, signals: &[Arc<SharedSignal>]) {
    for signal in signals {
        let _ = outbox.offer_signal(signal);
    }
}

/// What the socket was told, in words.
fn told(outbox: &Outbox) -> Vec<String> {
    let Poll::Ready((frames, _)) = take(outbox, Waker::noop()) else {
        return Vec::new();
    };
    let what = |frame: String| {
        let (_, rest) = frame.split_once(r#""what":"call."#)?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    frames.into_iter().filter_map(what).collect()
}

/// The socket missed this.
fn begin(outbox: &Outbox, missed: &[Arc<SharedSignal>]) {
    outbox.begin_calls(outbox.arrival().unwrap(), missed);
}

#[test]
fn what_is_heard_meanwhile_is_told_behind_what_was_missed() {
    let outbox = open();
    hear(&outbox, &[ice(FIRST, 3)]);
    assert_eq!(told(&outbox), [""; 0], "nobody has said yet what it missed");
    begin(
        &outbox,
        &[incoming(FIRST), offer(FIRST), ice(FIRST, 1), ice(FIRST, 2)],
    );
    hear(&outbox, &[ice(FIRST, 4)]);
    let all = ["incoming 0", "offer 0", "ice 1", "ice 2", "ice 3", "ice 4"];
    assert_eq!(told(&outbox), all.map(|it| format!("{it} of 1")));
}

#[test]
fn what_was_missed_and_heard_is_told_once() {
    let outbox = open();
    hear(&outbox, &[incoming(FIRST), offer(FIRST), ice(FIRST, 1)]);
    begin(
        &outbox,
        &[incoming(FIRST), offer(FIRST), ice(FIRST, 1), ice(FIRST, 2)],
    );
    // Written before it was looked up, and told only now.
    hear(&outbox, &[incoming(FIRST), offer(FIRST), ice(FIRST, 2)]);
    let all = ["incoming 0", "offer 0", "ice 1", "ice 2"];
    assert_eq!(told(&outbox), all.map(|it| format!("{it} of 1")));
    // What has no number was kept nowhere.
    hear(&outbox, &[ice(FIRST, 0), ended(FIRST)]);
    assert_eq!(told(&outbox), ["ice 0 of 1", "ended 0 of 1"]);
    hear(&outbox, &[incoming(SECOND), offer(SECOND), ice(SECOND, 1)]);
    let all = ["incoming 0", "offer 0", "ice 1"];
    assert_eq!(told(&outbox), all.map(|it| format!("{it} of 2")));
}

#[test]
fn who_missed_nothing_is_told_all_that_was_heard() {
    let outbox = open();
    let heard = [incoming(FIRST), offer(FIRST), ice(FIRST, 1), ended(FIRST)];
    hear(&outbox, &heard);
    begin(&outbox, &[]);
    let all = ["incoming 0", "offer 0", "ice 1", "ended 0"];
    assert_eq!(told(&outbox), all.map(|it| format!("{it} of 1")));
    hear(&outbox, &heard);
    assert_eq!(told(&outbox).len(), 4, "what began late is over");
}

#[test]
fn a_call_that_came_after_the_one_that_was_missed_is_told_whole() {
    let outbox = open();
    begin(
        &outbox,
        &[incoming(FIRST), offer(FIRST), ice(FIRST, 1), ice(FIRST, 2)],
    );
    assert_eq!(told(&outbox).len(), 4);
    // The end of the first was lost.
    hear(&outbox, &[incoming(SECOND), offer(SECOND), ice(SECOND, 1)]);
    assert_eq!(told(&outbox).len(), 3);
}

#[test]
fn so_much_is_held_back_and_no_more() {
    let outbox = open();
    for number in 0..200 {
        hear(&outbox, &[ice(FIRST, number)]);
    }
    begin(&outbox, &[]);
    let mut count = 0;
    while let Poll::Ready((frames, _)) = take(&outbox, Waker::noop()) {
        count += frames.len();
    }
    assert_eq!(count, 128);
}

#[test]
fn who_asks_for_calls_begins_to_hear_them_then() {
    let outbox = Outbox::new(OutboxLimits::default(), DialectId::Stomp);
    outbox.enter_open();
    hear(&outbox, &[incoming(FIRST)]);
    assert_eq!(told(&outbox), [""; 0], "it did not ask");
    let address = |on: bool| {
        let address = bytes::Bytes::from_static(b"a");
        if on {
            outbox.wish(Interest::Calls, Some(address)).unwrap();
        } else {
            outbox.forget(Interest::Calls, Some(&address));
        }
        outbox.address_calls()
    };
    assert_eq!(address(true), (false, true));
    hear(&outbox, &[ice(FIRST, 1)]);
    let before = outbox.arrival().unwrap();
    assert_eq!(address(false), (true, false));
    outbox.begin_calls(before, &[]);
    assert_eq!(told(&outbox), [""; 0], "it does not want it any more");
    assert_eq!(address(true), (false, true));
    hear(&outbox, &[ice(FIRST, 1)]);
    outbox.begin_calls(before, &[]);
    assert_eq!(told(&outbox), [""; 0], "what it missed by now is not known");
    let now = outbox.arrival().unwrap();
    outbox.begin_calls(now, &[incoming(FIRST)]);
    outbox.begin_calls(now, &[incoming(FIRST)]);
    let Poll::Ready((frames, _)) = take(&outbox, Waker::noop()) else {
        panic!("it was told nothing")
    };
    assert_eq!(frames.len(), 2, "it began once");
}
