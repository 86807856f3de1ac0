//! Broadcasts to all: who may, and how soon that is known.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Deployment, User, eventually, wait::PATIENCE};

use crate::{
    broadcasts::{to_all, to_category},
    support::{assert_error, expect_content, id_of},
};

async fn administer(tidegate: &Deployment, admin: &User, method: &str, path: &str, body: Value) {
    let rest = tidegate.gateways[0].rest();
    let answer = rest
        .ask(method, &format!("/api/v1/admin{path}"), &admin.token, &body)
        .await
        .expect("the gateway answers");
    assert!(
        (200..300).contains(&answer.status),
        "{method} {path}: {answer:?}"
    );
}

#[tokio::test]
async fn a_right_granted_on_one_node_counts_on_another_within_a_second() {
    let tidegate = Deployment::start().await;
    let (root, ann, bob) = (
        tidegate.user("root1").await,
        tidegate.user("ann").await,
        tidegate.user("bob").await,
    );
    let make_admin = format!("UPDATE users SET role = 'admin' WHERE id = '{}'", root.id);
    tidegate.database.query(&make_admin).await;
    let (ann_socket, _) = tidegate.connect(1, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let refused = ann_socket
        .request("command.create", to_all("too early", &[]))
        .await;
    assert_error(&refused, "forbidden");

    let group = json!({"mayAllcast": true});
    administer(&tidegate, &root, "PUT", "/groups/heralds", group).await;
    let refused = ann_socket
        .request("command.create", to_all("not a member", &[]))
        .await;
    assert_error(&refused, "forbidden");
    let member = format!("/groups/heralds/members/{}", ann.id);
    let mut took = Vec::new();
    for n in 0..5 {
        administer(&tidegate, &root, "PUT", &member, Value::Null).await;
        let begun = Instant::now();
        let content = format!("to all {n}");
        eventually("the right counts", PATIENCE, || async {
            let body = to_all(&content, &[]);
            let reply = ann_socket.request("command.create", body).await;
            (reply["type"] == "command.accepted").then_some(())
        })
        .await;
        took.push(begun.elapsed());
        expect_content(&phone, &content).await;
        administer(&tidegate, &root, "DELETE", &member, Value::Null).await;
        eventually("the right is withdrawn", PATIENCE, || async {
            // Refused for want of a tag, if it is not for want of the right.
            let body = to_all("with the wrong tag", &["no-such-tag"]);
            let reply = ann_socket.request("command.create", body).await;
            (reply["payload"]["code"] == "forbidden").then_some(())
        })
        .await;
    }
    took.sort();
    println!("granted, and in force on the other node: {took:?}");
    assert!(took[2] < Duration::from_secs(1), "{took:?}");
    assert_eq!(phone.count("command.new"), 0, "{:?}", phone.waiting());
}

#[tokio::test]
async fn broadcasts_that_break_a_rule_are_refused_and_reach_nobody() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let with_target = |mut body: Value| {
        body["targetUser"] = json!(bob.id);
        body
    };
    let many: Vec<&str> = vec!["mild"; 17];
    for (body, code) in [
        (to_category("no tag", &[]), "bad_request"),
        (
            to_category("unknown", &["mild", "no-such-tag"]),
            "bad_request",
        ),
        (to_category("no tag at all", &["Mild"]), "bad_request"),
        (to_category("too many", &many), "bad_request"),
        (
            with_target(to_category("for one", &["mild"])),
            "bad_request",
        ),
        (with_target(to_all("for one", &[])), "bad_request"),
        (to_all("no right", &["mild"]), "forbidden"),
        (to_category(&"x".repeat(16_385), &["mild"]), "too_large"),
    ] {
        let refused = ann_socket.request("command.create", body).await;
        assert_error(&refused, code);
    }
    let body = to_category("the last", &["mild"]);
    let first = ann_socket
        .request_as("b1", "command.create", body.clone())
        .await;
    let (other, _) = tidegate.connect(1, &ann, "phone").await;
    let again = other.request_as("b1", "command.create", body).await;
    assert_eq!(id_of(&first), id_of(&again), "on whichever node");
    let changed = to_category("changed", &["mild"]);
    let refused = other.request_as("b1", "command.create", changed).await;
    assert_error(&refused, "conflict");
    expect_content(&phone, "the last").await;
    assert_eq!(phone.count("command.new"), 0, "{:?}", phone.waiting());
}
