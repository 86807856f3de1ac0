//! Who is there, as others see it over sockets and REST.
#![allow(clippy::doc_markdown)]

mod bad;
mod faults;
mod rights;

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Deployment, Dialect, Plan, Socket, User, eventually, wait::PATIENCE};

use crate::{
    conversations::{ask, group},
    support::{in_each_dialect, unlimited},
};

/// Long enough for a node to be taken for dead: twice its lifetime, and some.
const LONG: Duration = Duration::from_secs(120);

/// A deployment in which users do not have to wait long to be gone.
fn brisk() -> Plan {
    unlimited().with("TIDEGATE_PRESENCE__GRACE", "500ms")
}

/// Watches one user. The answer, and how they appear now.
async fn watch(socket: &Socket, user: &User) -> Value {
    let payload = json!({"topics": ["presence"], "filters": {"user_id": user.id}});
    let reply = socket.request("subscribe", payload).await;
    assert_eq!(reply["type"], "subscribed", "{reply}");
    assert_eq!(reply["payload"]["refused"], json!([]), "{reply}");
    next_of(socket, user, PATIENCE).await
}

/// The next that is told of a user.
async fn next_of(socket: &Socket, user: &User, patience: Duration) -> Value {
    let what = format!("a presence of {}", user.name);
    let is_about = |frame: &Value| is_presence(frame) && frame["payload"]["userId"] == user.id;
    socket.take(&what, patience, is_about).await
}

/// Events, not replies.
fn is_presence(frame: &Value) -> bool {
    let name = frame["type"].as_str().unwrap_or_default();
    matches!(
        name,
        "presence.update" | "presence.online" | "presence.offline"
    ) && frame["replyTo"].is_null()
}

/// The next that is told of a user is this.
async fn expect_told(socket: &Socket, user: &User, name: &str, status: &str) -> Value {
    let frame = next_of(socket, user, PATIENCE).await;
    assert_eq!(frame["type"], name, "{frame}");
    assert_eq!(frame["payload"]["status"], status, "{frame}");
    frame
}

/// How users appear to somebody who asks once.
async fn query(socket: &Socket, users: &[&User]) -> Value {
    let ids: Vec<&str> = users.iter().map(|user| user.id.as_str()).collect();
    let reply = socket
        .request("presence.query", json!({ "userIds": ids }))
        .await;
    assert_eq!(reply["type"], "presence.state", "{reply}");
    reply["payload"].clone()
}

async fn say(socket: &Socket, payload: Value) -> Value {
    let reply = socket.request("presence.update", payload).await;
    assert_eq!(reply["type"], "presence.update", "{reply}");
    reply["payload"].clone()
}

in_each_dialect!(who_watches_sees_others_come_and_go, what_users_say_is_told);

async fn who_watches_sees_others_come_and_go(dialect: Dialect) {
    let tidegate = Deployment::start_with(brisk().dialect(dialect)).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let first = watch(&ann_socket, &bob).await;
    assert_eq!(first["type"], "presence.update", "{first}");
    let payload = json!({"userId": bob.id, "status": "offline", "devices": 0, "lastSeenAt": null});
    assert_eq!(first["payload"], payload);

    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let online = expect_told(&ann_socket, &bob, "presence.online", "online").await;
    assert_eq!(online["payload"]["devices"], 1, "{online}");
    let (tablet, _) = tidegate.connect(0, &bob, "tablet").await;
    phone.close().await;
    tablet.close().await;
    let offline = expect_told(&ann_socket, &bob, "presence.offline", "offline").await;
    let seen = offline["payload"]["lastSeenAt"]
        .as_str()
        .expect("a time")
        .to_owned();

    let path = format!("GET /users/{}", bob.id);
    let profile = ask(&tidegate, 0, &ann, &path, Value::Null).await;
    assert_eq!(profile["lastSeenAt"], seen.as_str());
    let stored = format!("select count(*) from users where last_seen_at = '{seen}'");
    tidegate
        .until_stored("the time is recorded", &stored, 1)
        .await;
    // Redis forgets it before the record does.
    let forgotten = tidegate.redis().call(&["keys", "*:presence:*"]).await;
    let keys = format!("{forgotten:?}");
    assert!(keys.contains(&bob.id), "{keys}");
    let script =
        "for _, key in ipairs(redis.call('keys', '*:presence:*')) do redis.call('del', key) end";
    tidegate.redis().call(&["eval", script, "0"]).await;
    let profile = ask(&tidegate, 1, &ann, &path, Value::Null).await;
    assert_eq!(profile["lastSeenAt"], seen.as_str());

    let (_back, _) = tidegate.connect(1, &bob, "phone").await;
    expect_told(&ann_socket, &bob, "presence.online", "online").await;
    let profile = ask(&tidegate, 0, &ann, &path, Value::Null).await;
    assert_eq!(profile["lastSeenAt"], Value::Null, "they are there");
}

