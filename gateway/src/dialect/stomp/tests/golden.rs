//! MESSAGE frames, as many sockets share them.

use super::*;

/// The frame that a socket gets, whose own part this is.
fn whole(address: &str, told: &Told<'_>) -> String {
    let shared = shared(DialectId::Stomp, told);
    let mut frame = Vec::new();
    head(address.as_bytes(), shared.len(), &mut frame);
    frame.extend_from_slice(&shared);
    payload(&frame)
}

fn entry(topic: Topic, kind: Kind, body: &str) -> Entry {
    Entry {
        topic,
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

const ADDRESS: &str = "MESSAGE\nsubscription:s-1\n";
const OTHER: &str = "0190aaaa-0000-7000-8000-000000000001";

fn message(place: &str, destination: &str, name: &str, body: &str) -> String {
    format!(
        "MESSAGE\nsubscription:s-1\nmessage-id:{place}@1763000000-42\ndestination:{destination}\nack:{place}@1763000000-42\ntype:{name}\ncontent-type:application/json\ncontent-length:{}\n\n{body}\0",
        body.len()
    )
}

fn said(copied: &str) -> String {
    format!(
        r#"{{{copied}"conversationId":"{OTHER}","senderId":"{OTHER}","senderName":"Añe","senderType":"USER","content":"hi","messageType":"TEXT","files":[{{"hash":"h","filename":"f.png"}}]}}"#
    )
}

#[test]
fn golden_message_in_a_conversation() {
    let topic = Topic::Conversation(OTHER.parse().unwrap());
    let entry = entry(topic, Kind::MessageNew, &said(""));
    let body = format!(
        r#"{{"id":"{UUID}","conversationId":"{OTHER}","senderId":"{OTHER}","senderName":"Añe","senderType":"USER","content":"hi","messageType":"TEXT","status":"SENT","createdAt":"2025-11-21T06:31:28.042Z","editedAt":null,"isDeleted":false,"files":[{{"hash":"h","filename":"f.png"}}]}}"#
    );
    let destination = format!("/topic/conversation/{OTHER}");
    assert_eq!(
        whole(ADDRESS, &Told::Entry(&entry)),
        message(OTHER, &destination, "message.new", &body)
    );
}

#[test]
fn golden_message_in_an_inbox() {
    let copied = format!(r#""messageId":"{OTHER}","createdAt":"2025-11-21T06:00:00.000Z","#);
    let topic = Topic::User(UUID.parse().unwrap());
    let entry = entry(topic, Kind::MessageNew, &said(&copied));
    let body = format!(
        r#"{{"id":"{OTHER}","conversationId":"{OTHER}","senderId":"{OTHER}","senderName":"Añe","senderType":"USER","content":"hi","messageType":"TEXT","status":"SENT","createdAt":"2025-11-21T06:00:00.000Z","editedAt":null,"isDeleted":false,"files":[{{"hash":"h","filename":"f.png"}}]}}"#
    );
    assert_eq!(
        whole(ADDRESS, &Told::Entry(&entry)),
        message("messages", "/user/queue/messages", "message.new", &body)
    );
}

#[test]
fn golden_commands_of_both_logs() {
    let body = r#"{"commandType":"task","content":"a"}"#;
    let told = format!(
        r#"{{"commandId":"{UUID}","createdAt":"2025-11-21T06:31:28.042Z","commandType":"task","content":"a"}}"#
    );
    let user = Topic::User(UUID.parse().unwrap());
    for (topic, place) in [(user, "commands"), (Topic::Broadcast, "broadcast")] {
        assert_eq!(
            whole(ADDRESS, &Told::Entry(&entry(topic, Kind::CommandNew, body))),
            message(place, "/user/queue/commands", "command.new", &told)
        );
    }
}

#[test]
fn golden_other_events() {
    let body = r#"{"blockedCategories":[],"allowedCategories":[]}"#;
    let user = Topic::User(UUID.parse().unwrap());
    assert_eq!(
        whole(ADDRESS, &Told::Entry(&entry(user, Kind::Preferences, body))),
        message(
            "notifications",
            "/user/queue/notifications",
            "preferences",
            body
        )
    );
    let body = format!(r#"{{"conversationId":"{OTHER}","upTo":"{UUID}","userId":"{UUID}"}}"#);
    let told = format!(
        r#"{{"at":"2025-11-21T06:31:28.042Z","conversationId":"{OTHER}","upTo":"{UUID}","userId":"{UUID}"}}"#
    );
    let topic = Topic::Conversation(OTHER.parse().unwrap());
    let destination = format!("/topic/conversation/{OTHER}");
    assert_eq!(
        whole(
            ADDRESS,
            &Told::Entry(&entry(topic, Kind::MessageRead, &body))
        ),
        message(OTHER, &destination, "message.read", &told)
    );
}

#[test]
fn golden_presence() {
    let presence = Presence {
        status: PresenceStatus::Away,
        devices: 1,
        ..Presence::unknown(UUID.parse().unwrap())
    };
    let told = Told::Presence(&presence, Transition::Update);
    let body = format!(r#"{{"userId":"{UUID}","status":"away","devices":1,"lastSeenAt":null}}"#);
    let frame = whole(ADDRESS, &told);
    let (start, rest) = frame.split_once("\ndestination:").unwrap();
    let id = format!("MESSAGE\nsubscription:s-1\nmessage-id:presence/{UUID}@");
    assert!(start.starts_with(&id), "{start}");
    assert!(rest.starts_with(&format!("/topic/presence/{UUID}\nack:presence/")));
    let end = format!(
        "\ntype:presence.update\ncontent-type:application/json\ncontent-length:{}\n\n{body}\0",
        body.len()
    );
    assert!(rest.ends_with(&end), "{rest}");
}

#[test]
fn golden_typing() {
    let signal = Signal {
        kind: SignalKind::TypingStart,
        user: UUID.parse().unwrap(),
        session: None,
    };
    let told = Told::Signal(OTHER.parse().unwrap(), &signal);
    let body = format!(r#"{{"conversationId":"{OTHER}","userId":"{UUID}"}}"#);
    let frame = whole(ADDRESS, &told);
    let (start, rest) = frame.split_once("\ndestination:").unwrap();
    let id = format!("MESSAGE\nsubscription:s-1\nmessage-id:{OTHER}/signal@");
    assert!(start.starts_with(&id), "{start}");
    assert!(rest.starts_with(&format!("/topic/conversation/{OTHER}\nack:")));
    let end = format!(
        "\ntype:typing.start\ncontent-type:application/json\ncontent-length:{}\n\n{body}\0",
        body.len()
    );
    assert!(rest.ends_with(&end), "{rest}");
    assert_ne!(start, whole(ADDRESS, &told).split_once("\ndest").unwrap().0);
}

#[test]
fn a_body_that_cannot_be_read_is_passed_on_as_it_is() {
    let topic = Topic::Conversation(OTHER.parse().unwrap());
    let odd = entry(topic, Kind::MessageNew, r#"{"content":7}"#);
    let frame = whole(ADDRESS, &Told::Entry(&odd));
    assert!(frame.ends_with("\"content\":7}\0"), "{frame}");
}

#[test]
fn message_ids_are_what_acks_name() {
    let user = Topic::User(UUID.parse().unwrap());
    let frame = whole(
        ADDRESS,
        &Told::Entry(&entry(user, Kind::MessageNew, &said(""))),
    );
    let ack = frame.lines().find_map(|line| line.strip_prefix("ack:"));
    let mut line = Line::open("1.2");
    line.hear(b"SUBSCRIBE\nid:s-1\ndestination:/user/queue/messages\nack:client\n\n\0");
    let said = line.one(&format!("ACK\nid:{}\n\n\0", ack.unwrap()));
    assert!(matches!(said, Incoming::Ack { .. }), "{said:?}");
}
