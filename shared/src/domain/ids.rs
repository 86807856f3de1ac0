//! Names of things. Each is a type of its own, so that one cannot stand for another.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Timestamp;

/// A text that is no id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind}")]
pub struct InvalidId {
    /// What was expected, for example `user id`.
    pub kind: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { kind: $kind })
            }
        }
    };
}

uuid_id!(
    /// A user: a UUIDv7 minted at registration.
    UserId, "user id"
);
impl UserId {
    /// From when on broadcasts are the user's: when they registered, as their id tells, less what
    /// the clocks of a gateway and of Redis may differ by. The beginning of time for an id of
    /// another making.
    pub fn registered_at(self) -> Timestamp {
        const CLOCKS_DIFFER_MS: i64 = 5_000;
        if self.0.get_version_num() != 7 {
            return Timestamp(0);
        }
        let minted = (self.0.as_u128() >> 80) as i64;
        Timestamp((minted - CLOCKS_DIFFER_MS).max(0))
    }
}

uuid_id!(
    /// A durable entry, for example a command: a UUIDv7 minted by the clock of Redis before
    /// the entry is appended, the same for every try. Receivers and Postgres recognise duplicates by it.
    MessageId, "message id"
);
uuid_id!(
    /// A conversation: a UUIDv7 minted when it is made.
    ConversationId, "conversation id"
);
uuid_id!(
    /// One socket, from its upgrade to its end.
    SessionId, "session id"
);
uuid_id!(
    /// A call, from its offer to its end: a UUIDv7 minted by the gateway, or what the caller chose.
    CallId, "call id"
);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let allowed: fn(char) -> bool = $allowed;
                if text.is_empty() || text.chars().count() > $max || !text.chars().all(allowed) {
                    return Err(InvalidId { kind: $kind });
                }
                Ok(Self(text.into()))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A device of a user, named by the client: at most 64 of `[A-Za-z0-9._-]`. Delivery
    /// positions are kept per device.
    Device, "device name", 64,
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);
text_id!(
    /// A gateway or worker process's stable name: at most 64 of `[A-Za-z0-9._-]`.
    NodeId, "node id", 64,
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);
text_id!(
    /// A content category: a tag of at most 32 of `[a-z0-9_-]`. Its name on the wire never
    /// changes; what people read is its title.
    Category, "category", 32,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-')
);
text_id!(
    /// A group of users: at most 64 of `[a-z0-9_-]`.
    GroupName, "group name", 64,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-')
);
text_id!(
    /// The id a client gave a request, at most 64 characters, none of them a control
    /// character. It makes the request idempotent for the sender.
    ClientId, "request id", 64,
    |c| !c.is_control()
);

impl Default for Device {
    fn default() -> Self {
        Self("default".into())
    }
}

/// Digest of a request's body: the same [`ClientId`] with another digest is a conflict.
/// The first 16 bytes of SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Digest of `body`.
    pub fn of(body: &[u8]) -> Self {
        use sha2::Digest as _;
        let full = sha2::Sha256::digest(body);
        let mut short = [0; 16];
        short.copy_from_slice(&full[..16]);
        Self(short)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
