//! Records nobody of ours wrote.

use testkit::fuzz::fuzz;

use super::*;

const WORDS: &[&str] = &[
    " ",
    "\n",
    "=",
    ";",
    "received",
    "delivered",
    "skip",
    "18446744073709551616",
    "1763000000:42",
    "01890a5d-ac96-774b-bcce-b302099a8057",
];

/// `name=value;...`
fn fields(input: &[u8]) -> Vec<(String, Bytes)> {
    input
        .split(|byte| *byte == b';')
        .map(|field| {
            let at = field.iter().position(|byte| *byte == b'=');
            let (name, value) = field.split_at(at.unwrap_or(field.len()));
            let value = value.strip_prefix(b"=").unwrap_or(value);
            let name = String::from_utf8_lossy(name).into_owned();
            (name, Bytes::copy_from_slice(value))
        })
        .collect()
}

#[test]
fn records_of_any_kind_are_understood_or_named() {
    let good: &[&[u8]] = &[
        b"delivered=01890a5d-ac96-774b-bcce-b302099a8057;from=1:2;to=1:9;skip=1:3 1:5;t=1763706688042",
        b"received=01890a5d-ac96-774b-bcce-b302099a8057 01890a5d-ac96-774b-bcce-b302099a8058\n\
          01890a5d-ac96-774b-bcce-b302099a8059 01890a5d-ac96-774b-bcce-b302099a8058;t=1763706688042",
        b"seen=01890a5d-ac96-774b-bcce-b302099a8057 1763706688042\n;t=1763706688043",
        b"topic=broadcast;e=1;n=2;id=01890a5d-ac96-774b-bcce-b302099a8057;k=command.new;t=1;d={}",
    ];
    fuzz(good, WORDS, |input| match understand(&fields(input)) {
        Ok(Persist::Received { receipts, .. }) => {
            let named = receipts
                .iter()
                .map(|it| it.commands.len() + 1)
                .sum::<usize>();
            // None comes from nowhere: the shortest way to write an id has 32 digits.
            assert!(named * 32 <= input.len(), "{receipts:?}");
            true
        }
        Ok(Persist::Unreadable { .. }) => panic!("said by the caller"),
        Ok(_) => true,
        Err(reason) => {
            assert!(!reason.is_empty());
            false
        }
    });
}
