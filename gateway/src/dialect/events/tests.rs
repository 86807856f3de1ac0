//! Golden frames, and what a socket hears after each word of its client.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Value, json};
use shared::domain::*;
use uuid::Uuid;

use crate::dialect::*;

const AT: Timestamp = Timestamp(1_763_000_000_042);

/// One socket, whose wishes are granted, except for what is foreign.
pub(super) struct Line {
    dialogue: Box<dyn Dialogue>,
    pub(super) foreign: Vec<Interest>,
    pub(super) written: VecDeque<Bytes>,
    pub(super) is_closed: bool,
}

/// What a frame came to, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Did {
    Subscribed(Vec<Interest>),
    Unsubscribed(Vec<Interest>),
    Asked(String, String),
    Refused(Code),
}

impl Line {
    pub(super) fn new() -> Self {
        let dialogue = DialectId::Events.open(Terms {
            frame_bytes: 64 * 1024,
            heartbeat: std::time::Duration::from_secs(10),
        });
        Self {
            dialogue,
            foreign: Vec::new(),
            written: VecDeque::new(),
            is_closed: false,
        }
    }

    pub(super) fn hear(&mut self, text: &str) -> Vec<Did> {
        let frame = Frame::Text(Bytes::copy_from_slice(text.as_bytes()));
        self.hear_frame(frame)
    }

    pub(super) fn hear_frame(&mut self, frame: Frame) -> Vec<Did> {
        let mut all = Vec::new();
        let mut said = self.dialogue.read(frame);
        while let Some(one) = said {
            all.push(self.answer(one));
            said = self.dialogue.more();
        }
        all
    }

    /// As the rest of the gateway would.
    fn answer(&mut self, said: Result<Incoming, Unreadable>) -> Did {
        let interests = |wanted: &Subscribe| wanted.wishes.iter().map(|it| it.interest).collect();
        match said {
            Ok(Incoming::Subscribe(wanted)) => {
                let asked: Vec<_> = interests(&wanted);
                let is_foreign = |it: &Interest| self.foreign.contains(it);
                let (refused, granted) = asked.iter().copied().partition(is_foreign);
                let refused: Vec<_> = refused;
                let subscribed = Subscribed {
                    granted,
                    refused: refused
                        .into_iter()
                        .map(|it| (it, Code::Forbidden))
                        .collect(),
                    settled: wanted.settled,
                };
                let to = wanted.id.as_ref();
                let subscribed = &subscribed;
                self.write(&Event::Subscribed { to, subscribed });
                Did::Subscribed(asked)
            }
            Ok(Incoming::Unsubscribe(wanted)) => {
                let left: Vec<_> = interests(&wanted);
                let subscribed = &Subscribed {
                    granted: left.clone(),
                    ..Subscribed::default()
                };
                let to = wanted.id.as_ref();
                self.write(&Event::Unsubscribed { to, subscribed });
                Did::Unsubscribed(left)
            }
            Ok(Incoming::Request(request)) => {
                let body = String::from_utf8(request.body.as_bytes().to_vec()).unwrap();
                Did::Asked(request.name.into(), body)
            }
            Ok(other) => panic!("no word of this dialect means {other:?}"),
            Err(unreadable) => {
                assert!(!unreadable.is_fatal);
                self.refuse(unreadable.id.as_ref(), &unreadable.refusal);
                Did::Refused(unreadable.refusal.code)
            }
        }
    }

    pub(super) fn refuse(&mut self, to: Option<&ClientId>, refusal: &Refusal) {
        self.write(&Event::Error { to, refusal });
    }

    pub(super) fn write(&mut self, event: &Event<'_>) {
        let then = self.dialogue.write(event, &mut self.written);
        self.is_closed |= then == Then::Close;
    }

    /// What was written since this was last asked.
    pub(super) fn told(&mut self) -> Vec<Value> {
        let written = std::mem::take(&mut self.written);
        written.iter().flat_map(frames).collect()
    }
}

/// A subscription to what is heard anyway: all that comes of it is its answer.
fn nothing_new() -> Did {
    Did::Subscribed(Vec::new())
}

/// Whether this is the sign that the subscription of this id is in force.
fn is_sign(event: &Value, id: &Value) -> bool {
    event["type"] == "server.presence.batch"
        && event["data"] == json!({"users": []})
        && event["ts"].is_i64()
        && event["id"] == *id
}

/// What was told before the sign that ends the answer to a subscription.
fn before_sign(mut told: Vec<Value>, id: &Value) -> Vec<Value> {
    let sign = told.pop().expect("an answer");
    assert!(is_sign(&sign, id), "{sign}");
    told
}

