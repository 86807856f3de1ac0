//! Commands for many.

use serde_json::{Value, json};
use testkit::{Deployment, Plan, Socket, SocketOptions, User, eventually, wait::PATIENCE};

use crate::{
    crowd,
    support::{assert_error, expect_content, expect_status, id_of, send},
};

/// The payload of a broadcast by category.
pub fn to_category(content: &str, tags: &[&str]) -> Value {
    json!({"commandType": "message", "content": content, "broadcast": "category", "categories": tags})
}

/// The payload of a broadcast to all.
pub fn to_all(content: &str, tags: &[&str]) -> Value {
    json!({"commandType": "message", "content": content, "broadcast": "allcast", "categories": tags})
}

/// A user in a group that may allcast, before any node has read who they are.
pub async fn who_may_allcast(tidegate: &Deployment, name: &str) -> User {
    let n = 0xfff_fff;
    let user = User {
        name: name.to_owned(),
        ..crowd::member(n)
    };
    for sql in [
        format!(
            "INSERT INTO users (id, username, password_hash) VALUES ('{}', '{name}', 'none')",
            user.id
        ),
        "INSERT INTO groups (name, may_allcast) VALUES ('heralds', true) ON CONFLICT DO NOTHING"
            .to_owned(),
        format!(
            "INSERT INTO user_groups (user_id, group_name) VALUES ('{}', 'heralds')",
            user.id
        ),
    ] {
        tidegate.database.query(&sql).await;
    }
    user
}

async fn broadcast(socket: &Socket, content: &str, tags: &[&str]) -> String {
    let reply = socket
        .request("command.create", to_category(content, tags))
        .await;
    assert_eq!(reply["type"], "command.accepted", "{reply}");
    assert_eq!(reply["payload"]["status"], "pending", "{reply}");
    id_of(&reply)
}

#[tokio::test]
async fn a_broadcast_reaches_users_of_all_nodes_whom_its_category_reaches() {
    let tidegate = Deployment::start().await;
    let (ann, bob, eve) = (
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("eve").await,
    );
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let (tablet, _) = tidegate.connect(1, &bob, "tablet").await;
    let (eve_socket, _) = tidegate.connect(1, &eve, "laptop").await;
    let chosen = json!({"allowedCategories": ["mild"]});
    eve_socket.request("preferences.update", chosen).await;
    eve_socket.expect("preferences").await;

    let id = broadcast(&ann_socket, "for many", &["feet", "mild"]).await;
    broadcast(&ann_socket, "for all of us", &["mild"]).await;
    for device in [&ann_socket, &phone, &tablet] {
        let frame = expect_content(device, "for many").await;
        assert_eq!(frame["topic"], "broadcast", "{frame}");
        assert_eq!(frame["payload"]["commandId"], id.as_str(), "{frame}");
        assert_eq!(frame["payload"]["broadcast"], "category", "{frame}");
        assert_eq!(frame["payload"]["categories"], json!(["feet", "mild"]));
        assert!(frame["payload"]["recipientId"].is_null(), "{frame}");
        expect_content(device, "for all of us").await;
    }
    expect_content(&eve_socket, "for all of us").await;
}

#[tokio::test]
async fn only_one_entry_is_written_and_one_row_for_each_who_has_it() {
    let plan = Plan::default().with("TIDEGATE_DELIVERY__RECEIPT_INTERVAL", "200ms");
    let tidegate = Deployment::start_with(plan).await;
    let users = [
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("eve").await,
    ];
    let mut sockets = Vec::new();
    for (n, user) in users.iter().enumerate() {
        sockets.push(tidegate.connect(n % 2, user, "phone").await.0);
    }
    let id = broadcast(&sockets[0], "for many", &["mild"]).await;
    for socket in &sockets {
        expect_content(socket, "for many").await;
    }
    let rows = "SELECT count(*) FROM command_assignments";
    tidegate
        .until_stored(
            "everybody's receipt is in the record",
            &format!("{rows} WHERE state = 'delivered'"),
            3,
        )
        .await;
    let done = sockets[1]
        .request("command.complete", json!({"commandId": id}))
        .await;
    assert_eq!(done["type"], "command.completed", "{done}");
    let again = sockets[1]
        .request("command.complete", json!({"commandId": id}))
        .await;
    assert_eq!(done["payload"], again["payload"]);
    // The other devices of who completed it hear it, the sender does not.
    let told = expect_status(&sockets[1], &id, "completed").await;
    assert_eq!(told["payload"]["broadcast"], "category", "{told}");
    tidegate
        .until_stored(
            "one is completed",
            &format!("{rows} WHERE state = 'completed'"),
            1,
        )
        .await;
    assert_eq!(tidegate.database.count(rows).await, 3);
    assert_eq!(sockets[0].count("command.status"), 0);
    let listed = sockets[1]
        .request("command.queue", json!({"status": "completed"}))
        .await;
    let commands = listed["payload"]["commands"].as_array().expect("a list");
    assert_eq!(commands.len(), 1, "{listed}");
    assert_eq!(commands[0]["commandId"], id.as_str(), "{listed}");
    let queue = sockets[1].request("command.queue", json!({})).await;
    assert_eq!(queue["payload"]["commands"], json!([]), "{queue}");
}

