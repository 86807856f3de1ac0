//! What was said before, in pages, with what was said just now: the record's page, and over it
//! whatever stands in the conversation's log behind the place up to which the record has it.
//!
//! Ids of messages grow in the order of their conversation, so a page is told by the id it begins
//! behind, and nothing is skipped or told twice however much is written meanwhile.

use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::Duration};

use serde::Serialize;
use shared::{
    domain::{
        Code, ConversationChange, ConversationId, Entry, FileRef, Kind, MessageBody,
        MessageDeleted, MessageEdited, MessageId, MessageStatus, MessageType, Position, Refusal,
        SenderType, Timestamp, Topic, UserId,
    },
    postgres::{HistoryFrom, LowestPointers, StoredMessage},
    redis::Page,
};

use crate::{
    app::{App, conversations::participant},
    fanout::{postgres_refusal, store_refusal},
};

/// Entries of the log that are read at a time.
const CHUNK: u32 = 256;
/// Bytes of entries that are read at most: the record is a second behind, seldom more.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// How often the record is asked again because Redis has let go of what it did not have a moment ago.
const TRIES: usize = 3;

/// Where a page begins, as clients are given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryCursor(pub HistoryFrom);

impl std::fmt::Display for HistoryCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            HistoryFrom::Newest => f.write_str("newest"),
            HistoryFrom::Before(id) => write!(f, "before:{id}"),
            HistoryFrom::After(id) => write!(f, "after:{id}"),
        }
    }
}

impl FromStr for HistoryCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (direction, id) = text.split_once(':').ok_or(())?;
        let id: MessageId = id.parse().map_err(|_| ())?;
        match direction {
            "before" => Ok(Self(HistoryFrom::Before(id))),
            "after" => Ok(Self(HistoryFrom::After(id))),
            _ => Err(()),
        }
    }
}

/// A message as clients see it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    /// Which.
    pub id: MessageId,
    /// Where it was said.
    pub conversation_id: ConversationId,
    /// Who sent it.
    pub sender_id: UserId,
    /// The sender's name when it was sent.
    pub sender_name: String,
    /// What the sender is.
    pub sender_type: SenderType,
    /// The text; empty once it is deleted.
    pub content: String,
    /// What it is.
    pub message_type: MessageType,
    /// How far it has come.
    pub status: MessageStatus,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub edited_at: Option<Timestamp>,
    /// Whether it was taken away.
    pub is_deleted: bool,
    /// Files that come with it.
    pub files: Vec<FileRef>,
    /// What changed, in a system message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<ConversationChange>,
}

/// A page of messages.
#[derive(Debug)]
pub struct HistoryPage {
    /// Newest first, or, after a message, oldest first.
    pub items: Vec<MessageView>,
    /// Where it goes on.
    pub next: Option<HistoryCursor>,
}

/// A page of a conversation, for somebody who takes part in it.
pub async fn page(
    app: &Arc<App>,
    user: UserId,
    conversation: ConversationId,
    from: HistoryFrom,
    limit: u32,
) -> Result<HistoryPage, Refusal> {
    // Also what was archived may be read; what one has left may not.
    let members = app.conversations.read_again(conversation).await?;
    participant(&members, user)?;
    page_for_anybody(app, conversation, from, limit).await
}

async fn page_for_anybody(
    app: &Arc<App>,
    conversation: ConversationId,
    from: HistoryFrom,
    limit: u32,
) -> Result<HistoryPage, Refusal> {
    let (stored, news) = read(app, conversation, from, limit + 1).await?;
    let pointers = app.postgres.lowest_pointers(conversation).await;
    let pointers = pointers.map_err(|error| postgres_refusal(&error))?;
    let mut found = BTreeMap::new();
    for message in stored {
        let view = of_record(app, message, &pointers);
        found.insert(view.id, view);
    }
    for entry in &news {
        lay_over(app, &mut found, entry, from, &pointers);
    }
    let mut items: Vec<MessageView> = found.into_values().collect();
    let goes_back = !matches!(from, HistoryFrom::After(_));
    if goes_back {
        items.reverse();
    }
    let has_more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| has_more).map(|last| {
        HistoryCursor(if goes_back {
            HistoryFrom::Before(last.id)
        } else {
            HistoryFrom::After(last.id)
        })
    });
    Ok(HistoryPage { items, next })
}

/// One message as it reads now, for somebody who may see it; nothing if the conversation has no such
/// message.
pub async fn one(
    app: &Arc<App>,
    conversation: ConversationId,
    id: MessageId,
) -> Result<Option<MessageView>, Refusal> {
    let before = id.0.as_u128().checked_sub(1);
    let after = MessageId(uuid::Uuid::from_u128(before.unwrap_or_default()));
    let page = page_for_anybody(app, conversation, HistoryFrom::After(after), 1).await?;
    Ok(page.items.into_iter().find(|message| message.id == id))
}

