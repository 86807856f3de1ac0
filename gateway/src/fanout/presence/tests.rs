//! What watchers are told, and when, without servers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::FutureExt as _;
use shared::domain::{Presence, PresenceStatus, SessionId, Timestamp, UserId};
use tokio::time::{Instant, advance};
use uuid::Uuid;

use super::watches::{Linking, PAUSE, Shown, Watches};
use crate::{
    dialect::{DialectId, Interest},
    fanout::{Batch, Outbox, OutboxLimits, Taken, testing::member_of, topic::Effects},
};
use PresenceStatus::{Away, Busy, Offline, Online};

const ANNA: UserId = UserId(Uuid::from_u128(1));
const BEN: UserId = UserId(Uuid::from_u128(2));

fn socket_with(frames: u32, dialect: DialectId) -> Arc<Outbox> {
    let limits = OutboxLimits {
        frames,
        ..OutboxLimits::default()
    };
    let outbox = Outbox::new(limits, dialect);
    let member = member_of(UserId(Uuid::from_u128(9)), SessionId(Uuid::now_v7()));
    outbox.set_member(member).unwrap();
    outbox.wish(Interest::Presence(None), None).unwrap();
    outbox
}

fn socket() -> Arc<Outbox> {
    socket_with(256, DialectId::Json)
}

fn session(outbox: &Outbox) -> SessionId {
    outbox.member().unwrap().session
}

fn presence(user: UserId, version: u64, status: PresenceStatus) -> Presence {
    Presence {
        version,
        status,
        ..Presence::unknown(user)
    }
}

/// Lets sockets watch users who are heard of, and shows them.
fn watched(watches: &Watches, outbox: &Arc<Outbox>, users: &[UserId]) {
    for user in users {
        assert!(watches.join(*user, outbox));
    }
    let mut effects = Effects::default();
    let mut unheard = users.to_vec();
    if let Linking::Link(new) = watches.claim(&mut unheard) {
        let unknown = new.into_iter().map(Presence::unknown);
        watches.linked(unknown.collect(), &mut effects);
    }
    assert!(matches!(watches.claim(&mut unheard), Linking::Done));
    watches.show(session(outbox), users, Shown::All, &mut effects);
}

fn claimed(watches: &Watches, user: UserId) -> Vec<UserId> {
    claimed_of(watches, &[user])
}

fn claimed_of(watches: &Watches, users: &[UserId]) -> Vec<UserId> {
    match watches.claim(&mut users.to_vec()) {
        Linking::Link(users) => users,
        other => panic!("{other:?}"),
    }
}

fn tell_due(watches: &Watches) -> Option<Instant> {
    watches.tell_due(Instant::now(), usize::MAX, &mut Effects::default())
}

fn hear(watches: &Watches, news: Presence) {
    watches.hear(news, &mut Effects::default());
}

