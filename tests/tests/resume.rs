//! Commands to users who were away.

use std::time::Duration;

use testkit::{Deployment, Plan, Socket, SocketOptions, eventually, wait::PATIENCE};

use crate::support::{expect_content, expect_status, message, position_of, send};

#[tokio::test]
async fn what_was_sent_while_away_comes_at_the_next_connect_on_any_node() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    for n in 0..5 {
        send(&ann_socket, &bob, &format!("offline {n}")).await;
    }
    let (bob_socket, connected) = tidegate.connect(1, &bob, "phone").await;
    for n in 0..5 {
        expect_content(&bob_socket, &format!("offline {n}")).await;
    }
    assert_eq!(connected["resumed"]["topic"], "user", "{connected}");
    send(&ann_socket, &bob, "live").await;
    expect_content(&bob_socket, "live").await;
}

#[tokio::test]
async fn confirmed_commands_do_not_come_again_and_others_do() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let first = send(&ann_socket, &bob, "confirmed").await;
    expect_content(&phone, "confirmed").await;
    expect_status(&ann_socket, &first, "delivered").await;
    phone.close().await;

    send(&ann_socket, &bob, "missed").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    expect_content(&phone, "missed").await;
    // A device that was never seen starts where the furthest one stands, so it misses nothing new.
    send(&ann_socket, &bob, "new").await;
    let (tablet, _) = tidegate.connect(0, &bob, "tablet").await;
    expect_content(&phone, "new").await;
    let seen = tablet
        .try_take(Duration::from_secs(1), |frame| {
            frame["payload"]["content"] == "confirmed"
        })
        .await;
    assert!(seen.is_none(), "a new device starts at the furthest cursor");
}

#[tokio::test]
async fn an_aborted_connection_gets_its_unconfirmed_commands_again() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let options = SocketOptions::bearer(&bob.token)
        .device("phone")
        .without_pongs();
    let (phone, _) = tidegate.connect_with(0, options).await;
    for n in 0..10 {
        send(&ann_socket, &bob, &format!("command {n}")).await;
    }
    let first = expect_content(&phone, "command 0").await;
    phone.abort().await;

    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let again = expect_content(&phone, "command 0").await;
    assert_eq!(position_of(&first), position_of(&again));
    assert_eq!(first["payload"]["commandId"], again["payload"]["commandId"]);
    for n in 1..10 {
        expect_content(&phone, &format!("command {n}")).await;
    }
}

#[tokio::test]
async fn after_overrides_the_cursor() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let mut positions = Vec::new();
    for n in 0..6 {
        let id = send(&ann_socket, &bob, &format!("command {n}")).await;
        positions.push(position_of(
            &expect_content(&phone, &format!("command {n}")).await,
        ));
        expect_status(&ann_socket, &id, "delivered").await;
    }
    phone.close().await;

    let options = SocketOptions::bearer(&bob.token)
        .device("phone")
        .query("after", &positions[2]);
    let (phone, connected) = tidegate.connect_with(1, options).await;
    for n in 3..6 {
        expect_content(&phone, &format!("command {n}")).await;
    }
    assert_eq!(phone.count("command.new"), 0);
    assert_eq!(connected["resumed"]["complete"], true, "{connected}");
}

/// Everything leaves Redis at once.
fn short_window() -> Plan {
    Plan::default()
        .with("TIDEGATE_RETENTION__HOT_WINDOW", "1s")
        .with("TIDEGATE_JOBS__TRIM_INTERVAL", "200ms")
}

