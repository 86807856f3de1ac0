//! What a device missed of a group that is too large for copies comes when it is back.

use serde_json::{Value, json};
use testkit::{Deployment, Plan, Socket, User, eventually, socket::Dialect, wait::PATIENCE};

use super::{hears_no_more, subscribe};
use crate::{
    conversations::{ask, expect_change, expect_message, group, say},
    support::unlimited,
};

/// A group of five, where four are too many, in a deployment like this. The first one speaks; of the
/// others nobody has a socket.
struct Large {
    tidegate: Deployment,
    users: Vec<User>,
    id: String,
    /// Of the first one.
    speaker: Socket,
}

impl Large {
    async fn of(plan: Plan) -> Self {
        let plan = plan.with("TIDEGATE_CONVERSATIONS__INBOX_MAX_MEMBERS", "3");
        let tidegate = Deployment::start_with(plan).await;
        let mut users = Vec::new();
        for n in 0..5 {
            users.push(tidegate.user(&format!("user{n}")).await);
        }
        let id = group(&tidegate, &users.iter().collect::<Vec<_>>()).await;
        let (speaker, _) = tidegate.connect(0, &users[0], "laptop").await;
        Self {
            tidegate,
            users,
            id,
            speaker,
        }
    }

    async fn say(&self, numbers: std::ops::Range<u32>) {
        for n in numbers {
            say(&self.speaker, &self.id, &n.to_string()).await;
        }
    }

    /// A socket of the second user that listens to the group.
    async fn device(&self, node: usize, device: &str) -> Socket {
        let (socket, _) = self.tidegate.connect(node, &self.users[1], device).await;
        subscribe(&socket, &self.id).await;
        socket
    }

    /// The socket closes once all that it had is confirmed.
    async fn leaves(&self, socket: Socket, device: &str, last: &Value) {
        self.until_confirmed(device, last).await;
        socket.close().await;
    }

    /// The cursor of the second user's device says so.
    async fn until_confirmed(&self, device: &str, last: &Value) {
        let position = format!("{}:{}:", last["epoch"], last["offset"]);
        let redis = self.tidegate.redis();
        let reader = format!("*reader:{}:{}", self.id, self.users[1].id);
        eventually("the device's cursor moves", PATIENCE, || async {
            let keys = redis.call(&["KEYS", &reader]).await;
            let key = keys.list().first()?.text()?;
            let cursor = redis.call(&["HGET", &key, device]).await.text()?;
            cursor.starts_with(&position).then_some(())
        })
        .await;
    }

    async fn change(&self, what: &str, body: Value) {
        let what = what.replace("{id}", &self.id);
        ask(&self.tidegate, 0, &self.users[0], &what, body).await;
    }
}

/// Cursors are written soon, not only when a device leaves.
fn soon() -> Plan {
    unlimited().with("TIDEGATE_DELIVERY__RECEIPT_INTERVAL", "100ms")
}

/// These come, in this order; answers the last.
async fn hears(socket: &Socket, numbers: std::ops::Range<u32>) -> Value {
    let mut last = Value::Null;
    for n in numbers {
        last = expect_message(socket, &n.to_string()).await;
    }
    last
}

