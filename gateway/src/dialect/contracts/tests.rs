//! What encoders write is what is declared: one of everything a client can be told, from the types
//! that are stored, in every dialect.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use shared::domain::{
    Audience, Broadcast, CallEnd, CallEvent, CallEventKind, CallPayload, CommandBody, CommandState,
    CommandStatus, CommandType, ConversationChange, Entry, FileRef, Kind, MessageBody,
    MessageDeleted, MessageEdited, MessageReceipt, MessageType, MissedCall, ParticipantRole,
    Position, Preferences, Presence, PresenceStatus, SenderType, Signal, SignalKind, Timestamp,
    Topic, Transition,
};
use testkit::contracts::Contract;

use crate::{commands, dialect::*};

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const AT: Timestamp = Timestamp(1_763_706_688_042);

fn entry(topic: Topic, kind: Kind, body: &impl serde::Serialize) -> Entry {
    Entry {
        topic,
        position: Position {
            epoch: 7,
            offset: 42,
        },
        id: ID.parse().unwrap(),
        kind,
        at: AT,
        body: serde_json::to_vec(body).unwrap().into(),
    }
}

fn files() -> Vec<FileRef> {
    vec![FileRef {
        hash: "h".to_owned(),
        filename: "f".to_owned(),
    }]
}

fn changes() -> Vec<Option<ConversationChange>> {
    let user_id = ID.parse().unwrap();
    vec![
        None,
        Some(ConversationChange::Created),
        Some(ConversationChange::Joined {
            user_ids: vec![user_id],
        }),
        Some(ConversationChange::Left { user_id }),
        Some(ConversationChange::Removed { user_id }),
        Some(ConversationChange::Renamed {
            title: "t".to_owned(),
        }),
        Some(ConversationChange::Role {
            user_id,
            role: ParticipantRole::Admin,
        }),
        Some(ConversationChange::Muted {
            user_id,
            until: None,
        }),
        Some(ConversationChange::Muted {
            user_id,
            until: Some(AT),
        }),
        Some(ConversationChange::Archived),
        Some(ConversationChange::Unarchived),
    ]
}

/// Every kind of entry about commands.
fn entries_of_commands(user: Topic) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (topic, audience, recipient) in [
        (user, Broadcast::User, Some(ID.parse().unwrap())),
        (Topic::Broadcast, Broadcast::Category, None),
    ] {
        let command = CommandBody {
            command_type: CommandType::System,
            content: "c".to_owned(),
            data: recipient.map(|_| serde_json::value::to_raw_value(&json!([1])).unwrap()),
            sender_id: ID.parse().unwrap(),
            sender_name: "ann".to_owned(),
            broadcast: audience,
            recipient_id: recipient,
            categories: vec!["a".parse().unwrap()],
            files: files(),
            expires_at: AT,
        };
        entries.push(entry(topic, Kind::CommandNew, &command));
        for status in [
            CommandState::Delivered,
            CommandState::Completed,
            CommandState::Expired,
            CommandState::Cancelled,
        ] {
            for at in [None, Some(AT)] {
                let status = CommandStatus {
                    command_id: ID.parse().unwrap(),
                    recipient_id: recipient,
                    status,
                    broadcast: recipient.is_none().then_some(audience),
                    categories: Vec::new(),
                    at,
                };
                entries.push(entry(topic, Kind::CommandStatus, &status));
            }
        }
    }
    entries
}

