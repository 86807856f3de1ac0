//! Conversations over JSON sockets and REST: who is told what, who may do what.

mod history;
mod large;
mod rights;
mod secrets;

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Deployment, Plan, Socket, User, eventually, wait::PATIENCE};

use crate::support::assert_error;

/// A request over REST that has to succeed.
pub async fn ask(
    tidegate: &Deployment,
    node: usize,
    user: &User,
    what: &str,
    body: Value,
) -> Value {
    let (method, path) = what.split_once(' ').expect("METHOD /path");
    let rest = tidegate.gateways[node].rest();
    let path = format!("/api/v1{path}");
    let answer = rest.ask(method, &path, &user.token, &body).await;
    let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        answer.status < 300,
        "{what}: {} {}",
        answer.status,
        answer.body
    );
    answer.body
}

/// Status and code of a request over REST that is refused.
pub async fn refused(tidegate: &Deployment, user: &User, what: &str, body: Value) -> (u16, String) {
    let (method, path) = what.split_once(' ').expect("METHOD /path");
    let path = format!("/api/v1{path}");
    let answer = tidegate.gateways[0]
        .rest()
        .ask(method, &path, &user.token, &body)
        .await;
    let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    let code = answer.body["error"]["code"].as_str().unwrap_or("no code");
    (answer.status, code.to_owned())
}

/// A group made by the first of them.
pub async fn group(tidegate: &Deployment, users: &[&User]) -> String {
    let ids: Vec<&str> = users[1..].iter().map(|user| user.id.as_str()).collect();
    let body = json!({"type": "GROUP", "title": "the group", "participantIds": ids});
    let made = ask(tidegate, 0, users[0], "POST /conversations", body).await;
    made["id"].as_str().expect("an id").to_owned()
}

/// Says something and answers the id of the message.
pub async fn say(socket: &Socket, conversation: &str, text: &str) -> String {
    let payload = json!({"conversationId": conversation, "message": text});
    let reply = socket.request("chat.message", payload).await;
    assert_eq!(reply["type"], "chat.accepted", "{reply}");
    assert_eq!(reply["payload"]["conversationId"], conversation, "{reply}");
    reply["payload"]["messageId"]
        .as_str()
        .expect("an id")
        .to_owned()
}

/// The next message of a person has this content.
pub async fn expect_message(socket: &Socket, content: &str) -> Value {
    let is_said = |frame: &Value| {
        frame["type"] == "message.new" && frame["payload"]["senderType"] != "SYSTEM"
    };
    let frame = socket.take(content, PATIENCE, is_said).await;
    assert_eq!(frame["payload"]["content"], content, "{frame}");
    frame
}

/// The next system message is about this.
pub async fn expect_change(socket: &Socket, what: &str) -> Value {
    let is_change = |frame: &Value| {
        frame["type"] == "message.new" && frame["payload"]["change"]["what"] == what
    };
    socket
        .take(&format!("change {what}"), PATIENCE, is_change)
        .await
}

#[tokio::test]
async fn writing_to_somebody_makes_the_conversation_and_an_answer_comes_back() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;

    let payload = json!({"targetUser": bob.id, "message": "hello", "messageType": "private"});
    let reply = ann_socket.request("chat.message", payload.clone()).await;
    assert_eq!(reply["type"], "chat.accepted", "{reply}");
    let conversation = reply["payload"]["conversationId"]
        .as_str()
        .unwrap()
        .to_owned();

    let frame = expect_message(&bob_socket, "hello").await;
    assert_eq!(frame["topic"], "user", "{frame}");
    let told = &frame["payload"];
    assert_eq!(told["messageId"], reply["payload"]["messageId"]);
    assert_eq!(told["conversationId"], conversation.as_str());
    assert_eq!(told["senderId"], ann.id.as_str());
    assert_eq!(told["senderName"], "ann");
    assert_eq!(told["senderType"], "USER");
    assert_eq!(told["messageType"], "TEXT");
    assert_eq!(told["files"], json!([]));
    assert_eq!(told["createdAt"], reply["payload"]["createdAt"]);

    say(&bob_socket, &conversation, "hello yourself").await;
    expect_message(&ann_socket, "hello").await;
    expect_message(&ann_socket, "hello yourself").await;
    let again = ann_socket.request("chat.message", payload).await;
    assert_eq!(again["payload"]["conversationId"], conversation.as_str());
}

#[tokio::test]
async fn two_who_write_to_each_other_at_once_from_two_nodes_share_one_conversation() {
    let tidegate = Deployment::start().await;
    for round in 0..5 {
        let ann = tidegate.user(&format!("ann{round}")).await;
        let bob = tidegate.user(&format!("bob{round}")).await;
        let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
        let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
        let to = |user: &User| json!({"targetUser": user.id, "message": "me first"});
        let (one, other) = tokio::join!(
            ann_socket.request("chat.message", to(&bob)),
            bob_socket.request("chat.message", to(&ann)),
        );
        assert_eq!(one["type"], "chat.accepted", "{one}");
        let conversation = |reply: &Value| reply["payload"]["conversationId"].clone();
        assert_eq!(conversation(&one), conversation(&other));
        let listed = ask(&tidegate, 0, &ann, "GET /conversations", Value::Null).await;
        assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    }
}

