//! Clocks that are wrong. Ids, times and ends come from the clock of Redis; those of the hosts
//! beside it may show what they like.
#![cfg(target_os = "linux")]

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{
    Deployment, HostClock, RedisKind, RedisOptions, Socket, SocketOptions, User, eventually,
    wait::PATIENCE,
};
use tokio::time::{Instant, sleep};

use super::{TURN, judged, loaded, long, times, under_load, unlimited, usual};
use crate::{
    states::in_seconds,
    support::{expect_content, expect_status, id_of, message, send},
};

const HOUR: i64 = 3_600_000;
const TEN_MINUTES: i64 = 600_000;

/// A token from one gateway, a socket at another.
async fn across(tidegate: &Deployment, user: &User, from: usize, to: usize) -> Socket {
    let rest = tidegate.gateways[from].rest();
    let answer = rest.login(&user.name, &user.password).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer.body["token"].as_str().unwrap();
    let device = format!("from-{from}-to-{to}");
    let options = SocketOptions::bearer(token).device(&device);
    tidegate.connect_with(to, options).await.0
}

/// A frame's `createdAt` is a moment ago, by a clock that is off by so many seconds.
#[track_caller]
fn assert_created_now(frame: &Value, off: i64) {
    let created = frame["payload"]["createdAt"].as_str().unwrap();
    let around = in_seconds(off - 10)..=in_seconds(off + 10);
    assert!(around.contains(&created.to_owned()), "{created} {around:?}");
}

#[tokio::test]
async fn the_hosts_are_an_hour_ahead_and_behind() {
    let _turn = TURN.lock().await;
    // What a wrong clock took away or gave, half an hour would show.
    let plan = unlimited()
        .workers(2)
        .with("TIDEGATE_AUTH__TOKEN_TTL", "30m");
    let mut tidegate = Deployment::prepare(plan).await;
    let ahead = HostClock::off_by(HOUR);
    let behind = HostClock::off_by(-HOUR);
    for nodes in [&mut tidegate.gateways, &mut tidegate.workers] {
        nodes[0].set_clock(ahead.clone());
        nodes[1].set_clock(behind.clone());
    }
    tidegate.launch().await;

    let load = loaded(tidegate, usual(), async |tidegate, load| {
        let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
        let mut sockets = Vec::new();
        for (from, to) in [(0, 1), (1, 0)] {
            let ann_socket = across(tidegate, &ann, from, to).await;
            let bob_socket = across(tidegate, &bob, to, from).await;
            send(&ann_socket, &bob, "now").await;
            let got = expect_content(&bob_socket, "now").await;
            assert_created_now(&got, 0);
            let expires = got["payload"]["expiresAt"].as_str().unwrap().to_owned();
            let two_weeks = 14 * 24 * 3600;
            let around = in_seconds(two_weeks - 10)..=in_seconds(two_weeks + 10);
            assert!(around.contains(&expires), "{expires} {around:?}");
            sockets.extend([ann_socket, bob_socket]);
        }
        let away = tidegate.user("eve").await;
        for socket in [&sockets[0], &sockets[2]] {
            expires_in_time(socket, &away).await;
        }
        for worker in &tidegate.workers {
            worker.restart().await;
            load.flows(50).await;
        }
        tidegate.gateways[0].restart().await;
        load.flows(50).await;
        // An administrator sets both clocks right, and then the other way round.
        for (first, second) in [(0, 0), (-HOUR, HOUR)] {
            ahead.set(first);
            behind.set(second);
            load.flows(100).await;
            across(tidegate, &ann, 0, 1).await;
            across(tidegate, &ann, 1, 0).await;
        }
        // The gateway that was not restarted kept its sockets.
        for (socket, gateway) in sockets.iter().zip([1, 0, 0, 1]) {
            assert_eq!(socket.is_closed(), gateway == 0);
        }
    })
    .await;
    judged(load).await;
}

