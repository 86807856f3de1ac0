//! Bells nobody of ours rings.

use testkit::fuzz::fuzz;

use super::*;

const WORDS: &[&str] = &[
    " ",
    "\n",
    "1 ",
    "2 ",
    "-1",
    "18446744073709551616",
    "displaced ",
    "signal ",
    "typing.start",
    "presence ",
    "online",
    "call ",
    "call.ice ",
    "*",
    "=",
    "!",
    " -",
    "command.new",
    "command.status",
    "01890a5d-ac96-774b-bcce-b302099a8057",
    "{}",
];

#[test]
fn bells_of_any_kind_are_understood_or_passed_over() {
    let good: &[&[u8]] = &[
        b"1 1763000000 42 01890a5d-ac96-774b-bcce-b302099a8057 1763706688042 command.new\n{\"a\":1}",
        b"1 1 1 01890a5d-ac96-774b-bcce-b302099a8057 1 command.status\n",
        b"1 displaced 01890a5d-ac96-774b-bcce-b302099a8057",
        b"1 signal typing.start 01890a5d-ac96-774b-bcce-b302099a8057 -",
        b"1 signal typing.stop 01890a5d-ac96-774b-bcce-b302099a8057 01890a5d-ac96-774b-bcce-b302099a8058",
        b"1 call call.offer 01890a5d-ac96-774b-bcce-b302099a8056 *\n{\"sdp\":\"v=0\"}",
        b"1 call call.ice 01890a5d-ac96-774b-bcce-b302099a8056 * 7\n{}",
        b"1 call call.ice 01890a5d-ac96-774b-bcce-b302099a8056 =01890a5d-ac96-774b-bcce-b302099a8057\n{}",
        b"1 call call.ended 01890a5d-ac96-774b-bcce-b302099a8056 !01890a5d-ac96-774b-bcce-b302099a8057\n{}",
    ];
    let topic = Topic::Revocations;
    fuzz(good, WORDS, |input| {
        let message = Bytes::copy_from_slice(input);
        match read_bell(topic, &message) {
            Some(BellEvent::Entry(entry)) => {
                assert!(message.ends_with(&entry.body));
                let Position { epoch, offset } = entry.position;
                let header = [epoch.to_string(), offset.to_string(), entry.id.to_string()];
                let text = String::from_utf8_lossy(input).to_lowercase();
                // Numbers and ids may be written in more than one way, but not as something else.
                assert!(
                    header[..2].iter().all(|word| text.contains(word)),
                    "{entry:?}"
                );
                true
            }
            Some(BellEvent::Displaced { .. }) => true,
            Some(BellEvent::Signal { signal, .. }) => {
                let written = write_signal(&signal);
                let again = read_bell(topic, &Bytes::from(written));
                assert!(
                    matches!(again, Some(BellEvent::Signal { signal: same, .. }) if same == signal)
                );
                true
            }
            Some(BellEvent::Call { event, .. }) => {
                let again = read_bell(topic, &Bytes::from(write_call(&event)));
                assert!(
                    matches!(again, Some(BellEvent::Call { event: same, .. }) if same == event)
                );
                true
            }
            Some(other) => panic!("{other:?}"),
            None => false,
        }
    });
}

#[test]
fn presences_of_any_kind_are_understood_or_passed_over() {
    let good: &[&[u8]] = &[
        b"1 presence 1763706688042 online 2 -\n",
        b"1 presence 1763706688043 busy 1 -\nin a meeting",
        b"1 presence 1763706688044 offline 0 1763706688042\n",
    ];
    let user = UserId(uuid::Uuid::from_u128(7));
    fuzz(good, WORDS, |input| {
        let message = Bytes::copy_from_slice(input);
        match read_bell(Topic::Presence(user), &message) {
            Some(BellEvent::Presence(presence)) => {
                assert_eq!(presence.user, user, "whose it is, the channel says");
                assert!(read_bell(Topic::User(user), &message).is_none());
                true
            }
            Some(_) | None => false,
        }
    });
}