/// Every kind of entry that clients see, with and without what may be absent.
fn entries() -> Vec<Entry> {
    let user = Topic::User(ID.parse().unwrap());
    let conversation = Topic::Conversation(ID.parse().unwrap());
    let mut entries = entries_of_commands(user);
    let missed = MissedCall {
        kind: MissedCall::KIND.to_owned(),
        call_id: ID.parse().unwrap(),
        from: ID.parse().unwrap(),
        at: AT,
    };
    entries.push(entry(user, Kind::Notification, &missed));
    let preferences = Preferences {
        blocked_categories: ["a".parse().unwrap()].into(),
        ..Preferences::default()
    };
    entries.push(entry(user, Kind::Preferences, &preferences));
    for (topic, is_copy) in [(user, true), (conversation, false)] {
        let at = is_copy.then_some(AT);
        for change in changes() {
            let message = MessageBody {
                message_id: is_copy.then(|| ID.parse().unwrap()),
                created_at: at,
                conversation_id: ID.parse().unwrap(),
                sender_id: ID.parse().unwrap(),
                sender_name: "ann".to_owned(),
                sender_type: SenderType::Bot,
                content: "c".to_owned(),
                sealed: None,
                message_type: MessageType::Image,
                files: files(),
                uncopied: !is_copy,
                change,
            };
            entries.push(entry(topic, Kind::MessageNew, &message));
        }
        let edited = MessageEdited {
            message_id: ID.parse().unwrap(),
            conversation_id: ID.parse().unwrap(),
            edited_by: ID.parse().unwrap(),
            content: "c".to_owned(),
            sealed: None,
            edited_at: at,
            uncopied: !is_copy,
        };
        entries.push(entry(topic, Kind::MessageEdited, &edited));
        let deleted = MessageDeleted {
            message_id: ID.parse().unwrap(),
            conversation_id: ID.parse().unwrap(),
            deleted_by: ID.parse().unwrap(),
            deleted_at: at,
            uncopied: !is_copy,
        };
        entries.push(entry(topic, Kind::MessageDeleted, &deleted));
    }
    for kind in [Kind::MessageDelivered, Kind::MessageRead] {
        for (message_ids, up_to) in [
            (Some(vec![ID.parse().unwrap()]), None),
            (None, Some(ID.parse().unwrap())),
        ] {
            let receipt = MessageReceipt {
                conversation_id: ID.parse().unwrap(),
                message_ids,
                up_to,
                user_id: ID.parse().unwrap(),
            };
            entries.push(entry(conversation, kind, &receipt));
        }
    }
    entries
}

/// The text of a frame, behind its header.
fn text(frame: &Bytes) -> &[u8] {
    let start = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    &frame[start..]
}

/// The type and the body of what STOMP sockets share.
fn stomp_body(shared: &[u8]) -> (String, Value) {
    let text = std::str::from_utf8(shared).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let name = head.lines().find_map(|line| line.strip_prefix("type:"));
    let body = serde_json::from_str(body.trim_end_matches('\0')).unwrap();
    (name.unwrap().to_owned(), body)
}

/// Holds whole frames of the events dialect, none or several, to the contract.
fn check_events(mut frames: &[u8]) -> usize {
    let mut count = 0;
    while !frames.is_empty() {
        let (start, length) = match frames[1] {
            126 => (4, usize::from(u16::from_be_bytes([frames[2], frames[3]]))),
            short => (2, usize::from(short)),
        };
        let frame: Value = serde_json::from_slice(&frames[start..start + length]).unwrap();
        let name = frame["type"].as_str().unwrap();
        assert_eq!(Contract::EventsToClient.check(name, &frame), Ok(()));
        frames = &frames[start + length..];
        count += 1;
    }
    count
}

fn check_shared(told: &Told<'_>) {
    let frame = shared(DialectId::Json, told);
    let frame: Value = serde_json::from_slice(text(&frame)).unwrap();
    let name = frame["type"].as_str().unwrap();
    assert_eq!(Contract::JsonToClient.check(name, &frame), Ok(()));
    let (name, body) = stomp_body(&shared(DialectId::Stomp, told));
    check_events(&shared(DialectId::Events, told));
    assert_eq!(Contract::StompToClient.check(&name, &body), Ok(()));
}

#[test]
fn entries_and_signals_are_written_as_declared() {
    for entry in entries() {
        check_shared(&Told::Entry(&entry));
    }
    for kind in [SignalKind::TypingStart, SignalKind::TypingStop] {
        let signal = Signal {
            kind,
            user: ID.parse().unwrap(),
            session: None,
        };
        check_shared(&Told::Signal(ID.parse().unwrap(), &signal));
    }
}

