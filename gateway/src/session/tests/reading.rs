//! What comes from clients.

use super::*;

#[tokio::test]
async fn fragments_may_come_byte_by_byte_with_a_ping_between() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    let text = br#"{"type":"hello","id":"1","payload":{}}"#;
    let mut bytes = masked(0x01, &text[..10]);
    bytes.extend(masked(0x89, b"are you there"));
    bytes.extend(masked(0x00, &text[10..20]));
    bytes.extend(masked(0x80, &text[20..]));
    for byte in bytes {
        client.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.next().await, Got::Pong(b"are you there".to_vec()));
    let reply = client.text().await;
    assert_eq!(
        (reply["type"].as_str(), reply["replyTo"].as_str()),
        (Some("hello"), Some("1"))
    );
}

#[tokio::test]
async fn requests_run_one_at_a_time_and_in_order() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    let mut frames = masked(0x81, br#"{"type":"wait","id":"1"}"#);
    for n in 2..100 {
        frames.extend(masked(
            0x81,
            format!(r#"{{"type":"x","id":"{n}"}}"#).as_bytes(),
        ));
    }
    client.write(&frames).await;
    // Behind a request that waits, deliveries go on.
    scene.outbox().hear(entry(scene.user, 1, "meanwhile"));
    assert_eq!(client.text().await["type"], "command.new");
    scene.host.gate.notify_one();
    for n in 1..100 {
        assert_eq!(client.text().await["replyTo"], n.to_string());
    }
}

#[tokio::test]
async fn a_close_behind_a_running_request_is_not_lost() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    let mut frames = masked(0x81, br#"{"type":"wait","id":"1"}"#);
    frames.extend(masked(0x88, &1000_u16.to_be_bytes()));
    client.write(&frames).await;
    scene.host.gate.notify_one();
    assert_eq!(client.text().await["replyTo"], "1");
    assert_eq!(client.next().await, Got::Close(1000));
    assert_eq!(client.next().await, Got::End);
    scene.ended().await;
}

#[tokio::test]
async fn a_frame_of_the_limit_passes_and_one_above_does_not() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    let frame = |length: usize| {
        let text = r#"{"type":"big","id":"1","payload":{"x":""}}"#;
        text.replace("\"\"", &format!("\"{}\"", "x".repeat(length - text.len())))
    };
    client.send(&frame(64 * 1024)).await;
    assert_eq!(client.text().await["type"], "big");
    client.send(&frame(64 * 1024 + 1)).await;
    assert_eq!(client.close_code().await, 1009);
    scene.ended().await;
}

#[tokio::test]
async fn a_sender_of_a_megabyte_still_reads_why_it_was_closed() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    client.write(&masked(0x81, &vec![b'x'; 1024 * 1024])).await;
    assert_eq!(client.close_code().await, 1009);
    scene.ended().await;
}

#[tokio::test]
async fn fragments_count_together_towards_the_limit() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    client.write(&masked(0x01, &vec![b'x'; 40_000])).await;
    client.write(&masked(0x80, &vec![b'x'; 40_000])).await;
    assert_eq!(client.close_code().await, 1009);
    scene.ended().await;
}

#[tokio::test]
async fn bad_requests_are_told_and_the_socket_lives() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    client.write(&masked(0x82, b"\x00\x01")).await;
    assert_eq!(client.text().await["payload"]["code"], "bad_request");
    client.send("{").await;
    assert_eq!(client.text().await["payload"]["code"], "bad_request");
    client.send(r#"{"type":"x","id":"9","payload":7}"#).await;
    let error = client.text().await;
    assert_eq!(
        (error["type"].as_str(), error["replyTo"].as_str()),
        (Some("error"), Some("9"))
    );
    client.send(r#"{"type":"x","id":"10"}"#).await;
    assert_eq!(client.text().await["replyTo"], "10");
}

#[tokio::test]
async fn breaking_the_protocol_is_closed_with_its_code() {
    for (frame, code) in [
        // Not masked.
        (vec![0x81, 0x02, b'{', b'}'], 1002),
        // A reserved bit.
        (masked(0xc1, b"{}"), 1002),
        // A reserved opcode.
        (masked(0x83, b"{}"), 1002),
        // A continuation of nothing.
        (masked(0x80, b"{}"), 1002),
        // A long ping.
        (masked(0x89, &[b'x'; 126]), 1002),
        // Not UTF-8.
        (masked(0x81, b"\"\xff\""), 1007),
    ] {
        let scene = Scene::new();
        let mut client = scene.open().await;
        client.write(&frame).await;
        assert_eq!(client.close_code().await, code, "{frame:?}");
        scene.ended().await;
    }
}

#[tokio::test]
async fn too_many_frames_are_refused_and_told_when_to_come_back() {
    let scene = Scene::with(|settings| {
        settings.frame_rate = FrameRate {
            per_second: 1,
            burst: 3,
        }
    });
    let mut client = scene.open().await;
    for n in 1..=4 {
        client.send(&format!(r#"{{"type":"x","id":"{n}"}}"#)).await;
    }
    for n in 1..=3 {
        let reply = client.text().await;
        assert_eq!(
            (reply["type"].as_str(), reply["replyTo"].as_str()),
            (Some("x"), Some(&*n.to_string()))
        );
    }
    let error = client.text().await;
    assert_eq!(error["replyTo"], "4");
    assert_eq!(error["payload"]["code"], "rate_limited");
    assert!(
        error["payload"]["retryAfterMs"]
            .as_u64()
            .is_some_and(|wait| (1..=1000).contains(&wait))
    );
}

#[tokio::test]
async fn a_pong_that_was_asked_for_does_not_count_as_a_frame() {
    let scene = Scene::with(|settings| {
        settings.ping_interval = Duration::from_millis(10);
        settings.frame_rate = FrameRate {
            per_second: 1,
            burst: 2,
        };
    });
    let mut client = scene.open().await;
    let mut last = Vec::new();
    for _ in 0..10 {
        let Got::Ping(payload) = client.next().await else {
            panic!("nothing but pings is due")
        };
        client.pong(&payload).await;
        last = payload;
    }
    let answer = async |client: &mut Client| loop {
        match client.next().await {
            Got::Ping(payload) => client.pong(&payload).await,
            Got::Text(value) => return value,
            other => panic!("{other:?}"),
        }
    };
    client.send(r#"{"type":"x","id":"1"}"#).await;
    assert_eq!(answer(&mut client).await["type"], "x");
    // The same pong again was not asked for.
    client.pong(&last).await;
    client.send(r#"{"type":"x","id":"2"}"#).await;
    let error = answer(&mut client).await;
    assert_eq!(error["payload"]["code"], "rate_limited");
}

#[tokio::test]
async fn a_client_that_takes_no_answers_gets_no_more_made() {
    let scene = Scene::with(|settings| {
        settings.frame_rate = FrameRate {
            per_second: 1_000_000,
            burst: 1_000_000,
        }
    });
    let mut client = scene.open().await;
    let ping = masked(0x89, &[b'p'; 125]).repeat(100);
    // Writes pings without reading a pong until the server stops reading.
    let (mut sent, mut at) = (0, 0);
    while let Ok(written) = tokio::time::timeout(
        Duration::from_millis(300),
        tokio::io::AsyncWriteExt::write(&mut client.tcp, &ping[at..]),
    )
    .await
    {
        let written = written.unwrap();
        sent += written;
        at = (at + written) % ping.len();
        assert!(sent < 50_000_000, "the server reads on and on");
    }
    // All that was read is answered once the client reads, and the session works on.
    assert!(matches!(client.next().await, Got::Pong(_)));
}
