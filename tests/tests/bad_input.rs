//! Whatever a client sends: a stable code, and its neighbours notice nothing.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Deployment, Plan, Socket, SocketOptions, User, socket::masked};
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::{assert_error, expect_content, message, send};

/// One gateway, a good neighbour, and somebody to misbehave.
struct Stage {
    tidegate: Deployment,
    ann: User,
    bob: User,
    neighbour: Socket,
}

impl Stage {
    async fn set() -> Self {
        Self::set_with(Plan::default()).await
    }

    async fn set_with(plan: Plan) -> Self {
        let tidegate = Deployment::start_with(plan.gateways(1).workers(0)).await;
        let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
        let (neighbour, _) = tidegate.connect(0, &bob, "neighbour").await;
        Self {
            tidegate,
            ann,
            bob,
            neighbour,
        }
    }

    async fn socket(&self) -> Socket {
        self.tidegate.connect(0, &self.ann, "laptop").await.0
    }

    async fn refusal(&self, options: SocketOptions) -> testkit::socket::Refused {
        Socket::open(self.tidegate.address(0), options)
            .await
            .err()
            .expect("an upgrade that must be refused")
    }

    /// The neighbour still gets what is sent to it.
    async fn neighbour_is_well(&self) {
        let socket = self.socket().await;
        send(&socket, &self.bob, "all well").await;
        expect_content(&self.neighbour, "all well").await;
    }
}

#[tokio::test]
async fn malformed_frames_are_answered_and_the_socket_lives() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    for text in [
        "",
        "{",
        "not json",
        "[]",
        "null",
        "42",
        "\"text\"",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"ping","id":7}"#,
        r#"{"type":"ping","payload":[]}"#,
        r#"{"type":"ping","payload":"x"}"#,
        r#"{"type":"ping"} trailing"#,
        r#"{"type":"ping","payload":{"a":1}"#,
    ] {
        socket.send_text(text).await;
        assert_error(&socket.expect("error").await, "bad_request");
    }
    let long_id = "x".repeat(65);
    socket
        .send(&json!({"type": "ping", "id": long_id, "payload": {}}))
        .await;
    assert_error(&socket.expect("error").await, "bad_request");
    socket
        .send_text(&format!(
            r#"{{"type":"ping","payload":{{"a":{}1{}}}}}"#,
            "[".repeat(5000),
            "]".repeat(5000)
        ))
        .await;
    assert_error(&socket.expect("error").await, "bad_request");
    assert_eq!(socket.request("ping", json!({})).await["type"], "pong");
    assert_eq!(
        socket
            .request_as(
                &"x".repeat(64),
                "ping",
                json!({"unknown": "fields are ignored"})
            )
            .await["type"],
        "pong"
    );
    stage.neighbour_is_well().await;
}

#[tokio::test]
async fn an_unknown_type_is_an_error_and_no_disconnect() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    for name in [
        "nonsense",
        "connected",
        "command.new",
        "Command.Create",
        "",
        "command.create ",
    ] {
        assert_error(&socket.request(name, json!({})).await, "unknown_type");
    }
    assert_eq!(socket.request("ping", json!({})).await["type"], "pong");
}

#[tokio::test]
async fn a_binary_frame_is_refused_and_the_socket_lives() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    socket
        .send_binary(br#"{"type":"ping","id":"1","payload":{}}"#)
        .await;
    assert_error(&socket.expect("error").await, "bad_request");
    assert_eq!(socket.request("ping", json!({})).await["type"], "pong");
}

/// A `ping` of exactly this many bytes.
fn ping_of(bytes: usize) -> String {
    let empty = r#"{"type":"ping","id":"big","payload":{"pad":""}}"#;
    format!(
        r#"{{"type":"ping","id":"big","payload":{{"pad":"{}"}}}}"#,
        "x".repeat(bytes - empty.len())
    )
}