async fn what_users_say_is_told(dialect: Dialect) {
    let tidegate = Deployment::start_with(brisk().dialect(dialect)).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let (other, _) = tidegate.connect(0, &bob, "tablet").await;
    let first = watch(&ann_socket, &bob).await;
    assert_eq!(first["payload"]["status"], "online", "{first}");
    assert_eq!(first["payload"]["devices"], 2, "{first}");

    let answer = say(
        &bob_socket,
        json!({"status": "busy", "text": "a <script>x</script>call"}),
    )
    .await;
    assert_eq!(answer["status"], "busy", "{answer}");
    let busy = expect_told(&ann_socket, &bob, "presence.update", "busy").await;
    assert_eq!(busy["payload"]["text"], "a call", "{busy}");

    let reply = other
        .request("user.status", json!({"status": "offline"}))
        .await;
    let hidden = json!({"userId": bob.id, "status": "offline", "devices": 0, "lastSeenAt": reply["payload"]["lastSeenAt"]});
    assert_eq!(reply["payload"], hidden, "as others see it: {reply}");
    let told = expect_told(&ann_socket, &bob, "presence.offline", "offline").await;
    assert_eq!(told["payload"], hidden);
    let state = query(&ann_socket, &[&bob]).await;
    assert_eq!(state["users"], json!([hidden]), "nor does asking tell");

    say(&bob_socket, json!({"status": "online"})).await;
    let back = expect_told(&ann_socket, &bob, "presence.online", "online").await;
    assert_eq!(back["payload"]["text"], "a call", "{back}");
    say(&bob_socket, json!({"status": "online", "text": ""})).await;
    let plain = expect_told(&ann_socket, &bob, "presence.update", "online").await;
    assert_eq!(plain["payload"]["text"], Value::Null, "{plain}");

    say(&bob_socket, json!({"status": "away"})).await;
    expect_told(&ann_socket, &bob, "presence.update", "away").await;
    bob_socket.close().await;
    other.close().await;
    expect_told(&ann_socket, &bob, "presence.offline", "offline").await;
    let (_again, _) = tidegate.connect(1, &bob, "phone").await;
    expect_told(&ann_socket, &bob, "presence.online", "online").await;
}

#[tokio::test]
async fn who_does_nothing_is_away_although_the_socket_lives() {
    let plan = brisk()
        .with("TIDEGATE_PRESENCE__AWAY_AFTER", "1s")
        .with("TIDEGATE_SESSION__PING_INTERVAL", "200ms");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    watch(&ann_socket, &bob).await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    expect_told(&ann_socket, &bob, "presence.online", "online").await;
    expect_told(&ann_socket, &bob, "presence.update", "away").await;
    assert!(phone.pings() > 0, "pongs are no sign of a person");
    phone.request("ping", json!({})).await;
    phone.request("preferences.get", json!({})).await;
    expect_told(&ann_socket, &bob, "presence.update", "online").await;
    let (tablet, _) = tidegate.connect(0, &bob, "tablet").await;
    expect_told(&ann_socket, &bob, "presence.update", "away").await;
    tablet.request("preferences.get", json!({})).await;
    expect_told(&ann_socket, &bob, "presence.update", "online").await;
    tablet.close().await;
    expect_told(&ann_socket, &bob, "presence.update", "away").await;
}

