//! Sessions in a dialect that keeps something of each socket: who begins, what ends it, and its
//! own signs of life.

use super::{host::FOREIGN, *};

impl Scene {
    /// For clients of this dialect.
    fn stomp(change: impl FnOnce(&mut Settings)) -> Self {
        Self {
            dialect: DialectId::Stomp,
            ..Self::with(change)
        }
    }

    /// A connection that has sent this.
    async fn begin(&self, token: Option<&str>, frames: &str) -> Client {
        let mut client = self.arrive(token, AckMode::Auto).await;
        client.send(frames).await;
        client
    }

    fn connect(&self, headers: &str) -> String {
        format!(
            "CONNECT\naccept-version:1.2\nhost:h\npasscode:{}\n{headers}\n\0",
            self.user
        )
    }

    /// An open session.
    async fn connected(&self) -> Client {
        let mut client = self.begin(None, &self.connect("")).await;
        let connected = client.plain().await;
        assert!(connected.starts_with("CONNECTED\n"), "{connected}");
        client
    }
}

const ERRORS: &str = "SUBSCRIBE\nid:e\ndestination:/user/queue/errors\nreceipt:e\n\n\0";

fn send(name: &str) -> String {
    format!("SEND\ndestination:/app/{name}\nreceipt:{name}\n\n\0")
}

fn receipt(id: &str) -> String {
    format!("RECEIPT\nreceipt-id:{id}\n\n\0")
}

#[tokio::test]
async fn connect_opens_the_session() {
    let scene = Scene::stomp(|_| {});
    let mut client = scene.begin(None, &scene.connect("device:phone-1\n")).await;
    let connected = client.plain().await;
    assert!(
        connected.starts_with("CONNECTED\nversion:1.2\nheart-beat:10000,10000\n"),
        "{connected}"
    );
    let user = format!("\nuser-name:{}\n", scene.user);
    assert!(connected.contains(&user), "{connected}");
    let device = scene.host.seen.lock()[0].peer.caller.device.to_string();
    assert_eq!(device, "phone-1");
    client.send(&send("x")).await;
    assert_eq!(client.plain().await, receipt("x"));
}

#[tokio::test]
async fn a_token_of_the_upgrade_is_as_good_but_connect_comes_all_the_same() {
    let scene = Scene::stomp(|_| {});
    let token = scene.user.to_string();
    let connect = "CONNECT\naccept-version:1.2\nhost:h\n\n\0";
    for frame in [connect, &scene.connect("")] {
        let mut client = scene.begin(Some(&token), frame).await;
        assert!(client.plain().await.starts_with("CONNECTED\n"));
    }
    let other = Uuid::now_v7().to_string();
    for (token, code) in [(Some(&*other), "forbidden"), (None, "unauthorized")] {
        let frame = if token.is_some() {
            scene.connect("")
        } else {
            connect.to_owned()
        };
        let mut client = scene.begin(token, &frame).await;
        let error = client.plain().await;
        assert!(error.starts_with("ERROR\n"), "{error}");
        assert!(error.contains(&format!("\ncode:{code}\n")), "{error}");
        assert_eq!(client.close_code().await, 4401);
    }
    let mut client = scene.begin(Some(&token), &send("x")).await;
    assert!(client.plain().await.starts_with("ERROR\n"));
    assert_eq!(client.close_code().await, 1008);
}

#[tokio::test]
async fn a_bad_token_gets_an_error_and_the_end() {
    let scene = Scene::stomp(|_| {});
    let frame = "CONNECT\naccept-version:1.2\nhost:h\npasscode:nonsense\n\n\0";
    let mut client = scene.begin(None, frame).await;
    let error = client.plain().await;
    assert!(error.contains("\ncode:unauthorized\n"), "{error}");
    assert_eq!(client.close_code().await, 4401);
    scene.ended().await;
}