#[tokio::test]
async fn a_frame_of_exactly_the_limit_passes_and_one_byte_more_closes_with_1009() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    socket.send_text(&ping_of(64 * 1024)).await;
    assert_eq!(socket.reply_to("big").await["type"], "pong");
    socket.send_text(&ping_of(64 * 1024 + 1)).await;
    assert_eq!(socket.closed().await.code(), Some(1009));

    let socket = stage.socket().await;
    let half = "x".repeat(40 * 1024);
    socket
        .send_fragments(&[r#"{"type":"ping","payload":{"a":""#, &half, &half])
        .await;
    assert_eq!(socket.closed().await.code(), Some(1009), "fragments add up");
    stage.neighbour_is_well().await;
}

#[tokio::test]
async fn fragments_and_single_bytes_are_legal() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    socket
        .send_fragments(&[r#"{"type":"pi"#, r#"ng","id":"f","#, r#""payload":{}}"#])
        .await;
    assert_eq!(socket.reply_to("f").await["type"], "pong");
    for byte in masked(
        OpCode::Data(Data::Text),
        true,
        br#"{"type":"ping","id":"slow","payload":{}}"#,
    ) {
        socket.send_raw(&[byte]).await.expect("open");
    }
    assert_eq!(socket.reply_to("slow").await["type"], "pong");
}

#[tokio::test]
async fn broken_websocket_frames_close_with_their_codes() {
    let stage = Stage::set().await;
    let unmasked = b"\x81\x02{}".to_vec();
    let mut reserved_bit = masked(OpCode::Data(Data::Text), true, b"{}");
    reserved_bit[0] |= 0x40;
    let mut reserved_opcode = masked(OpCode::Data(Data::Text), true, b"{}");
    reserved_opcode[0] = 0x80 | 0x3;
    let orphan = masked(OpCode::Data(Data::Continue), true, b"{}");
    let not_utf8 = masked(OpCode::Data(Data::Text), true, b"{\"type\":\"\xff\xfe\"}");
    for (name, bytes, code) in [
        ("unmasked", unmasked, 1002),
        ("reserved bit", reserved_bit, 1002),
        ("reserved opcode", reserved_opcode, 1002),
        ("continuation of nothing", orphan, 1002),
        ("not UTF-8", not_utf8, 1007),
    ] {
        let socket = stage.socket().await;
        socket.send_raw(&bytes).await.expect("open");
        assert_eq!(socket.closed().await.code(), Some(code), "{name}");
    }
    stage.neighbour_is_well().await;
}

#[tokio::test]
async fn every_rule_of_command_create_has_its_code() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    let with = |field: &str, value: Value| {
        let mut payload = message(&stage.bob, "x");
        payload[field] = value;
        payload
    };
    let without = |field: &str| {
        let mut payload = message(&stage.bob, "x");
        payload.as_object_mut().expect("an object").remove(field);
        payload
    };
    let many: Vec<String> = (0..17).map(|n| format!("c{n}")).collect();
    let cases = [
        ("empty", json!({}), "bad_request"),
        ("no content", without("content"), "bad_request"),
        (
            "content is a number",
            with("content", 7.into()),
            "bad_request",
        ),
        ("no target", without("targetUser"), "bad_request"),
        (
            "target is no id",
            with("targetUser", "bob".into()),
            "bad_request",
        ),
        (
            "unknown target",
            with("targetUser", "01890000-0000-7000-8000-000000000000".into()),
            "not_found",
        ),
        (
            "unknown command type",
            with("commandType", "order".into()),
            "bad_request",
        ),
        (
            "unknown broadcast",
            with("broadcast", "everybody".into()),
            "bad_request",
        ),
        (
            "too many categories",
            with("categories", json!(many)),
            "bad_request",
        ),
        (
            "expired before it was sent",
            with("expiresAt", "2001-01-01T00:00:00.000Z".into()),
            "bad_request",
        ),
        (
            "expiry is no time",
            with("expiresAt", "tomorrow".into()),
            "bad_request",
        ),
        ("NUL", with("content", "a\u{0}b".into()), "bad_request"),
        (
            "one byte too long",
            with("content", "x".repeat(16 * 1024 + 1).into()),
            "too_large",
        ),
        (
            "too long in bytes, not in characters",
            with("content", "ü".repeat(8 * 1024 + 1).into()),
            "too_large",
        ),
    ];
    for (name, payload, code) in cases {
        let reply = socket.request("command.create", payload).await;
        assert_eq!(reply["type"], "error", "{name}: {reply}");
        assert_eq!(reply["payload"]["code"], code, "{name}: {reply}");
    }
    let longest = "x".repeat(16 * 1024);
    send(&socket, &stage.bob, &longest).await;
    expect_content(&stage.neighbour, &longest).await;
}

#[tokio::test]
async fn the_other_requests_have_their_codes_too() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    socket
        .send_text(r#"{"type":"command.create","id":"s","payload":{"content":"\ud800"}}"#)
        .await;
    assert_error(&socket.expect("error").await, "bad_request");
    let unknown = json!({"commandId": "01890000-0000-7000-8000-000000000000"});
    assert_error(
        &socket.request("command.complete", unknown.clone()).await,
        "not_found",
    );
    assert_error(
        &socket.request("command.cancel", unknown).await,
        "not_found",
    );
    assert_error(
        &socket
            .request("command.queue", json!({"status": "lost"}))
            .await,
        "bad_request",
    );
    assert_error(
        &socket
            .request("command.queue", json!({"cursor": "nonsense"}))
            .await,
        "bad_request",
    );
    assert_error(
        &socket
            .request("command.queue", json!({"since": "yesterday"}))
            .await,
        "bad_request",
    );
    assert_error(
        &socket
            .request("command.complete", json!({"commandId": "x"}))
            .await,
        "bad_request",
    );
}

#[tokio::test]
async fn a_refusal_is_not_remembered() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    let refused = socket
        .request_as("again", "command.create", json!({}))
        .await;
    assert_error(&refused, "bad_request");
    let accepted = socket
        .request_as("again", "command.create", message(&stage.bob, "now right"))
        .await;
    assert_eq!(accepted["type"], "command.accepted", "{accepted}");
}

