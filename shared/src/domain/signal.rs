//! What is told live and never kept.

use std::{fmt, str::FromStr};

use super::{SessionId, UserId};

/// What a signal tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignalKind {
    /// Somebody types.
    TypingStart,
    /// They do no more.
    TypingStop,
}

impl SignalKind {
    /// The name on the wire and in channels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TypingStart => "typing.start",
            Self::TypingStop => "typing.stop",
        }
    }
}

impl fmt::Display for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SignalKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::TypingStart, Self::TypingStop]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(())
    }
}

/// Something that happens now in a conversation: published, in no log, and the first to go when
/// there is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// What.
    pub kind: SignalKind,
    /// Who does it.
    pub user: UserId,
    /// On which socket: that one is not told. Nothing if it came over REST.
    pub session: Option<SessionId>,
}