#[tokio::test]
async fn the_longest_token_may_stand_in_connect() {
    let scene = Scene::stomp(|_| {});
    let token = "x".repeat(shared::auth::MAX_TOKEN_BYTES);
    let frame = format!(
        "CONNECT\naccept-version:1.2\nhost:h\nlogin:me\nAuthorization:Bearer {token}\n\n\0"
    );
    let mut client = scene.begin(None, &frame).await;
    // Looked at, not thrown away for its length.
    assert_eq!(client.close_code().await, 4401);
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_gets_an_error() {
    let scene = Scene::stomp(|_| {});
    *scene.host.refuse.lock() = Some(Refusal::new(Code::Unavailable, "redis is away"));
    let mut client = scene.begin(None, &scene.connect("")).await;
    let error = client.plain().await;
    assert!(error.contains("\ncode:unavailable\n"), "{error}");
    assert_eq!(client.close_code().await, 1013);
}

#[tokio::test]
async fn messages_without_a_word_are_not_waited_for_forever() {
    let scene = Scene::stomp(|_| {});
    let mut client = scene.arrive(None, AckMode::Auto).await;
    client.write(&masked(0x81, b"\n").repeat(8)).await;
    assert_eq!(client.close_code().await, 1008);
}

#[tokio::test]
async fn frames_behind_connect_are_not_lost() {
    let scene = Scene::stomp(|_| {});
    let frames = format!("{}{}{}", scene.connect(""), send("a"), send("b"));
    let mut client = scene.begin(None, &frames).await;
    assert!(client.plain().await.starts_with("CONNECTED\n"));
    assert_eq!(client.plain().await, receipt("a"));
    assert_eq!(client.plain().await, receipt("b"));
}

#[tokio::test]
async fn frames_of_a_message_run_one_at_a_time_and_in_order() {
    let scene = Scene::stomp(|_| {});
    let mut client = scene.connected().await;
    let mut frames = send("wait");
    for n in 0..100 {
        frames.push_str(&send(&n.to_string()));
    }
    // Split somewhere inside.
    let (one, two) = frames.split_at(frames.len() / 3);
    client.send(one).await;
    client.send(two).await;
    scene.host.gate.notify_one();
    assert_eq!(client.plain().await, receipt("wait"));
    for n in 0..100 {
        assert_eq!(client.plain().await, receipt(&n.to_string()));
    }
}

#[tokio::test]
async fn a_broken_frame_ends_its_connection_and_no_other() {
    let scene = Scene::stomp(|_| {});
    let mut neighbour = scene.connected().await;
    for (frame, code) in [
        ("NONSENSE\n\n\0".to_owned(), 1002),
        ("SEND\ndestination:/app/x\nx:\\t\n\n\0".to_owned(), 1002),
        (format!("SEND\na:{}\n\n\0", "x".repeat(9_000)), 1009),
    ] {
        let mut client = scene.connected().await;
        client.send(&frame).await;
        assert!(client.plain().await.starts_with("ERROR\n"));
        assert_eq!(client.close_code().await, code, "{frame}");
    }
    neighbour.send(&send("x")).await;
    assert_eq!(neighbour.plain().await, receipt("x"));
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_connection_however_it_is_divided() {
    let scene = Scene::stomp(|_| {});
    let body = |length: usize| {
        let head = "SEND\ndestination:/app/x\nreceipt:r\n\n";
        format!(
            "{head}{{\"x\":\"{}\"}}\0",
            "x".repeat(length - head.len() - 9)
        )
    };
    let mut client = scene.connected().await;
    let longest = body(64 * 1024);
    let (one, two) = longest.split_at(40_000);
    client.send(one).await;
    client.send(two).await;
    assert_eq!(client.plain().await, receipt("r"));
    let long = body(64 * 1024 + 1);
    let (one, two) = long.split_at(40_000);
    client.send(one).await;
    client.send(two).await;
    let error = client.plain().await;
    assert!(error.contains("\ncode:too_large\n"), "{error}");
    assert_eq!(client.close_code().await, 1009);
}

#[tokio::test]
async fn a_refused_send_ends_the_connection() {
    let scene = Scene::stomp(|_| {});
    let mut client = scene.connected().await;
    client.send(&send("refused")).await;
    let error = client.plain().await;
    assert!(error.starts_with("ERROR\nmessage:not for you\ncode:forbidden\nreceipt-id:refused\n"));
    assert_eq!(client.close_code().await, 1008);
    scene.ended().await;

    let mut client = scene.connected().await;
    client.send(ERRORS).await;
    assert_eq!(client.plain().await, receipt("e"));
    client.send(&send("refused")).await;
    let error = client.plain().await;
    assert!(error.starts_with("MESSAGE\nsubscription:e\n"), "{error}");
    client.send(&send("x")).await;
    assert_eq!(client.plain().await, receipt("x"));
}

#[tokio::test]
async fn a_refused_subscription_ends_the_connection() {
    let scene = Scene::stomp(|_| {});
    let foreign =
        format!("SUBSCRIBE\nid:1\ndestination:/topic/conversation/{FOREIGN}\nreceipt:r\n\n\0");
    let mut client = scene.connected().await;
    client.send(&foreign).await;
    let error = client.plain().await;
    assert!(error.starts_with("ERROR\n"), "{error}");
    assert!(
        error.contains("\ncode:forbidden\nreceipt-id:r\n"),
        "{error}"
    );
    assert_eq!(client.close_code().await, 1008);
}

#[tokio::test]
async fn who_disconnects_gets_the_receipt_and_a_normal_end() {
    let scene = Scene::stomp(|_| {});
    let mut client = scene.connected().await;
    client.send("DISCONNECT\nreceipt:bye\n\n\0").await;
    assert_eq!(client.plain().await, receipt("bye"));
    assert_eq!(client.close_code().await, 1000);
    scene.ended().await;
}

#[tokio::test]
async fn frames_of_one_message_count_against_the_limit_one_by_one() {
    let scene = Scene::stomp(|settings| {
        settings.frame_rate = FrameRate {
            per_second: 1,
            burst: 3,
        }
    });
    let mut client = scene.connected().await;
    client
        .send(&format!("{ERRORS}{}", send("x").repeat(3)))
        .await;
    assert_eq!(client.plain().await, receipt("e"));
    assert_eq!(client.plain().await, receipt("x"));
    assert_eq!(client.plain().await, receipt("x"));
    let error = client.plain().await;
    assert!(error.contains("\ncode:rate_limited\n"), "{error}");
}

#[tokio::test]
async fn whoever_goes_is_let_go_above_the_limit_too() {
    let scene = Scene::stomp(|settings| {
        settings.frame_rate = FrameRate {
            per_second: 1,
            burst: 2,
        }
    });
    let mut client = scene.connected().await;
    let over = format!("{ERRORS}{}", send("x").repeat(2));
    client
        .send(&format!("{over}DISCONNECT\nreceipt:bye\n\n\0"))
        .await;
    assert_eq!(client.plain().await, receipt("e"));
    assert_eq!(client.plain().await, receipt("x"));
    let error = client.plain().await;
    assert!(error.contains("\ncode:rate_limited\n"), "{error}");
    assert_eq!(client.plain().await, receipt("bye"));
    assert_eq!(client.close_code().await, 1000);
    scene.ended().await;
}

#[tokio::test]
async fn the_server_beats_as_often_as_agreed() {
    let every = Duration::from_millis(50);
    let scene = Scene::stomp(|settings| settings.heartbeat = every);
    let mut client = scene.begin(None, &scene.connect("heart-beat:0,50\n")).await;
    assert!(client.plain().await.contains("\nheart-beat:50,50\n"));
    let began = tokio::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(client.plain().await, "\n");
    }
    assert!(began.elapsed() >= every * 4, "{:?}", began.elapsed());
    // Who wants none gets none.
    let mut client = scene.begin(None, &scene.connect("heart-beat:0,0\n")).await;
    client.plain().await;
    client.send(&send("wait")).await;
    let silent = tokio::time::timeout(every * 4, client.next()).await;
    assert!(silent.is_err(), "{silent:?}");
}

#[tokio::test]
async fn a_client_that_stops_beating_is_closed() {
    let every = Duration::from_millis(100);
    let scene = Scene::stomp(|settings| {
        settings.heartbeat = every;
        settings.ping_interval = every / 2;
        settings.max_missed = 3;
    });
    let connect = scene.connect("heart-beat:100,0\n");
    let mut client = scene.begin(None, &connect).await;
    client.plain().await;
    let began = tokio::time::Instant::now();
    // Longer than without a beat would be borne. Pings are answered all the while.
    while began.elapsed() < every * 5 {
        client.send("\n").await;
        match client.next().await {
            Got::Ping(ping) => client.pong(&ping).await,
            other => panic!("{other:?}"),
        }
    }
    let stopped = tokio::time::Instant::now();
    loop {
        match client.next().await {
            Got::Ping(ping) => client.pong(&ping).await,
            Got::Close(code) => {
                assert_eq!(code, 4408);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let waited = stopped.elapsed();
    assert!((every * 2..every * 30).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn a_node_that_drains_tells_before_it_closes() {
    let scene = Scene::stomp(|_| {});
    let mut client = scene.connected().await;
    let reconnect_after = Duration::from_millis(1_234);
    let draining = crate::fanout::CloseReason::Draining { reconnect_after };
    scene.outbox().request_close(draining);
    let error = client.plain().await;
    assert!(error.contains("\nretry-after-ms:1234\n"), "{error}");
    assert_eq!(client.close_code().await, 1012);
}