#[tokio::test]
async fn many_changes_are_few_updates_and_the_last_is_right() {
    let tidegate = Deployment::start_with(brisk()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    watch(&ann_socket, &bob).await;
    for n in 0..400 {
        say(
            &bob_socket,
            json!({"status": "busy", "text": format!("{n}")}),
        )
        .await;
    }
    let mut told = 1;
    while next_of(&ann_socket, &bob, PATIENCE).await["payload"]["text"] != "399" {
        told += 1;
    }
    assert!(told < 200, "{told} updates");
    let coalesced = tidegate.gateways[0]
        .metric("tidegate_presence_coalesced_total")
        .await;
    assert!(coalesced.unwrap() > 0.0);
}

#[tokio::test]
async fn whoever_watches_all_contacts_sees_each_of_them() {
    let tidegate = Deployment::start_with(brisk()).await;
    let ann = tidegate.user("ann").await;
    let mut others = Vec::new();
    for n in 0..20 {
        others.push(tidegate.user(&format!("other-{n}")).await);
    }
    let stranger = tidegate.user("stranger").await;
    let all: Vec<&User> = std::iter::once(&ann).chain(&others).collect();
    group(&tidegate, &all).await;
    let (_strange_socket, _) = tidegate.connect(0, &stranger, "phone").await;
    let mut sockets = Vec::new();
    for other in &others[..10] {
        sockets.push(tidegate.connect(1, other, "phone").await.0);
    }
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let reply = ann_socket
        .request("subscribe", json!({"topics": ["presence"]}))
        .await;
    assert_eq!(reply["payload"]["topics"], json!(["presence"]), "{reply}");
    assert_eq!(reply["payload"]["refused"], json!([]), "{reply}");
    for (n, other) in others.iter().enumerate() {
        let first = next_of(&ann_socket, other, PATIENCE).await;
        let status = if n < 10 { "online" } else { "offline" };
        assert_eq!(first["payload"]["status"], status, "{first}");
    }
    for other in &others[10..] {
        sockets.push(tidegate.connect(0, other, "phone").await.0);
        expect_told(&ann_socket, other, "presence.online", "online").await;
    }
    // Somebody new among them is watched from then on.
    group(&tidegate, &[&stranger, &ann]).await;
    expect_told(&ann_socket, &stranger, "presence.update", "online").await;

    let reply = ann_socket
        .request("unsubscribe", json!({"topics": ["presence"]}))
        .await;
    assert_eq!(reply["type"], "unsubscribed", "{reply}");
    drop(sockets);
    let gone = "tidegate_presence_watched_users";
    eventually("nobody is watched any more", PATIENCE, || async {
        (tidegate.gateways[0].metric(gone).await == Some(0.0)).then_some(())
    })
    .await;
    assert!(ann_socket.waiting().iter().all(|frame| !is_presence(frame)));
}

#[tokio::test]
async fn a_slow_watcher_is_told_the_newest_when_it_reads_again() {
    let plan = brisk()
        .with("TIDEGATE_SESSION__OUTGOING_FRAMES", "16")
        .with("TIDEGATE_SESSION__OUTGOING_BYTES", "64KiB");
    let tidegate = Deployment::start_with(plan).await;
    let ann = tidegate.user("ann").await;
    let mut others = Vec::new();
    for n in 0..60 {
        others.push(tidegate.user(&format!("other-{n}")).await);
    }
    let all: Vec<&User> = std::iter::once(&ann).chain(&others).collect();
    group(&tidegate, &all).await;
    // More at once than a queue holds: each of them comes all the same.
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    ann_socket
        .request("subscribe", json!({"topics": ["presence"]}))
        .await;
    for other in &others {
        next_of(&ann_socket, other, PATIENCE).await;
    }
    let mut sockets = Vec::new();
    for other in &others {
        sockets.push(tidegate.connect(1, other, "phone").await.0);
    }
    for other in &others {
        expect_told(&ann_socket, other, "presence.online", "online").await;
    }
    let late = tidegate.gateways[0]
        .metric("tidegate_presence_late_total")
        .await;
    assert!(late.unwrap() > 0.0, "some had to wait");
}
