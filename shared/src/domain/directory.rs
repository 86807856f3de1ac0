//! What administrators manage, as far as nodes have to hear of it.

use serde::{Deserialize, Serialize};

use super::{SessionId, UserId};

/// Something changed. The record has what it is now: who hears this looks there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "what",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum DirectoryChange {
    /// Categories were made, renamed or retired.
    Categories,
    /// A group's rights changed, and so those of all its members.
    Groups,
    /// A user's name, role, status or groups changed. Sockets of a banned user close.
    User {
        /// Which user.
        user_id: UserId,
    },
    /// A session has to end.
    Disconnect {
        /// Which session.
        session_id: SessionId,
    },
    /// Something was missed: look at everything. Never stored.
    Everything,
}
