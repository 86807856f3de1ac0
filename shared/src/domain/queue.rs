//! A user's log, for clients that take it apart.

use std::fmt;

use super::Kind;

/// One of the queues that a user's log consists of, for clients that ask for some of them. Each
/// device has a cursor of its own in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Commands, their states and their ends; also commands for many.
    Commands,
    /// What was said in the user's conversations.
    Messages,
    /// Everything else.
    Notifications,
}

impl Queue {
    /// All of them, in the order of [`Queue::index`].
    pub const ALL: [Self; 3] = [Self::Commands, Self::Messages, Self::Notifications];

    /// From 0.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The queue that entries of a kind stand in, in a user's log.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::CommandNew | Kind::CommandStatus => Self::Commands,
            Kind::MessageNew
            | Kind::MessageEdited
            | Kind::MessageDeleted
            | Kind::MessageDelivered
            | Kind::MessageRead => Self::Messages,
            Kind::Preferences | Kind::Notification | Kind::DirectoryChange | Kind::Revocation => {
                Self::Notifications
            }
        }
    }

    /// The name in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Messages => "messages",
            Self::Notifications => "notifications",
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
