//! Frames nobody would send.

use bytes::Bytes;
use serde_json::Value;
use shared::domain::Code;
use testkit::fuzz::fuzz;

use super::tests::{decode, written};
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
    " ",
    "\n",
    "null",
    "true",
    "-0",
    "1e400",
    "0.1e-7",
    "18446744073709551616",
    "\"type\":",
    "\"id\":",
    "\"payload\":",
    "\"topic\":\"user\"",
    "\"epoch\":1",
    "\"offset\":1",
    "\"token\":\"a.b.c\"",
    "\"authenticate\"",
    "\"ack\"",
    "\"command.create\"",
    "\\u0000",
    "\\ud800",
    "\\ud83d\\ude00",
    "\u{0}",
    "é",
    "\u{1f600}",
    "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    "[[[[[[[[[[",
];

const GOOD: &[&str] = &[
    r#"{"type":"command.create","id":"1","payload":{"commandType":"message","content":"hé\n","targetUser":"01890a5d-ac96-774b-bcce-b302099a8057","categories":[1,2.5e3,{"a":null}]}}"#,
    r#"{"type":"authenticate","id":"2","payload":{"token":"a.b.c"}}"#,
    r#"{"type":"subscribe","id":"3","payload":{"topics":["conversation","typing"],"filters":{"conversation_id":"01890a5d-ac96-774b-bcce-b302099a8057"}}}"#,
    r#"{"type":"ack","payload":{"topic":"user","epoch":1763000000,"offset":42}}"#,
    r#" { "payload" : { } , "timestamp" : "x" , "type" : "ping" , "id" : null } "#,
];

fn good() -> Vec<&'static [u8]> {
    GOOD.iter().map(|text| text.as_bytes()).collect()
}

/// What else reads it: our own code by serde, and Postgres.
fn assert_sound(body: &[u8]) {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => {
            assert!(value.is_object());
            assert!(!holds_nul(&value));
        }
        Err(error) => assert!(error.to_string().contains("number out of range"), "{error}"),
    }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

#[test]
fn frames_of_any_kind_are_understood_or_refused() {
    fuzz(&good(), WORDS, |input| {
        // The layer below lets only UTF-8 through.
        let text = String::from_utf8_lossy(input).into_owned();
        match decode(Frame::Text(Bytes::from(text.clone()))) {
            Ok(incoming) => {
                assert_sound(text.as_bytes());
                if let Incoming::Request(request) = incoming {
                    assert_sound(request.body.as_bytes());
                    assert!(request.name.len() <= text.len());
                }
                true
            }
            Err(Unreadable { id, refusal, .. }) => {
                assert_eq!(refusal.code, Code::BadRequest);
                assert!((1..400).contains(&refusal.message.len()), "{refusal}");
                let reply = Event::Error {
                    to: id.as_ref(),
                    refusal: &refusal,
                };
                assert!(written(&reply).len() < 2000);
                false
            }
        }
    });
}

#[test]
fn bytes_that_are_no_text_do_no_harm() {
    fuzz(&good(), WORDS, |input| {
        let bytes = Bytes::copy_from_slice(input);
        let binary = decode(Frame::Binary(bytes.clone()));
        assert!(binary.is_err());
        decode(Frame::Text(bytes)).is_ok()
    });
}

#[test]
fn bodies_of_any_kind_are_taken_or_refused() {
    fuzz(&good(), WORDS, |input| {
        let text = String::from_utf8_lossy(input);
        match Body::parse_object(&text) {
            Ok(body) => {
                assert_sound(body.as_bytes());
                true
            }
            Err(refusal) => {
                assert_eq!(refusal.code, Code::BadRequest);
                false
            }
        }
    });
}