#[tokio::test]
async fn everybody_in_a_group_is_told_everywhere_and_nobody_else() {
    let tidegate = Deployment::start().await;
    let [ann, bob, cat, dan] = [
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("cat").await,
        tidegate.user("dan").await,
    ];
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_phone, _) = tidegate.connect(0, &bob, "phone").await;
    let (bob_tablet, _) = tidegate.connect(1, &bob, "tablet").await;
    let (cat_socket, _) = tidegate.connect(1, &cat, "phone").await;
    let (dan_socket, _) = tidegate.connect(1, &dan, "phone").await;
    let id = group(&tidegate, &[&ann, &bob, &cat]).await;
    for socket in [&ann_socket, &bob_phone, &bob_tablet, &cat_socket] {
        let created = expect_change(socket, "created").await;
        assert_eq!(created["payload"]["senderType"], "SYSTEM", "{created}");
        assert_eq!(created["payload"]["messageType"], "SYSTEM", "{created}");
    }
    for n in 0..20 {
        say(&ann_socket, &id, &format!("message {n}")).await;
    }
    for socket in [&ann_socket, &bob_phone, &bob_tablet, &cat_socket] {
        for n in 0..20 {
            expect_message(socket, &format!("message {n}")).await;
        }
    }
    assert_eq!(dan_socket.count("message.new"), 0);
}

#[tokio::test]
async fn who_was_away_gets_what_was_said_meanwhile_first() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    for n in 0..10 {
        say(&ann_socket, &id, &format!("while away {n}")).await;
    }
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    say(&ann_socket, &id, "live").await;
    for n in 0..10 {
        expect_message(&bob_socket, &format!("while away {n}")).await;
    }
    expect_message(&bob_socket, "live").await;
}

#[tokio::test]
async fn a_request_that_is_sent_again_says_it_once() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (first, _) = tidegate.connect(0, &ann, "laptop").await;
    let (second, _) = tidegate.connect(1, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let payload = |text: &str| json!({"conversationId": id, "message": text});
    let one = first
        .request_as("once", "chat.message", payload("only once"))
        .await;
    let two = second
        .request_as("once", "chat.message", payload("only once"))
        .await;
    assert_eq!(one["payload"], two["payload"]);
    let other = first
        .request_as("once", "chat.message", payload("something else"))
        .await;
    assert_error(&other, "conflict");
    say(&first, &id, "the end").await;
    expect_message(&bob_socket, "only once").await;
    expect_message(&bob_socket, "the end").await;
}

#[tokio::test]
async fn joins_leaves_and_renames_are_told() {
    let tidegate = Deployment::start().await;
    let [ann, bob, cat] = [
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("cat").await,
    ];
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (cat_socket, _) = tidegate.connect(1, &cat, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let path = format!("/conversations/{id}");
    let participants = format!("POST {path}/participants");
    ask(&tidegate, 1, &ann, &participants, json!({"userId": cat.id})).await;
    for socket in [&ann_socket, &cat_socket] {
        let joined = expect_change(socket, "joined").await;
        assert_eq!(joined["payload"]["change"]["userIds"], json!([cat.id]));
    }
    let rename = json!({"title": "another title"});
    ask(&tidegate, 0, &ann, &format!("PATCH {path}"), rename).await;
    let renamed = expect_change(&cat_socket, "renamed").await;
    assert_eq!(renamed["payload"]["change"]["title"], "another title");
    let leave = format!("DELETE {path}/participants/{}", cat.id);
    ask(&tidegate, 1, &cat, &leave, Value::Null).await;
    let left = expect_change(&ann_socket, "left").await;
    assert_eq!(left["payload"]["change"]["userId"], cat.id.as_str());
    expect_change(&cat_socket, "left").await;
    say(&ann_socket, &id, "without cat").await;
    expect_message(&ann_socket, "without cat").await;
    assert_eq!(cat_socket.count("message.new"), 0, "nothing after leaving");
}

#[tokio::test]
async fn receipts_reach_who_asked_for_the_conversation() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let subscribe = json!({"topics": ["conversation"], "filters": {"conversation_id": id}});
    let reply = ann_socket.request("subscribe", subscribe).await;
    assert_eq!(reply["type"], "subscribed", "{reply}");
    assert_eq!(reply["payload"]["refused"], json!([]), "{reply}");
    expect_change(&ann_socket, "created").await;
    let first = say(&ann_socket, &id, "one").await;
    let second = say(&ann_socket, &id, "two").await;
    expect_message(&ann_socket, "one").await;
    expect_message(&ann_socket, "two").await;

    let single = json!({"conversationId": id, "messageIds": [first]});
    let reply = bob_socket.request("mark.delivered", single).await;
    assert_eq!(reply["type"], "message.delivered", "{reply}");
    let bulk = json!({"conversationId": id, "upTo": second});
    let reply = bob_socket.request("mark.read", bulk).await;
    assert_eq!(reply["type"], "message.read", "{reply}");

    let delivered = ann_socket.expect("message.delivered").await;
    assert_eq!(delivered["payload"]["messageIds"], json!([first]));
    assert_eq!(delivered["payload"]["userId"], bob.id.as_str());
    let read = ann_socket.expect("message.read").await;
    assert_eq!(read["payload"]["upTo"], second.as_str());
    assert_eq!(read["payload"]["conversationId"], id.as_str());
    assert!(read["payload"]["at"].is_string(), "{read}");
    let again = ann_socket.count("message.new");
    assert_eq!(
        again, 0,
        "the inbox and the subscription tell a message once"
    );
}

