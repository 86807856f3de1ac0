//! Several devices, and devices that go away.

use std::time::Duration;

use testkit::{Deployment, Dialect, Plan, Socket};

use super::{answer, call, candidates, ended, hang_up, ice, numbered, told, try_answer, try_ice};
use crate::support::{assert_error, in_each_dialect};

in_each_dialect!(
    one_device_answers_and_the_others_stop_to_ring,
    a_device_that_comes_while_it_rings_rings_too,
    two_who_call_each_other_at_once_have_one_call
);

async fn one_device_answers_and_the_others_stop_to_ring(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let (tablet, _) = tidegate.connect(1, &bob, "tablet").await;
    let id = call(&caller, &bob).await;
    for device in [&phone, &tablet] {
        told(device, "call.incoming", &id).await;
        told(device, "call.offer", &id).await;
    }
    answer(&tablet, &id).await;
    ended(&phone, &id, "answered_elsewhere").await;
    assert_error(&try_answer(&phone, &id).await, "conflict");
    assert_error(&try_ice(&phone, &id, 9).await, "conflict");
    // From now on only the device in the call is told.
    ice(&caller, &id, 1).await;
    assert_eq!(candidates(&tablet, &id, 1).await, numbered(1..2));
    hang_up(&caller, &id).await;
    ended(&tablet, &id, "hangup").await;
    assert_eq!(phone.count("call.ice"), 0);
    assert_eq!(phone.count("call.ended"), 0);
}

async fn a_device_that_comes_while_it_rings_rings_too(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let id = call(&caller, &bob).await;
    told(&phone, "call.offer", &id).await;
    for number in 0..3 {
        ice(&caller, &id, number).await;
    }
    let (tablet, _) = tidegate.connect(1, &bob, "tablet").await;
    told(&tablet, "call.incoming", &id).await;
    let offer = told(&tablet, "call.offer", &id).await;
    assert_eq!(offer["sdp"], "v=0 offer", "{offer}");
    assert_eq!(candidates(&tablet, &id, 3).await, numbered(0..3));
    answer(&tablet, &id).await;
    told(&caller, "call.answer", &id).await;
    ended(&phone, &id, "answered_elsewhere").await;
}

async fn two_who_call_each_other_at_once_have_one_call(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (one, _) = tidegate.connect(0, &ann, "laptop").await;
    let (other, _) = tidegate.connect(1, &bob, "phone").await;
    for _ in 0..20 {
        let (of_ann, of_bob) = tokio::join!(call(&one, &bob), call(&other, &ann));
        // Whoever hears that somebody calls has lost.
        let is_incoming = |frame: &serde_json::Value| frame["type"] == "call.incoming";
        let (at_one, at_other) = (
            one.try_take(Duration::from_millis(500), is_incoming),
            other.try_take(Duration::from_millis(500), is_incoming),
        );
        let (at_one, at_other) = tokio::join!(at_one, at_other);
        let (winner, loser, won, lost): (&Socket, &Socket, _, _) =
            match (at_one.is_some(), at_other.is_some()) {
                (true, false) => (&other, &one, &of_bob, &of_ann),
                (false, true) => (&one, &other, &of_ann, &of_bob),
                both => panic!("who rings: {both:?}"),
            };
        ended(loser, lost, "glare").await;
        answer(loser, won).await;
        told(winner, "call.answer", won).await;
        hang_up(winner, won).await;
        ended(loser, won, "hangup").await;
    }
}

#[tokio::test]
async fn of_two_devices_that_answer_at_once_on_two_nodes_one_wins() {
    let tidegate = Deployment::start_with(crate::support::unlimited()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let (tablet, _) = tidegate.connect(1, &bob, "tablet").await;
    let mut won = [0, 0];
    for _ in 0..1000 {
        let id = call(&caller, &bob).await;
        tokio::join!(
            told(&phone, "call.offer", &id),
            told(&tablet, "call.offer", &id)
        );
        let answers = tokio::join!(try_answer(&phone, &id), try_answer(&tablet, &id));
        let (winner, loser, refusal) = match (&answers.0, &answers.1) {
            (yes, no) if yes["type"] == "call.answer" => (0, &tablet, no),
            (no, _) => (1, &phone, no),
        };
        won[winner] += 1;
        assert_error(refusal, "conflict");
        ended(loser, &id, "answered_elsewhere").await;
        told(&caller, "call.answer", &id).await;
        assert_eq!(caller.count("call.answer"), 0, "one has answered");
        hang_up(&caller, &id).await;
        ended(if winner == 0 { &phone } else { &tablet }, &id, "hangup").await;
    }
    assert!(won.iter().all(|count| *count > 0), "{won:?}");
}

/// A device in a call may be away for so long.
fn soon() -> Plan {
    Plan::default().with("TIDEGATE_CALLS__RECONNECT_GRACE", "500ms")
}

#[tokio::test]
async fn a_call_ends_when_a_device_in_it_is_gone() {
    let tidegate = Deployment::start_with(soon()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    for who_goes in [0, 1] {
        let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
        let (callee, _) = tidegate.connect(1, &bob, "phone").await;
        let id = call(&caller, &bob).await;
        told(&callee, "call.offer", &id).await;
        answer(&callee, &id).await;
        told(&caller, "call.answer", &id).await;
        let (gone, left) = if who_goes == 0 {
            (caller, callee)
        } else {
            (callee, caller)
        };
        gone.abort().await;
        ended(&left, &id, "disconnected").await;
    }
}

#[tokio::test]
async fn a_call_ends_when_the_last_device_that_rings_is_gone() {
    let tidegate = Deployment::start_with(soon()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let id = call(&caller, &bob).await;
    told(&callee, "call.offer", &id).await;
    callee.abort().await;
    ended(&caller, &id, "disconnected").await;
}

#[tokio::test]
async fn a_caller_who_was_away_when_it_was_answered_is_told() {
    let plan = Plan::default().with("TIDEGATE_CALLS__RECONNECT_GRACE", "10s");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let id = call(&caller, &bob).await;
    told(&callee, "call.offer", &id).await;
    ice(&callee, &id, 1).await;
    caller.close().await;
    answer(&callee, &id).await;
    let (caller, _) = tidegate.connect(1, &ann, "laptop").await;
    told(&caller, "call.answer", &id).await;
    assert_eq!(candidates(&caller, &id, 1).await, numbered(1..2));
    hang_up(&callee, &id).await;
    ended(&caller, &id, "hangup").await;
}

#[tokio::test]
async fn a_device_that_comes_back_goes_on_with_its_call_on_any_node() {
    let plan = Plan::default().with("TIDEGATE_CALLS__RECONNECT_GRACE", "10s");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let id = call(&caller, &bob).await;
    told(&callee, "call.offer", &id).await;
    answer(&callee, &id).await;
    callee.close().await;
    ice(&caller, &id, 7).await;
    let (callee, _) = tidegate.connect(0, &bob, "phone").await;
    assert_eq!(candidates(&callee, &id, 1).await, numbered(7..8));
    testkit::eventually(
        "the new socket is in the call",
        testkit::wait::PATIENCE,
        || async { (try_ice(&callee, &id, 1).await["type"] == "call.ice").then_some(()) },
    )
    .await;
    candidates(&caller, &id, 1).await;
    ice(&caller, &id, 2).await;
    assert_eq!(candidates(&callee, &id, 1).await, numbered(2..3));
    hang_up(&caller, &id).await;
    ended(&callee, &id, "hangup").await;
}
