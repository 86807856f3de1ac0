//! An entry and the frames made of it, shared by every socket of the node.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Deserialize;
use shared::domain::{
    Category, ConversationChange, ConversationId, Entry, Kind, MessageId, Position, Preferences,
    Topic, UserId,
};
use uuid::Uuid;

use super::{frames::Frames, metrics, reveal::Reveal};
use crate::dialect::{DialectId, Feed, Told};

/// An entry whose frame is encoded at most once per dialect and node.
#[derive(Debug)]
pub struct SharedEntry {
    /// As it is kept.
    entry: Entry,
    sealed: Option<Sealed>,
    /// `None` if it cannot be read.
    meaning: OnceLock<Option<Meaning>>,
    frames: Frames,
}

/// What of a body says whom an entry reaches, and who has heard the last by it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meaning {
    /// The tags that preferences look at.
    #[serde(default)]
    categories: Box<[Category]>,
    /// It is in nobody's inbox.
    #[serde(default)]
    uncopied: bool,
    /// Where it was said.
    #[serde(default)]
    conversation_id: Option<ConversationId>,
    /// What changed there.
    #[serde(default)]
    change: Option<Box<ConversationChange>>,
}

/// Who may not hear what follows an entry in the log of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revoked {
    /// This user.
    From(UserId),
    /// Nobody may.
    FromAll,
}

impl SharedEntry {
    /// Nothing is encoded until a socket of the dialect wants it.
    pub fn new(entry: Entry) -> Arc<Self> {
        Self::of(entry, None)
    }

    /// One that has to be revealed before anybody sees it.
    pub(super) fn of(entry: Entry, reveal: Option<Reveal>) -> Arc<Self> {
        let sealed = reveal.map(|reveal| Sealed {
            reveal,
            shown: OnceLock::new(),
        });
        Arc::new(Self {
            entry,
            sealed,
            meaning: OnceLock::new(),
            frames: Frames::default(),
        })
    }

    /// The place of the entry in its topic.
    pub fn position(&self) -> Position {
        self.entry.position
    }

    /// The log it stands in, for a socket.
    pub fn feed(&self) -> Feed {
        Feed::of(self.entry.topic)
    }

    /// What was appended.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The tags that preferences look at. `None` if the entry cannot be read or does not belong
    /// where it stands: then it reaches nobody.
    pub fn tags(&self) -> Option<&[Category]> {
        self.meaning().map(|meaning| &*meaning.categories)
    }

    /// Whether the inboxes of a conversation's participants have it, too.
    pub(super) fn is_copied(&self) -> bool {
        self.is_message() && self.meaning().is_some_and(|meaning| !meaning.uncopied)
    }

    /// Whether it is a message of a conversation, or what became of one, that no inbox has.
    pub(super) fn is_uncopied(&self) -> bool {
        self.is_message() && self.meaning().is_some_and(|meaning| meaning.uncopied)
    }

    fn is_message(&self) -> bool {
        matches!(
            self.entry.kind,
            Kind::MessageNew | Kind::MessageEdited | Kind::MessageDeleted
        )
    }

    /// Whether it says that a user may hear a conversation, or may not: that stands in their own log,
    /// however large the conversation is.
    pub(super) fn is_told_to(&self, user: UserId) -> bool {
        match self.change() {
            Some(ConversationChange::Created | ConversationChange::Unarchived) => true,
            Some(ConversationChange::Joined { user_ids }) => user_ids.contains(&user),
            Some(
                ConversationChange::Left { user_id } | ConversationChange::Removed { user_id },
            ) => *user_id == user,
            _ => false,
        }
    }

    /// Who may not hear what follows it in the log of its conversation.
    pub(super) fn revoked(&self) -> Option<Revoked> {
        match self.change()? {
            ConversationChange::Left { user_id } | ConversationChange::Removed { user_id } => {
                Some(Revoked::From(*user_id))
            }
            ConversationChange::Archived => Some(Revoked::FromAll),
            _ => None,
        }
    }

    /// The conversation that a user may hear from now on, if an entry of their log says so.
    pub(super) fn admits(&self, user: UserId) -> Option<ConversationId> {
        let admits = match self.change()? {
            ConversationChange::Created | ConversationChange::Unarchived => true,
            ConversationChange::Joined { user_ids } => user_ids.contains(&user),
            _ => false,
        };
        self.meaning()?.conversation_id.filter(|_| admits)
    }

    /// Whether it tells that somebody may hear a conversation from now on, or may not any more.
    pub(super) fn moves_people(&self) -> bool {
        use ConversationChange::{Archived, Created, Joined, Left, Removed, Unarchived};
        matches!(
            self.change(),
            Some(Created | Joined { .. } | Left { .. } | Removed { .. } | Archived | Unarchived)
        )
    }

    fn change(&self) -> Option<&ConversationChange> {
        if self.entry.kind != Kind::MessageNew {
            return None;
        }
        self.meaning()?.change.as_deref()
    }

    /// Read once.
    fn meaning(&self) -> Option<&Meaning> {
        let read = || {
            let Entry {
                topic,
                position,
                kind,
                ..
            } = self.entry;
            understand(&self.entry)
                .inspect_err(|reason| {
                    metrics::UNREADABLE.increment(1);
                    tracing::error!(%topic, %position, %kind, reason, "an entry reaches nobody");
                })
                .ok()
        };
        self.meaning.get_or_init(read).as_ref()
    }

    /// What the record is told once a device has it: the command, or nothing (the nil id).
    pub(super) fn receipt(&self) -> MessageId {
        match self.entry.kind {
            Kind::CommandNew => self.entry.id,
            _ => MessageId(Uuid::nil()),
        }
    }

    /// What all sockets of a dialect share of it: the complete WebSocket frame, or all but the head.
    pub fn frame(&self, dialect: DialectId) -> &Bytes {
        self.frames.of(dialect, || Told::Entry(self.shown()))
    }
}

impl SharedEntry {
    /// As clients see it.
    fn shown(&self) -> &Entry {
        match &self.sealed {
            None => &self.entry,
            Some(Sealed { reveal, shown }) => {
                shown.get_or_init(|| Box::new(reveal(self.entry.clone())))
            }
        }
    }
}

/// How an entry is revealed, and what came of it.
struct Sealed {
    reveal: Reveal,
    shown: OnceLock<Box<Entry>>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").finish_non_exhaustive()
    }
}

fn understand(entry: &Entry) -> Result<Meaning, String> {
    let unreadable = |error: serde_json::Error| error.to_string();
    if !entry.body.starts_with(b"{") {
        return Err("the body is no object".to_owned());
    }
    match (entry.topic, entry.kind) {
        (Topic::User(_) | Topic::Broadcast, Kind::CommandNew | Kind::CommandStatus)
        | (
            Topic::User(_) | Topic::Conversation(_),
            Kind::MessageNew | Kind::MessageEdited | Kind::MessageDeleted,
        )
        | (Topic::Conversation(_), Kind::MessageDelivered | Kind::MessageRead) => {
            serde_json::from_slice(&entry.body).map_err(unreadable)
        }
        (Topic::User(_), Kind::Notification) => Ok(Meaning::default()),
        (Topic::User(_), Kind::Preferences) => serde_json::from_slice::<Preferences>(&entry.body)
            .map(|_| Meaning::default())
            .map_err(unreadable),
        _ => Err("this kind does not belong here".to_owned()),
    }
}