fn presence(status: PresenceStatus) -> Presence {
    Presence {
        status,
        text: (status == PresenceStatus::Busy).then(|| "t".into()),
        last_seen_at: (status == PresenceStatus::Offline).then_some(AT),
        ..Presence::unknown(ID.parse().unwrap())
    }
}

#[test]
fn presences_are_written_as_declared() {
    use PresenceStatus::{Away, Busy, Offline, Online};
    let all = [Online, Away, Busy, Offline].map(presence);
    for presence in &all {
        for transition in [Transition::Online, Transition::Offline, Transition::Update] {
            check_shared(&Told::Presence(presence, transition));
        }
    }
    let all: Vec<_> = all.iter().collect();
    let batch = presences(DialectId::Events, &all).expect("the dialect has batches");
    assert_eq!(check_events(&batch), 1);
}

#[test]
fn calls_are_written_as_declared() {
    let raw = |value: Value| serde_json::value::to_raw_value(&value).unwrap();
    let (media, candidate, none) = (
        raw(json!({"audio": true})),
        raw(json!({})),
        raw(Value::Null),
    );
    let bare = || CallPayload {
        call_id: ID.parse().unwrap(),
        from: ID.parse().unwrap(),
        to: ID.parse().unwrap(),
        sdp: None,
        candidate: None,
        media: None,
        reason: None,
        at: AT,
    };
    let mut told = vec![
        (CallEventKind::Incoming, bare()),
        (
            CallEventKind::Incoming,
            CallPayload {
                media: Some(&media),
                ..bare()
            },
        ),
        (
            CallEventKind::Offer,
            CallPayload {
                sdp: Some("v=0"),
                media: Some(&media),
                ..bare()
            },
        ),
        (
            CallEventKind::Answer,
            CallPayload {
                sdp: Some("v=0"),
                ..bare()
            },
        ),
        (
            CallEventKind::Ice,
            CallPayload {
                candidate: Some(&candidate),
                ..bare()
            },
        ),
        (
            CallEventKind::Ice,
            CallPayload {
                candidate: Some(&none),
                ..bare()
            },
        ),
    ];
    let ends = CallEnd::ALL.iter().map(|reason| CallPayload {
        reason: Some(*reason),
        ..bare()
    });
    told.extend(ends.map(|payload| (CallEventKind::Ended, payload)));
    for (kind, payload) in told {
        let event = CallEvent {
            number: 0,
            call: payload.call_id,
            kind,
            audience: Audience::All,
            body: serde_json::to_vec(&payload).unwrap().into(),
        };
        check_shared(&Told::Call(&event));
    }
}

#[test]
fn every_entry_that_is_declared_is_written_by_one_of_these() {
    let seen: Vec<_> = entries()
        .iter()
        .map(|entry| {
            let frame = shared(DialectId::Json, &Told::Entry(entry));
            let frame: Value = serde_json::from_slice(text(&frame)).unwrap();
            frame["type"].as_str().unwrap().to_owned()
        })
        .collect();
    let declared = super::json::DIALECT.messages;
    for message in declared.iter().filter(|it| it.form == super::Form::Entry) {
        assert!(
            seen.iter().any(|name| name == message.name),
            "{}",
            message.name
        );
    }
}

