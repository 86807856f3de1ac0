//! Nodes that die, stop or have wrong clocks, and clients that keep coming back.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::{Deployment, Socket, SocketOptions, User, eventually, wait::PATIENCE};

use super::{LONG, brisk, expect_told, group, is_presence, next_of, query, watch};

/// How often it was told that somebody went.
fn offlines(socket: &Socket) -> usize {
    socket.count("presence.offline")
}

#[tokio::test]
async fn three_devices_on_two_nodes_and_one_node_is_killed() {
    let tidegate = Deployment::start_with(brisk().gateways(3)).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (one_watcher, _) = tidegate.connect(0, &ann, "laptop").await;
    let (other_watcher, _) = tidegate.connect(2, &ann, "phone").await;
    watch(&one_watcher, &bob).await;
    watch(&other_watcher, &bob).await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    let (tablet, _) = tidegate.connect(1, &bob, "tablet").await;
    let (laptop, _) = tidegate.connect(2, &bob, "laptop").await;
    for watcher in [&one_watcher, &other_watcher] {
        expect_told(watcher, &bob, "presence.online", "online").await;
    }
    tidegate.gateways[1].kill9();
    laptop.close().await;
    for watcher in [&one_watcher, &other_watcher] {
        // Not before the sessions of the dead node were reaped: until then they may be alive.
        let told = next_of(watcher, &bob, LONG).await;
        assert_eq!(told["type"], "presence.offline", "{told}");
    }
    drop((phone, tablet));
    let (_again, _) = tidegate.connect(0, &bob, "phone").await;
    for watcher in [&one_watcher, &other_watcher] {
        expect_told(watcher, &bob, "presence.online", "online").await;
        assert_eq!(offlines(watcher), 0, "once");
    }
    let stored = format!(
        "select count(*) from users where id = '{}' and last_seen_at is not null",
        bob.id
    );
    tidegate.until_stored("when bob was seen", &stored, 1).await;
}

#[tokio::test]
async fn whoever_is_back_in_time_never_went() {
    let plan = brisk().with("TIDEGATE_PRESENCE__GRACE", "30s");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (watcher, _) = tidegate.connect(0, &ann, "laptop").await;
    watch(&watcher, &bob).await;
    let (mut socket, _) = tidegate.connect(1, &bob, "phone").await;
    expect_told(&watcher, &bob, "presence.online", "online").await;
    for n in 0..20 {
        socket.abort().await;
        eventually("the session is closed", PATIENCE, || async {
            let state = query(&watcher, &[&bob]).await;
            assert_eq!(state["users"][0]["status"], "online", "{state}");
            (state["users"][0]["devices"] == 0).then_some(())
        })
        .await;
        // Now and then the user takes some of the time they have.
        for _ in 0..if n % 10 == 9 { 200 } else { 0 } {
            let state = query(&watcher, &[&bob]).await;
            assert_eq!(state["users"][0]["status"], "online", "{state}");
        }
        socket = tidegate.connect(n % 2, &bob, "phone").await.0;
    }
    let told: Vec<Value> = watcher.waiting().into_iter().filter(is_presence).collect();
    assert_eq!(told, Vec::<Value>::new());
}

#[tokio::test]
async fn a_storm_of_reconnects_leaves_nobody_offline() {
    const USERS: usize = 50;
    const TIMES: usize = 20;
    let plan = brisk().with("TIDEGATE_PRESENCE__GRACE", "1s");
    let tidegate = Arc::new(Deployment::start_with(plan).await);
    let ann = tidegate.user("ann").await;
    let mut users = Vec::new();
    for n in 0..USERS {
        users.push(tidegate.user(&format!("user-{n}")).await);
    }
    let all: Vec<&User> = std::iter::once(&ann).chain(&users).collect();
    group(&tidegate, &all).await;
    let (watcher, _) = tidegate.connect(0, &ann, "laptop").await;
    watcher
        .request("subscribe", json!({"topics": ["presence"]}))
        .await;
    let storm = users.iter().enumerate().map(|(number, user)| {
        let (tidegate, user) = (tidegate.clone(), user.clone());
        tokio::spawn(async move {
            let mut socket = None;
            for n in 0..TIMES {
                let options = SocketOptions::bearer(&user.token).device("phone");
                let new = tidegate.connect_with((number + n) % 2, options).await.0;
                // The old one goes only after the new one came, or before; both happen.
                if let Some(old) = socket.replace(new) {
                    Socket::abort(old).await;
                }
                if n % 3 == 1
                    && n + 1 < TIMES
                    && let Some(old) = socket.take()
                {
                    Socket::abort(old).await;
                }
            }
            socket
        })
    });
    let storm: Vec<_> = storm.collect();
    let mut sockets = Vec::new();
    for one in storm {
        sockets.push(one.await.unwrap());
    }
    let everybody: Vec<&User> = users.iter().collect();
    eventually("one device each, and online", PATIENCE, || async {
        let state = query(&watcher, &everybody).await;
        let users = state["users"].as_array().unwrap();
        assert_eq!(users.len(), USERS);
        users
            .iter()
            .all(|it| it["status"] == "online" && it["devices"] == 1)
            .then_some(())
    })
    .await;
    // Whatever waited to be settled is settled now.
    eventually("nothing waits", PATIENCE, || async {
        let mut waiting = 0.0;
        for node in &tidegate.gateways {
            waiting += node.metric("tidegate_presence_departures_waiting").await?;
        }
        (waiting == 0.0).then_some(())
    })
    .await;
    let state = query(&watcher, &everybody).await;
    let users = state["users"].as_array().unwrap();
    assert!(users.iter().all(|it| it["status"] == "online"), "{state}");
    // And so it was told.
    eventually("each was last told of as online", PATIENCE, || async {
        let told = watcher.waiting();
        let last = |user: &User| {
            let of_user = |it: &&Value| is_presence(it) && it["payload"]["userId"] == user.id;
            told.iter()
                .rfind(of_user)
                .is_some_and(|it| it["payload"]["status"] == "online")
        };
        everybody.iter().all(|user| last(user)).then_some(())
    })
    .await;
    drop(sockets);
}

