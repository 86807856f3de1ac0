//! SUBSCRIBE, UNSUBSCRIBE and what a lost right does.

use super::*;

fn subscribe(id: &str, destination: &str, headers: &str) -> String {
    format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\n{headers}\n\0")
}

fn wish(line: &mut Line, frame: &str) -> Wish {
    let wish = match line.one(frame) {
        Incoming::Subscribe(wanted) | Incoming::Unsubscribe(wanted) => wanted.wishes[0].clone(),
        other => panic!("{other:?}"),
    };
    line.done();
    wish
}

#[test]
fn destinations_are_interests_with_an_address() {
    let mut line = Line::open("1.2");
    for (queue, acks, mode) in [
        (Queue::Messages, "ack:client-individual\n", AckMode::Client),
        (Queue::Commands, "ack:client\n", AckMode::Client),
        (Queue::Notifications, "", AckMode::Auto),
    ] {
        let wish = wish(
            &mut line,
            &subscribe(queue.as_str(), &format!("/user/queue/{queue}"), acks),
        );
        let address = format!("MESSAGE\nsubscription:{queue}\n");
        assert_eq!(
            wish,
            Wish {
                interest: Interest::Queue(queue),
                address: Some(address.into()),
                acks: mode,
            }
        );
    }
    let conversation = format!("/topic/conversation/{UUID}");
    let wish = wish(
        &mut line,
        &subscribe("a\\cb", &conversation, "ack:client\n"),
    );
    assert_eq!(
        wish,
        Wish {
            interest: Interest::Conversation {
                id: Some(UUID.parse().unwrap()),
                messages: Messages::All,
            },
            address: Some("MESSAGE\nsubscription:a\\cb\n".into()),
            acks: AckMode::Auto,
        }
    );
}

#[test]
fn unknown_destinations_and_modes_are_refused() {
    for destination in [
        "/topic/conversation/x",
        "/topic/presence/x",
        "/user/queue/",
        "/queue/a",
        "",
    ] {
        let mut line = Line::open("1.2");
        let (refusal, is_fatal) = line.refused(&subscribe("1", destination, ""));
        assert_eq!(refusal.code, Code::NotFound, "{destination}");
        assert!(!is_fatal);
    }
    Line::open("1.2").broken(&subscribe("1", "/user/queue/messages", "ack:maybe\n"));
    let long = "i".repeat(129);
    Line::open("1.2").broken(&subscribe(&long, "/user/queue/messages", ""));
}

#[test]
fn subscriptions_of_a_connection_have_different_ids() {
    let mut line = Line::open("1.2");
    wish(&mut line, &subscribe("1", "/user/queue/messages", ""));
    line.broken(&subscribe("1", "/user/queue/commands", ""));
}

#[test]
fn a_queue_is_listened_to_once_and_a_conversation_as_often_as_liked() {
    let mut line = Line::open("1.2");
    line.hear(subscribe("e", "/user/queue/errors", "").as_bytes());
    wish(&mut line, &subscribe("1", "/user/queue/messages", ""));
    let (refusal, _) = line.refused(&subscribe("2", "/user/queue/messages", ""));
    assert_eq!(refusal.code, Code::Conflict);
    let conversation = format!("/topic/conversation/{UUID}");
    wish(&mut line, &subscribe("3", &conversation, ""));
    wish(&mut line, &subscribe("4", &conversation, ""));
}

#[test]
fn a_subscription_that_is_refused_does_not_exist() {
    let mut line = Line::open("1.2");
    line.hear(subscribe("e", "/user/queue/errors", "").as_bytes());
    let conversation = format!("/topic/conversation/{UUID}");
    line.one(&subscribe("1", &conversation, "receipt:r\n"));
    let subscribed = Subscribed {
        refused: vec![(
            Interest::Conversation {
                id: Some(UUID.parse().unwrap()),
                messages: Messages::All,
            },
            Code::Forbidden,
        )],
        ..Subscribed::default()
    };
    let then = line.tell(&Event::Subscribed {
        to: None,
        subscribed: &subscribed,
    });
    assert_eq!(then, Then::GoOn);
    let refused = line.written().remove(0);
    assert!(
        refused.contains("\ncode:forbidden\nreceipt-id:r\n"),
        "{refused}"
    );
    wish(&mut line, &subscribe("1", &conversation, ""));
}