#[tokio::test]
async fn what_is_taken_back_comes_to_nobody_who_has_not_got_it() {
    let tidegate = Deployment::start().await;
    let (ann, bob, eve) = (
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("eve").await,
    );
    let (eve_socket, _) = tidegate.connect(0, &eve, "laptop").await;
    eve_socket.close().await;
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let id = broadcast(&ann_socket, "never mind", &["mild"]).await;
    expect_content(&phone, "never mind").await;
    let by_id = json!({"commandId": id});
    let refused = phone.request("command.cancel", by_id.clone()).await;
    assert_error(&refused, "forbidden");

    let cancelled = ann_socket.request("command.cancel", by_id.clone()).await;
    assert_eq!(cancelled["type"], "command.status", "{cancelled}");
    assert_eq!(cancelled["payload"]["status"], "cancelled", "{cancelled}");
    assert_eq!(cancelled["payload"]["broadcast"], "category", "{cancelled}");
    let again = ann_socket.request("command.cancel", by_id.clone()).await;
    assert_eq!(cancelled["payload"], again["payload"]);

    let told = expect_status(&phone, &id, "cancelled").await;
    assert_eq!(told["topic"], "broadcast", "{told}");
    assert!(told["payload"]["categories"].is_null(), "{told}");
    let late = phone.request("command.complete", by_id).await;
    assert_error(&late, "conflict");
    broadcast(&ann_socket, "after", &["mild"]).await;
    let (eve_socket, _) = tidegate.connect(0, &eve, "laptop").await;
    expect_content(&eve_socket, "after").await;
    let queue = eve_socket.request("command.queue", json!({})).await;
    let commands = queue["payload"]["commands"].as_array().expect("a list");
    assert_eq!(commands.len(), 1, "{queue}");
    tidegate
        .until_stored(
            "the end is in the record",
            "SELECT count(*) FROM commands WHERE ended = 'cancelled'",
            1,
        )
        .await;
}

#[tokio::test]
async fn a_broadcast_nobody_completed_in_time_expires_for_everybody() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let mut body = to_category("soon too late", &["mild"]);
    body["expiresAt"] = crate::states::in_seconds(3).into();
    let id = id_of(&ann_socket.request("command.create", body).await);
    expect_content(&phone, "soon too late").await;
    let told = phone.expect("command.expired").await;
    assert_eq!(told["payload"]["commandId"], id.as_str(), "{told}");
    assert_eq!(told["payload"]["broadcast"], "category", "{told}");
    let by_id = json!({"commandId": id});
    let late = ann_socket.request("command.cancel", by_id.clone()).await;
    assert_error(&late, "conflict");
    let late = phone.request("command.complete", by_id).await;
    assert_error(&late, "conflict");
}

