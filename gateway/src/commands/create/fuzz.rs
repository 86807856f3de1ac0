//! Commands nobody would create.

use serde_json::Value;
use shared::domain::{
    Code, CommandBody, MAX_CATEGORIES, MAX_CONTENT_BYTES, Timestamp, Topic, UserId,
};
use testkit::fuzz::fuzz;
use uuid::Uuid;

use super::valid::{Audience, Create};
use crate::dialect::Body;

const NOW: Timestamp = Timestamp(1_763_730_000_000);

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "1e400",
    "\\u0000",
    "\\ud800",
    "\"broadcast\":\"category\"",
    "\"broadcast\":\"allcast\"",
    "\"broadcast\":\"user\"",
    "\"categories\":[\"general\"]",
    "\"categories\":[]",
    "\"categories\":null",
    "\"GENERAL\"",
    "\"a\\u0000b\"",
    "\"targetUser\":\"01890a5d-ac96-774b-bcce-b302099a8057\"",
    "\"targetUser\":null",
    "\"expiresAt\":\"2025-11-22T00:00:00.000Z\"",
    "\"expiresAt\":\"9999-12-31T23:59:60+23:59\"",
    "\"files\":[{\"hash\":\"\",\"filename\":\"\"}]",
    "\"durability\":\"stored\"",
    "\"data\":{\"a\":1e308}",
];

const GOOD: &[&str] = &[
    r#"{"commandType":"message","content":"hé\n","broadcast":"user","targetUser":"01890a5d-ac96-774b-bcce-b302099a8057","categories":["general"],"data":{"a":[1,null]}}"#,
    r#"{"commandType":"task","content":"x","broadcast":"category","categories":["general","mild"],"durability":"stored"}"#,
    r#"{"commandType":"system","content":"","broadcast":"allcast","categories":[],"files":[],"expiresAt":"2025-11-22T00:00:00.000Z"}"#,
];

#[test]
fn commands_of_any_kind_are_created_or_refused() {
    let good: Vec<_> = GOOD.iter().map(|text| text.as_bytes()).collect();
    fuzz(&good, WORDS, |input| {
        let text = String::from_utf8_lossy(input);
        let Ok(body) = Body::parse_object(&text) else {
            return false;
        };
        let valid = match body.parse::<Create<'_>>().and_then(|it| it.validate(NOW)) {
            Ok(valid) => valid,
            Err(refusal) => {
                assert!([Code::BadRequest, Code::TooLarge].contains(&refusal.code));
                assert!((1..400).contains(&refusal.message.len()), "{refusal}");
                return false;
            }
        };
        assert!(valid.content.len() <= MAX_CONTENT_BYTES && !valid.content.contains('\0'));
        assert!(valid.categories.len() <= MAX_CATEGORIES);
        // One log, that of one user or that of broadcasts, and never without a tag to go by.
        let recipient = valid.audience.recipient();
        assert_eq!(
            valid.audience.topic() == Topic::Broadcast,
            recipient.is_none()
        );
        assert!(valid.audience != Audience::Category || !valid.categories.is_empty());
        assert_eq!(valid.digest(), valid.digest());
        // What is stored can be read again: by nodes, workers and Postgres.
        let stored = CommandBody {
            command_type: valid.command_type,
            data: valid.data.map(ToOwned::to_owned),
            sender_id: UserId(Uuid::nil()),
            sender_name: "ann".into(),
            broadcast: valid.audience.broadcast(),
            recipient_id: recipient,
            files: Vec::new(),
            expires_at: valid.expires_at(NOW),
            content: valid.content,
            categories: valid.categories,
        };
        let json = serde_json::to_vec(&stored).unwrap();
        let again: CommandBody = serde_json::from_slice(&json).unwrap();
        assert_eq!(again.recipient_id, recipient);
        assert_eq!(again.categories, stored.categories);
        let is_too_much = |error: serde_json::Error| error.to_string().contains("out of range");
        assert!(
            serde_json::from_slice::<Value>(&json).is_ok_and(|it| it.is_object())
                || serde_json::from_slice::<Value>(&json).is_err_and(is_too_much)
        );
        true
    });
}
