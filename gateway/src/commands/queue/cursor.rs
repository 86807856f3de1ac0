//! Where an answer goes on. Opaque to clients.

use std::fmt;

use shared::domain::{MessageId, Position};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// Behind these positions of the two logs.
    After(Places),
    /// Before a command, in the record.
    Before(MessageId),
}

/// How far the two logs were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// In the user's own.
    pub(super) own: Position,
    /// In that of broadcasts.
    pub(super) broadcasts: Position,
}

impl Cursor {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (sort, place) = text.split_at_checked(1)?;
        match sort {
            "p" => {
                let (own, broadcasts) = place.split_once('_')?;
                Some(Self::After(Places {
                    own: own.parse().ok()?,
                    broadcasts: broadcasts.parse().ok()?,
                }))
            }
            "r" => place.parse().ok().map(Self::Before),
            _ => None,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(Places { own, broadcasts }) => write!(f, "p{own}_{broadcasts}"),
            Self::Before(id) => write!(f, "r{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for text in [
            "p0:0_7:9",
            "p1:2_0:0",
            "r01a1fd86-61af-76d9-8440-6bfc8ca125e5",
        ] {
            let cursor = Cursor::parse(text).map(|cursor| cursor.to_string());
            assert_eq!(cursor.as_deref(), Some(text));
        }
        for wrong in ["", "é", "p7", "p7:9", "p7:9_", "p_7:9", "p7:9_é", "r7:9"] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