#[tokio::test]
async fn whoever_was_away_gets_what_redis_has_and_what_it_has_no_more() {
    let plan = Plan::default()
        .with("TIDEGATE_RETENTION__HOT_WINDOW", "1s")
        .with("TIDEGATE_JOBS__TRIM_INTERVAL", "200ms");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    broadcast(&ann_socket, "seen", &["mild"]).await;
    expect_content(&phone, "seen").await;
    phone.close().await;
    broadcast(&ann_socket, "old", &["mild"]).await;
    eventually("the log leaves Redis", PATIENCE, || async {
        let (log, _) = log_of_broadcasts(&tidegate).await?;
        let length = tidegate.redis().call(&["XLEN", &log]).await;
        (length.text()? == "0").then_some(())
    })
    .await;
    broadcast(&ann_socket, "younger", &["mild"]).await;
    broadcast(&ann_socket, "young", &["mild"]).await;
    // A node that was not there has nothing in memory either.
    tidegate.gateways[1].restart().await;
    for gateway in [0, 1] {
        let options = SocketOptions::bearer(&bob.token).device(&format!("new{gateway}"));
        let (device, _) = tidegate.connect_with(gateway, options).await;
        device.set_auto_pong(false);
        for content in ["old", "younger", "young"] {
            expect_content(&device, content).await;
        }
        assert_eq!(device.count("command.new"), 0, "{:?}", device.waiting());
        device.abort().await;
    }
}

/// The key of the log in Redis and its partition's tag, once there is one.
async fn log_of_broadcasts(tidegate: &Deployment) -> Option<(String, String)> {
    let found = tidegate.redis().call(&["KEYS", "*:head:broadcast"]).await;
    let head = found.list().first()?.text()?;
    let (tag, _) = head.split_once(':')?;
    Some((head.replace(":head:", ":log:"), tag.to_owned()))
}

#[tokio::test]
async fn entries_that_nobody_understands_are_passed_over() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    broadcast(&ann_socket, "before", &["mild"]).await;
    expect_content(&phone, "before").await;

    let redis = tidegate.redis();
    let (log, tag) = log_of_broadcasts(&tidegate).await.expect("there is a log");
    let head = log.replace(":log:", ":head:");
    let place = redis.call(&["HMGET", &head, "e", "n"]).await;
    let epoch = place.list()[0].text().unwrap();
    let last: u64 = place.list()[1].text().unwrap().parse().unwrap();
    let poison = [
        ("command.weird", "{}"),
        ("command.new", "{\"content\":\"poison"),
        ("command.new", "[]"),
        ("command.status", "no JSON at all"),
    ];
    for (index, (kind, body)) in poison.iter().enumerate() {
        let offset = (last + 1 + index as u64).to_string();
        let id = format!("01890a5d-ac96-774b-bcce-b302099a80{index:02x}");
        let place = format!("{epoch}-{offset}");
        redis
            .call(&[
                "XADD", &log, &place, "id", &id, "k", kind, "t", "1", "p", "0-0", "d", body,
            ])
            .await;
        redis
            .call(&[
                "XADD",
                &format!("{tag}:persist"),
                "*",
                "topic",
                "broadcast",
                "e",
                &epoch,
                "n",
                &offset,
                "id",
                &id,
                "k",
                kind,
                "t",
                "1",
                "d",
                body,
            ])
            .await;
        redis.call(&["HSET", &head, "n", &offset]).await;
    }
    redis
        .call(&["XADD", &format!("{tag}:persist"), "*", "nonsense", "yes"])
        .await;

    let id = broadcast(&ann_socket, "behind", &["mild"]).await;
    expect_content(&phone, "behind").await;
    expect_content(&ann_socket, "before").await;
    expect_content(&ann_socket, "behind").await;
    tidegate
        .until_stored(
            "the one behind is in the record",
            &format!("SELECT count(*) FROM commands WHERE id = '{id}'"),
            1,
        )
        .await;
    tidegate
        .until_stored(
            "what is no record is in quarantine",
            "SELECT count(*) FROM quarantine",
            poison.len() as u64 + 1,
        )
        .await;
    // Also for whoever reads the log from the beginning.
    let (tablet, _) = tidegate.connect(0, &bob, "tablet").await;
    let queue = tablet.request("command.queue", json!({})).await;
    let commands = queue["payload"]["commands"].as_array().expect("a list");
    assert_eq!(commands.len(), 2, "{queue}");
    send(&ann_socket, &bob, "and so on").await;
    eventually("directly, too", PATIENCE, || async {
        let waiting = phone.waiting();
        waiting
            .iter()
            .any(|frame| frame["payload"]["content"] == "and so on")
            .then_some(())
    })
    .await;
}
