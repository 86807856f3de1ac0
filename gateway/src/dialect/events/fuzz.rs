//! Frames nobody would send.

use bytes::Bytes;
use serde_json::{Value, json};
use testkit::fuzz::fuzz;

use super::tests::{Did, Line};
use crate::dialect::*;

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "null",
    "true",
    "1e400",
    "\"type\":",
    "\"data\":",
    "\"id\":",
    "\"ts\":",
    "\"topics\":",
    "\"kind\":",
    "\"conversation\"",
    "\"user\"",
    "\"isTyping\":",
    "client.system.subscribe",
    "client.messenger.typing",
    "\\u0000",
    "\\ud800",
    "é",
    "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    "[[[[[[[[[[",
];

const GOOD: &[&str] = &[
    r#"{"type":"client.system.subscribe","id":"1","data":{"topics":[{"kind":"conversation","id":"01890a5d-ac96-774b-bcce-b302099a8057"},{"kind":"user","id":"01890a5d-ac96-774b-bcce-b302099a8058"}]},"ts":1763000000042}"#,
    r#"{"type":"client.messenger.typing","data":{"conversationId":"01890a5d-ac96-774b-bcce-b302099a8057","userId":"me","isTyping":true}}"#,
    r#" { "data" : { "topics" : [ ] } , "type" : "client.system.subscribe" } "#,
];

fn good() -> Vec<&'static [u8]> {
    GOOD.iter().map(|text| text.as_bytes()).collect()
}

/// As the first word of a socket, and as the second: what goes back is whole frames, each a refusal or
/// the sign behind a subscription, and what is asked for is readable.
fn check(frame: &Frame) -> bool {
    let mut is_understood = false;
    for begin in [None, Some(GOOD[2])] {
        let mut line = Line::new();
        if let Some(begin) = begin {
            line.hear(begin);
        }
        let did = line.hear_frame(frame.clone());
        assert!((1..=2).contains(&did.len()), "{did:?}");
        for one in &did {
            if let Did::Asked(name, body) = one {
                assert!(name.starts_with("typing."));
                let body: Value = serde_json::from_str(body).unwrap();
                assert_eq!(body.as_object().unwrap().len(), 1);
            }
        }
        for event in line.told() {
            if event["type"] == "server.presence.batch" {
                assert_eq!(event["data"]["users"], json!([]));
                continue;
            }
            assert_eq!(event["type"], "server.system.error");
            let message = event["data"]["message"].as_str().unwrap();
            assert!((1..400).contains(&message.len()), "{message}");
        }
        assert!(!line.is_closed || begin.is_none(), "only at once or never");
        is_understood |= !did.iter().any(|it| matches!(it, Did::Refused(_)));
    }
    is_understood
}

#[test]
fn frames_of_any_kind_are_understood_or_refused() {
    fuzz(&good(), WORDS, |input| {
        // The layer below lets only UTF-8 through.
        let text = String::from_utf8_lossy(input).into_owned();
        check(&Frame::Text(text.into()))
    });
}

#[test]
fn bytes_that_are_no_text_do_no_harm() {
    fuzz(&good(), WORDS, |input| {
        let bytes = Bytes::copy_from_slice(input);
        assert!(!check(&Frame::Binary(bytes.clone())));
        check(&Frame::Text(bytes))
    });
}
