//! What users choose to see, and when it counts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Deployment, Socket, SocketOptions, User};

use crate::{
    broadcasts::to_category,
    support::{assert_error, expect_content, expect_status, id_of, message, send},
};

/// A direct command with a tag.
fn tagged(to: &User, content: &str, tag: &str) -> Value {
    let mut body = message(to, content);
    body["categories"] = json!([tag]);
    body
}

async fn queue(socket: &Socket) -> Vec<(String, String)> {
    let page = socket.request("command.queue", json!({})).await;
    assert_eq!(page["type"], "command.queue", "{page}");
    let commands = page["payload"]["commands"].as_array().expect("a list");
    let text = |command: &Value, field: &str| command[field].as_str().expect("a text").to_owned();
    commands
        .iter()
        .map(|command| (text(command, "content"), text(command, "status")))
        .collect()
}

async fn block(socket: &Socket, tags: &[&str]) {
    let chosen = json!({"blockedCategories": tags, "allowedCategories": []});
    let reply = socket.request("preferences.update", chosen.clone()).await;
    assert_eq!(reply["type"], "preferences", "{reply}");
    assert_eq!(reply["payload"], chosen, "{reply}");
}

#[tokio::test]
async fn all_devices_on_all_nodes_hear_a_choice_within_a_second() {
    let tidegate = Deployment::start().await;
    let bob = tidegate.user("bob").await;
    let (laptop, _) = tidegate.connect(0, &bob, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let (tablet, _) = tidegate.connect(1, &bob, "tablet").await;
    let mut took = Vec::new();
    for n in 0..9 {
        let tags: &[&str] = if n % 2 == 0 { &["feet"] } else { &["adult"] };
        let begun = Instant::now();
        block(&laptop, tags).await;
        for device in [&laptop, &phone, &tablet] {
            let heard = device.expect("preferences").await;
            assert_eq!(heard["topic"], "user", "{heard}");
            assert_eq!(heard["payload"]["blockedCategories"], json!(tags));
        }
        took.push(begun.elapsed());
    }
    took.sort();
    println!("median {:?}, longest {:?}", took[4], took[8]);
    assert!(took[4] < Duration::from_secs(1), "{took:?}");
    let (again, _) = tidegate.connect(1, &bob, "new").await;
    let told = again.request("preferences.get", json!({})).await;
    assert_eq!(told["payload"]["blockedCategories"], json!(["feet"]));
}

#[tokio::test]
async fn a_choice_counts_for_what_waits_for_a_device_that_is_away() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    phone.close().await;

    let mut ids = Vec::new();
    for tag in ["feet", "mild"] {
        for body in [
            tagged(&bob, &format!("direct {tag}"), tag),
            to_category(&format!("broadcast {tag}"), &[tag]),
        ] {
            let accepted = ann_socket.request("command.create", body).await;
            assert_eq!(accepted["type"], "command.accepted", "{accepted}");
            ids.push(id_of(&accepted));
        }
    }
    // Chosen by another device before the phone comes back; it confirms nothing.
    let options = SocketOptions::bearer(&bob.token)
        .device("laptop")
        .without_pongs();
    let (laptop, _) = tidegate.connect_with(1, options).await;
    block(&laptop, &["feet"]).await;

    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let mut got = Vec::new();
    for _ in 0..2 {
        let frame = phone.expect("command.new").await;
        got.push(frame["payload"]["content"].as_str().unwrap().to_owned());
    }
    got.sort();
    assert_eq!(got, ["broadcast mild", "direct mild"]);
    // Confirmed, and the one before it passed over.
    expect_status(&ann_socket, &ids[2], "delivered").await;
    assert!(
        ann_socket
            .waiting()
            .iter()
            .all(|frame| frame["payload"]["commandId"] != ids[0].as_str()),
        "what was kept from the device is not delivered"
    );
    let mut waiting: Vec<_> = queue(&phone).await.into_iter().map(|it| it.0).collect();
    waiting.sort();
    assert_eq!(waiting, ["broadcast mild", "direct mild"]);

    // Unblocked, it is not delivered later, but listed: as pending.
    block(&phone, &[]).await;
    let after = send(&ann_socket, &bob, "after").await;
    expect_content(&phone, "after").await;
    expect_status(&ann_socket, &after, "delivered").await;
    phone.close().await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    testkit::eventually(
        "the queue is as it should be",
        testkit::wait::PATIENCE,
        || async {
            let listed = queue(&phone).await;
            let state = |content: &str| {
                let found = listed.iter().find(|(text, _)| text == content);
                found.map(|(_, state)| state.as_str())
            };
            let is_right = state("direct feet") == Some("pending")
                && state("broadcast feet") == Some("pending")
                && state("direct mild") == Some("delivered")
                && listed.len() == 5;
            is_right.then_some(())
        },
    )
    .await;
    assert_eq!(phone.count("command.new"), 0, "{:?}", phone.waiting());
}

#[tokio::test]
async fn a_choice_is_refused_as_a_whole_or_kept_as_a_whole() {
    let tidegate = Deployment::start().await;
    let bob = tidegate.user("bob").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    block(&phone, &["feet"]).await;
    let many: Vec<_> = (0..201).map(|n| format!("tag{n}")).collect();
    for wrong in [
        json!({"blockedCategories": ["No"]}),
        json!({"blockedCategories": "feet"}),
        json!({"allowedCategories": many}),
        json!({"blockedCategories": ["mild"], "allowedCategories": ["no-such-category"]}),
    ] {
        let reply = phone.request("preferences.update", wrong.clone()).await;
        assert_error(&reply, "bad_request");
        let told = phone.request("preferences.get", json!({})).await;
        let kept = json!({"blockedCategories": ["feet"], "allowedCategories": []});
        assert_eq!(told["payload"], kept, "after {wrong}");
    }
}

#[tokio::test]
async fn a_choice_outlives_redis() {
    let tidegate = Deployment::start().await;
    let bob = tidegate.user("bob").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    block(&phone, &["feet"]).await;
    phone.close().await;
    tidegate
        .until_stored(
            "the choice is in the record",
            "SELECT count(*) FROM user_preferences WHERE blocked = ARRAY['feet']",
            1,
        )
        .await;
    // All that Redis knows of this user.
    let keys = tidegate
        .redis()
        .call(&["KEYS", &format!("*:{}", bob.id)])
        .await;
    for key in keys.list() {
        tidegate
            .redis()
            .call(&["DEL", &key.text().expect("a key")])
            .await;
    }
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let told = phone.request("preferences.get", json!({})).await;
    assert_eq!(told["payload"]["blockedCategories"], json!(["feet"]));
}
