//! The life of a socket: limits, heartbeats, logging out, draining.

use std::time::Duration;

use serde_json::json;
use testkit::{Deployment, Plan, Proxy, Socket, SocketOptions, eventually, within};
use tokio::time::Instant;

use crate::support::{expect_content, send};

const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn logging_out_on_one_node_closes_the_sockets_on_the_other() {
    let tidegate = Deployment::start().await;
    let ann = tidegate.user("ann").await;
    let second = tidegate.login("ann", &ann.password).await;
    let (here, _) = tidegate.connect(0, &ann, "laptop").await;
    let (there, _) = tidegate.connect(1, &ann, "phone").await;
    let (other_token, _) = tidegate.connect(1, &second, "tablet").await;

    let answer = tidegate.gateways[0]
        .rest()
        .logout(&ann.token)
        .await
        .expect("the gateway answers");
    assert!(answer.status < 300, "{answer:?}");
    assert_eq!(here.closed_within(AT_ONCE).await.code(), Some(4401));
    assert_eq!(there.closed_within(AT_ONCE).await.code(), Some(4401));
    assert_eq!(
        other_token.request("ping", json!({})).await["type"],
        "pong",
        "another token goes on"
    );

    for node in 0..2 {
        eventually("the token is refused everywhere", AT_ONCE, || async {
            let refused = Socket::open(tidegate.address(node), SocketOptions::bearer(&ann.token))
                .await
                .err()?;
            (refused.status == 401).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn sockets_on_the_other_node_close_within_a_second_of_the_logout() {
    let tidegate = Deployment::start().await;
    let ann = tidegate.user("ann").await;
    let mut took = Vec::new();
    for _ in 0..7 {
        let login = tidegate.login("ann", &ann.password).await;
        let mut sockets = Vec::new();
        for device in ["laptop", "phone", "tablet"] {
            sockets.push(tidegate.connect(1, &login, device).await.0);
        }
        let answer = tidegate.gateways[0].rest().logout(&login.token).await;
        let answered = Instant::now();
        assert!(answer.is_ok_and(|answer| answer.status < 300));
        for socket in &sockets {
            assert_eq!(socket.closed().await.code(), Some(4401));
        }
        took.push(answered.elapsed());
    }
    // A crowded machine may be late now and then, not every other time.
    took.sort_unstable();
    assert!(took[took.len() / 2] <= Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn logging_out_everywhere_closes_all_sockets_of_the_user_and_nobody_elses() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let second = tidegate.login("ann", &ann.password).await;
    let (one, _) = tidegate.connect(0, &ann, "laptop").await;
    let (two, _) = tidegate.connect(1, &second, "phone").await;
    let (neighbour, _) = tidegate.connect(1, &bob, "phone").await;
    let rest = tidegate.gateways[1].rest();
    let answer = rest
        .post("/api/v1/auth/logout-all", Some(&ann.token), &json!({}))
        .await
        .expect("the gateway answers");
    assert!(answer.status < 300, "{answer:?}");
    assert_eq!(one.closed_within(AT_ONCE).await.code(), Some(4401));
    assert_eq!(two.closed_within(AT_ONCE).await.code(), Some(4401));
    assert_eq!(neighbour.request("ping", json!({})).await["type"], "pong");

    // Tokens made later are good: the clock of tokens counts in seconds.
    eventually("a new token is taken", AT_ONCE, || async {
        let fresh = tidegate.login("ann", &ann.password).await;
        Socket::open(tidegate.address(0), SocketOptions::bearer(&fresh.token))
            .await
            .ok()
            .map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_refreshed_token_is_good_and_the_user_stays_the_same() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let rest = tidegate.gateways[0].rest();
    let answer = rest
        .post("/api/v1/auth/refresh", Some(&ann.token), &json!({}))
        .await
        .expect("the gateway answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    let fresh = answer.body["token"].as_str().expect("a token");
    assert_ne!(fresh, ann.token);

    let (socket, _) = tidegate.connect(1, &ann, "laptop").await;
    let reply = socket
        .request("authenticate", json!({"token": fresh}))
        .await;
    assert_eq!(reply["type"], "auth.success", "{reply}");
    assert_eq!(reply["payload"]["userId"], ann.id.as_str(), "{reply}");
    assert!(reply["payload"]["expiresAt"].is_string(), "{reply}");

    let reply = socket
        .request("authenticate", json!({"token": bob.token}))
        .await;
    assert_eq!(reply["type"], "auth.failed", "{reply}");
    assert_eq!(reply["payload"]["code"], "forbidden", "{reply}");
    assert_eq!(
        socket.request("ping", json!({})).await["type"],
        "pong",
        "the session goes on"
    );
}

#[tokio::test]
async fn one_socket_too_many_displaces_the_oldest_on_any_node() {
    let tidegate =
        Deployment::start_with(Plan::default().with("TIDEGATE_SESSION__MAX_PER_USER", "2")).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (oldest, _) = tidegate.connect(0, &ann, "one").await;
    let (second, _) = tidegate.connect(1, &ann, "two").await;
    let (neighbour, _) = tidegate.connect(0, &bob, "one").await;
    let (third, _) = tidegate.connect(1, &ann, "three").await;
    assert_eq!(oldest.closed_within(AT_ONCE).await.code(), Some(4409));
    for alive in [&second, &third, &neighbour] {
        assert_eq!(alive.request("ping", json!({})).await["type"], "pong");
    }
}

#[tokio::test]
async fn a_silent_peer_is_closed_and_one_that_pongs_is_not() {
    let plan = Plan::default()
        .with("TIDEGATE_SESSION__PING_INTERVAL", "300ms")
        .with("TIDEGATE_SESSION__MAX_MISSED", "3");
    let tidegate = Deployment::start_with(plan).await;
    let ann = tidegate.user("ann").await;
    let (alive, connected) = tidegate.connect(0, &ann, "alive").await;
    assert_eq!(connected["heartbeat"]["intervalMs"], 300, "{connected}");
    assert_eq!(connected["heartbeat"]["maxMissed"], 3, "{connected}");
    let silent = SocketOptions::bearer(&ann.token)
        .device("silent")
        .without_pongs();
    let (silent, _) = tidegate.connect_with(0, silent).await;
    assert_eq!(silent.closed().await.code(), Some(4408));
    assert!(alive.pings() >= 2, "pings are sent");
    assert_eq!(alive.request("ping", json!({})).await["type"], "pong");
}

#[tokio::test]
async fn a_drained_node_says_goodbye_and_loses_nothing() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(1, &ann, "laptop").await;
    let (phone, _) = tidegate.connect(0, &bob, "phone").await;
    send(&ann_socket, &bob, "before").await;
    expect_content(&phone, "before").await;

    tidegate.gateways[0].process().signal("TERM");
    let draining = phone.expect("server.draining").await;
    assert!(
        draining["payload"]["reconnectAfterMs"].is_u64(),
        "{draining}"
    );
    assert_eq!(phone.closed().await.code(), Some(1012));
    let status = tidegate.gateways[0]
        .process()
        .wait(Duration::from_secs(20))
        .await;
    assert!(status.success(), "{status}");

    send(&ann_socket, &bob, "meanwhile").await;
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    expect_content(&phone, "meanwhile").await;
}

#[tokio::test]
async fn everything_stops_when_it_is_told_to() {
    let tidegate = Deployment::start().await;
    for node in tidegate.nodes() {
        within(
            "a clean end",
            Duration::from_secs(30),
            node.stop(Duration::from_secs(20)),
        )
        .await;
    }
}

#[tokio::test]
async fn a_closed_socket_frees_its_place() {
    let tidegate =
        Deployment::start_with(Plan::default().with("TIDEGATE_SESSION__MAX_PER_USER", "2")).await;
    let ann = tidegate.user("ann").await;
    let (keeper, _) = tidegate.connect(0, &ann, "keeper").await;
    for n in 0..5 {
        let (passing, _) = tidegate.connect(n % 2, &ann, "passing").await;
        if n % 2 == 0 {
            passing.close().await;
        } else {
            passing.abort().await;
        }
        // Redis is told in the background; a connect before that would displace the oldest.
        eventually("its place is free", AT_ONCE, || async {
            let keys = tidegate
                .redis()
                .call(&["KEYS", &format!("*sess:{}", ann.id)])
                .await;
            let sessions = tidegate
                .redis()
                .call(&["HLEN", &keys.list().first()?.text()?])
                .await;
            (sessions.text()? == "1").then_some(())
        })
        .await;
    }
    assert_eq!(keeper.request("ping", json!({})).await["type"], "pong");
    assert!(!keeper.is_closed());
}

#[tokio::test]
async fn a_peer_behind_a_dead_link_is_given_up_and_loses_nothing() {
    let plan = Plan::default()
        .with("TIDEGATE_SESSION__PING_INTERVAL", "300ms")
        .with("TIDEGATE_SESSION__MAX_MISSED", "3");
    let tidegate = Deployment::start_with(plan).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(1, &ann, "laptop").await;
    let link = Proxy::start(tidegate.address(0)).await;
    let options = SocketOptions::bearer(&bob.token).device("phone");
    let phone = Socket::open(link.address(), options)
        .await
        .expect("upgraded through the proxy");
    phone.expect("connected").await;

    link.set_both(|link| link.blackhole = true);
    send(&ann_socket, &bob, "into the void").await;
    // The close frame falls into the void, too; the end of the stream does not.
    assert_eq!(phone.closed().await.code(), None);
    let (phone, _) = tidegate.connect(1, &bob, "phone").await;
    expect_content(&phone, "into the void").await;
}

#[tokio::test]
async fn a_link_that_carries_single_bytes_is_slow_and_right() {
    let tidegate = Deployment::start().await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let (ann_socket, _) = tidegate.connect(1, &ann, "laptop").await;
    let link = Proxy::start(tidegate.address(0)).await;
    link.set_both(|link| link.dripping = true);
    let options = SocketOptions::bearer(&bob.token).device("phone");
    let phone = Socket::open(link.address(), options)
        .await
        .expect("upgraded through the proxy");
    phone.expect("connected").await;
    for n in 0..20 {
        send(&ann_socket, &bob, &format!("command {n}")).await;
    }
    for n in 0..20 {
        expect_content(&phone, &format!("command {n}")).await;
    }
    assert_eq!(phone.request("ping", json!({})).await["type"], "pong");
}

#[tokio::test]
async fn a_banned_user_gets_no_socket_with_a_valid_token() {
    let tidegate = Deployment::start_with(Plan::default().gateways(1).workers(0)).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let ban = format!("UPDATE users SET status = 'banned' WHERE id = '{}'", ann.id);
    tidegate.database.query(&ban).await;
    let address = tidegate.address(0);
    // Nodes learn of it within seconds.
    eventually("her socket is refused", testkit::wait::PATIENCE, || async {
        let by_header = Socket::open(address, SocketOptions::bearer(&ann.token))
            .await
            .expect("upgraded");
        let closed = by_header.closed_by(Duration::from_millis(500)).await;
        (closed?.code() == Some(4403)).then_some(())
    })
    .await;
    let by_frame = Socket::open(address, SocketOptions::default())
        .await
        .expect("upgraded");
    let authenticate = json!({"type": "authenticate", "payload": {"token": ann.token}});
    by_frame.send(&authenticate).await;
    assert_eq!(by_frame.closed().await.code(), Some(4403));
    // Others are not concerned.
    tidegate.connect(0, &bob, "phone").await;
}
