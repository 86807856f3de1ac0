//! Commands to users who are there.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use testkit::{Deployment, SocketOptions};

use crate::support::{
    Load, LoadSize, assert_error, expect_content, expect_status, id_of, message, send, unlimited,
};

#[tokio::test]
async fn a_command_reaches_its_user_on_another_node() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, connected) = tidegate.connect(0, &ann, "laptop").await;
    assert_eq!(connected["userId"], ann.id.as_str(), "{connected}");
    assert_eq!(connected["device"], "laptop", "{connected}");
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;

    let id = send(&ann_socket, &bob, "hello").await;

    let frame = expect_content(&bob_socket, "hello").await;
    assert_eq!(frame["topic"], "user", "{frame}");
    assert!(
        frame["epoch"].is_u64() && frame["offset"].is_u64(),
        "{frame}"
    );
    let payload = &frame["payload"];
    assert_eq!(payload["commandId"], id.as_str());
    assert_eq!(payload["commandType"], "message");
    assert_eq!(payload["senderId"], ann.id.as_str());
    assert_eq!(payload["senderName"], "ann");
    assert_eq!(payload["broadcast"], "user");
    assert_eq!(payload["categories"], json!([]));
    assert_eq!(payload["files"], json!([]));
    assert!(
        payload["createdAt"].is_string() && payload["expiresAt"].is_string(),
        "{payload}"
    );
    assert_eq!(
        ann_socket.count("command.new"),
        0,
        "the sender is no recipient"
    );
}

#[tokio::test]
async fn data_is_passed_through_as_it_was_written() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let mut payload = message(&bob, "ünïcode 🎉 \"quoted\" \\ line\nbreak");
    payload["commandType"] = "task".into();
    payload["data"] = json!({"b": [1, 2.5, null, true], "a": {"nested": "yes"}, "": "empty key"});

    let reply = ann_socket.request("command.create", payload.clone()).await;
    assert_eq!(reply["type"], "command.accepted", "{reply}");

    let frame = bob_socket.expect("command.new").await;
    assert_eq!(frame["payload"]["data"], payload["data"]);
    assert_eq!(frame["payload"]["content"], payload["content"]);
    assert_eq!(frame["payload"]["commandType"], "task");
}

#[tokio::test]
async fn every_device_of_a_user_gets_every_command() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let (tablet, _) = tidegate.connect(1, &bob, "tablet").await;
    let (watch, _) = tidegate.connect(1, &bob, "watch").await;
    for n in 0..20 {
        send(&ann_socket, &bob, &format!("command {n}")).await;
    }
    for device in [&phone, &tablet, &watch] {
        for n in 0..20 {
            expect_content(device, &format!("command {n}")).await;
        }
    }
}

#[tokio::test]
async fn a_user_can_send_to_themselves() {
    let tidegate = Deployment::start().await;
    let ann = tidegate.user("ann").await;
    let (laptop, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &ann, "phone").await;
    let id = send(&laptop, &ann, "do not forget").await;
    expect_content(&laptop, "do not forget").await;
    expect_content(&phone, "do not forget").await;
    expect_status(&laptop, &id, "delivered").await;
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_nothing_happens_twice() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (one, _) = tidegate.connect(0, &ann, "laptop").await;
    let (other, _) = tidegate.connect(1, &ann, "phone").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;

    let first = one
        .request_as("order-1", "command.create", message(&bob, "once"))
        .await;
    let again = one
        .request_as("order-1", "command.create", message(&bob, "once"))
        .await;
    let elsewhere = other
        .request_as("order-1", "command.create", message(&bob, "once"))
        .await;
    assert_eq!(id_of(&first), id_of(&again));
    assert_eq!(id_of(&first), id_of(&elsewhere));

    let changed = one
        .request_as("order-1", "command.create", message(&bob, "twice"))
        .await;
    assert_error(&changed, "conflict");

    send(&one, &bob, "after").await;
    expect_content(&bob_socket, "once").await;
    expect_content(&bob_socket, "after").await;
    assert_eq!(bob_socket.count("command.new"), 0);
}

#[tokio::test]
async fn another_senders_request_may_have_the_same_id() {
    let tidegate = Deployment::start().await;
    let (ann, eve, bob) = (
        tidegate.user("ann").await,
        tidegate.user("eve").await,
        tidegate.user("bob").await,
    );
    let (ann_socket, _) = tidegate.connect(0, &ann, "a").await;
    let (eve_socket, _) = tidegate.connect(0, &eve, "e").await;
    let one = ann_socket
        .request_as("1", "command.create", message(&bob, "from ann"))
        .await;
    let two = eve_socket
        .request_as("1", "command.create", message(&bob, "from eve"))
        .await;
    assert_eq!(two["type"], "command.accepted", "{two}");
    assert_ne!(id_of(&one), id_of(&two));
}

#[tokio::test]
async fn a_request_without_an_id_gets_no_reply_but_happens() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "a").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "b").await;
    ann_socket
        .send(&json!({"type": "command.create", "payload": message(&bob, "quiet")}))
        .await;
    expect_content(&bob_socket, "quiet").await;
    assert_eq!(ann_socket.count("command.accepted"), 0);
    ann_socket
        .send(&json!({"type": "command.create", "payload": {}}))
        .await;
    assert_error(&ann_socket.expect("error").await, "bad_request");
}

#[tokio::test]
async fn ping_and_heartbeat_are_answered() {
    let tidegate = Deployment::start().await;
    let ann = tidegate.user("ann").await;
    let (socket, _) = tidegate
        .connect_with(0, SocketOptions::bearer(&ann.token).path("/ws"))
        .await;
    assert_eq!(socket.request("ping", json!({})).await["type"], "pong");
    let beat = socket
        .request(
            "heartbeat",
            json!({"timestamp": "2026-01-02T03:04:05.678Z"}),
        )
        .await;
    assert_eq!(beat["type"], "heartbeat", "{beat}");
    assert_eq!(
        beat["payload"]["timestamp"], "2026-01-02T03:04:05.678Z",
        "{beat}"
    );
    assert!(beat["payload"]["serverTime"].is_string(), "{beat}");
}

#[tokio::test]
async fn two_thousand_commands_of_twenty_senders_arrive_in_order_and_once() {
    let tidegate = Arc::new(Deployment::start_with(unlimited()).await);
    let size = LoadSize {
        senders: 20,
        recipients: 1,
        devices: 3,
        pause: Duration::ZERO,
        each: Some(100),
        padding: 0,
    };
    let load = Load::start(tidegate, size).await;
    let (promised, verdict) = load.finish().await;
    verdict.assert_clean();
    assert_eq!(promised, 2000);
}
