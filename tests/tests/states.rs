//! What becomes of a command, as its sender sees it.

use serde_json::json;
use testkit::{Deployment, Plan, SocketOptions};

use crate::support::{assert_error, expect_content, expect_status, id_of, message, send};

#[tokio::test]
async fn the_sender_sees_delivered_and_completed() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let id = send(&ann_socket, &bob, "do it").await;
    assert_eq!(ann_socket.count("command.status"), 0, "nobody has it yet");

    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    expect_content(&phone, "do it").await;
    let delivered = expect_status(&ann_socket, &id, "delivered").await;
    assert_eq!(
        delivered["payload"]["recipientId"],
        bob.id.as_str(),
        "{delivered}"
    );
    assert!(delivered["payload"]["at"].is_string(), "{delivered}");
    assert!(delivered["offset"].is_u64(), "{delivered}");

    let reply = phone
        .request("command.complete", json!({"commandId": id}))
        .await;
    assert_eq!(reply["type"], "command.completed", "{reply}");
    assert!(reply["payload"]["completedAt"].is_string(), "{reply}");
    expect_status(&ann_socket, &id, "completed").await;
    tidegate
        .until_stored(
            "the assignment is completed",
            "SELECT count(*) FROM command_assignments WHERE state = 'completed'",
            1,
        )
        .await;
}

#[tokio::test]
async fn a_sender_who_was_away_learns_of_it_at_the_next_connect() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let id = send(&ann_socket, &bob, "do it").await;
    ann_socket.close().await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    expect_content(&phone, "do it").await;
    let reply = phone
        .request("command.complete", json!({"commandId": id}))
        .await;
    assert_eq!(reply["type"], "command.completed", "{reply}");

    let (ann_socket, _) = tidegate.connect(1, &ann, "laptop").await;
    expect_status(&ann_socket, &id, "delivered").await;
    expect_status(&ann_socket, &id, "completed").await;
}

#[tokio::test]
async fn a_completed_command_is_not_replayed() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (one, two) = (
        send(&ann_socket, &bob, "one").await,
        send(&ann_socket, &bob, "two").await,
    );
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    expect_content(&phone, "one").await;
    let reply = phone
        .request("command.complete", json!({"commandId": one}))
        .await;
    assert_eq!(reply["type"], "command.completed", "{reply}");
    assert_ne!(one, two);

    let options = SocketOptions::bearer(&bob.token)
        .device("other")
        .query("after", "0:0");
    let (tablet, _) = tidegate.connect_with(1, options).await;
    expect_content(&tablet, "two").await;
    assert!(
        tablet
            .waiting()
            .iter()
            .all(|frame| frame["payload"]["content"] != "one")
    );
}

#[tokio::test]
async fn completing_twice_is_the_same_answer() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let id = send(&ann_socket, &bob, "do it").await;
    expect_content(&phone, "do it").await;
    let first = phone
        .request("command.complete", json!({"commandId": id}))
        .await;
    let again = phone
        .request("command.complete", json!({"commandId": id}))
        .await;
    assert_eq!(first["payload"], again["payload"], "{first} {again}");
}

#[tokio::test]
async fn a_pending_command_can_be_cancelled_by_its_sender_only() {
    let tidegate = Deployment::start().await;
    let (ann, bob, eve) = (
        tidegate.user("ann").await,
        tidegate.user("bob").await,
        tidegate.user("eve").await,
    );
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (eve_socket, _) = tidegate.connect(0, &eve, "laptop").await;
    let id = send(&ann_socket, &bob, "never mind").await;
    let stays = send(&ann_socket, &bob, "stays").await;

    let refused = eve_socket
        .request("command.cancel", json!({"commandId": id}))
        .await;
    assert!(
        matches!(
            refused["payload"]["code"].as_str(),
            Some("forbidden" | "not_found")
        ),
        "{refused}"
    );
    let refused = eve_socket
        .request("command.complete", json!({"commandId": id}))
        .await;
    assert!(
        matches!(
            refused["payload"]["code"].as_str(),
            Some("forbidden" | "not_found")
        ),
        "{refused}"
    );

    let reply = ann_socket
        .request("command.cancel", json!({"commandId": id}))
        .await;
    assert_eq!(reply["type"], "command.status", "{reply}");
    assert_eq!(reply["payload"]["status"], "cancelled", "{reply}");

    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    expect_content(&phone, "stays").await;
    expect_status(&ann_socket, &stays, "delivered").await;
    assert!(
        phone
            .waiting()
            .iter()
            .all(|frame| frame["payload"]["content"] != "never mind")
    );
    tidegate
        .until_stored(
            "the assignment is cancelled",
            "SELECT count(*) FROM command_assignments WHERE state = 'cancelled'",
            1,
        )
        .await;

    let late = ann_socket
        .request("command.cancel", json!({"commandId": stays}))
        .await;
    assert_error(&late, "conflict");
}