#[tokio::test]
async fn bad_parameters_are_refused_before_the_upgrade() {
    let stage = Stage::set().await;
    let options = || SocketOptions::bearer(&stage.ann.token);
    let long = "d".repeat(65);
    for (name, value) in [
        ("device", long.as_str()),
        ("device", "a b"),
        ("device", "ü"),
        ("device", ""),
        ("after", "yesterday"),
        ("after", "1"),
        ("after", "1:-1"),
        ("after", "1:99999999999999999999"),
        ("protocol", "soap"),
        ("ack", "sometimes"),
    ] {
        let refused = stage.refusal(options().query(name, value)).await;
        assert_eq!(refused.status, 400, "{name}={value}: {refused:?}");
        assert_eq!(
            refused.json()["error"]["code"],
            "bad_request",
            "{name}={value}: {refused:?}"
        );
    }
    let refused = stage
        .refusal(options().header("Sec-WebSocket-Protocol", "soap.v1"))
        .await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(
        refused.body.contains("tidegate.json.v1"),
        "the answer lists what is served: {refused:?}"
    );
}

#[tokio::test]
async fn a_position_nobody_handed_out_is_passed_over() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    send(&socket, &stage.bob, "kept").await;
    expect_content(&stage.neighbour, "kept").await;
    let options = SocketOptions::bearer(&stage.bob.token)
        .device("future")
        .query("after", "99999999999:5");
    let (future, connected) = stage.tidegate.connect_with(0, options).await;
    assert_eq!(connected["resumed"]["complete"], false, "{connected}");
    send(&socket, &stage.bob, "live").await;
    future
        .take("the live command", testkit::wait::PATIENCE, |frame| {
            frame["payload"]["content"] == "live"
        })
        .await;
}

#[tokio::test]
async fn too_many_requests_are_refused_with_a_time_to_come_back() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    // So many frames may come at once. Of requests 60 may, and while these are answered some more.
    for n in 0..140 {
        socket.send(&json!({"type": "command.create", "id": format!("r{n}"), "payload": message(&stage.bob, "flood")})).await;
    }
    let mut limited = 0;
    for n in 0..140 {
        let reply = socket.reply_to(&format!("r{n}")).await;
        if reply["type"] == "error" {
            assert_error(&reply, "rate_limited");
            assert!(
                reply["payload"]["retryAfterMs"]
                    .as_u64()
                    .is_some_and(|wait| wait > 0),
                "{reply}"
            );
            limited += 1;
        }
    }
    assert!(limited > 0, "140 at once of 60 allowed");
    assert_eq!(
        socket.request("ping", json!({})).await["type"],
        "pong",
        "pings are not counted as requests"
    );
}

#[tokio::test]
async fn who_floods_for_ten_seconds_is_closed_with_4429() {
    let stage = Stage::set().await;
    let socket = stage.socket().await;
    let flood = async {
        let frame = masked(
            OpCode::Data(Data::Text),
            true,
            br#"{"type":"ping","payload":{}}"#,
        );
        loop {
            // What cannot be sent any more ends the socket, too.
            let _ = socket.send_raw(&frame.repeat(20)).await;
            if let Some(end) = socket.closed_by(Duration::from_millis(50)).await {
                return end;
            }
        }
    };
    let end = testkit::within("the end of a flood", Duration::from_secs(30), flood).await;
    assert_eq!(end.code(), Some(4429));
    stage.neighbour_is_well().await;
}

#[tokio::test]
async fn rest_refuses_what_it_cannot_read() {
    let stage = Stage::set().await;
    let rest = stage.tidegate.gateways[0].rest();
    for (path, body, status) in [
        ("/api/v1/auth/login", json!([]), 400),
        (
            "/api/v1/auth/login",
            json!({"username": 7, "password": "x"}),
            400,
        ),
        ("/api/v1/auth/register", json!({}), 400),
        ("/api/v1/auth/logout", json!({}), 401),
        ("/api/v1/nonsense", json!({}), 404),
    ] {
        let answer = rest.post(path, None, &body).await.expect("answered");
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(
            answer.body["error"]["code"].is_string(),
            "{path}: {answer:?}"
        );
        assert!(
            answer.body["error"]["requestId"].is_string(),
            "{path}: {answer:?}"
        );
    }
    let huge = json!({"username": "x".repeat(2 * 1024 * 1024), "password": "x"});
    let answer = rest.post("/api/v1/auth/register", None, &huge).await;
    assert!(
        answer.is_err() || answer.is_ok_and(|answer| answer.status == 413),
        "a huge body"
    );
    stage.neighbour_is_well().await;
}
