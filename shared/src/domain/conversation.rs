//! Conversations: who takes part, what is said, and what changed.

use std::{fmt, num::NonZeroU64, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ConversationId, FileRef, MessageId, Timestamp, UserId};

/// Most message ids that a receipt may name.
pub const MAX_RECEIPT_MESSAGES: usize = 200;
/// Longest title of a conversation, in characters.
pub const MAX_TITLE: usize = 200;

/// A word that is none of an enumeration's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown word")]
pub struct UnknownWord;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$of])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word on the wire and in Postgres.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text { $($word => Ok(Self::$variant),)+ _ => Err(UnknownWord) }
            }
        }
    };
}

words!(
    /// What sort of conversation it is.
    ConversationType {
        /// Of two users: there is one for each pair, and nobody joins or leaves it.
        Direct = "DIRECT",
        /// Of any number.
        Group = "GROUP",
    }
);
words!(
    /// What a participant may do.
    ParticipantRole {
        /// Writes and reads.
        Member = "MEMBER",
        /// Also manages the group: its title, its participants, what others wrote.
        Admin = "ADMIN",
    }
);
words!(
    /// Who sent a message.
    SenderType {
        /// A person.
        User = "USER",
        /// The server itself, about what somebody changed.
        System = "SYSTEM",
        /// A program, with an API key.
        Bot = "BOT",
    }
);
words!(
    /// What a message is.
    MessageType {
        /// Something to read.
        Text = "TEXT",
        /// A file, with or without words.
        File = "FILE",
        /// A picture, with or without words.
        Image = "IMAGE",
        /// What changed in the conversation; only the server sends these.
        System = "SYSTEM",
    }
);
words!(
    /// How far a message has come: what every participant but its sender has confirmed.
    MessageStatus {
        /// Accepted.
        Sent = "SENT",
        /// Every participant has received it.
        Delivered = "DELIVERED",
        /// Every participant has read it.
        Read = "READ",
    }
);

/// The body of a `message.new` entry, as stored: the JSON of this struct. In the conversation's
/// own log the entry's id and time are the message's; a copy in a participant's inbox carries
/// both, since there the time of the entry is that of copying.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageBody {
    /// The message; only in copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// When it was accepted; only in copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Where it was said.
    pub conversation_id: ConversationId,
    /// Who sent it; of a system message, who caused it.
    pub sender_id: UserId,
    /// The sender's name when it was sent.
    pub sender_name: String,
    /// What the sender is.
    pub sender_type: SenderType,
    /// The text, or what [`MessageBody::sealed`] says of it.
    pub content: String,
    /// The id of the key that `content` is encrypted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// What it is.
    pub message_type: MessageType,
    /// Files that come with it.
    pub files: Vec<FileRef>,
    /// True if it is not copied to inboxes, for the conversation is too large: participants get
    /// it from the conversation's log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncopied: bool,
    /// What changed, in a system message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ConversationChange>,
}

impl MessageBody {
    /// The system message of a change, for who takes part after it. Nobody's doing where `by` is
    /// nobody. `inbox_max_members`: of a larger conversation nothing is copied.
    pub fn of_change(
        change: &ConversationChange,
        members: &Members,
        by: Option<(UserId, &str)>,
        inbox_max_members: u32,
    ) -> Self {
        let (sender_id, sender_name) = by.unwrap_or((UserId(Uuid::nil()), ""));
        Self {
            message_id: None,
            created_at: None,
            conversation_id: members.conversation,
            sender_id,
            sender_name: sender_name.to_owned(),
            sender_type: SenderType::System,
            content: String::new(),
            sealed: None,
            message_type: MessageType::System,
            files: Vec::new(),
            uncopied: members.present().count() > inbox_max_members as usize,
            change: Some(change.clone()),
        }
    }
}

/// What changed in a conversation. Nodes that hear it drop the subscriptions of whoever lost the
/// right to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "what",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ConversationChange {
    /// It was made.
    Created,
    /// Somebody brought users in.
    Joined {
        /// Whom.
        user_ids: Vec<UserId>,
    },
    /// A participant left.
    Left {
        /// Who.
        user_id: UserId,
    },
    /// A participant was removed.
    Removed {
        /// Who.
        user_id: UserId,
    },
    /// It has another title.
    Renamed {
        /// The new one.
        title: String,
    },
    /// A participant may do more, or less.
    Role {
        /// Who.
        user_id: UserId,
        /// What they are now.
        role: ParticipantRole,
    },
    /// A participant may not write for a while, or may again.
    Muted {
        /// Who.
        user_id: UserId,
        /// Until when; absent if they may again.
        until: Option<Timestamp>,
    },
    /// It can be read, and not be written to.
    Archived,
    /// It can be written to again.
    Unarchived,
}