/// What the record has, and what the log has behind that.
async fn read(
    app: &App,
    conversation: ConversationId,
    from: HistoryFrom,
    limit: u32,
) -> Result<(Vec<StoredMessage>, Vec<Entry>), Refusal> {
    let mut tries = 0;
    loop {
        tries += 1;
        let read = app.postgres.history(conversation, from, limit).await;
        let (stored, written) = read.map_err(|error| postgres_refusal(&error))?;
        if let Some(news) = behind(app, conversation, written, tries == TRIES).await? {
            return Ok((stored, news));
        }
    }
}

/// Everything that the log has behind a position. `None` if Redis has let go of some of it, which
/// then is in the record by now; what Redis never had is missing only for a reader that `insists`.
pub(super) async fn behind(
    app: &App,
    conversation: ConversationId,
    written: Position,
    insists: bool,
) -> Result<Option<Vec<Entry>>, Refusal> {
    let topic = Topic::Conversation(conversation);
    let (mut at, mut news) = (written, Vec::new());
    let mut room = MOST_BYTES;
    loop {
        let page = app.store.read(topic, at, CHUNK).await;
        match page.map_err(|error| store_refusal(&error))? {
            Page::Entries { entries, end, head } => {
                let bytes: usize = entries.iter().map(|entry| entry.body.len() + 256).sum();
                news.extend(entries);
                if end >= head || end <= at {
                    break;
                }
                at = end;
                room = room.checked_sub(bytes).ok_or_else(|| {
                    Refusal::new(Code::Unavailable, "the record is too far behind")
                        .retry_after(Duration::from_secs(5))
                })?;
            }
            Page::Cold { .. } if !insists => return Ok(None),
            Page::Cold { first, head } => {
                let before_first = Position {
                    offset: first.offset.saturating_sub(1),
                    ..first
                };
                if before_first <= at || first > head {
                    break;
                }
                at = before_first;
            }
            Page::Reset { .. } => break,
        }
    }
    Ok(Some(news))
}

pub(super) fn of_record(
    app: &App,
    message: StoredMessage,
    pointers: &LowestPointers,
) -> MessageView {
    let mut view = view(app, message.id, message.created_at, message.body, pointers);
    view.edited_at = message.edited_at;
    view.is_deleted = message.deleted_at.is_some();
    view
}

fn view(
    app: &App,
    id: MessageId,
    at: Timestamp,
    body: MessageBody,
    pointers: &LowestPointers,
) -> MessageView {
    let content = shown(
        app,
        body.conversation_id,
        &body.content,
        body.sealed.as_deref(),
    );
    MessageView {
        id,
        conversation_id: body.conversation_id,
        sender_id: body.sender_id,
        sender_name: body.sender_name,
        sender_type: body.sender_type,
        content,
        message_type: body.message_type,
        status: pointers.status(id, body.sender_id),
        created_at: at,
        edited_at: None,
        is_deleted: false,
        files: body.files,
        change: body.change,
    }
}

fn shown(app: &App, id: ConversationId, content: &str, sealed: Option<&str>) -> String {
    app.texts.show(id, content, sealed)
}

/// What an entry that the record does not have yet makes of the page.
pub(super) fn lay_over(
    app: &App,
    found: &mut BTreeMap<MessageId, MessageView>,
    entry: &Entry,
    from: HistoryFrom,
    pointers: &LowestPointers,
) {
    match entry.kind {
        Kind::MessageNew => {
            let is_asked_for = match from {
                HistoryFrom::Newest => true,
                HistoryFrom::Before(id) => entry.id < id,
                HistoryFrom::After(id) => entry.id > id,
            };
            if let Some(body) = parse::<MessageBody>(entry).filter(|_| is_asked_for) {
                let view = view(app, entry.id, entry.at, body, pointers);
                found.entry(entry.id).or_insert(view);
            }
        }
        Kind::MessageEdited => {
            let Some(edited) = parse::<MessageEdited>(entry) else {
                return;
            };
            let message = found.get_mut(&edited.message_id);
            if let Some(message) = message.filter(|message| !message.is_deleted) {
                let MessageEdited {
                    conversation_id,
                    content,
                    sealed,
                    ..
                } = edited;
                message.content = shown(app, conversation_id, &content, sealed.as_deref());
                message.edited_at = Some(entry.at);
            }
        }
        Kind::MessageDeleted => {
            let deleted = parse::<MessageDeleted>(entry);
            if let Some(message) = deleted.and_then(|it| found.get_mut(&it.message_id)) {
                message.content.clear();
                message.files.clear();
                message.edited_at = None;
                message.is_deleted = true;
            }
        }
        _ => {}
    }
}

fn parse<T: serde::de::DeserializeOwned>(entry: &Entry) -> Option<T> {
    serde_json::from_slice(&entry.body).ok()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        for from in [
            HistoryFrom::Before(MessageId(Uuid::from_u128(5))),
            HistoryFrom::After(MessageId(Uuid::from_u128(6))),
        ] {
            let text = HistoryCursor(from).to_string();
            assert_eq!(text.parse(), Ok(HistoryCursor(from)));
        }
        for wrong in ["", "newest", "before", "before:x", "behind:5"] {
            assert_eq!(wrong.parse::<HistoryCursor>(), Err(()), "{wrong}");
        }
    }
}
