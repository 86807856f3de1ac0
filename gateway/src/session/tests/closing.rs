//! How sessions end.

use super::*;
use crate::fanout;

#[tokio::test]
async fn the_client_closes() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    client.write(&masked(0x88, &1001_u16.to_be_bytes())).await;
    assert_eq!(client.next().await, Got::Close(1001));
    assert_eq!(client.next().await, Got::End);
    scene.ended().await;
}

#[tokio::test]
async fn the_client_vanishes() {
    let scene = Scene::new();
    let client = scene.open().await;
    drop(client);
    scene.ended().await;
}

#[tokio::test]
async fn missed_heartbeats_close() {
    let scene = Scene::with(|settings| {
        settings.ping_interval = Duration::from_millis(50);
        settings.max_missed = 3;
    });
    let mut client = scene.open().await;
    let mut pings = 0;
    let code = loop {
        match client.next().await {
            Got::Ping(_) => pings += 1,
            Got::Close(code) => break code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 4408);
    assert_eq!(pings, 3);
}

#[tokio::test]
async fn who_only_answers_pings_does_nothing_until_they_say_something() {
    let scene = Scene::with(|settings| {
        settings.ping_interval = Duration::from_millis(20);
        settings.away_after = Duration::from_millis(100);
    });
    let mut client = scene.open().await;
    let told = || scene.host.activities.lock().clone();
    for turn in 1..=2 {
        while told().len() < turn * 2 - 1 {
            let Got::Ping(payload) = client.next().await else {
                panic!()
            };
            client.pong(&payload).await;
            client.send(r#"{"type":"ping"}"#).await;
            client.send(r#"{"type":"heartbeat"}"#).await;
        }
        client.send(r#"{"type":"x"}"#).await;
        while told().len() < turn * 2 {
            if let Got::Ping(payload) = client.next().await {
                client.pong(&payload).await;
            }
        }
    }
    assert_eq!(told(), [true, false, true, false], "each change once");
}

#[tokio::test]
async fn silence_is_no_sign_while_a_request_runs() {
    let scene = Scene::with(|settings| {
        settings.ping_interval = Duration::from_millis(30);
        settings.max_missed = 2;
    });
    let mut client = scene.open().await;
    client.send(r#"{"type":"wait","id":"1"}"#).await;
    // Nothing of the client is read meanwhile, pongs neither.
    for _ in 0..8 {
        assert!(matches!(client.next().await, Got::Ping(_)));
    }
    drop(client);
}

#[tokio::test]
async fn any_sign_of_life_keeps_a_session() {
    let scene = Scene::with(|settings| {
        settings.ping_interval = Duration::from_millis(40);
        settings.max_missed = 2;
    });
    let mut client = scene.open().await;
    for turn in 0..12 {
        let Got::Ping(payload) = client.next().await else {
            panic!()
        };
        if turn % 2 == 0 {
            client.pong(&payload).await;
        } else {
            client.write(&masked(0x8a, b"unasked")).await;
        }
    }
    client.send(r#"{"type":"x","id":"1"}"#).await;
    assert_eq!(client.text().await["replyTo"], "1");
}

#[tokio::test]
async fn an_expired_token_closes() {
    let scene = Scene::new();
    let mut client = scene
        .open_for(Duration::from_millis(200), AckMode::Auto)
        .await;
    assert_eq!(client.close_code().await, 4401);
    scene.ended().await;
}

#[tokio::test]
async fn a_refreshed_token_prolongs_and_another_users_changes_nothing() {
    let scene = Scene::with(|settings| settings.close_timeout = Duration::from_millis(200));
    let mut client = scene.open_for(Duration::from_secs(1), AckMode::Auto).await;
    let authenticate = |token: &str| {
        format!(r#"{{"type":"authenticate","id":"a","payload":{{"token":"{token}"}}}}"#)
    };
    client
        .send(&authenticate(&Uuid::now_v7().to_string()))
        .await;
    let failed = client.text().await;
    assert_eq!(failed["type"], "auth.failed");
    assert_eq!(failed["payload"]["code"], "forbidden");
    client.send(&authenticate("nonsense")).await;
    assert_eq!(client.text().await["payload"]["code"], "unauthorized");
    let began = tokio::time::Instant::now();
    client
        .send(&authenticate(&token(scene.user, Duration::from_secs(2))))
        .await;
    assert_eq!(client.text().await["type"], "auth.success");
    assert_eq!(
        scene
            .host
            .refreshed
            .load(std::sync::atomic::Ordering::SeqCst),
        1
    );
    assert_eq!(client.close_code().await, 4401);
    assert!(
        began.elapsed() >= Duration::from_millis(1_900),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn the_gateway_closes_for_its_reasons() {
    for (reason, code) in [
        (fanout::CloseReason::Displaced, 4409),
        (fanout::CloseReason::SlowConsumer, 4410),
    ] {
        let scene = Scene::new();
        let mut client = scene.open().await;
        scene.outbox().request_close(reason);
        assert_eq!(client.close_code().await, code);
        scene.ended().await;
    }
}

#[tokio::test]
async fn draining_flushes_and_says_when_to_come_back() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    let outbox = scene.outbox();
    for n in 1..=100 {
        assert!(outbox.hear(entry(scene.user, n, "last words")));
    }
    let reconnect_after = Duration::from_millis(1_234);
    outbox.request_close(fanout::CloseReason::Draining { reconnect_after });
    for n in 1..=100 {
        assert_eq!(
            client.text_of("command.new").await["offset"],
            START.offset + n
        );
    }
    let draining = client.text_of("server.draining").await;
    assert_eq!(draining["payload"]["reconnectAfterMs"], 1_234);
    assert_eq!(client.close_code().await, 1012);
    // What the client confirmed while closing counts.
    eventually("all is confirmed", || outbox.unconfirmed() < 100).await;
    scene.ended().await;
}

#[tokio::test]
async fn a_client_that_does_not_answer_a_close_is_left() {
    let scene = Scene::with(|settings| settings.close_timeout = Duration::from_millis(100));
    let mut client = scene.open().await;
    scene.outbox().request_close(fanout::CloseReason::Displaced);
    assert_eq!(client.next().await, Got::Close(4409));
    assert_eq!(client.next().await, Got::End);
    scene.ended().await;
}

#[tokio::test]
async fn a_request_that_runs_at_the_end_is_dropped() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    client.send(r#"{"type":"wait","id":"1"}"#).await;
    scene.outbox().request_close(fanout::CloseReason::Displaced);
    assert_eq!(client.close_code().await, 4409);
    scene.ended().await;
}

#[tokio::test]
async fn others_are_told_once_of_each_socket_that_ends() {
    use crate::app::DisconnectReason::{AuthFailed, ClientClose, HeartbeatTimeout, ServerClose};
    let scene = Scene::with(|settings| {
        settings.ping_interval = Duration::from_millis(500);
        settings.max_missed = 1;
    });
    let last = async |count: usize| {
        let told = || scene.host.ended.lock().len() >= count;
        eventually("it is told", told).await;
        scene.ended().await;
        let ended = scene.host.ended.lock();
        assert_eq!(ended.len(), count);
        ended[count - 1]
    };
    let known = Some(scene.user);

    let mut client = scene.open().await;
    client.write(&masked(0x88, &1000_u16.to_be_bytes())).await;
    assert_eq!(client.close_code().await, 1000);
    let told = last(1).await;
    assert_eq!((told.user, told.reason), (known, ClientClose));

    drop(scene.open().await);
    assert_eq!(last(2).await.reason, ClientClose);
    let sockets: Vec<_> = scene.host.ended.lock().iter().map(|it| it.socket).collect();
    assert_ne!(sockets[0], sockets[1]);

    // It answers no ping.
    let mut client = scene.open().await;
    assert_eq!(client.close_code().await, 4408);
    assert_eq!(last(3).await.reason, HeartbeatTimeout);

    let mut client = scene
        .open_for(Duration::from_millis(50), AckMode::Auto)
        .await;
    assert_eq!(client.close_code().await, 4401);
    assert_eq!(last(4).await.reason, AuthFailed);

    let mut client = scene.open().await;
    let reason = fanout::CloseReason::Displaced;
    scene.outbox().request_close(reason);
    assert_eq!(client.close_code().await, 4409);
    assert_eq!(last(5).await.reason, ServerClose);

    // Before anybody knows who it is, and after.
    let mut client = scene.arrive(None, AckMode::Auto).await;
    client
        .send(r#"{"type":"authenticate","payload":{"token":"nonsense"}}"#)
        .await;
    assert_eq!(client.close_code().await, 4401);
    let told = last(6).await;
    assert_eq!((told.user, told.reason), (None, AuthFailed));

    *scene.host.refuse.lock() = Some(Refusal::new(Code::Forbidden, "banned"));
    let token = token(scene.user, Duration::from_hours(1));
    let mut client = scene.arrive(Some(&token), AckMode::Auto).await;
    assert_eq!(client.close_code().await, 4403);
    let told = last(7).await;
    assert_eq!((told.user, told.reason), (known, AuthFailed));
}
