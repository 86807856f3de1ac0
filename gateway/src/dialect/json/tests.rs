//! Golden frames, and what no input may do.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use shared::domain::*;

use crate::dialect::*;

/// What a socket of the dialect understands.
pub(super) fn decode(frame: Frame) -> Result<Incoming, Unreadable> {
    let mut dialogue = DialectId::Json.open(Terms {
        frame_bytes: 64 * 1024,
        heartbeat: Duration::from_secs(10),
    });
    let said = dialogue.read(frame).expect("each frame says something");
    assert!(dialogue.more().is_none(), "each frame says one thing");
    said
}

fn read(text: &str) -> Result<Incoming, Unreadable> {
    decode(Frame::Text(Bytes::copy_from_slice(text.as_bytes())))
}

fn request(text: &str) -> Request {
    match read(text) {
        Ok(Incoming::Request(request)) => request,
        other => panic!("{text}: {other:?}"),
    }
}

fn refused(text: &str) -> (Option<String>, String) {
    let Unreadable {
        id,
        refusal,
        is_fatal,
    } = read(text).expect_err(text);
    assert_eq!(refusal.code, Code::BadRequest);
    assert!(!is_fatal, "{text}");
    (id.map(|id| id.to_string()), refusal.message.into_owned())
}

/// The payload of a frame, whose header is checked.
fn payload(frame: &Bytes) -> &str {
    assert_eq!(frame[0], 0x81);
    let (start, length) = match frame[1] {
        126 => (4, usize::from(u16::from_be_bytes([frame[2], frame[3]]))),
        127 => (
            10,
            u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize,
        ),
        short => (2, usize::from(short)),
    };
    assert_eq!(frame.len(), start + length);
    std::str::from_utf8(&frame[start..]).unwrap()
}

pub(super) fn written(event: &Event<'_>) -> String {
    let text = match &told(event)[..] {
        [text] => text.clone(),
        several => panic!("{several:?}"),
    };
    serde_json::from_str::<serde_json::Value>(&text).expect("well-formed");
    text
}

fn shown(entry: &Entry) -> String {
    let text = payload(&shared(DialectId::Json, &Told::Entry(entry))).to_owned();
    serde_json::from_str::<serde_json::Value>(&text).expect("well-formed");
    text
}

fn id(text: &str) -> ClientId {
    text.parse().unwrap()
}