#[test]
fn there_is_a_limit_to_subscriptions() {
    let mut line = Line::open("1.2");
    line.hear(subscribe("e", "/user/queue/errors", "").as_bytes());
    for n in 1..200 {
        let said = line.hear(subscribe(&n.to_string(), "/user/queue/acks", "").as_bytes());
        assert!(matches!(&said[..], [Ok(Incoming::Settled)]));
    }
    let (refusal, is_fatal) = line.refused(&subscribe("200", "/user/queue/acks", ""));
    assert_eq!(refusal.code, Code::BadRequest);
    assert!(!is_fatal);
}

#[test]
fn unsubscribing_names_the_subscription_as_subscribing_did() {
    let mut line = Line::open("1.2");
    let subscribed = wish(
        &mut line,
        &subscribe("1", "/user/queue/messages", "ack:client\n"),
    );
    let unsubscribed = wish(&mut line, "UNSUBSCRIBE\nid:1\nreceipt:u\n\n\0");
    assert_eq!(subscribed, unsubscribed);
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:u\n\n\0"]);
    wish(&mut line, &subscribe("1", "/user/queue/messages", ""));
    line.broken("UNSUBSCRIBE\nid:2\n\n\0");
}

#[test]
fn an_own_queue_is_silent_once_it_is_left() {
    let mut line = Line::open("1.2");
    line.hear(subscribe("a", "/user/queue/acks", "receipt:s\n").as_bytes());
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:s\n\n\0"]);
    line.hear(b"UNSUBSCRIBE\nid:a\n\n\0");
    line.hear(b"SEND\ndestination:/app/x\nclient-id:c\n\n\0");
    assert!(line.written().is_empty());
}

#[test]
fn in_the_first_version_a_destination_is_name_enough() {
    let mut line = Line::open("1.0");
    let wish_of = wish(
        &mut line,
        "SUBSCRIBE\ndestination:/user/queue/messages\n\n\0",
    );
    assert_eq!(wish_of.address, Some("MESSAGE\n".into()));
    wish(
        &mut line,
        "UNSUBSCRIBE\ndestination:/user/queue/messages\n\n\0",
    );
    let named = wish(
        &mut line,
        "SUBSCRIBE\ndestination:/user/queue/messages\nid:x\n\n\0",
    );
    assert_eq!(named.address, Some("MESSAGE\nsubscription:x\n".into()));
    wish(&mut line, "UNSUBSCRIBE\nid:x\n\n\0");
}

#[test]
fn a_lost_right_is_told_where_errors_are_listened_to() {
    let conversation = format!("/topic/conversation/{UUID}");
    let lost = Event::Lost {
        interests: &[Interest::Conversation {
            id: Some(UUID.parse().unwrap()),
            messages: Messages::All,
        }],
    };
    let mut line = Line::open("1.2");
    wish(&mut line, &subscribe("1", &conversation, ""));
    assert_eq!(line.tell(&lost), Then::GoOn);
    assert!(line.written().is_empty());
    // The name is free again.
    wish(&mut line, &subscribe("1", &conversation, ""));
    line.hear(subscribe("e", "/user/queue/errors", "").as_bytes());
    assert_eq!(line.tell(&lost), Then::GoOn);
    let told = line.written().remove(0);
    let headers =
        format!("\ntype:unsubscribed\ncode:forbidden\nunsubscribed:1\nfrom:{conversation}\n");
    assert!(told.contains(&headers), "{told}");
}
