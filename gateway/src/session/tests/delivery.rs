//! What goes to clients, and how it is confirmed.

use super::*;

#[tokio::test]
async fn entries_are_confirmed_by_the_pong_behind_them() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    let outbox = scene.outbox();
    for n in 1..=3 {
        assert!(outbox.hear(entry(scene.user, n, "hello")));
    }
    let mut pings = Vec::new();
    let mut offsets = Vec::new();
    while offsets.len() < 3 || pings.is_empty() {
        match client.next().await {
            Got::Text(value) => offsets.push(value["offset"].as_u64().unwrap()),
            Got::Ping(payload) => pings.push(payload),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(offsets, [101, 102, 103]);
    assert_eq!(outbox.unconfirmed(), 3);
    // Answers to what was not asked confirm nothing.
    client.pong(&u64::MAX.to_be_bytes()).await;
    client.pong(b"").await;
    for ping in pings {
        client.pong(&ping).await;
    }
    // What came in later pings is confirmed a pace later.
    while outbox.unconfirmed() > 0 {
        tokio::select! {
            got = client.next() => {
                let Got::Ping(payload) = got else { panic!("{got:?}") };
                client.pong(&payload).await;
            }
            () = eventually("confirmed", || outbox.unconfirmed() == 0) => {}
        }
    }
}

#[tokio::test]
async fn a_client_that_confirms_itself_is_not_asked_by_pings() {
    let scene = Scene::new();
    let mut client = scene
        .open_for(Duration::from_mins(1), AckMode::Client)
        .await;
    let outbox = scene.outbox();
    for n in 1..=2 {
        outbox.hear(entry(scene.user, n, "hello"));
        assert!(matches!(client.next().await, Got::Text(_)));
    }
    client
        .send(r#"{"type":"ack","id":"a","payload":{"topic":"user","epoch":7,"offset":103}}"#)
        .await;
    let error = client.text().await;
    assert_eq!(error["replyTo"], "a");
    assert_eq!(error["payload"]["code"], "bad_request");
    assert_eq!(outbox.unconfirmed(), 2);
    client
        .send(r#"{"type":"ack","payload":{"topic":"user","epoch":7,"offset":101}}"#)
        .await;
    eventually("one is confirmed", || outbox.unconfirmed() == 1).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_in_order_while_it_asks() {
    let scene = Scene::with(|settings| {
        settings.frame_rate = FrameRate {
            per_second: 1_000_000,
            burst: 1_000_000,
        };
    });
    let mut client = scene.open().await;
    let outbox = scene.outbox();
    let (user, content) = (scene.user, "c".repeat(4_000));
    let producer = tokio::spawn(async move {
        for n in 1..=400 {
            let item = entry(user, n, &content);
            eventually("room for an entry", || {
                let room = outbox.unconfirmed() < 200;
                if room {
                    assert!(outbox.hear(item.clone()), "{n}");
                }
                room
            })
            .await;
        }
    });
    let (mut next, mut pongs, mut replies) = (1, 0, 0);
    while next <= 400 || pongs < 4 || replies < 4 {
        match client.next().await {
            Got::Text(value) if value["type"] == "command.new" => {
                assert_eq!(value["offset"], START.offset + next);
                if next % 100 == 0 {
                    client.write(&masked(0x89, b"mine")).await;
                    client.send(r#"{"type":"x","id":"1"}"#).await;
                }
                next += 1;
            }
            Got::Text(_) => replies += 1,
            Got::Ping(payload) => client.pong(&payload).await,
            Got::Pong(payload) => {
                assert_eq!(payload, b"mine");
                pongs += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    producer.await.unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed() {
    let scene = Scene::with(|settings| {
        settings.stall_timeout = Duration::from_millis(200);
        settings.close_timeout = Duration::from_millis(200);
    });
    let client = scene.open().await;
    let outbox = scene.outbox();
    let content = "c".repeat(64_000);
    // More than the buffers of both sides of a loopback connection hold.
    let mut n = 0;
    eventually("the session ends", || {
        if outbox.hear(entry(scene.user, n + 1, &content)) {
            n += 1;
        }
        scene.sockets.count() == 0
    })
    .await;
    drop(client);
    scene.ended().await;
}
