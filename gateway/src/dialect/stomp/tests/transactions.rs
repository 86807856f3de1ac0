//! BEGIN, COMMIT and ABORT.

use super::*;

fn names(said: &[Said]) -> Vec<String> {
    said.iter()
        .filter_map(|said| match said {
            Ok(Incoming::Request(request)) => Some(request.name.to_string()),
            Ok(Incoming::Settled) => None,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn send(name: &str, transaction: &str) -> String {
    format!("SEND\ndestination:/app/{name}\ntransaction:{transaction}\nreceipt:{name}\n\n{{}}\0")
}

#[test]
fn frames_wait_for_their_commit_and_run_in_order() {
    let mut line = Line::open("1.2");
    line.hear(b"BEGIN\ntransaction:t\nreceipt:b\n\n\0");
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:b\n\n\0"]);
    for name in ["one", "two"] {
        assert!(names(&line.hear(send(name, "t").as_bytes())).is_empty());
    }
    assert!(line.written().is_empty(), "what waits has no receipt yet");
    assert_eq!(
        names(&line.hear(b"SEND\ndestination:/app/now\n\n\0")),
        ["now"]
    );
    let said =
        line.hear(b"COMMIT\ntransaction:t\nreceipt:c\n\n\0SEND\ndestination:/app/after\n\n\0");
    assert_eq!(names(&said), ["one", "two", "after"]);
    let receipts = line.written();
    let expected = ["one", "two", "c"].map(|id| format!("RECEIPT\nreceipt-id:{id}\n\n\0"));
    assert_eq!(receipts, expected);
}

#[test]
fn acks_wait_too() {
    let mut line = Line::open("1.2");
    line.hear(b"SUBSCRIBE\nid:1\ndestination:/user/queue/messages\nack:client\n\n\0");
    line.hear(b"BEGIN\ntransaction:t\n\n\0");
    let said = line.hear(b"ACK\nid:messages@1-2\ntransaction:t\n\n\0");
    assert!(matches!(&said[..], [Ok(Incoming::Settled)]), "{said:?}");
    let said = line.hear(b"COMMIT\ntransaction:t\n\n\0");
    assert!(
        matches!(
            &said[..],
            [
                Ok(Incoming::Settled),
                Ok(Incoming::Ack { .. }),
                Ok(Incoming::Settled)
            ]
        ),
        "{said:?}"
    );
}

#[test]
fn what_is_aborted_never_happened() {
    let mut line = Line::open("1.2");
    line.hear(b"BEGIN\ntransaction:t\n\n\0");
    line.hear(send("one", "t").as_bytes());
    line.hear(b"ABORT\ntransaction:t\nreceipt:a\n\n\0");
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:a\n\n\0"]);
    line.broken("COMMIT\ntransaction:t\n\n\0");
}

#[test]
fn what_was_not_committed_is_gone_with_the_connection() {
    let mut line = Line::open("1.2");
    line.hear(b"BEGIN\ntransaction:t\n\n\0");
    line.hear(send("one", "t").as_bytes());
    let said = line.hear(b"DISCONNECT\nreceipt:d\n\n\0COMMIT\ntransaction:t\n\n\0");
    assert!(matches!(&said[..], [Ok(Incoming::Leave)]), "{said:?}");
}

#[test]
fn transactions_have_names_of_their_own() {
    let mut line = Line::open("1.2");
    line.hear(b"BEGIN\ntransaction:t\n\n\0BEGIN\ntransaction:u\n\n\0");
    line.hear(send("of-t", "t").as_bytes());
    line.hear(send("of-u", "u").as_bytes());
    assert_eq!(names(&line.hear(b"COMMIT\ntransaction:u\n\n\0")), ["of-u"]);
    line.written();
    line.broken("BEGIN\ntransaction:t\n\n\0");
    Line::open("1.2").broken(&send("x", "never-begun"));
    Line::open("1.2").broken("COMMIT\ntransaction:never-begun\n\n\0");
    Line::open("1.2").broken("ABORT\ntransaction:never-begun\n\n\0");
}

#[test]
fn transactions_are_bounded() {
    let begun = || {
        let mut line = Line::open("1.2");
        line.hear(b"BEGIN\ntransaction:t\n\n\0");
        line
    };
    let mut line = begun();
    for _ in 0..100 {
        line.hear(send("x", "t").as_bytes());
    }
    let error = line.broken(&send("x", "t"));
    assert!(error.contains("\ncode:too_large\n"), "{error}");

    let mut line = begun();
    let big = format!(
        "SEND\ndestination:/app/x\ntransaction:t\n\n{}\0",
        "x".repeat(40_000)
    );
    line.hear(big.as_bytes());
    let error = line.broken(&big);
    assert!(error.contains("\ncode:too_large\n"), "{error}");

    let mut line = begun();
    for n in 1..16 {
        line.hear(format!("BEGIN\ntransaction:{n}\n\n\0").as_bytes());
    }
    let (refusal, _) = line.refused("BEGIN\ntransaction:16\n\n\0");
    assert_eq!(refusal.code, Code::BadRequest);
    Line::open("1.2").broken(&format!("BEGIN\ntransaction:{}\n\n\0", "t".repeat(129)));
}

#[test]
fn a_frame_that_was_refused_does_not_wait() {
    let mut line = Line::open("1.2");
    line.hear(b"SUBSCRIBE\nid:e\ndestination:/user/queue/errors\n\n\0BEGIN\ntransaction:t\n\n\0");
    line.one(&send("x", "t"));
    let refusal = Refusal::new(Code::RateLimited, "too many frames");
    let _ = line.tell(&Event::Error {
        to: None,
        refusal: &refusal,
    });
    assert!(names(&line.hear(b"COMMIT\ntransaction:t\n\n\0")).is_empty());
}

#[test]
fn a_refused_frame_of_a_transaction_does_not_undo_the_others() {
    let mut line = Line::open("1.2");
    line.hear(b"SUBSCRIBE\nid:e\ndestination:/user/queue/errors\n\n\0BEGIN\ntransaction:t\n\n\0");
    line.hear(b"SEND\ndestination:/nowhere\ntransaction:t\n\n\0");
    line.hear(send("two", "t").as_bytes());
    line.written();
    let said = line.hear(b"COMMIT\ntransaction:t\nreceipt:c\n\n\0");
    assert!(matches!(&said[1], Err(it) if !it.is_fatal), "{said:?}");
    let told = line.written();
    assert!(told[0].contains("\ncode:not_found\n"), "{told:?}");
    assert_eq!(told[1], "RECEIPT\nreceipt-id:two\n\n\0");
    assert_eq!(told[2], "RECEIPT\nreceipt-id:c\n\n\0");
}