const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn entry(kind: Kind, body: &str) -> Entry {
    Entry {
        topic: Topic::User(UUID.parse().unwrap()),
        position: Position {
            epoch: 1_763_000_000,
            offset: 42,
        },
        id: UUID.parse().unwrap(),
        kind,
        at: Timestamp(1_763_706_688_042),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[test]
fn golden_entries() {
    let body = r#"{"commandType":"task","content":"a \"b\"","recipientId":"x"}"#;
    assert_eq!(
        shown(&entry(Kind::CommandNew, body)),
        r#"{"type":"command.new","id":"01890a5d-ac96-774b-bcce-b302099a8057","topic":"user","epoch":1763000000,"offset":42,"payload":{"commandId":"01890a5d-ac96-774b-bcce-b302099a8057","createdAt":"2025-11-21T06:31:28.042Z","commandType":"task","content":"a \"b\"","recipientId":"x"}}"#,
    );
    assert_eq!(
        shown(&entry(Kind::CommandNew, "{}")),
        r#"{"type":"command.new","id":"01890a5d-ac96-774b-bcce-b302099a8057","topic":"user","epoch":1763000000,"offset":42,"payload":{"commandId":"01890a5d-ac96-774b-bcce-b302099a8057","createdAt":"2025-11-21T06:31:28.042Z"}}"#,
    );
    let body = format!(r#"{{"commandId":"{UUID}","recipientId":"{UUID}","status":"completed"}}"#);
    assert_eq!(
        shown(&entry(Kind::CommandStatus, &body)),
        r#"{"type":"command.status","id":"01890a5d-ac96-774b-bcce-b302099a8057","topic":"user","epoch":1763000000,"offset":42,"payload":{"commandId":"01890a5d-ac96-774b-bcce-b302099a8057","recipientId":"01890a5d-ac96-774b-bcce-b302099a8057","status":"completed","at":"2025-11-21T06:31:28.042Z"}}"#,
    );
}

#[test]
fn golden_entries_of_broadcasts() {
    let entry = |kind, body: &str| Entry {
        topic: Topic::Broadcast,
        ..entry(kind, body)
    };
    let body = r#"{"commandType":"message","content":"a","broadcast":"allcast","categories":[]}"#;
    assert_eq!(
        shown(&entry(Kind::CommandNew, body)),
        r#"{"type":"command.new","id":"01890a5d-ac96-774b-bcce-b302099a8057","topic":"broadcast","epoch":1763000000,"offset":42,"payload":{"commandId":"01890a5d-ac96-774b-bcce-b302099a8057","createdAt":"2025-11-21T06:31:28.042Z","commandType":"message","content":"a","broadcast":"allcast","categories":[]}}"#,
    );
    let end = |status| {
        let body = format!(
            r#"{{"commandId":"{UUID}","status":"{status}","broadcast":"category","categories":["feet"]}}"#
        );
        shown(&entry(Kind::CommandStatus, &body))
    };
    assert_eq!(
        end("cancelled"),
        r#"{"type":"command.status","id":"01890a5d-ac96-774b-bcce-b302099a8057","topic":"broadcast","epoch":1763000000,"offset":42,"payload":{"commandId":"01890a5d-ac96-774b-bcce-b302099a8057","status":"cancelled","at":"2025-11-21T06:31:28.042Z","broadcast":"category"}}"#,
    );
    assert_eq!(
        end("expired"),
        r#"{"type":"command.expired","id":"01890a5d-ac96-774b-bcce-b302099a8057","topic":"broadcast","epoch":1763000000,"offset":42,"payload":{"commandId":"01890a5d-ac96-774b-bcce-b302099a8057","at":"2025-11-21T06:31:28.042Z","broadcast":"category"}}"#,
    );
}

#[test]
fn recipients_hear_that_a_command_expired_and_its_sender_which_state_it_has() {
    let body = format!(r#"{{"commandId":"{UUID}","recipientId":"{UUID}","status":"expired"}}"#);
    assert_eq!(
        shown(&entry(Kind::CommandStatus, &body)),
        r#"{"type":"command.expired","id":"01890a5d-ac96-774b-bcce-b302099a8057","topic":"user","epoch":1763000000,"offset":42,"payload":{"commandId":"01890a5d-ac96-774b-bcce-b302099a8057","recipientId":"01890a5d-ac96-774b-bcce-b302099a8057","at":"2025-11-21T06:31:28.042Z"}}"#,
    );
    let body = format!(
        r#"{{"commandId":"{UUID}","recipientId":"{UUID}","status":"expired","at":"2025-11-21T06:00:00.000Z"}}"#
    );
    assert_eq!(
        shown(&entry(Kind::CommandStatus, &body)),
        r#"{"type":"command.status","id":"01890a5d-ac96-774b-bcce-b302099a8057","topic":"user","epoch":1763000000,"offset":42,"payload":{"commandId":"01890a5d-ac96-774b-bcce-b302099a8057","recipientId":"01890a5d-ac96-774b-bcce-b302099a8057","status":"expired","at":"2025-11-21T06:00:00.000Z"}}"#,
    );
}

#[test]
fn golden_preferences() {
    let body = r#"{"blockedCategories":["feet"],"allowedCategories":[]}"#;
    assert_eq!(
        shown(&entry(Kind::Preferences, body)),
        r#"{"type":"preferences","id":"01890a5d-ac96-774b-bcce-b302099a8057","topic":"user","epoch":1763000000,"offset":42,"payload":{"blockedCategories":["feet"],"allowedCategories":[]}}"#,
    );
}

#[test]
fn golden_session_frames() {
    let connected = Connected {
        session_id: UUID.parse().unwrap(),
        user_id: UUID.parse().unwrap(),
        device: Device::default(),
        node: "gw-1".parse().unwrap(),
        heartbeat: Heartbeat {
            interval_ms: 25_000,
            max_missed: 3,
        },
        limits: Limits {
            frame_bytes: 65_536,
            content_bytes: 16_384,
            frames_per_second: 50,
            frames_burst: 150,
            messages_per_second: 20,
            messages_burst: 60,
            sessions_per_user: 10,
        },
        resumed: Resumed {
            from: Position {
                epoch: 7,
                offset: 3,
            },
            replayed: 2,
            complete: true,
        },
    };
    assert_eq!(
        written(&Event::Connected(&connected)),
        r#"{"type":"connected","payload":{"sessionId":"01890a5d-ac96-774b-bcce-b302099a8057","userId":"01890a5d-ac96-774b-bcce-b302099a8057","device":"default","node":"gw-1","heartbeat":{"intervalMs":25000,"maxMissed":3},"limits":{"frameBytes":65536,"contentBytes":16384,"framesPerSecond":50,"framesBurst":150,"messagesPerSecond":20,"messagesBurst":60,"sessionsPerUser":10},"resumed":{"topic":"user","epoch":7,"offset":3,"replayed":2,"complete":true}}}"#,
    );
    let to = id("a1");
    assert_eq!(
        written(&Event::AuthSuccess {
            to: Some(&to),
            user: UUID.parse().unwrap(),
            expires_at: Timestamp(1_763_706_688_000),
        }),
        r#"{"type":"auth.success","replyTo":"a1","payload":{"userId":"01890a5d-ac96-774b-bcce-b302099a8057","expiresAt":"2025-11-21T06:31:28.000Z"}}"#,
    );
    let refusal = Refusal::new(Code::Unauthorized, "token is expired");
    assert_eq!(
        written(&Event::AuthFailed {
            to: None,
            refusal: &refusal
        }),
        r#"{"type":"auth.failed","payload":{"code":"unauthorized","message":"token is expired"}}"#,
    );
    assert_eq!(
        written(&Event::Draining {
            reconnect_after: Duration::from_millis(1_500)
        }),
        r#"{"type":"server.draining","payload":{"reconnectAfterMs":1500}}"#,
    );
}

#[test]
fn golden_replies_and_errors() {
    #[derive(serde::Serialize)]
    struct Accepted {
        status: &'static str,
    }
    let to = id("r \"1\"");
    let accepted = Json::of(&Accepted { status: "pending" });
    assert_eq!(
        written(&Event::Reply {
            to: Some(&to),
            name: "command.accepted",
            payload: &accepted,
            always: false,
        }),
        r#"{"type":"command.accepted","replyTo":"r \"1\"","payload":{"status":"pending"}}"#,
    );
    let refusal =
        Refusal::new(Code::RateLimited, "too many").retry_after(Duration::from_millis(20));
    assert_eq!(
        written(&Event::Error {
            to: None,
            refusal: &refusal
        }),
        r#"{"type":"error","payload":{"code":"rate_limited","message":"too many","retryAfterMs":20}}"#,
    );
}

/// What a socket of the dialect is told.
fn told(event: &Event<'_>) -> Vec<String> {
    let mut dialogue = DialectId::Json.open(Terms {
        frame_bytes: 64 * 1024,
        heartbeat: Duration::from_secs(10),
    });
    let mut out = VecDeque::new();
    assert_eq!(dialogue.write(event, &mut out), Then::GoOn);
    out.iter().map(|frame| payload(frame).to_owned()).collect()
}

#[test]
fn an_acknowledgement_without_a_request_id_is_not_told_and_an_answer_is() {
    let nothing = Json::of(&serde_json::json!({}));
    let reply = |to, always| Event::Reply {
        to,
        name: "pong",
        payload: &nothing,
        always,
    };
    let to = id("1");
    assert_eq!(told(&reply(None, false)), [""; 0]);
    assert_eq!(told(&Event::Done), [""; 0]);
    assert_eq!(told(&Event::Heartbeat), [""; 0]);
    let anonymous = r#"{"type":"pong","payload":{}}"#;
    assert_eq!(told(&reply(None, true)), [anonymous]);
    let named = r#"{"type":"pong","replyTo":"1","payload":{}}"#;
    assert_eq!(told(&reply(Some(&to), false)), [named]);
}

#[test]
fn topics_become_wishes_and_what_the_dialect_knows_is_settled() {
    let frame = format!(
        r#"{{"type":"subscribe","id":"1","payload":{{"topics":["user","conversation","typing","typing","weather"],"filters":{{"conversation_id":"{UUID}"}}}}}}"#
    );
    let Ok(Incoming::Subscribe(wanted)) = read(&frame) else {
        panic!()
    };
    let conversation = Some(UUID.parse().unwrap());
    let interests: Vec<_> = wanted.wishes.iter().map(|wish| wish.interest).collect();
    let about = Interest::Conversation {
        id: conversation,
        messages: Messages::Uncopied,
    };
    assert_eq!(interests, [about, Interest::Typing(conversation)]);
    assert_eq!(wanted.settled.granted, ["user"]);
    assert_eq!(
        wanted.settled.refused,
        [("weather".into(), Code::BadRequest)]
    );
    let subscribed = Subscribed {
        granted: vec![Interest::Typing(conversation)],
        refused: vec![(about, Code::Forbidden)],
        settled: wanted.settled,
    };
    let subscribed = &subscribed;
    assert_eq!(
        written(&Event::Subscribed {
            to: wanted.id.as_ref(),
            subscribed
        }),
        r#"{"type":"subscribed","replyTo":"1","payload":{"topics":["user","typing"],"filters":{"conversation_id":"01890a5d-ac96-774b-bcce-b302099a8057"},"refused":[{"topic":"conversation","code":"forbidden"},{"topic":"weather","code":"bad_request"}]}}"#,
    );
    assert_eq!(
        written(&Event::Lost {
            interests: &[Interest::Typing(conversation)]
        }),
        r#"{"type":"unsubscribed","payload":{"topics":["typing"],"filters":{"conversation_id":"01890a5d-ac96-774b-bcce-b302099a8057"}}}"#,
    );
}

#[test]
fn presence_is_wished_of_users_one_by_one_or_of_everybody() {
    let other = UUID.replace("01890a5d", "01890a5e");
    let frame = format!(
        r#"{{"type":"subscribe","id":"1","payload":{{"topics":["presence"],"filters":{{"user_id":"{UUID}","user_ids":["{UUID}","{other}"]}}}}}}"#
    );
    let Ok(Incoming::Subscribe(wanted)) = read(&frame) else {
        panic!()
    };
    let interests: Vec<_> = wanted.wishes.iter().map(|wish| wish.interest).collect();
    let one = Interest::Presence(Some(UUID.parse().unwrap()));
    let another = Interest::Presence(Some(other.parse().unwrap()));
    assert_eq!(interests, [one, another]);
    let subscribed = Subscribed {
        granted: vec![one],
        refused: vec![(another, Code::Forbidden)],
        settled: wanted.settled,
    };
    assert_eq!(
        written(&Event::Subscribed {
            to: wanted.id.as_ref(),
            subscribed: &subscribed
        }),
        format!(
            r#"{{"type":"subscribed","replyTo":"1","payload":{{"topics":["presence"],"filters":{{"user_ids":["{UUID}"]}},"refused":[{{"topic":"presence","userId":"{other}","code":"forbidden"}}]}}}}"#
        ),
    );
    assert_eq!(
        written(&Event::Lost {
            interests: &[one, another]
        }),
        format!(
            r#"{{"type":"unsubscribed","payload":{{"topics":["presence"],"filters":{{"user_ids":["{UUID}","{other}"]}}}}}}"#
        ),
    );
    let Ok(Incoming::Subscribe(all)) =
        read(r#"{"type":"subscribe","payload":{"topics":["presence","presence"]}}"#)
    else {
        panic!()
    };
    let interests: Vec<_> = all.wishes.iter().map(|wish| wish.interest).collect();
    assert_eq!(interests, [Interest::Presence(None)]);
}

#[test]
fn a_presence_is_told_by_what_changed() {
    let mut presence = Presence::unknown(UUID.parse().unwrap());
    presence.last_seen_at = Some(Timestamp(0));
    let told = |presence: &Presence, transition| {
        payload(&shared(
            DialectId::Json,
            &Told::Presence(presence, transition),
        ))
        .to_owned()
    };
    assert_eq!(
        told(&presence, Transition::Offline),
        format!(
            r#"{{"type":"presence.offline","payload":{{"userId":"{UUID}","status":"offline","devices":0,"lastSeenAt":"1970-01-01T00:00:00.000Z"}}}}"#
        )
    );
    presence.status = PresenceStatus::Busy;
    presence.text = Some("in a \"meeting\"".into());
    presence.devices = 2;
    presence.last_seen_at = None;
    assert_eq!(
        told(&presence, Transition::Update),
        format!(
            r#"{{"type":"presence.update","payload":{{"userId":"{UUID}","status":"busy","text":"in a \"meeting\"","devices":2,"lastSeenAt":null}}}}"#
        )
    );
    assert!(told(&presence, Transition::Online).contains("presence.online"));
}

#[test]
fn wishes_for_nothing_or_too_much_are_refused() {
    let long = format!(r#"["{}"]"#, "t".repeat(65));
    let many = serde_json::to_string(&vec!["typing"; 33]).unwrap();
    for topics in ["[]", "\"user\"", "[7]", &long, &many] {
        let frame = format!(r#"{{"type":"subscribe","id":"1","payload":{{"topics":{topics}}}}}"#);
        assert_eq!(refused(&frame).0.as_deref(), Some("1"), "{topics}");
    }
    let foreign =
        r#"{"type":"subscribe","payload":{"topics":["typing"],"filters":{"conversation_id":"x"}}}"#;
    refused(foreign);
    for anything in ["{}", "null"] {
        let frame = format!(
            r#"{{"type":"unsubscribe","payload":{{"topics":["typing"],"filters":{anything}}}}}"#
        );
        assert!(matches!(read(&frame), Ok(Incoming::Unsubscribe(_))));
    }
}

#[test]
fn request_keeps_its_payload_as_it_was_written() {
    let text = r#" { "timestamp": "2026-01-01T00:00:00Z", "payload" : { "a" : [1.0, {"b":"}\"é\u00e9"}], "n": 12345678901234567890 } , "x": {"payload": {}}, "type":"command\u002ecreate", "id":"7" } "#;
    let request = request(text);
    assert_eq!(&*request.name, "command.create");
    assert_eq!(request.id, Some(id("7")));
    let expected = r#"{ "a" : [1.0, {"b":"}\"é\u00e9"}], "n": 12345678901234567890 }"#;
    assert_eq!(
        std::str::from_utf8(request.body.as_bytes()).unwrap(),
        expected
    );
}

#[test]
fn payload_and_id_may_be_absent() {
    let request = request(r#"{"type":"ping"}"#);
    assert_eq!(request.id, None);
    assert_eq!(request.body, Body::EMPTY);
    assert_eq!(self::request(r#"{"type":"ping","id":null}"#).id, None);
}

#[test]
fn what_concerns_the_session_itself_is_told_apart() {
    let incoming = read(r#"{"type":"authenticate","id":"1","payload":{"token":"a.b.c"}}"#);
    let Ok(Incoming::Authenticate(Authenticate {
        id: Some(_),
        token: Some(token),
        device: None,
    })) = incoming
    else {
        panic!()
    };
    assert_eq!(token.0, "a.b.c");
    assert_eq!(format!("{token:?}"), "Token(…)");

    let incoming = read(r#"{"type":"ack","payload":{"topic":"user","epoch":5,"offset":9}}"#);
    let at = Position {
        epoch: 5,
        offset: 9,
    };
    let Ok(Incoming::Ack {
        id: None,
        feed: Feed::User,
        position,
        extent: Extent::UpTo,
    }) = incoming
    else {
        panic!()
    };
    assert_eq!(position, at);

    let incoming = read(r#"{"type":"ack","payload":{"topic":"broadcast","epoch":5,"offset":9}}"#);
    let Ok(Incoming::Ack {
        feed: Feed::Broadcast,
        position,
        ..
    }) = incoming
    else {
        panic!()
    };
    assert_eq!(position, at);
}

#[test]
fn wrong_frames_are_refused_with_their_id_where_it_can_be_read() {
    for (text, with) in [
        ("", None),
        ("{", None),
        ("[]", None),
        ("null", None),
        ("\"x\"", None),
        (r#"{"type":"a"} {"type":"b"}"#, None),
        (r#"{"type":"a","id":5}"#, None),
        (r#"{"type":"a","id":""}"#, None),
        (r#"{"type":"a","id":"\n"}"#, None),
        (r#"{"type":"a","id":"x","id":"y"}"#, None),
        (r#"{"id":"x"}"#, Some("x")),
        (r#"{"type":5,"id":"x"}"#, Some("x")),
        (r#"{"type":"a","type":"b","id":"x"}"#, Some("x")),
        (r#"{"type":"a","payload":[],"id":"x"}"#, Some("x")),
        (r#"{"type":"a","payload":null,"id":"x"}"#, Some("x")),
        (
            r#"{"type":"a","payload":{},"payload":{},"id":"x"}"#,
            Some("x"),
        ),
        (
            r#"{"payload":{"topic":"other","epoch":1,"offset":1},"type":"ack","id":"x"}"#,
            Some("x"),
        ),
        (
            r#"{"payload":{"topic":"user","epoch":-1,"offset":1},"type":"ack","id":"x"}"#,
            Some("x"),
        ),
        (
            r#"{"payload":{"token":7},"type":"authenticate","id":"x"}"#,
            Some("x"),
        ),
        (r#"{"type":"a","payload":{"n":NaN},"id":"x"}"#, None),
        (r#"{"type":"a","payload":{"n":1e999},"id":"x"}"#, None),
        (r#"{"type":"a","payload":{"n":01},"id":"x"}"#, None),
        (r#"{"type":"a","payload":{"s":"\ud800"},"id":"x"}"#, None),
        (
            r#"{"type":"a","payload":{"s":"\udc00\ud800"},"id":"x"}"#,
            None,
        ),
        (
            r#"{"type":"a","payload":{"s":"a\u0000b"},"id":"x"}"#,
            Some("x"),
        ),
        (r#"{"type":"a","payload":{"\u0000":1},"id":"x"}"#, Some("x")),
        (r#"{"type":"a","payload":{"s":"\x"},"id":"x"}"#, None),
        (r#"{"type":"a","payload":{,},"id":"x"}"#, None),
    ] {
        assert_eq!(refused(text).0.as_deref(), with, "{text}");
    }
    let long = format!(r#"{{"type":"a","id":"{}"}}"#, "i".repeat(65));
    assert_eq!(refused(&long).0, None);
}

#[test]
fn token_of_a_wrong_type_is_not_quoted() {
    let (_, message) = refused(r#"{"type":"authenticate","payload":{"token":["secret"]}}"#);
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn nesting_is_bounded() {
    for depth in [33, 60, 1_000, 30_000] {
        let text = format!(
            r#"{{"type":"a","payload":{{"d":{}{}}}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        assert!(refused(&text).1.contains("deeper"), "{depth}");
    }
    let text = format!(
        r#"{{"type":"a","payload":{{"d":{}{}}}}}"#,
        "[".repeat(28),
        "]".repeat(28)
    );
    request(&text);
    // An unfinished one neither.
    assert_eq!(refused(&"[".repeat(65_536)).0, None);
}

#[test]
fn binary_is_refused() {
    let refusal = decode(Frame::Binary(Bytes::from_static(b"{}"))).unwrap_err();
    assert_eq!(refusal.refusal.code, Code::BadRequest);
}

#[test]
fn a_bad_argument_is_named() {
    #[derive(Debug, serde::Deserialize)]
    struct Arguments {
        #[expect(dead_code, reason = "only its absence matters")]
        content: String,
    }
    let refusal = Body::EMPTY.parse::<Arguments>().unwrap_err();
    assert_eq!(refusal.code, Code::BadRequest);
    assert!(refusal.message.contains("content"), "{}", refusal.message);
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Exact in binary: serde_json reads other doubles to within one unit in the last place.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        "[^\u{0}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[^\u{0}]{0,6}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn json_object() -> impl Strategy<Value = serde_json::Value> {
    prop::collection::btree_map("[^\u{0}]{0,6}", json_value(), 0..6)
        .prop_map(|map| serde_json::Value::Object(map.into_iter().collect()))
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(Frame::Text(Bytes::from(bytes)));
    }

    #[test]
    fn decoding_json_like_text_never_panics(text in r#"([{}\[\]:,"]|\\u00|type|id|payload|[0-9.eE+-]|null| ){0,60}"#) {
        let _ = read(&text);
    }

    #[test]
    fn cut_frames_are_refused(object in json_object(), cut in any::<prop::sample::Index>()) {
        let text = serde_json::json!({"type": "a", "id": "é", "payload": object}).to_string();
        let bytes = Bytes::from(text);
        let cut = bytes.slice(..cut.index(bytes.len()));
        prop_assert!(decode(Frame::Text(cut)).is_err());
    }

    #[test]
    fn payloads_pass_through_unchanged(
        object in json_object(),
        before in json_value(),
        after in json_value(),
        client in "[^\\p{Cc}]{1,16}",
        pretty in any::<bool>(),
    ) {
        let body = if pretty {
            serde_json::to_string_pretty(&object).unwrap()
        } else {
            object.to_string()
        };
        let client = id(&client);
        let text = format!(
            r#"{{"b":{before}, "payload" :{body} ,"id":{},"c":{after},"type":"x.y"}}"#,
            serde_json::to_string(&client).unwrap(),
        );
        let request = request(&text);
        prop_assert_eq!(request.body.as_bytes(), body.as_bytes());
        prop_assert_eq!(request.id, Some(client));
    }

    #[test]
    fn replies_read_back(object in json_object(), client in "[^\\p{Cc}]{1,64}") {
        let client = id(&client);
        let json = Json::of(&object);
        let text = written(&Event::Reply {
            to: Some(&client),
            name: "n",
            payload: &json,
            always: false,
        });
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&value["payload"], &object);
        prop_assert_eq!(value["replyTo"].as_str(), Some(client.as_str()));
    }
}