/// A command for somebody who is away ends when its sender said, not before.
async fn expires_in_time(sender: &Socket, away: &User) {
    let mut payload = message(away, "soon too late");
    payload["expiresAt"] = in_seconds(4).into();
    let asked = Instant::now();
    let id = id_of(&sender.request("command.create", payload).await);
    expect_status(sender, &id, "expired").await;
    // The end is given in whole seconds.
    let lasted = asked.elapsed();
    assert!(lasted >= Duration::from_secs(3), "ended after {lasted:?}");
}

fn redis_by(clock: &HostClock) -> RedisKind {
    RedisKind::Standalone(RedisOptions {
        clock: Some(clock.clone()),
        ..RedisOptions::default()
    })
}

/// The workers that live own all partitions, by leases renewed after the clock was set.
async fn until_leases_are_renewed(tidegate: &Deployment) {
    let redis = tidegate.redis();
    eventually("all leases are renewed", PATIENCE, || async {
        let mut owned = 0.0;
        for worker in &tidegate.workers {
            owned += worker.metric("tidegate_worker_partitions").await?;
        }
        if owned < 256.0 {
            return None;
        }
        let now = redis.call(&["TIME"]).await.list()[0].text()?;
        let soon: i64 = (now.parse::<i64>().ok()? + 3) * 1000;
        for key in redis.call(&["KEYS", "lease:partition:*"]).await.list() {
            let until = redis.call(&["HGET", &key.text()?, "until"]).await;
            if until.text()?.parse::<i64>().ok()? > soon {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn the_clock_of_redis_jumps() {
    let clock = HostClock::default();
    let plan = unlimited().workers(2).redis(redis_by(&clock));
    under_load(plan, async |tidegate, load| {
        let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
        let (ann_socket, connected) = tidegate.connect(0, &ann, "laptop").await;
        let (bob_socket, _) = tidegate.connect(1, &bob, "phone").await;
        let session = connected["sessionId"].as_str().unwrap();
        for jump in [TEN_MINUTES, -TEN_MINUTES].repeat(times(1, 5)) {
            let mut payload = message(&bob, "lasting");
            payload["expiresAt"] = in_seconds(3600).into();
            let lasting = id_of(&ann_socket.request("command.create", payload).await);
            clock.set(jump);
            load.flows(200).await;
            until_leases_are_renewed(tidegate).await;
            // A worker that lives goes on, and one that is killed now is replaced.
            tidegate.workers[0].restart().await;
            load.flows(100).await;

            send(&ann_socket, &bob, "now").await;
            expect_content(&bob_socket, "lasting").await;
            assert_created_now(&expect_content(&bob_socket, "now").await, jump / 1000);
            let done = bob_socket
                .request("command.complete", json!({"commandId": lasting}))
                .await;
            assert_eq!(done["type"], "command.completed", "{done}");
            expect_status(&ann_socket, &lasting, "completed").await;
            // Whoever was logged in still is, on every gateway.
            for gateway in [0, 1] {
                let (socket, _) = tidegate.connect(gateway, &ann, "again").await;
                socket.close().await;
            }
            until_leases_are_renewed(tidegate).await;
        }
        if long() {
            // A node that seems dead is believed dead after 15 s.
            sleep(Duration::from_secs(17)).await;
        }
        let pattern = format!("*sess:{}", ann.id);
        let keys = tidegate.redis().call(&["KEYS", &pattern]).await;
        let key = keys.list()[0].text().unwrap();
        let known = tidegate.redis().call(&["HGET", &key, session]).await;
        assert!(known.text().is_some(), "a session that lives was reaped");
        assert!(!ann_socket.is_closed() && !bob_socket.is_closed());
    })
    .await;
}

/// Nobody is left to renew its leases, which end by the clock before it was set back.
#[tokio::test]
async fn a_worker_dies_as_the_clock_of_redis_is_set_back() {
    let clock = HostClock::off_by(TEN_MINUTES);
    under_load(
        unlimited().redis(redis_by(&clock)),
        async |tidegate, load| {
            clock.set(0);
            tidegate.workers[0].restart().await;
            load.flows(100).await;
        },
    )
    .await;
}
