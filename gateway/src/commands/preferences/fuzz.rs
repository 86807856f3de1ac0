//! Choices nobody would make.

use shared::domain::{Code, MAX_PREFERENCES, Preferences};
use testkit::fuzz::fuzz;

use super::Update;
use crate::dialect::Body;

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "0",
    "\\u0000",
    "\"blockedCategories\":",
    "\"allowedCategories\":",
    "[\"general\"]",
    "\"general\",",
    "\"GENERAL\"",
    "\"ä\"",
    "\"\"",
    "\"a234567890123456789012345678901234\"",
];

const GOOD: &[&str] = &[
    r#"{"blockedCategories":["feet","adult","feet"],"allowedCategories":["general"]}"#,
    r#"{"blockedCategories":[],"allowedCategories":[]}"#,
    "{}",
];

#[test]
fn choices_of_any_kind_are_taken_or_refused() {
    let good: Vec<_> = GOOD.iter().map(|text| text.as_bytes()).collect();
    fuzz(&good, WORDS, |input| {
        let text = String::from_utf8_lossy(input);
        let Ok(body) = Body::parse_object(&text) else {
            return false;
        };
        let chosen = match body.parse::<Update>().and_then(Update::validate) {
            Ok(chosen) => chosen,
            Err(refusal) => {
                assert_eq!(refusal.code, Code::BadRequest);
                assert!((1..400).contains(&refusal.message.len()), "{refusal}");
                return false;
            }
        };
        for list in [&chosen.blocked_categories, &chosen.allowed_categories] {
            assert!(list.len() <= MAX_PREFERENCES);
        }
        // As every node and worker reads it from the log.
        let json = serde_json::to_vec(&chosen).unwrap();
        assert_eq!(
            serde_json::from_slice::<Preferences>(&json).unwrap(),
            chosen
        );
        for tag in &chosen.blocked_categories {
            assert!(!chosen.admit(std::slice::from_ref(tag)));
        }
        true
    });
}
