//! What is a frame, and how a stream of messages is one of frames.

use proptest::prelude::*;

use super::*;

fn names(said: &[Said]) -> Vec<String> {
    said.iter()
        .map(|said| match said {
            Ok(Incoming::Request(request)) => request.name.to_string(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_message_may_hold_several_frames_with_line_ends_between() {
    let mut line = Line::open("1.2");
    let frame = |name: &str| format!("SEND\ndestination:/app/{name}\n\n\0");
    let message = format!("\n{}\n\r\n\n{}{}\n", frame("a"), frame("b"), frame("c"));
    assert_eq!(names(&line.hear(message.as_bytes())), ["a", "b", "c"]);
}

#[test]
fn a_frame_may_be_split_over_messages_anywhere() {
    let frame =
        b"SEND\r\ndestination:/app/echo\r\ncontent-length:11\r\n\r\n{\"a\":\"\xc3\xa9!\"}\0\r\n";
    for at in 0..=frame.len() {
        let mut line = Line::open("1.2");
        let mut said = line.hear(&frame[..at]);
        said.extend(line.hear(&frame[at..]));
        assert_eq!(names(&said), ["echo"], "{at}");
    }
    let mut line = Line::open("1.2");
    let mut said = Vec::new();
    for byte in frame {
        said.extend(line.hear(&[*byte]));
    }
    assert_eq!(names(&said), ["echo"]);
}

#[test]
fn lines_may_end_with_a_carriage_return() {
    let mut line = Line::open("1.2");
    let said = line.hear(b"SEND\r\ndestination:/app/x\r\nreceipt:r\r\n\r\n\0");
    assert_eq!(names(&said), ["x"]);
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:r\n\n\0"]);
}

#[test]
fn headers_are_unescaped_as_the_version_says_and_escaped_again() {
    for (version, sent, back) in [
        ("1.2", r"a\cb\\c\nd\re", r"a\cb\\c\nd\re"),
        ("1.1", r"a\cb\\c\nd", r"a\cb\\c\nd"),
        ("1.0", r"a\cb\\c\nd\te", r"a\cb\\c\nd\te"),
    ] {
        let mut line = Line::open(version);
        line.hear(format!("SEND\ndestination:/app/x\nreceipt:{sent}\n\n\0").as_bytes());
        assert_eq!(
            line.written(),
            [format!("RECEIPT\nreceipt-id:{back}\n\n\0")]
        );
    }
}

#[test]
fn header_names_are_unescaped_too() {
    let mut line = Line::open("1.2");
    line.hear(b"SEND\nx\\c\\n:1\ndestination:/app/x\n\n\0");
}

#[test]
fn undefined_escapes_end_the_connection() {
    Line::open("1.2").broken("SEND\ndestination:/app/x\nx:\\t\n\n\0");
    Line::open("1.2").broken("SEND\ndestination:/app/x\nx:a\\\n\n\0");
    Line::open("1.1").broken("SEND\ndestination:/app/x\nx:\\r\n\n\0");
}

#[test]
fn spaces_in_headers_are_kept_but_in_the_first_version() {
    for (version, back) in [("1.2", " r "), ("1.1", " r "), ("1.0", "r")] {
        let mut line = Line::open(version);
        line.hear(b"SEND\ndestination:/app/x\nreceipt: r \n\n\0");
        assert_eq!(
            line.written(),
            [format!("RECEIPT\nreceipt-id:{back}\n\n\0")]
        );
    }
    let mut line = Line::open("1.0");
    assert_eq!(
        names(&line.hear(b"SEND\ndestination: /app/x \n\n\0")),
        ["x"]
    );
}

#[test]
fn of_repeated_headers_the_first_counts() {
    let mut line = Line::open("1.2");
    let said = line
        .hear(b"SEND\ndestination:/app/first\ndestination:/app/second\nreceipt:1\nreceipt:2\n\n\0");
    assert_eq!(names(&said), ["first"]);
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:1\n\n\0"]);
}

#[test]
fn commands_and_header_names_are_case_sensitive() {
    Line::open("1.2").broken("send\ndestination:/app/x\n\n\0");
    Line::open("1.2").broken("SEND\nDestination:/app/x\n\n\0");
}

#[test]
fn what_is_no_frame_ends_the_connection() {
    for frame in [
        "\0",
        "HELLO\n\n\0",
        "MESSAGE\n\n\0",
        "SEND\0",
        "SEND\ndestination\n\n\0",
        "SEND\n:x\n\n\0",
        "SEND\ndestination:/app/x\nx:a\rb\n\n\0",
        "SEND\ndestination:/app/x\ncontent-length:1\n\nab\0",
        "SEND\ndestination:/app/x\ncontent-length:x\n\n\0",
        "SEND\n\n\0",
        "SUBSCRIBE\nid:1\n\n\0",
        "SUBSCRIBE\ndestination:/user/queue/acks\n\n\0",
        "UNSUBSCRIBE\n\n\0",
        "ACK\n\n\0",
        "NACK\n\n\0",
        "BEGIN\n\n\0",
        "COMMIT\n\n\0",
        "ABORT\n\n\0",
    ] {
        let error = Line::open("1.2").broken(frame);
        assert!(error.contains("\ncode:bad_request\n"), "{frame:?}: {error}");
    }
}

#[test]
fn heads_have_to_be_utf_8() {
    let mut line = Line::open("1.2");
    let said = line.hear(b"SEND\ndestination:/app/\xff\n\n\0");
    assert!(matches!(&said[..], [Err(it)] if it.is_fatal), "{said:?}");
}

#[test]
fn only_send_has_a_body() {
    Line::open("1.2").broken("DISCONNECT\n\nbody\0");
    Line::open("1.2").broken("BEGIN\ntransaction:t\ncontent-length:1\n\nx\0");
    let mut line = Line::open("1.2");
    line.hear(b"BEGIN\ntransaction:t\ncontent-length:0\nreceipt:r\n\n\0");
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:r\n\n\0"]);
}

#[test]
fn limits_end_the_connection() {
    let long_line = "x".repeat(9 * 1024);
    let many = "a:b\n".repeat(65);
    let long_body = "x".repeat(64 * 1024);
    for frame in [
        format!("SEND\ndestination:/app/x\n{many}\n\0"),
        format!("SEND\ndestination:/app/x\na:{long_line}\n\n\0"),
        format!("SEND\ndestination:/app/x\n\n{long_body}\0"),
        "SEND\ndestination:/app/x\ncontent-length:65537\n\n".to_owned(),
    ] {
        let error = Line::open("1.2").broken(&frame);
        assert!(error.contains("\ncode:too_large\n"), "{error}");
    }
}

#[test]
fn a_frame_that_never_ends_is_given_up_at_the_limit() {
    let mut line = Line::open("1.2");
    assert!(line.hear(b"SEND\ndestination:/app/x\n\n").is_empty());
    let piece = [b'x'; 1024];
    let said: Vec<_> = (0..64).flat_map(|_| line.hear(&piece)).collect();
    let [Err(unreadable)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(unreadable.refusal.code, Code::TooLarge);
    assert!(unreadable.is_fatal);
}

#[test]
fn an_error_names_the_receipt_of_its_frame() {
    let error = Line::open("1.2").broken("SEND\nreceipt:message-1\n\n\0");
    assert!(error.contains("\nreceipt-id:message-1\n"), "{error}");
    assert!(
        error.contains("\nmessage:the header destination is missing\n"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn frames_are_the_same_however_messages_divide_them(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        returns in any::<bool>(),
    ) {
        let end = if returns { "\r\n" } else { "\n" };
        let mut stream = Vec::new();
        for body in &bodies {
            let head = format!(
                "SEND{end}destination:/app/chat.send{end}conversation-id:{UUID}{end}\
                 content-type:application/octet-stream{end}content-length:{}{end}{end}",
                body.len()
            );
            stream.extend(head.bytes());
            stream.extend(body);
            stream.extend(b"\0\n");
        }
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let mut line = Line::open("1.2");
        let said: Vec<_> = places
            .windows(2)
            .flat_map(|ends| line.hear(&stream[ends[0]..ends[1]]))
            .collect();
        prop_assert_eq!(said.len(), bodies.len());
        for (said, body) in said.iter().zip(&bodies) {
            let Ok(Incoming::Request(request)) = said else { panic!("{said:?}") };
            prop_assert_eq!(&super::sending::bytes_of(request), body);
        }
    }

    #[test]
    fn reading_never_panics(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..8)) {
        let mut line = Line::open("1.2");
        for message in messages {
            line.hear(&message);
        }
    }
}