/// Event and status of all that is queued for a socket.
fn told(outbox: &Outbox) -> Vec<String> {
    let mut texts = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let mut batch = Batch::new();
        let taken = outbox.poll_batch(&mut cx, &mut batch);
        for frame in batch {
            let text = String::from_utf8_lossy(&frame).into_owned();
            let start = text.find('{').unwrap();
            let value: serde_json::Value = serde_json::from_str(&text[start..]).unwrap();
            let payload = &value["payload"];
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            texts.push(format!(
                "{} {}",
                text(&value["type"]),
                text(&payload["status"])
            ));
        }
        match taken {
            Poll::Ready(Taken::Frames(_)) => {}
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => return texts,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_change_is_told_at_once_and_the_next_as_their_outcome() {
    let (watches, outbox) = (Watches::default(), socket());
    watched(&watches, &outbox, &[ANNA]);
    assert_eq!(told(&outbox), ["presence.update offline"]);
    advance(PAUSE).await;
    hear(&watches, presence(ANNA, 1, Online));
    assert_eq!(told(&outbox), ["presence.online online"]);
    hear(&watches, presence(ANNA, 2, Busy));
    hear(&watches, presence(ANNA, 3, Away));
    hear(&watches, presence(ANNA, 2, Busy));
    assert_eq!(told(&outbox), [""; 0]);
    let due = tell_due(&watches).unwrap();
    assert_eq!(due, Instant::now() + PAUSE);
    assert_eq!(told(&outbox), [""; 0], "not yet");
    advance(PAUSE).await;
    assert_eq!(tell_due(&watches), None);
    assert_eq!(told(&outbox), ["presence.update away"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_as_it_was_told_is_not_told_again() {
    let (watches, outbox) = (Watches::default(), socket());
    watched(&watches, &outbox, &[ANNA]);
    told(&outbox);
    // A user who comes and goes while nobody may be told was never there.
    hear(&watches, presence(ANNA, 1, Online));
    hear(&watches, presence(ANNA, 2, Offline));
    advance(PAUSE).await;
    tell_due(&watches);
    assert_eq!(told(&outbox), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_when_a_link_is_made_again_is_told_when_it_may_be() {
    let (watches, outbox) = (Watches::default(), socket());
    watched(&watches, &outbox, &[ANNA]);
    told(&outbox);
    watches.unlinked(&[ANNA]);
    assert_eq!(claimed(&watches, ANNA), [ANNA]);
    let mut effects = Effects::default();
    watches.linked(vec![presence(ANNA, 1, Online)], &mut effects);
    assert_eq!(told(&outbox), [""; 0], "she was told of a moment ago");
    let scheduled = watches.scheduled.notified().now_or_never();
    assert!(scheduled.is_some(), "whoever tells it knows of it");
    advance(PAUSE).await;
    assert_eq!(tell_due(&watches), None);
    assert_eq!(told(&outbox), ["presence.online online"]);
}

#[tokio::test(start_paused = true)]
async fn each_watcher_has_a_pause_of_its_own() {
    let (watches, old, new) = (Watches::default(), socket(), socket());
    watched(&watches, &old, &[ANNA]);
    advance(PAUSE).await;
    watched(&watches, &new, &[ANNA]);
    told(&old);
    told(&new);
    hear(&watches, presence(ANNA, 1, Online));
    assert_eq!(told(&old), ["presence.online online"]);
    assert_eq!(told(&new), [""; 0], "who was told a moment ago waits");
    advance(PAUSE).await;
    tell_due(&watches);
    assert_eq!(told(&new), ["presence.online online"]);
    assert_eq!(told(&old), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn whoever_begins_to_watch_is_shown_what_was_heard_last() {
    let (watches, old, new) = (Watches::default(), socket(), socket());
    watched(&watches, &old, &[ANNA]);
    hear(&watches, presence(ANNA, 1, Busy));
    watched(&watches, &new, &[ANNA]);
    assert_eq!(told(&new), ["presence.update busy"]);
    advance(PAUSE).await;
    hear(&watches, presence(ANNA, 2, Away));
    watched(&watches, &old, &[ANNA]);
    assert_eq!(told(&old).last().unwrap(), "presence.update away");
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_unless_something_newer_was_heard_since() {
    let (watches, outbox) = (Watches::default(), socket());
    watched(&watches, &outbox, &[ANNA]);
    told(&outbox);
    advance(PAUSE).await;
    hear(&watches, presence(ANNA, 7, Online));
    told(&outbox);
    advance(PAUSE).await;
    let mut effects = Effects::default();
    watches.answered(0, Presence::unknown(ANNA), &mut effects);
    assert_eq!(told(&outbox), [""; 0], "asked before it was heard");
    // Redis has forgotten them.
    watches.answered(7, Presence::unknown(ANNA), &mut effects);
    assert_eq!(told(&outbox), ["presence.offline offline"]);
}

#[tokio::test(start_paused = true)]
async fn when_somebody_was_last_seen_is_known_after_redis_has_forgotten_it() {
    let (watches, outbox) = (Watches::default(), socket());
    watched(&watches, &outbox, &[ANNA]);
    let seen = |at| Presence {
        last_seen_at: Some(Timestamp(at)),
        ..presence(ANNA, 7, Offline)
    };
    let mut effects = Effects::default();
    watches.hear(presence(ANNA, 6, Online), &mut effects);
    watches.hear(seen(5), &mut effects);
    watches.answered(7, Presence::unknown(ANNA), &mut effects);
    let known = watches.heard_of(ANNA).unwrap();
    assert_eq!((known.version, known.last_seen_at), (0, Some(Timestamp(5))));
    // What Redis does know counts, and who is there has no such time.
    watches.answered(0, seen(9), &mut effects);
    let known = watches.heard_of(ANNA).unwrap();
    assert_eq!(known.last_seen_at, Some(Timestamp(9)));
    watches.answered(7, presence(ANNA, 8, Online), &mut effects);
    assert_eq!(watches.heard_of(ANNA).unwrap().last_seen_at, None);
}

#[test]
fn what_was_heard_while_it_was_asked_counts() {
    let (watches, outbox) = (Watches::default(), socket());
    assert!(watches.join(ANNA, &outbox));
    assert_eq!(claimed(&watches, ANNA), [ANNA]);
    hear(&watches, presence(ANNA, 6, Busy));
    let mut effects = Effects::default();
    watches.linked(vec![presence(ANNA, 5, Online)], &mut effects);
    watches.show(session(&outbox), &[ANNA], Shown::All, &mut effects);
    assert_eq!(told(&outbox), ["presence.update busy"]);
}

#[test]
fn whoever_is_being_asked_for_is_asked_for_again_behind_a_gap() {
    let (watches, outbox) = (Watches::default(), socket());
    assert!(watches.join(ANNA, &outbox));
    assert_eq!(watches.known(), [], "nobody hears of her yet");
    assert_eq!(claimed(&watches, ANNA), [ANNA]);
    // What was published in the gap may be newer than the answer that is on its way.
    assert_eq!(watches.known(), [(ANNA, 0)]);
    let mut effects = Effects::default();
    watches.linked(vec![presence(ANNA, 5, Online)], &mut effects);
    assert_eq!(watches.known(), [(ANNA, 5)]);
}

#[tokio::test(start_paused = true)]
async fn who_is_shown_somebody_too_early_is_told_once_they_are_heard_of() {
    let (watches, shown, unshown) = (Watches::default(), socket(), socket());
    assert!(watches.join(ANNA, &shown));
    assert!(watches.join(ANNA, &unshown));
    let mut effects = Effects::default();
    watches.show(session(&shown), &[ANNA], Shown::New, &mut effects);
    assert_eq!(claimed(&watches, ANNA), [ANNA]);
    hear(&watches, presence(ANNA, 6, Busy));
    assert_eq!(told(&shown), [""; 0], "others may have come later");
    watches.linked(vec![presence(ANNA, 5, Online)], &mut effects);
    assert_eq!(told(&shown), ["presence.update busy"]);
    assert_eq!(told(&unshown), [""; 0], "its client knows of nothing yet");
    // It is news from then on, and not shown again unless it is asked for.
    watches.show(session(&shown), &[ANNA], Shown::New, &mut effects);
    assert_eq!(told(&shown), [""; 0]);
    watches.show(session(&shown), &[ANNA], Shown::All, &mut effects);
    assert_eq!(told(&shown), ["presence.update busy"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_link_is_woken_when_its_task_is_done() {
    let (watches, outbox) = (Watches::default(), socket());
    for user in [ANNA, BEN] {
        assert!(watches.join(user, &outbox));
    }
    assert_eq!(claimed(&watches, ANNA), [ANNA]);
    // Of both, only the other is still to be claimed.
    assert_eq!(claimed_of(&watches, &[ANNA, BEN]), [BEN]);
    let mut effects = Effects::default();
    let mut both = vec![ANNA, BEN];
    let Linking::Wait(done) = watches.claim(&mut both) else {
        panic!("others are busy with them");
    };
    watches.linked(vec![presence(ANNA, 1, Online)], &mut effects);
    assert!(done.now_or_never().is_some());
    let Linking::Wait(done) = watches.claim(&mut both) else {
        panic!("others are busy with ben");
    };
    assert_eq!(both, [BEN]);
    watches.unlinked(&[BEN]);
    assert!(done.now_or_never().is_some());
    assert_eq!(claimed(&watches, BEN), [BEN], "it is tried again");
}

#[tokio::test(start_paused = true)]
async fn those_who_waited_are_told_some_users_at_a_time() {
    let (watches, outbox) = (Watches::default(), socket());
    let users: Vec<UserId> = (10..20).map(|n| UserId(Uuid::from_u128(n))).collect();
    watched(&watches, &outbox, &users);
    told(&outbox);
    for user in &users {
        hear(&watches, presence(*user, 1, Online));
    }
    advance(PAUSE).await;
    let now = Instant::now();
    let mut effects = Effects::default();
    assert_eq!(watches.tell_due(now, 7, &mut effects), Some(now));
    assert_eq!(told(&outbox).len(), 7);
    assert_eq!(watches.tell_due(now, 7, &mut effects), None);
    assert_eq!(told(&outbox).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_socket_without_room_is_told_of_each_user_the_newest() {
    // Half of the queue is for what nobody would miss.
    let (watches, outbox) = (Watches::default(), socket_with(4, DialectId::Json));
    let users: Vec<UserId> = (10..20).map(|n| UserId(Uuid::from_u128(n))).collect();
    watched(&watches, &outbox, &users);
    advance(PAUSE).await;
    for (version, status) in [(1, Busy), (2, Online)] {
        for user in &users {
            hear(&watches, presence(*user, version, status));
        }
        advance(PAUSE).await;
        tell_due(&watches);
    }
    let told = told(&outbox);
    // What was queued first, then of everybody the newest and nothing else.
    assert_eq!(told[..2], ["presence.update offline"; 2]);
    assert_eq!(told.len(), 12, "{told:?}");
    assert!(
        told[2..].iter().all(|it| it.ends_with(" online")),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_longest_beside_a_queue_is_told_first_and_who_is_not_watched_not_at_all() {
    let (watches, outbox) = (Watches::default(), socket_with(4, DialectId::Json));
    let users: Vec<UserId> = (10..50).map(|n| UserId(Uuid::from_u128(n))).collect();
    watched(&watches, &outbox, &users);
    // The first two are queued; what waits longest stays in its place whatever follows.
    advance(PAUSE).await;
    hear(&watches, presence(users[2], 1, Busy));
    assert!(watches.leave(users[3], &outbox));
    let mut batch = Batch::new();
    let mut cx = Context::from_waker(Waker::noop());
    while outbox.poll_batch(&mut cx, &mut batch).is_ready() {}
    let of = |user: &UserId| {
        let named = format!(r#""userId":"{user}""#);
        let is_about = |frame: &bytes::Bytes| String::from_utf8_lossy(frame).contains(&named);
        batch.iter().position(is_about)
    };
    assert_eq!((of(&users[0]), of(&users[1])), (Some(0), Some(1)));
    assert_eq!((of(&users[2]), of(&users[3])), (Some(2), None));
    assert_eq!((of(&users[4]), of(&users[39])), (Some(3), Some(38)));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_watch_any_more_is_told_nothing_more() {
    let (watches, outbox) = (Watches::default(), socket());
    watched(&watches, &outbox, &[ANNA, BEN]);
    told(&outbox);
    advance(PAUSE).await;
    hear(&watches, presence(ANNA, 1, Online));
    hear(&watches, presence(BEN, 1, Online));
    assert!(watches.leave(ANNA, &outbox));
    assert_eq!(told(&outbox), ["presence.online online"], "only ben");
    assert_eq!(watches.take_idle(Instant::now()), []);
    advance(Duration::from_secs(6)).await;
    assert_eq!(watches.take_idle(Instant::now()), [ANNA]);
    watches.unlinked(&[ANNA]);
    assert_eq!(watches.len(), 1);
    // Whoever comes in between is linked again.
    watches.leave(BEN, &outbox);
    advance(Duration::from_secs(6)).await;
    assert_eq!(watches.take_idle(Instant::now()), [BEN]);
    assert!(watches.join(BEN, &outbox));
    assert!(matches!(watches.claim(&mut vec![BEN]), Linking::Wait(_)));
    watches.unlinked(&[BEN]);
    assert_eq!(claimed(&watches, BEN), [BEN]);
}

#[test]
fn nobody_stays_a_watcher_who_leaves_while_it_is_brought_in() {
    const ROUNDS: u128 = 50_000;
    let (watches, outbox) = (Watches::default(), socket());
    let (begun, joined) = (AtomicU64::new(0), AtomicU64::new(0));
    let users = || (1..=ROUNDS).map(|number| (number as u64, UserId(Uuid::from_u128(number))));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (number, user) in users() {
                while begun.load(Ordering::Acquire) < number {
                    std::thread::yield_now();
                }
                assert!(watches.join(user, &outbox));
                joined.store(number, Ordering::Release);
            }
        });
        for (number, user) in users() {
            begun.store(number, Ordering::Release);
            while joined.load(Ordering::Acquire) < number {
                watches.leave(user, &outbox);
                std::thread::yield_now();
            }
        }
    });
    for user in outbox.watched() {
        watches.leave(user, &outbox);
    }
    assert_eq!(watches.len(), 0);
}

#[test]
fn who_does_not_wish_it_any_more_is_not_brought_in() {
    let (watches, outbox) = (Watches::default(), socket());
    outbox.forget(Interest::Presence(None), None);
    assert!(!watches.join(ANNA, &outbox));
    outbox.wish(Interest::Presence(Some(BEN)), None).unwrap();
    assert!(!watches.join(ANNA, &outbox));
    assert!(watches.join(BEN, &outbox));
    assert_eq!(outbox.watched(), [BEN]);
}

#[tokio::test(start_paused = true)]
async fn a_dialect_that_joins_presences_gets_one_frame() {
    let Some(joining) = DialectId::ALL.into_iter().find(|it| it.joins_presences()) else {
        panic!("some dialect does");
    };
    let (watches, outbox) = (Watches::default(), socket_with(256, joining));
    let users: Vec<UserId> = (10..40).map(|n| UserId(Uuid::from_u128(n))).collect();
    watched(&watches, &outbox, &users);
    let frames = |outbox: &Outbox| {
        let mut batch = Batch::new();
        let mut cx = Context::from_waker(Waker::noop());
        while outbox.poll_batch(&mut cx, &mut batch).is_ready() {}
        batch.len()
    };
    assert_eq!(frames(&outbox), 1, "when it begins to watch");
    advance(PAUSE).await;
    hear(&watches, presence(users[0], 1, Online));
    assert_eq!(frames(&outbox), 1, "alone");
    for user in &users {
        hear(&watches, presence(*user, 2, Away));
    }
    assert_eq!(frames(&outbox), 1, "a burst");
}
