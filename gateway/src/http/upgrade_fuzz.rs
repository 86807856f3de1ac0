//! Queries nobody would write.

use testkit::fuzz::fuzz;

use super::*;

const WORDS: &[&str] = &[
    "?",
    "&",
    "=",
    "%",
    "%00",
    "%FF",
    "%2",
    "+",
    "#",
    "/",
    ":",
    "1:2",
    "-1:0",
    "18446744073709551616:0",
    "token=",
    "protocol=",
    "device=",
    "after=",
    "ack=",
    "auto",
    "client",
    "json",
    "é",
];

#[test]
fn queries_of_any_kind_are_taken_or_refused() {
    let good: &[&[u8]] = &[
        b"",
        b"token=a.b.c&device=phone-1&after=1763000000:42&ack=client&protocol=json",
        b"device=a%2Eb&unknown=%C3%A9&after=0:0",
    ];
    fuzz(good, WORDS, |input| {
        // What is no URI is refused before it comes here.
        let Ok(uri) = format!("/api/ws?{}", String::from_utf8_lossy(input)).parse() else {
            return false;
        };
        let Ok(parameters) = Parameters::read(&uri) else {
            return false;
        };
        match read(&parameters) {
            Ok((device, after, _)) => {
                assert!((1..=64).contains(&device.as_str().len()));
                assert_eq!(after.is_some(), parameters.after.is_some());
                true
            }
            Err(refused) => {
                assert_eq!(refused.status, StatusCode::BAD_REQUEST);
                assert_eq!(refused.refusal.code, Code::BadRequest);
                false
            }
        }
    });
}
