//! What is refused, and by which name.

use serde_json::json;
use testkit::Deployment;

use super::{
    answer, call, candidates, hang_up, ice, numbered, offer_to, told, try_answer, try_ice,
};
use crate::support::{assert_error, unlimited};

#[tokio::test]
async fn what_is_no_call_is_refused_by_name() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    let long = "x".repeat(33 * 1024);
    let cases = [
        (json!({"targetUser": ann.id, "sdp": "v=0"}), "bad_request"),
        (json!({"targetUser": nobody, "sdp": "v=0"}), "not_found"),
        (json!({"targetUser": "bob", "sdp": "v=0"}), "bad_request"),
        (json!({"targetUser": bob.id}), "bad_request"),
        (json!({"targetUser": bob.id, "sdp": ""}), "bad_request"),
        (json!({"targetUser": bob.id, "sdp": 7}), "bad_request"),
        (json!({"targetUser": bob.id, "sdp": long}), "too_large"),
        (
            json!({"targetUser": bob.id, "sdp": "v=0", "media": {"x": "y".repeat(3000)}}),
            "too_large",
        ),
        (
            json!({"targetUser": bob.id, "sdp": "v=0", "callId": "one"}),
            "bad_request",
        ),
    ];
    for (payload, code) in cases {
        let reply = caller.request("call.offer", payload.clone()).await;
        assert_eq!(reply["payload"]["code"], code, "{reply}");
    }
    for name in ["call.answer", "call.ice", "call.hangup"] {
        let payload = json!({"callId": nobody, "sdp": "v=0", "candidate": {}});
        assert_error(&caller.request(name, payload).await, "not_found");
        let payload = json!({"callId": "one", "sdp": "v=0", "candidate": {}});
        assert_error(&caller.request(name, payload).await, "bad_request");
    }
    assert_eq!(callee.count("call.incoming"), 0);

    let id = call(&caller, &bob).await;
    told(&callee, "call.incoming", &id).await;
    let payload = json!({"callId": id, "sdp": "x".repeat(33 * 1024)});
    assert_error(&callee.request("call.answer", payload).await, "too_large");
    let payload = json!({"callId": id, "candidate": "x".repeat(5000)});
    assert_error(&caller.request("call.ice", payload).await, "too_large");
    let payload = json!({"callId": id});
    assert_error(&caller.request("call.ice", payload).await, "bad_request");
    let payload = json!({"callId": id, "reason": "timeout"});
    assert_error(&caller.request("call.hangup", payload).await, "bad_request");
    assert_error(&try_answer(&caller, &id).await, "conflict");
    // Neighbours are unharmed.
    answer(&callee, &id).await;
    told(&caller, "call.answer", &id).await;
    hang_up(&callee, &id).await;
    assert_error(&try_answer(&callee, &id).await, "conflict");
    assert_error(&try_ice(&callee, &id, 1).await, "conflict");
}

#[tokio::test]
async fn a_call_of_others_does_not_exist() {
    let tidegate = Deployment::start().await;
    let (ann, bob, eve) = (
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("eve").await,
    );
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let (third, _) = tidegate.connect(1, &eve, "phone").await;
    let id = call(&caller, &bob).await;
    told(&callee, "call.incoming", &id).await;
    assert_error(&try_answer(&third, &id).await, "not_found");
    assert_error(&try_ice(&third, &id, 1).await, "not_found");
    let reply = third.request("call.hangup", json!({ "callId": id })).await;
    assert_error(&reply, "not_found");
    let mut stolen = offer_to(&bob);
    stolen["callId"] = id.clone().into();
    assert_error(&third.request("call.offer", stolen).await, "conflict");
    answer(&callee, &id).await;
    told(&caller, "call.answer", &id).await;
    assert_eq!(third.waiting().len(), 0, "{:?}", third.waiting());
}

#[tokio::test]
async fn an_offer_that_is_repeated_rings_once() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (other, _) = tidegate.connect(1, &ann, "tablet").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let first = caller.request_as("r1", "call.offer", offer_to(&bob)).await;
    let second = other.request_as("r1", "call.offer", offer_to(&bob)).await;
    assert_eq!(first["payload"], second["payload"]);
    let id = first["payload"]["callId"].as_str().unwrap();
    told(&callee, "call.incoming", id).await;
    let mut changed = offer_to(&bob);
    changed["sdp"] = "v=0 another".into();
    let reply = caller.request_as("r1", "call.offer", changed).await;
    assert_error(&reply, "conflict");
    // In a call, nobody begins another one.
    let reply = caller.request("call.offer", offer_to(&bob)).await;
    assert_error(&reply, "conflict");
    answer(&callee, id).await;
    told(&caller, "call.answer", id).await;
    assert_eq!(callee.count("call.incoming"), 0, "it rang once");
    hang_up(&caller, id).await;
    let free = call(&caller, &bob).await;
    told(&callee, "call.incoming", &free).await;
}

#[tokio::test]
async fn a_caller_may_name_the_call() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let mut offer = offer_to(&bob);
    offer["callId"] = id.into();
    let reply = caller.request("call.offer", offer.clone()).await;
    assert_eq!(reply["payload"]["callId"], id, "{reply}");
    told(&callee, "call.incoming", id).await;
    hang_up(&caller, id).await;
    // What has ended is not begun anew by its name.
    let reply = caller.request("call.offer", offer).await;
    assert_eq!(reply["type"], "call.ringing", "{reply}");
    let next = call(&caller, &bob).await;
    told(&callee, "call.incoming", &next).await;
    assert_eq!(callee.count("call.incoming"), 0, "it rang once");
}

#[tokio::test]
async fn nobody_names_candidates_without_end() {
    let tidegate = Deployment::start_with(unlimited()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let id = call(&caller, &bob).await;
    told(&callee, "call.offer", &id).await;
    for number in 0..64 {
        ice(&callee, &id, number).await;
    }
    assert_error(&try_ice(&callee, &id, 64).await, "too_large");
    // The call goes on, and so does the other party.
    answer(&callee, &id).await;
    ice(&callee, &id, 64).await;
    assert_eq!(candidates(&caller, &id, 65).await, numbered(0..65));
    ice(&caller, &id, 1).await;
    assert_eq!(candidates(&callee, &id, 1).await, numbered(1..2));
}
