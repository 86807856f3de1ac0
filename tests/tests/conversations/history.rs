//! What was said before: pages, unread counts, what became of a message.

use std::collections::HashSet;

use serde_json::{Value, json};
use testkit::{Deployment, User, eventually, wait::PATIENCE};

use super::{ask, group, say};

/// Contents of a list of messages, without those of the server.
fn contents(items: &Value) -> Vec<String> {
    let items = items.as_array().expect("a list");
    items
        .iter()
        .filter(|it| it["senderType"] != "SYSTEM")
        .map(|it| it["content"].as_str().expect("a text").to_owned())
        .collect()
}

async fn page(tidegate: &Deployment, user: &User, id: &str, query: &str) -> Value {
    let path = format!("GET /conversations/{id}/messages?{query}");
    ask(tidegate, 1, user, &path, Value::Null).await
}

#[tokio::test]
async fn what_was_just_said_is_in_the_history_at_once_on_every_node() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    for n in 0..30 {
        let text = format!("message {n}");
        let said = say(&socket, &id, &text).await;
        let newest = page(&tidegate, &bob, &id, "limit=1").await;
        assert_eq!(newest["items"][0]["id"], said.as_str(), "{newest}");
        assert_eq!(newest["items"][0]["content"], text.as_str(), "{newest}");
        if n % 3 == 0 {
            let edit =
                json!({"messageId": said, "conversationId": id, "message": format!("edited {n}")});
            socket.request("message.edit", edit).await;
            let newest = page(&tidegate, &bob, &id, "limit=1").await;
            assert_eq!(
                newest["items"][0]["content"],
                format!("edited {n}"),
                "{newest}"
            );
            assert!(newest["items"][0]["editedAt"].is_string(), "{newest}");
        }
        if n % 7 == 0 {
            let delete = json!({"messageId": said, "conversationId": id});
            socket.request("message.delete", delete).await;
            let newest = page(&tidegate, &bob, &id, "limit=1").await;
            assert_eq!(newest["items"][0]["isDeleted"], true, "{newest}");
            assert_eq!(newest["items"][0]["content"], "", "{newest}");
        }
    }
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_others_write() {
    let tidegate = Deployment::start_with(crate::support::unlimited()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let mut said = Vec::new();
    for n in 0..60 {
        said.push(say(&ann_socket, &id, &format!("before {n}")).await);
    }
    let last = said.last().expect("some").clone();

    let writing = async {
        for n in 0..60 {
            say(&bob_socket, &id, &format!("meanwhile {n}")).await;
        }
    };
    let reading = async {
        let (mut back, mut cursor) = (Vec::new(), String::new());
        loop {
            let newest = page(&tidegate, &ann, &id, &format!("limit=7{cursor}")).await;
            back.extend(contents(&newest["items"]));
            match newest["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break back,
            }
        }
    };
    let following = async {
        let (mut forth, mut after) = (Vec::new(), last.clone());
        while forth.len() < 60 {
            let next = page(&tidegate, &ann, &id, &format!("limit=7&after={after}")).await;
            if let Some(newest) = next["items"].as_array().and_then(|items| items.last()) {
                after = newest["id"].as_str().expect("an id").to_owned();
            }
            forth.extend(contents(&next["items"]));
        }
        forth
    };
    let ((), back, forth) = tokio::join!(writing, reading, following);

    let unique: HashSet<&String> = back.iter().collect();
    assert_eq!(unique.len(), back.len(), "repeated");
    let before: Vec<String> = (0..60).rev().map(|n| format!("before {n}")).collect();
    let found: Vec<String> = back
        .iter()
        .filter(|it| it.starts_with("before"))
        .cloned()
        .collect();
    assert_eq!(found, before);
    let meanwhile: Vec<String> = (0..60).map(|n| format!("meanwhile {n}")).collect();
    assert_eq!(
        forth, meanwhile,
        "everything that came after, once and in order"
    );
}

#[tokio::test]
async fn unread_counts_and_the_state_of_a_message_follow_receipts() {
    let tidegate = Deployment::start().await;
    let [ann, bob, cat] = [
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("cat").await,
    ];
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let (cat_socket, _) = tidegate.connect(1, &cat, "phone").await;
    let id = group(&tidegate, &[&ann, &bob, &cat]).await;
    let mut said = Vec::new();
    for n in 0..5 {
        said.push(say(&ann_socket, &id, &format!("message {n}")).await);
    }
    let unread = |user: &User| {
        let user = user.clone();
        let tidegate = &tidegate;
        async move {
            let list = ask(tidegate, 0, &user, "GET /conversations", Value::Null).await;
            list["items"][0]["unreadCount"].as_u64().expect("a number")
        }
    };
    let becomes = async |user: &User, count: u64| {
        eventually(&format!("{count} unread"), PATIENCE, || async {
            (unread(user).await == count).then_some(())
        })
        .await;
    };
    becomes(&bob, 5).await;
    becomes(&ann, 0).await;
    let mark =
        |name: &'static str, upto: usize| (name, json!({"conversationId": id, "upTo": said[upto]}));
    let (name, payload) = mark("mark.read", 2);
    bob_socket.request(name, payload).await;
    becomes(&bob, 2).await;
    becomes(&cat, 5).await;
    let read = format!("POST /conversations/{id}/read");
    ask(&tidegate, 0, &bob, &read, json!({"upTo": said[4]})).await;
    becomes(&bob, 0).await;

    let states = async |expected: [&str; 5]| {
        eventually(&format!("{expected:?}"), PATIENCE, || async {
            let newest = page(&tidegate, &ann, &id, "limit=5").await;
            let items = newest["items"].as_array().expect("a list").clone();
            let found: Vec<_> = items.iter().rev().map(|it| it["status"].clone()).collect();
            (found == expected).then_some(())
        })
        .await;
    };
    states(["SENT"; 5]).await;
    let (name, payload) = mark("mark.delivered", 3);
    cat_socket.request(name, payload).await;
    states(["DELIVERED", "DELIVERED", "DELIVERED", "DELIVERED", "SENT"]).await;
    let (name, payload) = mark("mark.read", 1);
    cat_socket.request(name, payload).await;
    states(["READ", "READ", "DELIVERED", "DELIVERED", "SENT"]).await;
}

#[tokio::test]
async fn a_message_over_rest_is_the_same_act_as_over_a_socket() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let path = format!("/api/v1/conversations/{id}/messages");
    let post = async |text: &str| {
        let body = json!({"content": text});
        let key = [("idempotency-key", "once")];
        let rest = tidegate.gateways[0].rest();
        let answer = rest.ask_with("POST", &path, &ann.token, &body, &key);
        answer.await.expect("an answer")
    };
    let (one, two) = (post("from rest").await, post("from rest").await);
    assert_eq!(one.status, 201, "{}", one.body);
    assert_eq!(one.body["id"], two.body["id"]);
    assert_eq!(one.body["content"], "from rest");
    assert_eq!(one.body["status"], "SENT");
    assert_eq!(post("other").await.status, 409);
    let told = super::expect_message(&bob_socket, "from rest").await;
    assert_eq!(told["payload"]["messageId"], one.body["id"]);
    let message = format!(
        "/conversations/{id}/messages/{}",
        one.body["id"].as_str().unwrap()
    );
    ask(
        &tidegate,
        1,
        &ann,
        &format!("PATCH {message}"),
        json!({"content": "edited"}),
    )
    .await;
    let edited = bob_socket.expect("message.edited").await;
    assert_eq!(edited["payload"]["content"], "edited");
    ask(
        &tidegate,
        0,
        &ann,
        &format!("DELETE {message}"),
        Value::Null,
    )
    .await;
    bob_socket.expect("message.deleted").await;
    assert_eq!(
        bob_socket.count("message.new"),
        1,
        "only that the group was made"
    );
}
