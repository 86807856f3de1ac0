//! Why a socket ends, and what its client is told.

use shared::metrics::{Label, Labels};
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

use crate::{app::DisconnectReason, fanout};

/// Why a socket ends. The name is the metric label and stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client closed.
    Client,
    /// The connection went away without a word.
    Lost,
    /// The client broke RFC 6455.
    Protocol,
    /// A text frame was not UTF-8.
    BadUtf8,
    /// A frame over the size limit.
    TooLarge,
    /// A frame nobody understands, before the session was open.
    Policy,
    /// A frame of the dialect that nothing can be understood behind.
    Malformed,
    /// A refusal that the dialect ends with.
    Refused,
    /// The client said that it was done.
    Left,
    /// No `authenticate` in time.
    AuthTimeout,
    /// `authenticate` with a token that is not accepted.
    AuthFailed,
    /// The token ran out.
    Expired,
    /// The token was withdrawn.
    Revoked,
    /// The user may take no part.
    Banned,
    /// Too many heartbeats were missed.
    HeartbeatMissed,
    /// The user's session limit was passed; this was the oldest.
    Displaced,
    /// An administrator ended the session.
    Disconnected,
    /// The client took nothing for too long.
    SlowConsumer,
    /// The client stayed above its frame limit.
    RateLimited,
    /// This node is going away.
    Draining,
    /// The session could not be opened, or not be kept.
    Unavailable,
}

impl CloseReason {
    /// All reasons, for the table of metrics.
    pub const ALL: [Self; 21] = [
        Self::Client,
        Self::Lost,
        Self::Protocol,
        Self::BadUtf8,
        Self::TooLarge,
        Self::Policy,
        Self::Malformed,
        Self::Refused,
        Self::Left,
        Self::AuthTimeout,
        Self::AuthFailed,
        Self::Expired,
        Self::Revoked,
        Self::Banned,
        Self::HeartbeatMissed,
        Self::Displaced,
        Self::Disconnected,
        Self::SlowConsumer,
        Self::RateLimited,
        Self::Draining,
        Self::Unavailable,
    ];

    /// The name in logs and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Lost => "lost",
            Self::Protocol => "protocol",
            Self::BadUtf8 => "bad_utf8",
            Self::TooLarge => "too_large",
            Self::Policy => "policy",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Left => "left",
            Self::AuthTimeout => "auth_timeout",
            Self::AuthFailed => "auth_failed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Banned => "banned",
            Self::HeartbeatMissed => "heartbeat_missed",
            Self::Displaced => "displaced",
            Self::Disconnected => "disconnected",
            Self::SlowConsumer => "slow_consumer",
            Self::RateLimited => "rate_limited",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
        }
    }

    /// Code and text of the Close frame; `None` where the peer is gone or closed first.
    fn told(self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::Client | Self::Lost => return None,
            Self::Protocol => (1002, "protocol error"),
            Self::Malformed => (1002, "malformed frame of the subprotocol"),
            Self::Left => (1000, "goodbye"),
            Self::Refused => (1008, "refused, see the last frame"),
            Self::BadUtf8 => (1007, "text is not UTF-8"),
            Self::Policy => (1008, "malformed frame before the session is open"),
            Self::TooLarge => (1009, "frame over the size limit"),
            Self::Draining => (1012, "node is draining"),
            Self::Unavailable => (1013, "try again later"),
            Self::AuthTimeout => (4401, "no authenticate in time"),
            Self::AuthFailed => (4401, "not authenticated"),
            Self::Expired => (4401, "token expired"),
            Self::Revoked => (4401, "token revoked"),
            Self::Banned => (4403, "banned"),
            Self::HeartbeatMissed => (4408, "heartbeats missed"),
            Self::Displaced => (4409, "displaced by a newer session"),
            Self::Disconnected => (4409, "ended by an administrator"),
            Self::SlowConsumer => (4410, "slow consumer"),
            Self::RateLimited => (4429, "rate limit kept being passed"),
        })
    }

    /// Why, in the words that others are told.
    pub(super) fn disconnect(self) -> DisconnectReason {
        match self {
            Self::HeartbeatMissed => DisconnectReason::HeartbeatTimeout,
            Self::Client | Self::Left | Self::Lost => DisconnectReason::ClientClose,
            Self::AuthTimeout | Self::AuthFailed | Self::Expired | Self::Revoked | Self::Banned => {
                DisconnectReason::AuthFailed
            }
            Self::Protocol
            | Self::BadUtf8
            | Self::TooLarge
            | Self::Policy
            | Self::Malformed
            | Self::Refused
            | Self::Displaced
            | Self::Disconnected
            | Self::SlowConsumer
            | Self::RateLimited
            | Self::Draining
            | Self::Unavailable => DisconnectReason::ServerClose,
        }
    }

    /// The code of the Close frame.
    pub fn code(self) -> Option<u16> {
        self.told().map(|(code, _)| code)
    }

    pub(super) fn frame(self) -> Option<CloseFrame> {
        self.told().map(|(code, text)| CloseFrame {
            code: CloseCode::from(code),
            reason: text.into(),
        })
    }

    /// Whether what the peer sends can still be understood after it.
    pub(super) fn stream_is_sound(self) -> bool {
        !matches!(self, Self::Protocol | Self::BadUtf8 | Self::TooLarge)
    }
}

impl Label for CloseReason {
    const NAME: &'static str = "reason";
    const VALUES: &'static [&'static str] = &NAMES;

    fn index(self) -> usize {
        self as usize
    }
}

impl Labels for CloseReason {
    fn names() -> Vec<&'static str> {
        vec![Self::NAME]
    }

    fn combinations() -> Vec<Vec<&'static str>> {
        NAMES.iter().map(|name| vec![*name]).collect()
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// In the order of the variants.
static NAMES: [&str; CloseReason::ALL.len()] = {
    let mut names = [""; CloseReason::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = CloseReason::ALL[at].name();
        at += 1;
    }
    names
};

impl From<fanout::CloseReason> for CloseReason {
    fn from(reason: fanout::CloseReason) -> Self {
        match reason {
            fanout::CloseReason::Displaced => Self::Displaced,
            fanout::CloseReason::Banned => Self::Banned,
            fanout::CloseReason::Disconnected => Self::Disconnected,
            fanout::CloseReason::Unauthorized => Self::Revoked,
            fanout::CloseReason::SlowConsumer => Self::SlowConsumer,
            fanout::CloseReason::Draining { .. } => Self::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_codes_may_be_sent() {
        let names: HashSet<_> = CloseReason::ALL
            .into_iter()
            .map(CloseReason::name)
            .collect();
        assert_eq!(names.len(), CloseReason::ALL.len());
        for frame in CloseReason::ALL.into_iter().filter_map(CloseReason::frame) {
            assert!(frame.code.is_allowed(), "{frame:?}");
            assert!(frame.reason.len() <= 123, "{frame:?}");
        }
    }
}