/// The frames in some bytes.
fn frames(bytes: &Bytes) -> Vec<Value> {
    let mut frames = Vec::new();
    let mut rest = &bytes[..];
    while let [0x81, length, behind @ ..] = rest {
        let (length, behind) = match length {
            126 => {
                let (length, behind) = behind.split_at(2);
                let length = u16::from_be_bytes(length.try_into().unwrap());
                (usize::from(length), behind)
            }
            short => (usize::from(*short), behind),
        };
        let (payload, behind) = behind.split_at(length);
        frames.push(serde_json::from_slice(payload).unwrap());
        rest = behind;
    }
    assert!(rest.is_empty(), "whole frames");
    frames
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn conversation(number: u128) -> Interest {
    Interest::Conversation {
        id: Some(ConversationId(uuid(number))),
        messages: Messages::All,
    }
}

/// A `client.system.subscribe` for these conversations.
fn subscribe(numbers: &[u128]) -> String {
    let topics = numbers
        .iter()
        .map(|number| json!({"kind": "conversation", "id": uuid(*number)}));
    let topics: Vec<_> = topics.collect();
    json!({"type": "client.system.subscribe", "id": "s", "data": {"topics": topics}}).to_string()
}

fn entry(kind: Kind, body: &Value) -> Entry {
    Entry {
        topic: Topic::Conversation(ConversationId(uuid(1))),
        position: Position {
            epoch: 1,
            offset: 7,
        },
        id: MessageId(uuid(2)),
        kind,
        at: AT,
        body: body.to_string().into(),
    }
}

fn told(told: &Told<'_>) -> Vec<Value> {
    frames(&shared(DialectId::Events, told))
}

#[test]
fn a_message_is_told_by_its_place_and_without_its_words() {
    let body = json!({
        "conversationId": uuid(1), "senderId": uuid(3), "senderName": "ann", "senderType": "USER",
        "content": "secret", "messageType": "TEXT", "uncopied": true,
    });
    let frame = shared(
        DialectId::Events,
        &Told::Entry(&entry(Kind::MessageNew, &body)),
    );
    let text = r#"{"type":"server.messenger.message_new","data":{"conversationId":"00000000-0000-0000-0000-000000000001","messageId":"00000000-0000-0000-0000-000000000002","senderId":"00000000-0000-0000-0000-000000000003","createdAt":"2025-11-13T02:13:20.042Z"},"ts":1763000000042,"id":"00000000-0000-0000-0000-000000000002"}"#;
    assert_eq!(std::str::from_utf8(&frame[4..]).unwrap(), text);
}

#[test]
fn each_message_that_was_read_is_told_by_itself() {
    let read = |body: Value| {
        let mut body = body;
        body["conversationId"] = json!(uuid(1));
        body["userId"] = json!(uuid(3));
        told(&Told::Entry(&entry(Kind::MessageRead, &body)))
    };
    let expected = |message: u128| {
        json!({
            "type": "server.messenger.message_read",
            "data": {
                "conversationId": uuid(1), "messageId": uuid(message), "readerId": uuid(3),
                "readAt": "2025-11-13T02:13:20.042Z",
            },
            "ts": 1_763_000_000_042_i64,
            "id": uuid(2),
        })
    };
    assert_eq!(read(json!({"upTo": uuid(9)})), [expected(9)]);
    let three = json!({"messageIds": [uuid(7), uuid(8), uuid(9)]});
    assert_eq!(read(three), [7, 8, 9].map(expected));
}

#[test]
fn who_types_is_told_in_one_event() {
    for (kind, is_typing) in [
        (SignalKind::TypingStart, true),
        (SignalKind::TypingStop, false),
    ] {
        let signal = Signal {
            kind,
            user: UserId(uuid(3)),
            session: None,
        };
        let told = told(&Told::Signal(ConversationId(uuid(1)), &signal));
        let [event] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(event["type"], "server.messenger.typing");
        let data = json!({"conversationId": uuid(1), "userId": uuid(3), "isTyping": is_typing});
        assert_eq!(event["data"], data);
        assert!(event["ts"].is_i64());
        assert_eq!(event["id"], Value::Null);
    }
}

#[test]
fn who_is_there_is_told_one_by_one_and_in_batches() {
    let mut presence = Presence::unknown(UserId(uuid(3)));
    presence.last_seen_at = Some(AT);
    let gone = presence.clone();
    let update = |presence: &Presence| {
        let told = told(&Told::Presence(presence, Transition::Update));
        let [event] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(event["type"], "server.presence.update");
        assert!(event["ts"].is_i64());
        event["data"].clone()
    };
    let seen = "2025-11-13T02:13:20.042Z";
    let expected = json!({"userId": uuid(3), "status": "offline", "lastSeenAt": seen});
    assert_eq!(update(&gone), expected);
    presence.last_seen_at = None;
    presence.text = Some("not told".into());
    for (status, word) in [
        (PresenceStatus::Online, "online"),
        (PresenceStatus::Away, "away"),
        (PresenceStatus::Busy, "online"),
    ] {
        presence.status = status;
        assert_eq!(
            update(&presence),
            json!({"userId": uuid(3), "status": word})
        );
    }
    let batch = presences(DialectId::Events, &[&gone, &presence]).unwrap();
    let [event] = &frames(&batch)[..] else {
        panic!()
    };
    assert_eq!(event["type"], "server.presence.batch");
    let users = json!([
        {"userId": uuid(3), "status": "offline"},
        {"userId": uuid(3), "status": "online"},
    ]);
    assert_eq!(event["data"], json!({"users": users}));
}

#[test]
fn of_what_the_dialect_has_no_event_for_nothing_is_told() {
    let body = json!({"messageId": uuid(2), "conversationId": uuid(1), "userId": uuid(3)});
    for kind in [
        Kind::MessageEdited,
        Kind::MessageDeleted,
        Kind::MessageDelivered,
        Kind::CommandNew,
        Kind::CommandStatus,
        Kind::Preferences,
    ] {
        let frames = told(&Told::Entry(&entry(kind, &body)));
        assert_eq!(frames, Vec::<Value>::new(), "{kind}");
    }
    for kind in CallEventKind::ALL {
        let call = CallEvent {
            call: CallId(uuid(4)),
            kind: *kind,
            audience: Audience::All,
            number: 0,
            body: "{}".into(),
        };
        assert_eq!(told(&Told::Call(&call)), Vec::<Value>::new(), "{kind}");
    }
    // Nor of what cannot be read.
    let broken = told(&Told::Entry(&entry(Kind::MessageNew, &json!({}))));
    assert_eq!(broken, Vec::<Value>::new());
}

#[test]
fn what_is_asked_is_not_answered() {
    let mut line = Line::new();
    line.write(&Event::Draining {
        reconnect_after: std::time::Duration::from_secs(1),
    });
    line.write(&Event::Reply {
        to: Some(&"1".parse().unwrap()),
        name: "typing.start",
        payload: &Json::of(&json!({})),
        always: true,
    });
    assert_eq!(line.told(), Vec::<Value>::new());
    assert!(!line.is_closed);
}

#[test]
fn each_subscription_replaces_the_one_before_it() {
    let mut line = Line::new();
    let both = vec![conversation(1), conversation(2)];
    assert_eq!(
        line.hear(&subscribe(&[1, 2, 1])),
        [Did::Subscribed(both.clone())]
    );
    assert_eq!(line.hear(&subscribe(&[2, 1])), [nothing_new()]);
    assert_eq!(
        line.hear(&subscribe(&[3, 2])),
        [
            Did::Unsubscribed(vec![conversation(1)]),
            Did::Subscribed(vec![conversation(3)])
        ]
    );
    let rest = vec![conversation(2), conversation(3)];
    assert_eq!(
        line.hear(&subscribe(&[])),
        [Did::Unsubscribed(rest), nothing_new()]
    );
    assert_eq!(line.hear(&subscribe(&[])), [nothing_new()]);
}

#[test]
fn each_subscription_is_answered_by_one_sign_when_all_of_it_is_in_force() {
    let mut line = Line::new();
    // The first, the same again, one instead of another, and nothing; that, too, again.
    for wanted in [&[1, 2][..], &[1, 2], &[2, 3], &[], &[]] {
        line.hear(&subscribe(wanted));
        let told = line.told();
        let [sign] = &told[..] else {
            panic!("{wanted:?}: {told:?}")
        };
        assert!(is_sign(sign, &json!("s")), "{wanted:?}: {sign}");
    }
    // Of a frame without an id it has none.
    line.hear(r#"{"type":"client.system.subscribe","data":{"topics":[]}}"#);
    let [sign] = &line.told()[..] else { panic!() };
    assert!(is_sign(sign, &Value::Null), "{sign}");
    // What is left was left, but the rest is not there yet.
    line.hear(&subscribe(&[1]));
    line.told();
    let frame = Frame::Text(Bytes::from(subscribe(&[2])));
    let Some(Ok(left)) = line.dialogue.read(frame) else {
        panic!()
    };
    line.answer(Ok(left));
    assert_eq!(line.told(), Vec::<Value>::new());
    let rest = line.dialogue.more().unwrap();
    line.answer(rest);
    assert!(is_sign(&line.told()[0], &json!("s")));
}

#[test]
fn what_cannot_be_heard_is_named_and_the_rest_is_heard() {
    let mut line = Line::new();
    line.foreign = vec![conversation(2)];
    line.hear(&subscribe(&[1, 2]));
    let told = before_sign(line.told(), &json!("s"));
    let [refused] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(refused["type"], "server.system.error");
    assert_eq!(refused["id"], "s");
    let message = format!("conversation {} cannot be heard", uuid(2));
    assert_eq!(
        refused["data"],
        json!({"message": message, "code": "forbidden"})
    );
    // It is tried again when it is asked for again; the other is there.
    line.foreign.clear();
    assert_eq!(
        line.hear(&subscribe(&[1, 2])),
        [Did::Subscribed(vec![conversation(2)])]
    );
    let told = before_sign(line.told(), &json!("s"));
    assert_eq!(told, Vec::<Value>::new());
}

#[test]
fn topics_that_do_not_exist_are_refused_one_by_one() {
    let mut line = Line::new();
    let long = "x".repeat(100);
    let topics = json!([
        {"kind": "planet", "id": "mars"},
        {"kind": "conversation", "id": uuid(1)},
        {"kind": "user", "id": uuid(2)},
        {"kind": "conversation", "id": "1"},
        {"kind": long, "id": ""},
    ]);
    let frame = json!({"type": "client.system.subscribe", "data": {"topics": topics}});
    assert_eq!(
        line.hear(&frame.to_string()),
        [Did::Subscribed(vec![
            conversation(1),
            Interest::Presence(Some(UserId(uuid(2))))
        ])]
    );
    let told = before_sign(line.told(), &Value::Null);
    let messages: Vec<_> = told
        .iter()
        .map(|it| it["data"]["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages[0], "planet mars cannot be heard");
    assert_eq!(messages[1], "conversation 1 cannot be heard");
    assert!(messages[2].ends_with("x… cannot be heard"), "{messages:?}");
    assert_eq!(messages.len(), 3);
    assert!(told.iter().all(|it| it["data"]["code"] == "bad_request"));
}

#[test]
fn too_many_topics_change_nothing() {
    let mut line = Line::new();
    let some: Vec<u128> = (0..200).collect();
    let [Did::Subscribed(heard)] = &line.hear(&subscribe(&some))[..] else {
        panic!()
    };
    assert_eq!(heard.len(), 200);
    line.told();
    let more: Vec<u128> = (0..201).collect();
    assert_eq!(
        line.hear(&subscribe(&more)),
        [Did::Refused(Code::BadRequest)]
    );
    let told = line.told();
    assert_eq!(told.len(), 1, "no sign: {told:?}");
    assert_eq!(told[0]["data"]["code"], "bad_request");
    assert_eq!(line.hear(&subscribe(&some)), [nothing_new()]);
}

#[test]
fn who_lost_the_right_is_told_and_may_ask_again() {
    let mut line = Line::new();
    line.hear(&subscribe(&[1, 2]));
    line.told();
    let interests = &[conversation(1)];
    line.write(&Event::Lost { interests });
    let told = line.told();
    assert_eq!(told[0]["data"]["code"], "forbidden");
    let message = format!("conversation {} is heard no more", uuid(1));
    assert_eq!(told[0]["data"]["message"], message);
    assert_eq!(
        line.hear(&subscribe(&[1, 2])),
        [Did::Subscribed(vec![conversation(1)])]
    );
}

#[test]
fn what_is_lost_while_a_subscription_runs_is_not_heard_by_its_answer() {
    let mut line = Line::new();
    let frame = |numbers: &[u128]| Frame::Text(Bytes::from(subscribe(numbers)));
    let lost = &[conversation(1)];
    let Some(Ok(running)) = line.dialogue.read(frame(&[1, 2])) else {
        panic!()
    };
    line.write(&Event::Lost { interests: lost });
    // It was granted before that.
    line.answer(Ok(running));
    let told = before_sign(line.told(), &json!("s"));
    assert_eq!(told[0]["data"]["code"], "forbidden");
    let again = [Did::Subscribed(lost.to_vec())];
    assert_eq!(line.hear(&subscribe(&[1, 2])), again, "as it is not heard");
    assert_eq!(line.hear(&subscribe(&[1, 2])), [nothing_new()]);

    // The same where it is the second half of a frame, and one that is refused holds nothing back.
    line.hear(&subscribe(&[3]));
    let Some(Ok(left)) = line.dialogue.read(frame(&[1])) else {
        panic!()
    };
    line.answer(Ok(left));
    let running = line.dialogue.more().unwrap();
    line.write(&Event::Lost { interests: lost });
    line.answer(running);
    assert!(line.dialogue.read(frame(&[1])).is_some());
    line.write(&Event::Lost { interests: lost });
    line.refuse(None, &Refusal::new(Code::Unavailable, "not now"));
    assert_eq!(line.hear(&subscribe(&[1])), again);
    assert_eq!(line.hear(&subscribe(&[1])), [nothing_new()]);
}

#[test]
fn a_frame_that_is_refused_by_half_leaves_the_other_half_alone() {
    let mut line = Line::new();
    line.hear(&subscribe(&[1]));
    let frame = Frame::Text(Bytes::from(subscribe(&[2])));
    assert!(matches!(
        line.dialogue.read(frame),
        Some(Ok(Incoming::Unsubscribe(_)))
    ));
    let refusal = Refusal::new(Code::RateLimited, "too many frames");
    line.refuse(None, &refusal);
    assert!(line.dialogue.more().is_none());
    assert_eq!(line.hear(&subscribe(&[1])), [nothing_new()]);
}

#[test]
fn who_types_is_not_for_the_client_to_say() {
    let mut line = Line::new();
    let typing = |is_typing: bool| {
        let data =
            json!({"conversationId": uuid(1), "userId": "somebody else", "isTyping": is_typing});
        json!({"type": "client.messenger.typing", "data": data, "ts": 1}).to_string()
    };
    let body = format!(r#"{{"conversationId":"{}"}}"#, uuid(1));
    let asked = |name: &str| [Did::Asked(name.to_owned(), body.clone())];
    assert_eq!(line.hear(&typing(true)), asked("typing.start"));
    assert_eq!(line.hear(&typing(false)), asked("typing.stop"));
}

#[test]
fn a_malformed_first_frame_is_the_last_and_later_ones_are_told_of() {
    for first in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"type":1}"#,
        r#"{"type":"x","data":1}"#,
    ] {
        let mut line = Line::new();
        assert_eq!(
            line.hear(first),
            [Did::Refused(Code::BadRequest)],
            "{first}"
        );
        assert_eq!(line.told()[0]["type"], "server.system.error");
        assert!(line.is_closed, "{first}");
        assert_eq!(line.hear(&subscribe(&[1])), [], "nothing counts any more");

        let mut line = Line::new();
        line.hear(&subscribe(&[1]));
        line.told();
        assert_eq!(
            line.hear(first),
            [Did::Refused(Code::BadRequest)],
            "{first}"
        );
        assert_eq!(line.told().len(), 1);
        assert!(!line.is_closed);
        assert_eq!(line.hear(&subscribe(&[1])), [nothing_new()]);
    }
    let mut line = Line::new();
    line.hear_frame(Frame::Binary(Bytes::from(subscribe(&[1]))));
    assert!(line.is_closed, "binary");
}

#[test]
fn what_is_no_event_of_a_client_is_refused_and_the_socket_lives() {
    for (frame, code) in [
        (r#"{"type":"ping"}"#, Code::UnknownType),
        (r#"{"type":"command.create","data":{}}"#, Code::UnknownType),
        (
            r#"{"type":"client.presence.update","data":{"status":"away"}}"#,
            Code::UnknownType,
        ),
        (
            r#"{"type":"authenticate","data":{"token":"x"}}"#,
            Code::UnknownType,
        ),
        (r#"{"type":"client.system.subscribe"}"#, Code::BadRequest),
        (
            r#"{"type":"client.system.subscribe","data":{"topics":["user"]}}"#,
            Code::BadRequest,
        ),
        (
            r#"{"type":"client.messenger.typing","data":{"isTyping":true}}"#,
            Code::BadRequest,
        ),
    ] {
        let mut line = Line::new();
        assert_eq!(line.hear(frame), [Did::Refused(code)], "{frame}");
        let told = line.told();
        assert_eq!(told[0]["data"]["code"], code.as_str());
        assert!(!line.is_closed, "{frame}");
    }
}