#[tokio::test]
async fn a_command_that_was_passed_over_can_be_cancelled() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let chosen = json!({"blockedCategories": ["feet"]});
    phone.request("preferences.update", chosen).await;
    phone.expect("preferences").await;
    let mut ids = Vec::new();
    for tag in ["feet", "mild"] {
        let mut body = message(&bob, tag);
        body["categories"] = json!([tag]);
        ids.push(id_of(&ann_socket.request("command.create", body).await));
    }
    expect_content(&phone, "mild").await;
    // His devices have come past both.
    expect_status(&ann_socket, &ids[1], "delivered").await;
    let cancel = |id: &str| ann_socket.request("command.cancel", json!({"commandId": id}));
    assert_error(&cancel(&ids[1]).await, "conflict");
    let first = cancel(&ids[0]).await;
    assert_eq!(first["payload"]["status"], "cancelled", "{first}");
    assert_eq!(cancel(&ids[0]).await["payload"], first["payload"]);
    tidegate
        .until_stored(
            "the assignment is cancelled",
            "SELECT count(*) FROM command_assignments WHERE state = 'cancelled'",
            1,
        )
        .await;
    assert_eq!(cancel(&ids[0]).await["payload"], first["payload"]);
}

#[tokio::test]
async fn a_command_nobody_completed_in_time_expires() {
    let plan = Plan::default().with("TIDEGATE_JOBS__EXPIRE_INTERVAL", "200ms");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let mut payload = message(&bob, "soon too late");
    payload["expiresAt"] = in_seconds(3).into();
    let reply = ann_socket.request("command.create", payload).await;
    let id = id_of(&reply);
    send(&ann_socket, &bob, "lasting").await;

    let expired = expect_status(&ann_socket, &id, "expired").await;
    assert_eq!(
        expired["payload"]["recipientId"],
        bob.id.as_str(),
        "{expired}"
    );
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    expect_content(&phone, "lasting").await;
    assert!(
        phone
            .waiting()
            .iter()
            .all(|frame| frame["type"] != "command.new")
    );
}

/// A moment from now by the true time, in RFC 3339; such texts sort as their moments do.
pub fn in_seconds(seconds: i64) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "+%s"])
        .output()
        .expect("date exists");
    let now: u64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("a number");
    rfc3339(now.saturating_add_signed(seconds))
}

fn rfc3339(unix: u64) -> String {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    // Howard Hinnant's civil_from_days.
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.000Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[tokio::test]
async fn the_queue_lists_commands_by_state_and_page() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(send(&ann_socket, &bob, &format!("command {n}")).await);
    }
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let done = phone
        .request("command.complete", json!({"commandId": ids[2]}))
        .await;
    assert_eq!(done["type"], "command.completed", "{done}");

    let mut listed = Vec::new();
    let mut cursor = serde_json::Value::Null;
    loop {
        let mut query = json!({"limit": 3});
        if !cursor.is_null() {
            query["cursor"] = cursor;
        }
        let page = phone.request("command.queue", query).await;
        assert_eq!(page["type"], "command.queue", "{page}");
        let commands = page["payload"]["commands"]
            .as_array()
            .expect("a list")
            .clone();
        assert!(commands.len() <= 3, "{page}");
        for command in &commands {
            assert!(
                matches!(command["status"].as_str(), Some("pending" | "delivered")),
                "{command}"
            );
            listed.push(command["commandId"].as_str().expect("an id").to_owned());
        }
        cursor = page["payload"]["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
        assert!(listed.len() <= 7, "pages without end");
    }
    let open: Vec<String> = ids.iter().filter(|id| **id != ids[2]).cloned().collect();
    assert_eq!(listed, open, "each once, oldest first");

    testkit::eventually(
        "the completed one is listed as such",
        testkit::wait::PATIENCE,
        || async {
            let page = phone
                .request("command.queue", json!({"status": "completed"}))
                .await;
            let commands = page["payload"]["commands"].as_array()?;
            (commands.len() == 1 && commands[0]["commandId"] == ids[2].as_str()).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn with_client_acks_only_an_ack_delivers() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let options = SocketOptions::bearer(&bob.token)
        .device("phone")
        .query("ack", "client");
    let (phone, _) = tidegate.connect_with(1, options.clone()).await;
    let one = send(&ann_socket, &bob, "one").await;
    let two = send(&ann_socket, &bob, "two").await;
    let first = expect_content(&phone, "one").await;
    expect_content(&phone, "two").await;
    let ack = json!({"type": "ack", "id": "a", "payload": {"topic": "user", "epoch": first["epoch"], "offset": first["offset"]}});
    phone.send(&ack).await;
    expect_status(&ann_socket, &one, "delivered").await;
    phone.close().await;
    assert!(
        ann_socket
            .waiting()
            .iter()
            .all(|frame| frame["payload"]["commandId"] != two.as_str()),
        "not acknowledged"
    );

    let (phone, _) = tidegate.connect_with(0, options).await;
    let again = expect_content(&phone, "two").await;
    let beyond = again["offset"].as_u64().unwrap() + 100;
    let ack = |topic: &str, offset: u64| json!({"topic": topic, "epoch": again["epoch"], "offset": offset});
    assert_error(
        &phone.request("ack", ack("user", beyond)).await,
        "bad_request",
    );
    assert_error(
        &phone.request("ack", ack("nonsense", 1)).await,
        "bad_request",
    );
}
