//! Calls that nobody answers, and what becomes of them.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Deployment, Dialect, Plan, Socket, User, eventually, wait::PATIENCE};

use super::{answer, call, ended, hang_up, offer_to, told};
use crate::support::{in_each_dialect, unlimited};

/// What is kept of the calls that a user missed.
async fn missed(socket: &Socket, call: &str, from: &User) -> Value {
    let frame = socket.expect("notification").await;
    let payload = &frame["payload"];
    assert_eq!(payload["kind"], "call.missed", "{frame}");
    assert_eq!(payload["callId"], call, "{frame}");
    assert_eq!(payload["from"], from.id.as_str(), "{frame}");
    assert!(payload["at"].is_string(), "{frame}");
    assert!(frame["epoch"].is_u64() && frame["offset"].is_u64());
    assert_eq!(frame["topic"], "user", "{frame}");
    frame
}

fn hasty(ring: &str) -> Plan {
    Plan::default()
        .with("TIDEGATE_CALLS__RING_TIMEOUT", ring)
        .with("TIDEGATE_JOBS__CALLS_INTERVAL", "500ms")
}

in_each_dialect!(
    who_is_offline_learns_later_that_somebody_called,
    who_is_busy_learns_that_somebody_called,
    a_call_that_nobody_answers_lapses,
    a_call_that_is_declined_or_given_up_ends
);

async fn who_is_offline_learns_later_that_somebody_called(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    // From now on the device has a place in the queue.
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    phone.close().await;
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let id = eventually("nobody is there", PATIENCE, || async {
        let id = call(&caller, &bob).await;
        let over = told(&caller, "call.ended", &id).await;
        (over["reason"] == "offline").then_some(id)
    })
    .await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    missed(&phone, &id, &ann).await;
    // It is confirmed by and by, and comes no more.
    eventually("it comes once", PATIENCE, || async {
        let (again, _) = tidegate.connect(0, &bob, "phone").await;
        let frame = again
            .try_take(Duration::from_millis(300), |it| {
                it["type"] == "notification"
            })
            .await;
        frame.is_none().then_some(())
    })
    .await;
}

async fn who_is_busy_learns_that_somebody_called(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob, eve) = (
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("eve").await,
    );
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let (third, _) = tidegate.connect(0, &eve, "phone").await;
    let id = call(&caller, &bob).await;
    told(&callee, "call.incoming", &id).await;
    for answered in [false, true] {
        if answered {
            answer(&callee, &id).await;
        }
        for busy in [&bob, &ann] {
            let vain = call(&third, busy).await;
            ended(&third, &vain, "busy").await;
            let of_them = if busy.id == bob.id { &callee } else { &caller };
            missed(of_them, &vain, &eve).await;
        }
    }
    assert_eq!(callee.count("call.incoming"), 0, "one call at a time");
    hang_up(&callee, &id).await;
    let free = call(&third, &bob).await;
    told(&callee, "call.incoming", &free).await;
}

async fn a_call_that_nobody_answers_lapses(dialect: Dialect) {
    let tidegate = Deployment::start_with(hasty("1s").dialect(dialect)).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let id = call(&caller, &bob).await;
    told(&callee, "call.incoming", &id).await;
    ended(&caller, &id, "timeout").await;
    ended(&callee, &id, "timeout").await;
    missed(&callee, &id, &ann).await;
    let again = call(&callee, &ann).await;
    told(&caller, "call.incoming", &again).await;
}

async fn a_call_that_is_declined_or_given_up_ends(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let (tablet, _) = tidegate.connect(0, &bob, "tablet").await;

    let id = call(&caller, &bob).await;
    told(&phone, "call.incoming", &id).await;
    assert_eq!(hang_up(&phone, &id).await, "declined");
    ended(&caller, &id, "declined").await;
    ended(&tablet, &id, "declined").await;

    let id = call(&caller, &bob).await;
    told(&phone, "call.incoming", &id).await;
    let payload = json!({"callId": id, "reason": "busy"});
    let reply = phone.request("call.hangup", payload).await;
    assert_eq!(reply["payload"]["reason"], "busy", "{reply}");
    ended(&caller, &id, "busy").await;
    ended(&tablet, &id, "busy").await;

    let id = call(&caller, &bob).await;
    told(&phone, "call.incoming", &id).await;
    assert_eq!(hang_up(&caller, &id).await, "hangup");
    ended(&phone, &id, "hangup").await;
    ended(&tablet, &id, "hangup").await;
    // Only the last was missed: the others were refused.
    missed(&phone, &id, &ann).await;
    assert_eq!(phone.count("notification"), 0);
}

#[tokio::test]
async fn a_call_that_is_given_up_while_it_is_placed_does_not_ring_on() {
    let tidegate = Deployment::start_with(unlimited()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (again, _) = tidegate.connect(1, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    for number in 0..100 {
        let id = format!("01890a5d-ac96-774b-bcce-{number:012}");
        let mut offer = offer_to(&bob);
        offer["callId"] = id.as_str().into();
        let offered = caller.request("call.offer", offer);
        let given_up = eventually("the call is known", PATIENCE, || async {
            let reply = again.request("call.hangup", json!({ "callId": id })).await;
            (reply["type"] == "call.ended").then_some(())
        });
        tokio::join!(offered, given_up);
        // What is told of the next one is behind what was told of this one.
        let next = call(&caller, &bob).await;
        told(&callee, "call.incoming", &next).await;
        let heard = callee.waiting();
        let is_of_first = |frame: &&Value| {
            frame["payload"]["callId"] == id.as_str() && frame["type"] != "notification"
        };
        let last = heard.iter().rfind(is_of_first);
        let last = last.expect("it was told of the end, at least");
        assert_eq!(last["type"], "call.ended", "{:?}", callee.waiting());
        hang_up(&caller, &next).await;
    }
}

#[tokio::test]
async fn a_worker_ends_a_call_whose_caller_died_with_its_node() {
    let tidegate = Deployment::start_with(hasty("3s")).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let id = call(&caller, &bob).await;
    told(&callee, "call.incoming", &id).await;
    tidegate.gateways[0].kill9();
    ended(&callee, &id, "timeout").await;
    missed(&callee, &id, &ann).await;
}