/// Waits until the user's log in Redis holds nothing of before.
async fn until_trimmed(tidegate: &Deployment, user: &str) {
    let pattern = format!("*log:user:{user}*");
    eventually("the log leaves Redis", PATIENCE, || async {
        let keys = tidegate.redis().call(&["KEYS", &pattern]).await;
        for key in keys.list() {
            let length = tidegate
                .redis()
                .try_call(&["XLEN", &key.text()?])
                .await
                .ok()?;
            if length.text()? != "0" {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn what_has_left_redis_comes_from_postgres_in_one_sequence() {
    let tidegate = Deployment::start_with(short_window()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    for n in 0..50 {
        send(&ann_socket, &bob, &format!("old {n}")).await;
    }
    until_trimmed(&tidegate, &bob.id).await;
    send(&ann_socket, &bob, "young").await;

    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let mut last = (0, 0);
    for n in 0..50 {
        let frame = expect_content(&phone, &format!("old {n}")).await;
        let position = (
            frame["epoch"].as_u64().unwrap(),
            frame["offset"].as_u64().unwrap(),
        );
        assert!(position > last, "{position:?} after {last:?}");
        last = position;
    }
    expect_content(&phone, "young").await;
    send(&ann_socket, &bob, "live").await;
    expect_content(&phone, "live").await;
    assert_eq!(phone.count("command.new"), 0);
}

#[tokio::test]
async fn what_redis_lost_after_it_was_stored_still_comes() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    send(&ann_socket, &bob, "kept").await;
    let kept = position_of(&expect_content(&phone, "kept").await);
    phone.close().await;
    let mut create = message(&bob, "lost");
    create["durability"] = "stored".into();
    let stored = ann_socket.request("command.create", create).await;
    assert_eq!(stored["type"], "command.accepted", "{stored}");

    // As after a crash of a server that does not fsync each write: the log and its head are one
    // entry behind what workers have read, and the partition is of another server.
    let redis = tidegate.redis();
    let found = redis
        .call(&["KEYS", &format!("*log:user:{}", bob.id)])
        .await;
    let log = found.list()[0].text().unwrap();
    let tag = log.split_once(':').unwrap().0.to_owned();
    let (epoch, offset) = kept.split_once(':').unwrap();
    let lost = format!("{epoch}-{}", offset.parse::<u64>().unwrap() + 1);
    assert_eq!(
        redis.call(&["XDEL", &log, &lost]).await.text().unwrap(),
        "1"
    );
    let head = log.replace(":log:", ":head:");
    redis.call(&["HSET", &head, "n", offset]).await;
    redis
        .call(&["HSET", &format!("{tag}:meta"), "server", "another"])
        .await;

    send(&ann_socket, &bob, "after").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    expect_content(&phone, "lost").await;
    expect_content(&phone, "after").await;
    send(&ann_socket, &bob, "live").await;
    expect_content(&phone, "live").await;
}

#[tokio::test]
async fn after_reaches_back_into_postgres() {
    let tidegate = Deployment::start_with(short_window()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    let mut third = String::new();
    for n in 0..10 {
        send(&ann_socket, &bob, &format!("old {n}")).await;
        let frame = expect_content(&phone, &format!("old {n}")).await;
        if n == 3 {
            third = position_of(&frame);
        }
    }
    phone.close().await;
    until_trimmed(&tidegate, &bob.id).await;

    let options = SocketOptions::bearer(&bob.token)
        .device("phone")
        .query("after", &third);
    let (phone, _) = tidegate.connect_with(1, options).await;
    for n in 4..10 {
        expect_content(&phone, &format!("old {n}")).await;
    }
    assert_eq!(phone.count("command.new"), 0);
}

#[tokio::test]
async fn a_queue_longer_than_every_buffer_arrives_whole() {
    let tidegate = Deployment::start_with(crate::support::unlimited()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let filler = "x".repeat(4000);
    for n in 0..1000 {
        let frame = serde_json::json!({"type": "command.create", "id": format!("c{n}"), "payload": message(&bob, &format!("{n} {filler}"))});
        ann_socket.send(&frame).await;
        assert_eq!(
            ann_socket.reply_to(&format!("c{n}")).await["type"],
            "command.accepted"
        );
    }
    let (phone, _): (Socket, _) = tidegate.connect(1, &bob, "phone").await;
    for n in 0..1000 {
        expect_content(&phone, &format!("{n} {filler}")).await;
    }
}

#[tokio::test]
async fn the_first_command_of_a_log_arrives_though_no_worker_ever_ran() {
    let tidegate = Deployment::start_with(Plan::default().workers(0)).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(0, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    // The log begins in another second than the follower: a stretch to be looked for in Postgres,
    // where there is nothing.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    send(&ann_socket, &bob, "first").await;
    expect_content(&phone, "first").await;
    send(&ann_socket, &bob, "second").await;
    expect_content(&phone, "second").await;
}