#[tokio::test]
async fn typing_is_relayed_to_who_asked_and_lapses() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let (deaf, _) = tidegate.connect(1, &bob, "tablet").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let subscribe = json!({"topics": ["typing"], "filters": {"conversation_id": id}});
    let reply = bob_socket.request("subscribe", subscribe).await;
    assert_eq!(reply["type"], "subscribed", "{reply}");
    let typing = json!({"conversationId": id});
    let reply = ann_socket.request("typing.start", typing).await;
    assert_eq!(reply["type"], "typing.start", "{reply}");
    let started = bob_socket.expect("typing.start").await;
    assert_eq!(started["payload"]["conversationId"], id.as_str());
    assert_eq!(started["payload"]["userId"], ann.id.as_str());
    let stopped = bob_socket
        .take("a stop nobody sent", Duration::from_secs(15), |frame| {
            frame["type"] == "typing.stop"
        })
        .await;
    assert_eq!(stopped["payload"]["userId"], ann.id.as_str());
    assert_eq!(deaf.count("typing.start"), 0);
}

#[tokio::test]
async fn a_bot_writes_as_a_bot() {
    let tidegate = Deployment::start().await;
    let admin = crate::staff::with_role(&tidegate, "root", "admin").await;
    let ann = tidegate.user("ann").await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let made = ask(
        &tidegate,
        0,
        &admin,
        "POST /admin/bots",
        json!({"username": "robot"}),
    )
    .await;
    let key = made["apiKey"].as_str().expect("a key");
    let login = json!({"apiKey": key});
    let login = tidegate.gateways[0]
        .rest()
        .post("/api/v1/auth/token", None, &login)
        .await
        .unwrap();
    assert_eq!(login.status, 200, "{}", login.body);
    let robot = User {
        id: made["userId"].as_str().unwrap().to_owned(),
        name: "robot".to_owned(),
        password: String::new(),
        token: login.body["token"].as_str().unwrap().to_owned(),
    };
    let (socket, _) = tidegate.connect(1, &robot, "server").await;
    let payload = json!({"targetUser": ann.id, "message": "beep"});
    let reply = socket.request("chat.message", payload).await;
    assert_eq!(reply["type"], "chat.accepted", "{reply}");
    let frame = expect_message(&ann_socket, "beep").await;
    assert_eq!(frame["payload"]["senderType"], "BOT", "{frame}");
    let wrong = json!({"apiKey": format!("{key}x")});
    let wrong = tidegate.gateways[0]
        .rest()
        .post("/api/v1/auth/token", None, &wrong)
        .await
        .unwrap();
    assert_eq!(wrong.status, 401, "{}", wrong.body);
}

#[tokio::test]
async fn an_idle_conversation_is_archived() {
    let plan = Plan::default()
        .with("TIDEGATE_CONVERSATIONS__ARCHIVE_AFTER", "2s")
        .with("TIDEGATE_JOBS__ARCHIVE_INTERVAL", "500ms");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    expect_change(&ann_socket, "archived").await;
    let payload = json!({"conversationId": id, "message": "too late"});
    assert_error(
        &ann_socket.request("chat.message", payload).await,
        "forbidden",
    );
    let path = format!("GET /conversations/{id}/messages");
    let read = ask(&tidegate, 1, &bob, &path, Value::Null).await;
    assert!(!read["items"].as_array().unwrap().is_empty(), "{read}");
    eventually("the list says so", PATIENCE, || async {
        let one = ask(
            &tidegate,
            0,
            &ann,
            &format!("GET /conversations/{id}"),
            Value::Null,
        )
        .await;
        (one["isArchived"] == true).then_some(())
    })
    .await;
}
