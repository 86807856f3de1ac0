//! Tokens nobody would issue: spoiled ones, and well-signed ones with any claims.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use testkit::fuzz::fuzz;

use super::*;

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "null",
    "true",
    "-1",
    "1e400",
    "9223372036854775808",
    "\"sub\"",
    "\"jti\"",
    "\"iat\"",
    "\"nbf\"",
    "\"exp\"",
    "\"iss\"",
    "\"aud\"",
    "\"kid\"",
    "\"alg\"",
    "\"none\"",
    "\"HS256\"",
    "\\u0000",
    "\\ud800",
    ".",
    "..",
    "=",
    "eyJ",
];

#[test]
fn spoiled_tokens_are_refused() {
    let (tokens, _) = tokens();
    let good = [signed(&claims()), signed(&with("jti", &"t2".into()))];
    let bytes: Vec<&[u8]> = good.iter().map(String::as_bytes).collect();
    fuzz(&bytes, WORDS, |input| {
        let text = String::from_utf8_lossy(input);
        let taken = tokens.verify(&text).is_ok();
        assert_eq!(taken, good.iter().any(|good| *good == text));
        taken
    });
}

#[test]
fn well_signed_claims_of_any_kind_are_taken_or_refused() {
    let (tokens, _) = tokens();
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256","kid":"main"}"#);
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let good = claims().to_string();
    fuzz(&[good.as_bytes()], WORDS, |claims| {
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
        match tokens.verify(&format!("{message}.{}", signature.unwrap())) {
            Ok(identity) => {
                assert!(
                    identity.expires_at > Timestamp((NOW - 5) * 1000),
                    "{identity:?}"
                );
                true
            }
            Err(_) => false,
        }
    });
}
