//! What was said, as the record has it.

use serde::Deserialize;
use sqlx::Row;
use uuid::Uuid;

use super::{PgError, Postgres, rows};
use crate::domain::{
    ConversationId, Entry, Kind, MessageBody, MessageDeleted, MessageEdited, MessageId,
    MessageType, Position, SenderType, Timestamp, Topic, UserId,
};

/// A message as it reads now.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// Its id.
    pub id: MessageId,
    /// Its place in the conversation's log.
    pub position: Position,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was last changed; nothing of one that was deleted.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted: its body has neither content nor files then.
    pub deleted_at: Option<Timestamp>,
    /// Who deleted it, or else changed it last.
    pub changed_by: Option<UserId>,
    /// As in the conversation's log: without id and time.
    pub body: MessageBody,
}

/// Where a page of a conversation's history begins; the message itself is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// At the newest, going back.
    Newest,
    /// Before this message, going back.
    Before(MessageId),
    /// After this message, going forward.
    After(MessageId),
}

/// A page of a conversation, and how far its log is written; of one moment.
const HISTORY: &str = r#"
    SELECT c.epoch, c."offset", m.message FROM conversations c LEFT JOIN LATERAL (
        SELECT row_to_json(found)::text AS message
        FROM messages_between($1, $2, $3, $4, $5) AS found
    ) AS m ON true WHERE c.id = $1"#;

impl Postgres {
    /// A page of a conversation: newest first, or, after a message, oldest first. Also those that were
    /// deleted. With it how far the conversation's log is written: what follows is in Redis only.
    pub async fn history(
        &self,
        conversation: ConversationId,
        from: HistoryFrom,
        limit: u32,
    ) -> Result<(Vec<StoredMessage>, Position), PgError> {
        let (after, before, newest_first) = match from {
            HistoryFrom::Newest => (Uuid::nil(), Uuid::max(), true),
            HistoryFrom::Before(id) => (Uuid::nil(), id.0, true),
            HistoryFrom::After(id) => (id.0, Uuid::max(), false),
        };
        let rows = sqlx::query(HISTORY)
            .bind(conversation.0)
            .bind(after)
            .bind(before)
            .bind(newest_first)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        let Some(first) = rows.first() else {
            return Ok((Vec::new(), Position::START));
        };
        let written = rows::position(first)?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(message) = row.try_get::<Option<&str>, _>("message")? {
                page.push(read(message)?);
            }
        }
        Ok((page, written))
    }

    /// The message with this id, in whichever conversation.
    pub async fn message(&self, id: MessageId) -> Result<Option<StoredMessage>, PgError> {
        let found: Option<String> =
            sqlx::query_scalar("SELECT row_to_json(found)::text FROM message_of($1) AS found")
                .bind(id.0)
                .fetch_optional(&self.pool)
                .await?;
        found.as_deref().map(read).transpose()
    }

    /// What left Redis: messages of the conversation's log in `(after, before)`, oldest first, as
    /// they read now, without those that were deleted.
    pub async fn messages_between(
        &self,
        conversation: ConversationId,
        after: Position,
        before: Position,
        limit: u32,
    ) -> Result<Vec<Entry>, PgError> {
        let found: Vec<String> = sqlx::query_scalar(
            "SELECT row_to_json(found)::text FROM messages_in_log($1, $2, $3, $4, $5, $6) AS found",
        )
        .bind(conversation.0)
        .bind(after.epoch as i64)
        .bind(after.offset as i64)
        .bind(before.epoch as i64)
        .bind(before.offset as i64)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let entries = found.iter().map(|message| {
            let message = read(message)?;
            Ok(Entry {
                topic: Topic::Conversation(conversation),
                position: message.position,
                id: message.id,
                kind: Kind::MessageNew,
                at: message.created_at,
                body: json(&message.body)?.into(),
            })
        });
        entries.collect()
    }
}

impl StoredMessage {
    /// What the copy of an entry about this message tells now: kind and body. A message that was
    /// deleted since is told as that.
    pub(super) fn as_copy(&self, kind: Kind) -> Result<(Kind, Vec<u8>), PgError> {
        let conversation_id = self.body.conversation_id;
        let changed_by = self.changed_by.unwrap_or(self.body.sender_id);
        if let Some(at) = self.deleted_at {
            let body = MessageDeleted {
                message_id: self.id,
                conversation_id,
                deleted_by: changed_by,
                deleted_at: Some(at),
                uncopied: false,
            };
            return Ok((Kind::MessageDeleted, json(&body)?));
        }
        if kind == Kind::MessageEdited {
            let body = MessageEdited {
                message_id: self.id,
                conversation_id,
                edited_by: changed_by,
                content: self.body.content.clone(),
                sealed: self.body.sealed.clone(),
                edited_at: Some(self.edited_at.unwrap_or(self.created_at)),
                uncopied: false,
            };
            return Ok((Kind::MessageEdited, json(&body)?));
        }
        let body = MessageBody {
            message_id: Some(self.id),
            created_at: Some(self.created_at),
            ..self.body.clone()
        };
        Ok((Kind::MessageNew, json(&body)?))
    }
}

fn json(body: &impl serde::Serialize) -> Result<Vec<u8>, PgError> {
    serde_json::to_vec(body).map_err(undecodable)
}

fn undecodable(error: serde_json::Error) -> PgError {
    PgError::Unexpected(sqlx::Error::Decode(error.into()))
}

/// A row of `messages` as Postgres writes it in JSON.
#[derive(Deserialize)]
struct MessageRow {
    id: MessageId,
    conversation_id: ConversationId,
    sender_id: UserId,
    sender_name: String,
    sender_type: SenderType,
    message_type: MessageType,
    content: String,
    sealed: Option<String>,

    files: String,
    change: Option<String>,
    uncopied: bool,
    epoch: u64,
    offset: u64,
    created_at: Timestamp,
    changed_by: Option<UserId>,
    edited_at: Option<Timestamp>,
    deleted_at: Option<Timestamp>,
}

/// Reads a row that has a sender.
pub(super) fn read(row: &str) -> Result<StoredMessage, PgError> {
    let row: MessageRow = serde_json::from_str(row).map_err(undecodable)?;
    let change = row.change.as_deref().map(serde_json::from_str);
    Ok(StoredMessage {
        id: row.id,
        position: Position {
            epoch: row.epoch,
            offset: row.offset,
        },
        created_at: row.created_at,
        edited_at: row.edited_at,
        deleted_at: row.deleted_at,
        changed_by: row.changed_by,
        body: MessageBody {
            message_id: None,
            created_at: None,
            conversation_id: row.conversation_id,
            sender_id: row.sender_id,
            sender_name: row.sender_name,
            sender_type: row.sender_type,
            content: row.content,
            sealed: row.sealed,
            message_type: row.message_type,
            files: serde_json::from_str(&row.files).map_err(undecodable)?,
            uncopied: row.uncopied,
            change: change.transpose().map_err(undecodable)?,
        },
    })
}
