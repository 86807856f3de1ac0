//! ACK and NACK.

use super::*;

fn listening(version: &str, mode: &str) -> Line {
    let mut line = Line::open(version);
    for queue in ["messages", "commands"] {
        let frame =
            format!("SUBSCRIBE\nid:{queue}\ndestination:/user/queue/{queue}\nack:{mode}\n\n\0");
        line.hear(frame.as_bytes());
    }
    line
}

const AT: Position = Position {
    epoch: 1_763_000_000,
    offset: 42,
};

#[test]
fn in_client_mode_an_ack_is_about_all_before_it() {
    let mut line = listening("1.2", "client");
    let said = line.one("ACK\nid:messages@1763000000-42\n\n\0");
    let Incoming::Ack {
        feed: Feed::Queue(Queue::Messages),
        position: AT,
        extent: Extent::UpTo,
        ..
    } = said
    else {
        panic!("{said:?}")
    };
    let said = line.one("NACK\nid:broadcast@1763000000-42\n\n\0");
    let Incoming::Nack {
        feed: Feed::Broadcast,
        position: AT,
        extent: Extent::UpTo,
    } = said
    else {
        panic!("{said:?}")
    };
}

#[test]
fn in_individual_mode_an_ack_is_about_one_message() {
    let mut line = listening("1.2", "client-individual");
    let said = line.one("ACK\nid:commands@1763000000-42\nreceipt:r\n\n\0");
    let Incoming::Ack {
        feed: Feed::Queue(Queue::Commands),
        position: AT,
        extent: Extent::Only,
        ..
    } = said
    else {
        panic!("{said:?}")
    };
    line.done();
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:r\n\n\0"]);
    let said = line.one("NACK\nid:messages@1763000000-42\n\n\0");
    assert!(
        matches!(
            said,
            Incoming::Nack {
                extent: Extent::Only,
                ..
            }
        ),
        "{said:?}"
    );
}

#[test]
fn earlier_versions_name_the_message_itself() {
    let frame = "ACK\nsubscription:messages\nmessage-id:messages@1763000000-42\n\n\0";
    for version in ["1.1", "1.0"] {
        let said = listening(version, "client").one(frame);
        assert!(
            matches!(said, Incoming::Ack { position: AT, .. }),
            "{said:?}"
        );
    }
    listening("1.1", "client").broken("ACK\nmessage-id:messages@1-2\n\n\0");
    listening("1.0", "client").broken("ACK\nid:messages@1-2\n\n\0");
    listening("1.2", "client").broken("ACK\nmessage-id:messages@1-2\n\n\0");
}

#[test]
fn where_nothing_is_awaited_a_confirmation_changes_nothing() {
    let topic = format!("ACK\nid:{UUID}@1-2\n\n\0");
    for frame in [
        "ACK\nid:messages@1-2\n\n\0",
        "NACK\nid:messages@1-2\n\n\0",
        "ACK\nid:notifications@1-2\n\n\0",
        "ACK\nid:own@3\n\n\0",
        &topic,
    ] {
        let said = listening("1.2", "auto").one(frame);
        assert!(matches!(said, Incoming::Settled), "{frame}: {said:?}");
    }
}

#[test]
fn a_confirmation_of_what_no_message_is_called_is_refused() {
    for id in [
        "",
        "x",
        "messages@",
        "messages@1",
        "messages@a-b",
        "messages@1--2",
    ] {
        let mut line = listening("1.2", "client");
        let (refusal, is_fatal) = line.refused(&format!("ACK\nid:{id}\n\n\0"));
        assert_eq!(refusal.code, Code::BadRequest, "{id}");
        assert!(!is_fatal, "{id}");
    }
}
