//! Who is there, as others may see it.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Timestamp, UserId};

/// Longest text beside a status, in bytes of UTF-8.
pub const MAX_STATUS_TEXT: usize = 256;

/// Whether somebody is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceStatus {
    /// Some device is connected and in use.
    Online,
    /// Devices are connected, none of them is in use; or so the user says.
    Away,
    /// The user does not want to be disturbed.
    Busy,
    /// No device is connected; or the user does not want it to be seen that one is.
    Offline,
}

impl PresenceStatus {
    /// The word on the wire and in Redis.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Offline => "offline",
        }
    }
}

impl fmt::Display for PresenceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PresenceStatus {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Online, Self::Away, Self::Busy, Self::Offline]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(())
    }
}

/// How a user appears to others. What clients get of it is its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Who.
    #[serde(rename = "userId")]
    pub user: UserId,
    /// Whether they are there.
    pub status: PresenceStatus,
    /// What they say about it, as it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Arc<str>>,
    /// How many sockets they had when the status or the text last changed; none who looks offline.
    pub devices: u32,
    /// When they were last seen, if that is known and they are not there now.
    pub last_seen_at: Option<Timestamp>,
    /// Rises with each change of the status or the text. 0 for who was not here lately.
    #[serde(skip)]
    pub version: u64,
}

impl Presence {
    /// Somebody of whom nothing is known.
    pub fn unknown(user: UserId) -> Self {
        Self {
            user,
            status: PresenceStatus::Offline,
            text: None,
            devices: 0,
            last_seen_at: None,
            version: 0,
        }
    }

    /// Whether both look alike to who watches: what changes otherwise is not told.
    pub fn looks_like(&self, other: &Self) -> bool {
        self.status == other.status && self.text == other.text
    }
}

/// How a presence differs from what was told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The user came.
    Online,
    /// The user went.
    Offline,
    /// Another status or text; or nothing was told before.
    Update,
}

impl Transition {
    /// From what was told last to what is told now.
    pub fn between(before: &Presence, now: &Presence) -> Self {
        let is_there = |presence: &Presence| presence.status != PresenceStatus::Offline;
        match (is_there(before), is_there(now)) {
            (false, true) => Self::Online,
            (true, false) => Self::Offline,
            _ => Self::Update,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn with(status: PresenceStatus) -> Presence {
        Presence {
            status,
            ..Presence::unknown(UserId(Uuid::from_u128(1)))
        }
    }

    #[test]
    fn only_who_comes_or_goes_is_a_transition() {
        use PresenceStatus::{Away, Busy, Offline, Online};
        let table = [
            (Offline, Online, Transition::Online),
            (Offline, Busy, Transition::Online),
            (Away, Offline, Transition::Offline),
            (Online, Away, Transition::Update),
            (Offline, Offline, Transition::Update),
        ];
        for (before, now, transition) in table {
            assert_eq!(
                Transition::between(&with(before), &with(now)),
                transition,
                "{before} to {now}"
            );
        }
    }

    #[test]
    fn words_read_back() {
        for word in ["online", "away", "busy", "offline"] {
            assert_eq!(word.parse::<PresenceStatus>().unwrap().as_str(), word);
        }
        assert!("invisible".parse::<PresenceStatus>().is_err());
    }
}
