//! CONNECT: the version, signs of life, and who somebody is.

use std::time::Duration;

use super::{Broken, frame::Received, version::Version};
use crate::dialect::{Authenticate, Rhythm, Terms, Token};

/// Signs of life that are further apart than this are not counted on.
const LONGEST: Duration = Duration::from_hours(24);

/// What a client opens its connection with.
pub(super) struct Connect {
    pub(super) version: Version,
    pub(super) rhythm: Rhythm,
    pub(super) authenticate: Authenticate,
}

/// Why no connection comes about.
pub(super) enum Rejected {
    /// No version is spoken by both.
    Version,
    Broken(Broken),
}

impl From<Broken> for Rejected {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

pub(super) fn read(frame: &Received<'_>, terms: &Terms) -> Result<Connect, Rejected> {
    let accepted = frame.header("accept-version");
    let version = Version::agree(accepted).ok_or(Rejected::Version)?;
    let rhythm = match frame.header("heart-beat") {
        Some(beats) if version > Version::V10 => rhythm(beats, terms.heartbeat)?,
        _ => Rhythm::default(),
    };
    let device = frame.header("device").map(str::parse).transpose();
    let device = device.map_err(|_| {
        Broken::malformed("device: at most 64 of A-Z, a-z, 0-9, dot, underscore, dash")
    })?;
    Ok(Connect {
        version,
        rhythm,
        authenticate: Authenticate {
            id: None,
            token: token(frame),
            device,
        },
    })
}

/// A bearer token, else the passcode, whatever the login.
fn token(frame: &Received<'_>) -> Option<Token> {
    let bearer = ["Authorization", "authorization"]
        .into_iter()
        .find_map(|name| frame.header(name))
        .and_then(|value| value.trim().split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token);
    let passcode = || frame.header("passcode").filter(|code| !code.is_empty());
    bearer
        .or_else(passcode)
        .map(|token| Token(token.trim().to_owned()))
}

/// What both agree on, by what the client can do and would like, in milliseconds, and by what
/// the server is ready to do and would like, which is the same.
fn rhythm(beats: &str, ours: Duration) -> Result<Rhythm, Broken> {
    let malformed = || Broken::malformed("heart-beat: expected two numbers of milliseconds");
    let (can, wants) = beats.split_once(',').ok_or_else(malformed)?;
    let agreed = |text: &str| {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let theirs = Duration::from_millis(text.parse().unwrap_or(u64::MAX));
        Ok((!theirs.is_zero() && !ours.is_zero()).then(|| theirs.max(ours)))
    };
    let (expect, send) = (agreed(can)?, agreed(wants)?);
    Ok(Rhythm {
        // More often than agreed on does no harm.
        send: send.map(|every| every.min(LONGEST)),
        expect: expect.filter(|every| *every <= LONGEST),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heart_beats_are_as_slow_as_the_slower_side_wants() {
        let ours = Duration::from_secs(10);
        let secs = |secs| Some(Duration::from_secs(secs));
        for (beats, expect, send) in [
            ("0,0", None, None),
            ("4000,0", secs(10), None),
            ("0,4000", None, secs(10)),
            ("20000,30000", secs(20), secs(30)),
            ("18446744073709551616,99999999999", None, Some(LONGEST)),
        ] {
            let agreed = Rhythm { send, expect };
            assert_eq!(rhythm(beats, ours), Ok(agreed), "{beats}");
        }
        for beats in ["", "1", "1,", "-1,0", "a,b", "1,2,3"] {
            assert!(rhythm(beats, ours).is_err(), "{beats}");
        }
        assert_eq!(rhythm("1,1", Duration::ZERO), Ok(Rhythm::default()));
    }
}