#[test]
fn what_a_session_tells_is_written_as_declared() {
    use shared::domain::{ClientId, Code, Device, Refusal};
    let to: ClientId = "r-1".parse().unwrap();
    let connected = Connected {
        session_id: ID.parse().unwrap(),
        user_id: ID.parse().unwrap(),
        device: Device::default(),
        node: "gw-1".parse().unwrap(),
        heartbeat: Heartbeat {
            interval_ms: 1,
            max_missed: 1,
        },
        limits: Limits {
            frame_bytes: 1,
            content_bytes: 1,
            frames_per_second: 1,
            frames_burst: 1,
            messages_per_second: 1,
            messages_burst: 1,
            sessions_per_user: 1,
        },
        resumed: Resumed {
            from: Position {
                epoch: 1,
                offset: 1,
            },
            replayed: 0,
            complete: true,
        },
    };
    let codes = [
        Code::BadRequest,
        Code::UnknownType,
        Code::Unauthorized,
        Code::Forbidden,
        Code::NotFound,
        Code::Conflict,
        Code::TooLarge,
        Code::RateLimited,
        Code::Unavailable,
        Code::Internal,
    ];
    let refusals = codes.map(|code| Refusal::new(code, "m").retry_after(Duration::from_secs(1)));
    let interests = [Interest::Typing(Some(ID.parse().unwrap()))];
    let subscribed = Subscribed {
        granted: interests.to_vec(),
        refused: vec![(interests[0], Code::Forbidden)],
        settled: Settled::default(),
    };
    let mut events = vec![
        Event::Connected(&connected),
        Event::AuthSuccess {
            to: Some(&to),
            user: ID.parse().unwrap(),
            expires_at: AT,
        },
        Event::Draining {
            reconnect_after: Duration::from_secs(1),
        },
        Event::Subscribed {
            to: Some(&to),
            subscribed: &subscribed,
        },
        Event::Unsubscribed {
            to: None,
            subscribed: &subscribed,
        },
        Event::Lost {
            interests: &interests,
        },
    ];
    for refusal in &refusals {
        events.push(Event::Error { to: None, refusal });
        events.push(Event::AuthFailed {
            to: Some(&to),
            refusal,
        });
    }
    let mut dialogue = DialectId::Json.open(Terms {
        frame_bytes: 64 * 1024,
        heartbeat: Duration::from_secs(10),
    });
    let mut of_events = DialectId::Events.open(Terms {
        frame_bytes: 64 * 1024,
        heartbeat: Duration::from_secs(10),
    });
    for event in events {
        let mut out = VecDeque::new();
        assert_eq!(of_events.write(&event, &mut out), Then::GoOn);
        for frame in out.drain(..) {
            check_events(&frame);
        }
        assert_eq!(dialogue.write(&event, &mut out), Then::GoOn);
        let frame: Value = serde_json::from_slice(text(&out[0])).unwrap();
        let name = frame["type"].as_str().unwrap();
        assert_eq!(
            Contract::JsonToClient.check(name, &frame),
            Ok(()),
            "{event:?}"
        );
    }
}

#[test]
fn every_command_is_declared_and_nothing_else() {
    let asked = |dialect: &super::Dialect| dialect.names(super::Direction::ToServer);
    let (json, stomp) = (asked(&super::json::DIALECT), asked(&super::stomp::DIALECT));
    for command in commands::TABLE {
        assert!(json.contains(&command.name), "{}", command.name);
        assert!(stomp.contains(&command.name), "{}", command.name);
    }
    let of_the_session = ["authenticate", "ack", "subscribe", "unsubscribe"];
    for name in json {
        let is_command = commands::TABLE.iter().any(|command| command.name == name);
        assert!(is_command || of_the_session.contains(&name), "{name}");
    }
}

#[test]
fn every_request_names_an_answer_that_is_declared() {
    for dialect in super::DIALECTS {
        for message in dialect.messages {
            let super::Form::Request { answer: Some(name) } = message.form else {
                continue;
            };
            let is_answer = |it: &&super::Message| it.form == super::Form::Answer;
            let mut answers = dialect.messages.iter().filter(is_answer);
            assert!(answers.any(|it| it.name == name), "{}", message.name);
        }
    }
}

#[test]
fn the_document_of_sockets_names_only_what_it_holds() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Array(items) => items.iter().for_each(|it| references(it, found)),
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|it| references(it, found));
            }
            _ => {}
        }
    }
    let document = super::asyncapi();
    assert_eq!(document["asyncapi"], "3.0.0");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 200, "{}", found.len());
    for target in found {
        let pointer = target.strip_prefix('#').expect("a place in the document");
        assert!(document.pointer(pointer).is_some(), "{target}");
    }
}
