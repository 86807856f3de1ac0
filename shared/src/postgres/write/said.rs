//! What entries of conversations' logs say, and their copies in users' logs.

use time::Date;

use super::fact::{self, What};
use crate::domain::{
    ConversationId, CopyReference, Entry, Kind, MessageBody, MessageDeleted, MessageEdited,
    MessageId, MessageReceipt, Timestamp, UserId,
};

const DAY_MS: i64 = 86_400_000;

/// What an entry of a conversation's log says.
#[derive(Debug)]
pub(super) enum Said {
    /// A message.
    New(Box<MessageBody>),
    /// That a message reads otherwise.
    Edited(MessageEdited),
    /// That a message is gone.
    Deleted(MessageDeleted),
    /// How far somebody has received or read.
    Upto {
        user: UserId,
        message: MessageId,
        is_read: bool,
    },
    /// Something about a message of a day that is gone.
    Nothing,
}

impl Said {
    /// Which older message it changes.
    pub(super) fn changes(&self) -> Option<MessageId> {
        match self {
            Self::Edited(edited) => Some(edited.message_id),
            Self::Deleted(deleted) => Some(deleted.message_id),
            Self::New(_) | Self::Upto { .. } | Self::Nothing => None,
        }
    }

    /// The day of the message it changes.
    pub(super) fn day_told_of(&self) -> Option<Date> {
        Some(fact::day_of(self.changes()?.0))
    }
}

/// The meaning of an entry of a conversation's log.
pub(super) fn read<'a>(
    entry: &'a Entry,
    conversation: ConversationId,
    body: &'a str,
) -> Result<What<'a>, String> {
    let (said, names) = match entry.kind {
        Kind::MessageNew => {
            let body: MessageBody = fact::parse(body)?;
            let names = body.conversation_id;
            (Said::New(Box::new(body)), names)
        }
        Kind::MessageEdited => {
            let body: MessageEdited = fact::parse(body)?;
            let names = body.conversation_id;
            (Said::Edited(body), names)
        }
        Kind::MessageDeleted => {
            let body: MessageDeleted = fact::parse(body)?;
            let names = body.conversation_id;
            (Said::Deleted(body), names)
        }
        Kind::MessageDelivered | Kind::MessageRead => {
            let body: MessageReceipt = fact::parse(body)?;
            let message = body.furthest().ok_or("a receipt names no message")?;
            let said = Said::Upto {
                user: body.user_id,
                message,
                is_read: entry.kind == Kind::MessageRead,
            };
            (said, body.conversation_id)
        }
        kind => return Err(format!("{kind} does not belong into a conversation")),
    };
    if names != conversation {
        return Err("it stands in the log of another conversation".to_owned());
    }
    if said.changes().is_some_and(|id| is_of_the_future(id, entry)) {
        return Err("changes a message that cannot be".to_owned());
    }
    Ok(What::Said {
        entry,
        conversation,
        said,
    })
}

/// The meaning of a copy in a user's log.
pub(super) fn read_copy<'a>(
    entry: &'a Entry,
    user: UserId,
    body: &str,
) -> Result<What<'a>, String> {
    let of: CopyReference = fact::parse(body)?;
    Ok(What::Copied { entry, user, of })
}

/// No message was minted later than its change was accepted; the clocks of two shards may differ.
fn is_of_the_future(message: MessageId, entry: &Entry) -> bool {
    Timestamp(fact::minted(message.0)) > Timestamp(entry.at.0.saturating_add(DAY_MS))
}