/// Everything in there comes, in its order; some of it may come again, from one place on.
async fn hears_at_least(socket: &Socket, numbers: std::ops::Range<u32>) {
    let mut next = numbers.start;
    while next < numbers.end {
        let is_said = |frame: &Value| {
            frame["type"] == "message.new" && frame["payload"]["senderType"] != "SYSTEM"
        };
        let frame = socket.take("a message", PATIENCE, is_said).await;
        let n: u32 = frame["payload"]["content"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(n <= next, "{n} came before {next}");
        next = next.max(n + 1);
    }
}

async fn what_was_missed_comes_first(dialect: Dialect) {
    let large = Large::of(soon().dialect(dialect)).await;
    let phone = large.device(0, "phone").await;
    large.say(0..10).await;
    let last = hears(&phone, 0..10).await;
    large.leaves(phone, "phone", &last).await;

    // More than may be unconfirmed at a time.
    large.say(10..310).await;
    let phone = large.device(1, "phone").await;
    hears(&phone, 10..310).await;
    large.say(310..320).await;
    let last = hears(&phone, 310..320).await;
    hears_no_more(&phone);
    large.leaves(phone, "phone", &last).await;

    let phone = large.device(0, "phone").await;
    large.say(320..321).await;
    hears(&phone, 320..321).await;
    hears_no_more(&phone);
}

#[tokio::test]
async fn what_was_said_while_a_device_was_away_comes_first_and_once() {
    what_was_missed_comes_first(Dialect::Json).await;
}

#[tokio::test]
async fn what_was_said_while_a_device_was_away_comes_first_and_once_in_stomp() {
    what_was_missed_comes_first(Dialect::Stomp).await;
}

#[tokio::test]
async fn each_device_goes_on_where_it_was_and_a_new_one_where_the_furthest_is() {
    let large = Large::of(soon()).await;
    let phone = large.device(0, "phone").await;
    let tablet = large.device(1, "tablet").await;
    large.say(0..5).await;
    let last = hears(&tablet, 0..5).await;
    large.leaves(tablet, "tablet", &last).await;
    large.say(5..10).await;
    let last = hears(&phone, 0..10).await;
    large.leaves(phone, "phone", &last).await;

    large.say(10..15).await;
    let watch = large.device(1, "watch").await;
    hears(&watch, 10..15).await;
    let tablet = large.device(0, "tablet").await;
    hears(&tablet, 5..15).await;
    let phone = large.device(1, "phone").await;
    hears(&phone, 10..15).await;
    large.say(15..16).await;
    for device in [watch, tablet, phone] {
        hears(&device, 15..16).await;
        hears_no_more(&device);
    }
}

#[tokio::test]
async fn a_first_device_gets_what_its_user_neither_read_nor_could() {
    let large = Large::of(soon()).await;
    large.say(0..3).await;
    // Brought in now: what was before is for the history.
    let late = large.tidegate.user("late").await;
    large
        .change(
            "POST /conversations/{id}/participants",
            json!({"userId": late.id}),
        )
        .await;
    large.say(3..6).await;
    let (socket, _) = large.tidegate.connect(1, &late, "phone").await;
    subscribe(&socket, &large.id).await;
    hears(&socket, 3..6).await;
    hears_no_more(&socket);

    // Somebody who reads by REST says how far.
    let page = format!("GET /conversations/{}/messages?limit=10", large.id);
    let page = ask(&large.tidegate, 1, &large.users[1], &page, Value::Null).await;
    let fourth = page["items"].as_array().unwrap();
    let fourth = fourth.iter().find(|it| it["content"] == "4").unwrap();
    let (reading, _) = large.tidegate.connect(0, &large.users[1], "page").await;
    let mark = json!({"conversationId": large.id, "upTo": fourth["id"]});
    let reply = reading.request("mark.read", mark).await;
    assert_eq!(reply["type"], "message.read", "{reply}");
    let pointers = format!(
        "SELECT count(*) FROM conversation_participants WHERE user_id = '{}' AND last_read IS NOT NULL",
        large.users[1].id
    );
    large
        .tidegate
        .until_stored("the pointer", &pointers, 1)
        .await;
    let phone = large.device(1, "phone").await;
    hears(&phone, 5..6).await;
    hears_no_more(&phone);
}

#[tokio::test]
async fn a_device_that_leaves_is_written_down_at_once() {
    let plan = Plan::default().with("TIDEGATE_DELIVERY__RECEIPT_INTERVAL", "10m");
    let large = Large::of(plan).await;
    let phone = large.device(1, "phone").await;
    large.say(0..1).await;
    let last = hears(&phone, 0..1).await;
    eventually("the message is confirmed", PATIENCE, || async {
        let waiting = large.tidegate.gateways[1].metric("tidegate_fanout_readers_waiting");
        (waiting.await? > 0.0).then_some(())
    })
    .await;
    phone.close().await;
    large.until_confirmed("phone", &last).await;
}

#[tokio::test]
async fn a_node_that_dies_costs_duplicates_and_nothing_else() {
    let plan = Plan::default().with("TIDEGATE_DELIVERY__RECEIPT_INTERVAL", "10m");
    let large = Large::of(plan.gateways(3)).await;
    let phone = large.device(1, "phone").await;
    large.say(0..20).await;
    hears(&phone, 0..20).await;
    large.tidegate.gateways[1].kill9();
    phone.closed().await;
    large.say(20..40).await;
    let phone = large.device(2, "phone").await;
    hears_at_least(&phone, 0..40).await;
    large.say(40..41).await;
    hears(&phone, 40..41).await;
    hears_no_more(&phone);
}

#[tokio::test]
async fn who_was_away_from_the_group_hears_nothing_of_that_time() {
    let large = Large::of(soon()).await;
    let phone = large.device(0, "phone").await;
    large.say(0..3).await;
    let last = hears(&phone, 0..3).await;
    large.leaves(phone, "phone", &last).await;
    large.say(3..5).await;
    let user = &large.users[1].id;
    let path = format!("/conversations/{{id}}/participants/{user}");
    large.change(&format!("DELETE {path}"), Value::Null).await;
    large.say(5..8).await;
    let back = json!({"userId": user});
    large
        .change("POST /conversations/{id}/participants", back)
        .await;
    large.say(8..10).await;
    let phone = large.device(1, "phone").await;
    hears(&phone, 8..10).await;
    // What took the right away then does not take it now.
    large.say(10..11).await;
    let last = hears(&phone, 10..11).await;
    hears_no_more(&phone);
    assert_eq!(phone.count("unsubscribed"), 0);
    large.leaves(phone, "phone", &last).await;

    // Nor does an archive that was opened again.
    large.say(11..12).await;
    large
        .change("POST /conversations/{id}/archive", Value::Null)
        .await;
    large
        .change("POST /conversations/{id}/unarchive", Value::Null)
        .await;
    large.say(12..13).await;
    let phone = large.device(0, "phone").await;
    hears(&phone, 11..13).await;
    large.say(13..14).await;
    hears(&phone, 13..14).await;
    hears_no_more(&phone);
    assert_eq!(phone.count("unsubscribed"), 0);

    large.change(&format!("DELETE {path}"), Value::Null).await;
    expect_change(&phone, "removed").await;
    phone.expect("unsubscribed").await;
    large.say(14..15).await;
    hears_no_more(&phone);
}

#[tokio::test]
async fn a_group_that_was_large_for_a_while_leaves_nothing_out() {
    let large = Large::of(soon()).await;
    let phone = large.device(0, "phone").await;
    large.say(0..2).await;
    let last = hears(&phone, 0..2).await;
    large.leaves(phone, "phone", &last).await;
    large.say(2..5).await;
    for user in &large.users[3..5] {
        let path = format!("DELETE /conversations/{{id}}/participants/{}", user.id);
        large.change(&path, Value::Null).await;
    }
    large.say(5..8).await;
    let (phone, _) = large.tidegate.connect(1, &large.users[1], "phone").await;
    // By the inbox, and without being asked for.
    hears(&phone, 5..8).await;
    hears_no_more(&phone);
    // Whoever watches first who types, and then asks for the rest, begins as any other.
    let one = |topic: &str| json!({"topics": [topic], "filters": {"conversation_id": large.id}});
    for topic in ["typing", "conversation"] {
        let reply = phone.request("subscribe", one(topic)).await;
        assert_eq!(reply["payload"]["refused"], json!([]), "{reply}");
    }
    hears(&phone, 2..5).await;
    large.say(8..9).await;
    hears(&phone, 8..9).await;
    hears_no_more(&phone);
}

#[tokio::test]
async fn who_listens_to_all_conversations_gets_what_was_missed_in_each() {
    let large = Large::of(soon()).await;
    let all = json!({"topics": ["conversation"]});
    let (phone, _) = large.tidegate.connect(0, &large.users[1], "phone").await;
    phone.request("subscribe", all.clone()).await;
    large.say(0..4).await;
    let last = hears(&phone, 0..4).await;
    large.leaves(phone, "phone", &last).await;
    large.say(4..8).await;
    let (phone, _) = large.tidegate.connect(1, &large.users[1], "phone").await;
    let reply = phone.request("subscribe", all).await;
    assert_eq!(reply["payload"]["refused"], json!([]), "{reply}");
    hears(&phone, 4..8).await;
    // A subscription that is given up and begun again goes on where it was confirmed.
    let one = json!({"topics": ["conversation"], "filters": {"conversation_id": large.id}});
    phone
        .request("unsubscribe", json!({"topics": ["conversation"]}))
        .await;
    large.say(8..10).await;
    phone.request("subscribe", one).await;
    hears_at_least(&phone, 8..10).await;
}

#[tokio::test]
async fn what_has_left_redis_comes_from_postgres() {
    let plan = soon()
        .with("TIDEGATE_RETENTION__HOT_WINDOW", "1s")
        .with("TIDEGATE_JOBS__TRIM_INTERVAL", "200ms");
    let large = Large::of(plan).await;
    let phone = large.device(0, "phone").await;
    large.say(0..2).await;
    let last = hears(&phone, 0..2).await;
    large.leaves(phone, "phone", &last).await;
    large.say(2..40).await;
    let log = format!("*log:conversation:{}", large.id);
    eventually("the log leaves Redis", PATIENCE, || async {
        let keys = large.tidegate.redis().call(&["KEYS", &log]).await;
        keys.list().is_empty().then_some(())
    })
    .await;
    large.say(40..42).await;
    let phone = large.device(1, "phone").await;
    hears(&phone, 2..42).await;
    large.say(42..43).await;
    hears(&phone, 42..43).await;
    hears_no_more(&phone);
}
