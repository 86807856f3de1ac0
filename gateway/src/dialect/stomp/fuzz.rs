//! Frames nobody would send.

use testkit::fuzz::fuzz;

use super::tests::Line;
use crate::dialect::*;

const WORDS: &[&str] = &[
    "\0",
    "\n",
    "\r\n",
    "\r",
    ":",
    "\\n",
    "\\c",
    "\\t",
    "\\",
    "CONNECT\n",
    "STOMP\n",
    "SEND\n",
    "SUBSCRIBE\n",
    "UNSUBSCRIBE\n",
    "ACK\n",
    "NACK\n",
    "BEGIN\n",
    "COMMIT\n",
    "ABORT\n",
    "DISCONNECT\n",
    "accept-version:1.0,1.1,1.2\n",
    "heart-beat:0,99999999999999999999\n",
    "content-length:0\n",
    "content-length:4\n",
    "content-length:18446744073709551616\n",
    "content-type:application/octet-stream\n",
    "destination:/app/chat.send\n",
    "destination:/user/queue/errors\n",
    "destination:/topic/conversation/01890a5d-ac96-774b-bcce-b302099a8057\n",
    "transaction:t\n",
    "receipt:r\n",
    "id:1\n",
    "id:messages@1-2\n",
    "ack:client-individual\n",
    "{\"content\":\"\\u0000\"}",
    "é",
];

const GOOD: &[&str] = &[
    "SEND\ndestination:/app/chat.send\nreceipt:r\nclient-id:c\n\n{\"conversationId\":\"x\",\"content\":\"h\"}\0",
    "SEND\r\ndestination:/app/chat.send\r\ncontent-type:image/png\r\ncontent-length:4\r\n\r\n\0\u{1}\0\n\0\n\n",
    "SUBSCRIBE\nid:1\ndestination:/user/queue/messages\nack:client\n\n\0ACK\nid:messages@1763000000-42\n\n\0UNSUBSCRIBE\nid:1\n\n\0",
    "BEGIN\ntransaction:t\n\n\0SEND\ndestination:/app/ping\ntransaction:t\n\n\0COMMIT\ntransaction:t\n\n\0",
    "\n\r\nSUBSCRIBE\nid:e\ndestination:/user/queue/errors\n\n\0SEND\ndestination:/nowhere\n\n\0DISCONNECT\nreceipt:77\n\n\0",
];

/// What every version has to bear: nothing but frames goes back, and nothing after the end.
fn check(version: &str, input: &[u8]) -> bool {
    let mut line = Line::open(version);
    // In two messages, so that what is kept in between is tried, too.
    let half = input.len() / 2;
    let mut said = line.hear(&input[..half]);
    said.extend(line.hear(&input[half..]));
    for frame in line.written() {
        let whole = frame.ends_with('\0') || frame == "\n";
        assert!(whole, "{frame:?}");
    }
    let broken = said
        .iter()
        .position(|said| matches!(said, Err(unreadable) if unreadable.is_fatal));
    if let Some(at) = broken {
        assert_eq!(at + 1, said.len(), "nothing is understood behind it");
    }
    for said in &said {
        if let Ok(Incoming::Request(request)) = said {
            let body: serde_json::Result<serde_json::Value> =
                serde_json::from_slice(request.body.as_bytes());
            match body {
                Ok(body) => assert!(body.is_object()),
                Err(error) => assert!(error.to_string().contains("out of range"), "{error}"),
            }
        }
    }
    broken.is_none() && !said.is_empty()
}

#[test]
fn frames_of_any_kind_are_understood_or_refused() {
    let good: Vec<_> = GOOD.iter().map(|text| text.as_bytes()).collect();
    fuzz(&good, WORDS, |input| {
        let taken = ["1.2", "1.1", "1.0"].map(|version| check(version, input));
        taken.contains(&true)
    });
}

#[test]
fn connections_of_any_kind_are_opened_or_refused() {
    let good: &[&[u8]] = &[
        b"CONNECT\naccept-version:1.0,1.1,1.2\nhost:h\nheart-beat:10000,10000\npasscode:a.b.c\n\n\0",
        b"STOMP\r\naccept-version:1.2\r\nhost:h\r\nAuthorization:Bearer a.b.c\r\n\r\n\0\n",
        b"CONNECT\nlogin: me\npasscode: t\n\n\0",
    ];
    fuzz(good, WORDS, |input| {
        let said = Line::new().hear(input);
        let first = said.first();
        if let Some(Ok(first)) = first {
            assert!(matches!(first, Incoming::Authenticate(_)), "{first:?}");
        }
        matches!(first, Some(Ok(_)))
    });
}
