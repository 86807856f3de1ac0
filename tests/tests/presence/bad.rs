//! What is refused by name, and harms nobody.

use serde_json::{Value, json};
use testkit::{Deployment, SocketOptions};

use super::{brisk, expect_told, group, query, say, watch};
use crate::support::assert_error;

fn some_ids(count: usize) -> Vec<String> {
    let id = |n| format!("01890a5d-ac96-774b-bcce-{n:012x}");
    (0..count).map(id).collect()
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let tidegate = Deployment::start_with(brisk()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    watch(&ann_socket, &bob).await;
    let too_many = some_ids(201);
    let wrong = [
        ("presence.update", json!({}), "bad_request"),
        (
            "presence.update",
            json!({"status": "invisible"}),
            "bad_request",
        ),
        ("user.status", json!({"status": 7}), "bad_request"),
        (
            "user.status",
            json!({"status": "busy", "text": "nul \u{0}"}),
            "bad_request",
        ),
        (
            "user.status",
            json!({"status": "busy", "text": "x".repeat(257)}),
            "too_large",
        ),
        ("presence.query", json!({"userIds": []}), "bad_request"),
        (
            "presence.query",
            json!({"userIds": too_many}),
            "bad_request",
        ),
        ("presence.query", json!({"userIds": ["ann"]}), "bad_request"),
        (
            "subscribe",
            json!({"topics": ["presence"], "filters": {"user_ids": []}}),
            "bad_request",
        ),
        (
            "subscribe",
            json!({"topics": ["presence"], "filters": {"user_ids": too_many}}),
            "bad_request",
        ),
        (
            "subscribe",
            json!({"topics": ["presence"], "filters": {"user_id": "bob"}}),
            "bad_request",
        ),
        ("subscribe", json!({"topics": []}), "bad_request"),
    ];
    for (name, payload, code) in wrong {
        let reply = ann_socket.request(name, payload).await;
        assert_error(&reply, code);
    }
    let unknown = json!({"topics": ["presence", "weather"], "filters": {"user_id": bob.id}});
    let reply = ann_socket.request("subscribe", unknown).await;
    let refused = json!([{"topic": "weather", "code": "bad_request"}]);
    assert_eq!(reply["payload"]["refused"], refused, "{reply}");
    let (_bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    // As often as it was asked for it is told; then it is news.
    while super::next_of(&ann_socket, &bob, testkit::wait::PATIENCE).await["type"]
        != "presence.online"
    {}
}

#[tokio::test]
async fn nobody_speaks_for_others() {
    let tidegate = Deployment::start_with(brisk()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    watch(&bob_socket, &ann).await;
    let forged = json!({"status": "busy", "userId": bob.id, "user_id": bob.id, "user": bob.id});
    let said = say(&ann_socket, forged).await;
    assert_eq!(said["userId"], ann.id.as_str(), "{said}");
    expect_told(&bob_socket, &ann, "presence.update", "busy").await;
    let state = query(&ann_socket, &[&bob]).await;
    assert_eq!(state["users"][0]["status"], "online", "{state}");
}

#[tokio::test]
async fn a_socket_watches_so_many_and_its_neighbours_are_unharmed() {
    let plan = brisk().with("TIDEGATE_PRESENCE__VISIBILITY", "anyone");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (neighbour, _) = tidegate.connect(0, &ann, "phone").await;
    // Wishes that were refused take no place.
    for _ in 0..5 {
        let payload = json!({"topics": ["presence"], "filters": {"user_ids": some_ids(200)}});
        let reply = ann_socket.request("subscribe", payload).await;
        assert_eq!(reply["payload"]["refused"].as_array().unwrap().len(), 200);
    }
    // So many log in only to be watched: the record is told of them directly.
    let register = "insert into users (id, username, password_hash) \
        select gen_random_uuid(), 'user-' || n, 'x' from generate_series(1, 201) n returning id";
    let rows = tidegate.database.query(register).await;
    let users: Vec<String> = rows.into_iter().map(|mut row| row.remove(0)).collect();
    for (chunk, fits) in [(&users[..150], 150), (&users[100..201], 50)] {
        let payload = json!({"topics": ["presence"], "filters": {"user_ids": chunk}});
        let reply = ann_socket.request("subscribe", payload).await;
        let granted = reply["payload"]["filters"]["user_ids"].as_array().unwrap();
        let refused = reply["payload"]["refused"].as_array().unwrap();
        assert_eq!(granted.len() + refused.len(), chunk.len());
        assert!(
            refused.iter().all(|it| it["code"] == "bad_request"),
            "{reply}"
        );
        assert!(granted.len() >= fits, "{reply}");
        assert_eq!(refused.is_empty(), fits == 150, "{reply}");
    }
    watch(&neighbour, &bob).await;
    let (_bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    expect_told(&neighbour, &bob, "presence.online", "online").await;
    let payload = json!({"topics": ["presence"], "filters": {"user_ids": users[..10]}});
    let reply = ann_socket.request("unsubscribe", payload).await;
    assert_eq!(reply["type"], "unsubscribed", "{reply}");
    watch(&ann_socket, &bob).await;
}

#[tokio::test]
async fn a_stomp_client_watches_by_destination() {
    use testkit::socket::stomp::frame;
    let tidegate = Deployment::start_with(brisk()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let eve = tidegate.user("eve").await;
    group(&tidegate, &[&ann, &bob]).await;
    let options = SocketOptions::bearer(&ann.token).dialect(testkit::Dialect::Stomp);
    let (ann_socket, _) = tidegate.connect_with(0, options).await;
    let destination = format!("/topic/presence/{}", bob.id);
    for id in ["one", "two"] {
        let headers = [("id", id), ("destination", &*destination)];
        ann_socket
            .send_bytes(&frame("SUBSCRIBE", &headers, b""))
            .await;
    }
    let foreign = format!("/topic/presence/{}", eve.id);
    let headers = [("id", "foreign"), ("destination", &*foreign)];
    ann_socket
        .send_bytes(&frame("SUBSCRIBE", &headers, b""))
        .await;
    let refused = ann_socket.expect("error").await;
    assert_eq!(refused["payload"]["code"], "forbidden", "{refused}");

    let (_bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    let mut subscriptions = Vec::new();
    while subscriptions.len() < 2 {
        let frame = ann_socket.expect("presence.online").await;
        let headers = &frame["stomp"]["headers"];
        assert_eq!(headers["destination"], destination.as_str(), "{frame}");
        assert_eq!(frame["payload"]["userId"], bob.id.as_str(), "{frame}");
        assert_eq!(frame["payload"]["lastSeenAt"], Value::Null, "{frame}");
        subscriptions.push(headers["subscription"].as_str().unwrap().to_owned());
    }
    subscriptions.sort();
    assert_eq!(subscriptions, ["one", "two"]);
}
