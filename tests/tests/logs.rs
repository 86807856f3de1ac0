//! What nodes write about sockets and requests, at the default level.

use serde_json::{Value, json};
use testkit::{
    Deployment, Plan, Socket, SocketOptions, User, eventually, node::Node, wait::PATIENCE,
};

use crate::{
    conversations::{group, say},
    support::send,
};

/// The first line with this message that fits.
async fn line(node: &Node, message: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("a line: {message}"), PATIENCE, || async {
        let log = node.log();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["message"] == message && fits(line))
    })
    .await
}

#[tokio::test]
async fn lines_about_sockets_carry_their_ids_and_no_secrets() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1).workers(0)).await;
    let gateway = &tidegate.gateways[0];
    let ann = tidegate.user("ann").await;
    let (socket, connected) = tidegate.connect(0, &ann, "phone").await;
    let session = connected["sessionId"].clone();
    let opened = line(gateway, "session opened", |line| line["session"] == session).await;
    assert_eq!(opened["user"], ann.id.as_str(), "{opened}");
    assert_eq!(opened["event"], "connect", "{opened}");
    send(&socket, &ann, "a whispered word").await;
    socket.close().await;
    let ended = line(gateway, "session ended", |line| line["session"] == session).await;
    assert_eq!(ended["reason"], "client", "{ended}");
    assert_eq!(ended["event"], "disconnect", "{ended}");
    assert_eq!(ended["told"], "client_close", "{ended}");

    let bad = SocketOptions::bearer("a.forged.token");
    let refused = Socket::try_open(tidegate.address(0), bad).await;
    assert!(refused.is_ok_and(|opened| opened.is_err()), "it was let in");
    let refused = line(gateway, "upgrade refused", |line| line["status"] == 401).await;
    assert_eq!(refused["code"], "unauthorized", "{refused}");
    assert_eq!(refused["event"], "denied", "{refused}");
    assert!(refused["session"].is_string(), "{refused}");

    // Of a dialect that refuses by closing.
    let bad = SocketOptions::default().query("token", "c.forged.token");
    let closed = Socket::open(tidegate.address(0), bad.events())
        .await
        .unwrap();
    assert_eq!(closed.closed().await.code(), Some(4401));
    let what = "socket refused by closing it";
    let refused = line(gateway, what, |line| line["event"] == "denied").await;
    let ended = "socket ended before its session was open";
    let ended = line(gateway, ended, |line| line["session"] == refused["session"]).await;
    assert_eq!(ended["told"], "auth_failed", "{ended}");

    let options = SocketOptions::default();
    let late = Socket::try_open(tidegate.address(0), options)
        .await
        .unwrap()
        .unwrap();
    let authenticate =
        serde_json::json!({"type": "authenticate", "payload": {"token": "b.forged.token"}});
    late.send(&authenticate).await;
    late.expect("auth.failed").await;
    let refused = line(gateway, "token refused", |line| line["session"].is_string()).await;
    assert!(refused["reason"].is_string(), "{refused}");

    let log = gateway.log();
    for secret in ["forged", ann.token.as_str(), "whispered"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn what_is_followed_said_and_refused_are_events_with_stable_names() {
    let plan = Plan::default().gateways(1).workers(0);
    let tidegate = Deployment::start_with(plan.with("TIDEGATE_LOG__LEVEL", "debug")).await;
    let gateway = &tidegate.gateways[0];
    let (ann, eve) = (tidegate.user("ann").await, tidegate.user("eve").await);
    let id = group(&tidegate, &[&ann]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "phone").await;
    let (eve_socket, _) = tidegate.connect(0, &eve, "phone").await;
    let wish = json!({"topics": ["conversation"], "filters": {"conversation_id": id}});
    for socket in [&ann_socket, &eve_socket] {
        socket.request("subscribe", wish.clone()).await;
    }
    say(&ann_socket, &id, "a whispered word").await;
    let intrude = json!({"conversationId": id, "message": "hi"});
    eve_socket.request("chat.message", intrude).await;
    ann_socket.request("unsubscribe", wish).await;

    let event = |name: &'static str, user: &str| {
        let user = user.to_owned();
        move |line: &Value| line["event"] == name && (line["user"] == user.as_str())
    };
    let topic = format!("conversation:{id}");
    let subscribed = line(gateway, "subscribed", event("subscribe", &ann.id)).await;
    assert_eq!(subscribed["topic"], topic.as_str(), "{subscribed}");
    let left = line(gateway, "unsubscribed", event("unsubscribe", &ann.id)).await;
    assert_eq!(left["topic"], topic.as_str(), "{left}");
    let unheard = line(gateway, "subscription refused", event("denied", &eve.id)).await;
    assert_eq!(unheard["code"], "forbidden", "{unheard}");
    let refused = line(gateway, "request refused", event("denied", &eve.id)).await;
    assert_eq!(refused["asked"], "chat.message", "{refused}");
    let is_said = |line: &Value| line["event"] == "publish";
    let said = line(gateway, "message accepted", is_said).await;
    assert_eq!(said["conversation"], id.as_str(), "{said}");
    assert!(!gateway.log().contains("whispered"));
}

#[tokio::test]
async fn many_users_who_are_watched_are_one_line() {
    let plan = Plan::default().gateways(1).workers(0);
    let tidegate = Deployment::start_with(plan).await;
    let gateway = &tidegate.gateways[0];
    let mut users = Vec::new();
    for n in 0..3 {
        users.push(tidegate.user(&format!("user-{n}")).await);
    }
    let eve = tidegate.user("eve").await;
    let all: Vec<&User> = users.iter().collect();
    group(&tidegate, &all).await;
    let (socket, _) = tidegate.connect(0, &users[0], "phone").await;
    let ids = [&users[1].id, &users[2].id, &eve.id];
    let wish = json!({"topics": ["presence"], "filters": {"user_ids": ids}});
    socket.request("subscribe", wish.clone()).await;
    socket.request("unsubscribe", wish).await;
    let of = |name: &'static str| move |line: &Value| line["event"] == name;
    let subscribed = line(gateway, "subscribed", of("subscribe")).await;
    assert_eq!(
        (&subscribed["topic"], &subscribed["users"]),
        (&json!("presence"), &json!(2)),
        "{subscribed}"
    );
    let refused = line(gateway, "subscription refused", of("denied")).await;
    let topic = json!(format!("presence:{}", eve.id));
    assert_eq!(
        (&refused["topic"], &refused["users"]),
        (&topic, &Value::Null),
        "{refused}"
    );
    let left = line(gateway, "unsubscribed", of("unsubscribe")).await;
    assert_eq!(left["users"], json!(3), "{left}");
    let log = gateway.log();
    assert_eq!(log.matches(r#""subscribed""#).count(), 1);
}
