//! Calls over two nodes: who is told what, from the offer to the end.

mod deaf;
mod devices;
mod refused;
mod unanswered;

use serde_json::{Value, json};
use testkit::{Deployment, Dialect, Socket, User};

use crate::support::in_each_dialect;

/// The payload of a `call.offer`.
pub fn offer_to(user: &User) -> Value {
    json!({"targetUser": user.id, "sdp": "v=0 offer", "media": {"audio": true}})
}

/// Calls somebody. Answers the id of the call.
pub async fn call(socket: &Socket, user: &User) -> String {
    let reply = socket.request("call.offer", offer_to(user)).await;
    assert_eq!(reply["type"], "call.ringing", "{reply}");
    reply["payload"]["callId"]
        .as_str()
        .unwrap_or_else(|| panic!("no callId in {reply}"))
        .to_owned()
}

/// Answers a call, and is the first to.
pub async fn answer(socket: &Socket, call: &str) {
    let reply = try_answer(socket, call).await;
    assert_eq!(reply["type"], "call.answer", "{reply}");
}

pub async fn try_answer(socket: &Socket, call: &str) -> Value {
    let payload = json!({"callId": call, "sdp": "v=0 answer"});
    socket.request("call.answer", payload).await
}

pub async fn ice(socket: &Socket, call: &str, number: u32) {
    let reply = try_ice(socket, call, number).await;
    assert_eq!(reply["type"], "call.ice", "{reply}");
}

pub async fn try_ice(socket: &Socket, call: &str, number: u32) -> Value {
    let payload = json!({"callId": call, "candidate": {"candidate": format!("c{number}")}});
    socket.request("call.ice", payload).await
}

pub async fn hang_up(socket: &Socket, call: &str) -> Value {
    let reply = socket
        .request("call.hangup", json!({ "callId": call }))
        .await;
    assert_eq!(reply["type"], "call.ended", "{reply}");
    reply["payload"]["reason"].clone()
}

/// What a socket is told of a call that came by itself.
pub async fn told(socket: &Socket, name: &str, call: &str) -> Value {
    let frame = socket
        .take(
            &format!("{name} of {call}"),
            testkit::wait::PATIENCE,
            |it| it["type"] == name && it["replyTo"].is_null() && it["payload"]["callId"] == call,
        )
        .await;
    frame["payload"].clone()
}

/// It is over, for this reason.
pub async fn ended(socket: &Socket, call: &str, reason: &str) -> Value {
    let payload = told(socket, "call.ended", call).await;
    assert_eq!(payload["reason"], reason, "{payload}");
    payload
}

/// The candidates that a socket was told, in the order in which they came.
pub async fn candidates(socket: &Socket, call: &str, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        let payload = told(socket, "call.ice", call).await;
        found.push(payload["candidate"]["candidate"].to_string());
    }
    found
}

pub fn numbered(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("\"c{number}\"")).collect()
}

in_each_dialect!(
    two_users_find_each_other_and_hang_up,
    candidates_from_before_the_answer_arrive_in_order
);

async fn two_users_find_each_other_and_hang_up(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;

    let id = call(&caller, &bob).await;
    let incoming = told(&callee, "call.incoming", &id).await;
    assert_eq!(incoming["from"], ann.id.as_str(), "{incoming}");
    assert_eq!(incoming["to"], bob.id.as_str(), "{incoming}");
    assert_eq!(incoming["media"], json!({"audio": true}), "{incoming}");
    assert!(incoming["at"].is_string(), "{incoming}");
    let offer = told(&callee, "call.offer", &id).await;
    assert_eq!(offer["sdp"], "v=0 offer", "{offer}");

    answer(&callee, &id).await;
    let answered = told(&caller, "call.answer", &id).await;
    assert_eq!(answered["sdp"], "v=0 answer", "{answered}");
    assert_eq!(answered["from"], bob.id.as_str(), "{answered}");
    assert_eq!(answered["to"], ann.id.as_str(), "{answered}");

    ice(&caller, &id, 1).await;
    ice(&callee, &id, 2).await;
    assert_eq!(candidates(&callee, &id, 1).await, numbered(1..2));
    assert_eq!(candidates(&caller, &id, 1).await, numbered(2..3));

    assert_eq!(hang_up(&caller, &id).await, "hangup");
    let over = ended(&callee, &id, "hangup").await;
    assert_eq!(over["from"], ann.id.as_str(), "{over}");
    // The second to hang up learns how it ended.
    assert_eq!(hang_up(&callee, &id).await, "hangup");
    assert_eq!(caller.count("call.ended"), 0, "the answer said so");
    // Both are free again.
    let again = call(&callee, &ann).await;
    told(&caller, "call.incoming", &again).await;
}

async fn candidates_from_before_the_answer_arrive_in_order(dialect: Dialect) {
    let tidegate = Deployment::speaking(dialect).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (caller, _) = tidegate.connect(0, &ann, "laptop").await;
    let (callee, _) = tidegate.connect(1, &bob, "phone").await;
    let id = call(&caller, &bob).await;
    told(&callee, "call.offer", &id).await;
    for number in 0..20 {
        ice(&caller, &id, number).await;
        ice(&callee, &id, 100 + number).await;
    }
    assert_eq!(candidates(&callee, &id, 20).await, numbered(0..20));
    assert_eq!(caller.count("call.ice"), 0, "nobody has answered");
    answer(&callee, &id).await;
    ice(&callee, &id, 120).await;
    told(&caller, "call.answer", &id).await;
    assert_eq!(candidates(&caller, &id, 21).await, numbered(100..121));
}