#[tokio::test]
async fn a_node_that_was_stopped_for_long_keeps_its_sockets() {
    let tidegate = Deployment::start_with(brisk()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (watcher, _) = tidegate.connect(0, &ann, "laptop").await;
    watch(&watcher, &bob).await;
    let (bob_socket, connected) = tidegate.connect(1, &bob, "phone").await;
    expect_told(&watcher, &bob, "presence.online", "online").await;
    let stopped = tidegate.gateways[1].process();
    stopped.signal("STOP");
    // Longer than it may give no sign of life: others take it for dead.
    let told = next_of(&watcher, &bob, LONG).await;
    assert_eq!(told["type"], "presence.offline", "{told}");
    stopped.signal("CONT");
    let told = next_of(&watcher, &bob, LONG).await;
    assert_eq!(told["type"], "presence.online", "{told}");
    bob_socket.request("ping", json!({})).await;
    let state = query(&watcher, &[&bob]).await;
    assert_eq!(state["users"][0]["devices"], 1, "{state}");
    assert!(connected["sessionId"].is_string());
    bob_socket.close().await;
    expect_told(&watcher, &bob, "presence.offline", "offline").await;
}

#[tokio::test]
async fn redis_comes_back_and_watchers_know_how_it_is() {
    let tidegate = Deployment::start_with(brisk()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (watcher, _) = tidegate.connect(0, &ann, "laptop").await;
    watch(&watcher, &bob).await;
    let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
    expect_told(&watcher, &bob, "presence.online", "online").await;
    // The news goes out while nobody hears it: the subscriptions are cut.
    let kill = ["client", "kill", "type", "pubsub"];
    for n in 0..10 {
        tidegate.redis().call(&kill).await;
        let text = format!("after cut {n}");
        bob_socket
            .request("user.status", json!({"status": "busy", "text": text}))
            .await;
        let is_it = |frame: &Value| is_presence(frame) && frame["payload"]["text"] == text.as_str();
        watcher.take(&text, PATIENCE, is_it).await;
    }
    tidegate.redis().restart().await;
    eventually("bob can say something again", PATIENCE, || async {
        let said = bob_socket
            .request("user.status", json!({"status": "away"}))
            .await;
        (said["type"] == "presence.update").then_some(())
    })
    .await;
    let is_away = |frame: &Value| is_presence(frame) && frame["payload"]["status"] == "away";
    watcher.take("away", PATIENCE, is_away).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn clocks_of_nodes_that_are_an_hour_off_change_nothing() {
    use testkit::HostClock;
    const HOUR: i64 = 3_600_000;
    let plan = brisk()
        .workers(2)
        .with("TIDEGATE_PRESENCE__AWAY_AFTER", "3s");
    let mut tidegate = Deployment::prepare(plan).await;
    for nodes in [&mut tidegate.gateways, &mut tidegate.workers] {
        nodes[0].set_clock(HostClock::off_by(HOUR));
        nodes[1].set_clock(HostClock::off_by(-HOUR));
    }
    tidegate.launch().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    group(&tidegate, &[&ann, &bob]).await;
    let (watcher, _) = tidegate.connect(0, &ann, "laptop").await;
    watch(&watcher, &bob).await;
    for node in [1, 0] {
        let (bob_socket, _) = tidegate.connect(node, &bob, "phone").await;
        expect_told(&watcher, &bob, "presence.online", "online").await;
        expect_told(&watcher, &bob, "presence.update", "away").await;
        bob_socket.request("preferences.get", json!({})).await;
        expect_told(&watcher, &bob, "presence.update", "online").await;
        bob_socket.close().await;
        let gone = expect_told(&watcher, &bob, "presence.offline", "offline").await;
        let seen = gone["payload"]["lastSeenAt"].as_str().unwrap();
        let around = crate::states::in_seconds(-60)..=crate::states::in_seconds(60);
        assert!(around.contains(&seen.to_owned()), "{seen} {around:?}");
    }
}
