//! Versions of the protocol and how one is agreed on.

use std::fmt;

/// A version that is spoken here. They differ in how headers are escaped and in which frames
/// and headers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// Nothing is escaped, there are no heart-beats and no NACK, subscriptions need no id.
    V10,
    /// Escapes line feeds, colons and backslashes.
    V11,
    /// Escapes carriage returns, too; messages are confirmed by an id of their own.
    V12,
}

impl Version {
    const ALL: [Self; 3] = [Self::V12, Self::V11, Self::V10];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V10 => "1.0",
            Self::V11 => "1.1",
            Self::V12 => "1.2",
        }
    }

    /// The highest of what the client accepts: a list with commas. Without one it accepts 1.0,
    /// which has no such header.
    pub(super) fn agree(accepted: Option<&str>) -> Option<Self> {
        let Some(accepted) = accepted else {
            return Some(Self::V10);
        };
        Self::ALL.into_iter().find(|version| {
            accepted
                .split(',')
                .any(|word| word.trim() == version.as_str())
        })
    }

    /// All of them, as an ERROR lists them.
    pub(super) const LIST: &'static str = "1.0,1.1,1.2";
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_agreed_on() {
        for (accepted, agreed) in [
            (None, Some(Version::V10)),
            (Some("1.2"), Some(Version::V12)),
            (Some("1.0,1.1,2.0"), Some(Version::V11)),
            (Some("1.2,1.1,1.0"), Some(Version::V12)),
            (Some("1.0, 1.1"), Some(Version::V11)),
            (Some("1.0"), Some(Version::V10)),
            (Some("2.0"), None),
            (Some(""), None),
            (Some("1.20"), None),
        ] {
            assert_eq!(Version::agree(accepted), agreed, "{accepted:?}");
        }
    }
}