/// The body of a `message.edited` entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageEdited {
    /// Which message.
    pub message_id: MessageId,
    /// Where it was said.
    pub conversation_id: ConversationId,
    /// Who changed it.
    pub edited_by: UserId,
    /// The text it has now, or what `sealed` says of it.
    pub content: String,
    /// The id of the key that `content` is encrypted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// When; only in copies, elsewhere it is the time of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Timestamp>,
    /// As [`MessageBody::uncopied`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncopied: bool,
}

/// The body of a `message.deleted` entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageDeleted {
    /// Which message.
    pub message_id: MessageId,
    /// Where it was said.
    pub conversation_id: ConversationId,
    /// Who deleted it.
    pub deleted_by: UserId,
    /// When; only in copies, elsewhere it is the time of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// As [`MessageBody::uncopied`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncopied: bool,
}

/// The body of a `message.delivered` or `message.read` entry. Has `message_ids` or `up_to`; a
/// participant who has one message has all before it, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageReceipt {
    /// In which conversation.
    pub conversation_id: ConversationId,
    /// These messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_ids: Option<Vec<MessageId>>,
    /// Every message up to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<MessageId>,
    /// Who has them.
    pub user_id: UserId,
}

impl MessageReceipt {
    /// The furthest message it names. Ids grow in the order of the conversation.
    pub fn furthest(&self) -> Option<MessageId> {
        let named = self.message_ids.iter().flatten().copied();
        named.chain(self.up_to).max()
    }
}

/// What the record is told of a copy in an inbox, instead of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyReference {
    /// The message that was sent, edited or deleted.
    pub message_id: MessageId,
    /// Where it was said.
    pub conversation_id: ConversationId,
}

/// Who takes part in a conversation, as the record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// Which conversation.
    pub conversation: ConversationId,
    /// What sort.
    pub kind: ConversationType,
    /// Rises with every change of anything in here. Redis knows it, too, and takes an entry only
    /// from whoever decided by the present one.
    pub version: u64,
    /// Whether it can be read only.
    pub is_archived: bool,
    /// Everybody who takes part, and who did lately; in the order of their ids.
    pub all: Vec<Member>,
}

/// One who takes part in a conversation, or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: ParticipantRole,
    /// The version of the conversation from which on they take part.
    pub joined: u64,
    /// The version from which on they do not. Versions count from 1; so it takes half the room, and
    /// every node keeps many of these.
    pub left: Option<NonZeroU64>,
    /// They may not write until then.
    pub muted_until: Option<Timestamp>,
}

impl Members {
    /// A user who takes part now.
    pub fn get(&self, user: UserId) -> Option<&Member> {
        let index = self.all.binary_search_by_key(&user, |it| it.user).ok()?;
        self.all.get(index).filter(|it| it.left.is_none())
    }

    /// Everybody who takes part now.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        self.all.iter().filter(|it| it.left.is_none())
    }

    /// Everybody who took part when the conversation had this version.
    pub fn at(&self, version: u64) -> impl Iterator<Item = &Member> {
        let took_part = move |it: &&Member| {
            it.joined <= version && it.left.is_none_or(|left| left.get() > version)
        };
        self.all.iter().filter(took_part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_took_part_is_known_for_every_version() {
        let user = |n| UserId(Uuid::from_u128(n));
        let member = |n, joined, left| Member {
            user: user(n),
            role: ParticipantRole::Member,
            joined,
            left,
            muted_until: None,
        };
        let members = Members {
            conversation: ConversationId(Uuid::nil()),
            kind: ConversationType::Group,
            version: 4,
            is_archived: false,
            all: vec![
                member(1, 1, None),
                member(2, 1, NonZeroU64::new(3)),
                member(3, 2, None),
            ],
        };
        let at = |version| members.at(version).map(|it| it.user).collect::<Vec<_>>();
        assert_eq!(at(1), [user(1), user(2)]);
        assert_eq!(at(2), [user(1), user(2), user(3)]);
        assert_eq!(at(3), [user(1), user(3)]);
        assert!(members.get(user(2)).is_none());
        assert_eq!(members.present().count(), 2);
    }

    #[test]
    fn a_receipt_reaches_as_far_as_the_last_message_it_names() {
        let id = |n| MessageId(Uuid::from_u128(n));
        let mut receipt = MessageReceipt {
            conversation_id: ConversationId(Uuid::nil()),
            message_ids: Some(vec![id(3), id(7), id(5)]),
            up_to: None,
            user_id: UserId(Uuid::nil()),
        };
        assert_eq!(receipt.furthest(), Some(id(7)));
        (receipt.message_ids, receipt.up_to) = (None, Some(id(2)));
        assert_eq!(receipt.furthest(), Some(id(2)));
    }
}
