//! Conversations as a participant sees them.

use std::collections::HashMap;

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{PgError, Postgres, StoredMessage, conversations, messages, rows};
use crate::domain::{
    ConversationId, ConversationType, MessageId, ParticipantRole, Position, Timestamp, UserId,
};

/// Unread messages are counted up to here: more is many.
const MOST_UNREAD: i64 = 1000;

/// A conversation for one of its participants, as far as its log is written.
#[derive(Debug, Clone)]
pub struct ConversationRecord {
    /// Which.
    pub id: ConversationId,
    /// What sort.
    pub kind: ConversationType,
    /// What people call it.
    pub title: Option<String>,
    /// Who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// Whether it can be read only.
    pub is_archived: bool,
    /// Rises with every change.
    pub version: u64,
    /// When something was said last.
    pub active_at: Timestamp,
    /// Who takes part, in the order of their ids; not all where they are many.
    pub participants: Vec<Participant>,
    /// How many take part.
    pub participant_count: u32,
    /// How many messages of others the participant has not read; 1000 stands for more, too. System
    /// messages do not count, nor what was deleted.
    pub unread: u32,
    /// Everything up to here counts as read: what unread messages in Redis are counted from.
    pub read_upto: MessageId,
    /// What was said last.
    pub last_message: Option<StoredMessage>,
    /// How far the log is written: what follows is in Redis only.
    pub written: Position,
}

/// Who takes part, for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// Who.
    pub user: UserId,
    /// The name they log in with.
    pub username: String,
    /// What they may do.
    pub role: ParticipantRole,
    /// Since when they take part.
    pub joined_at: Timestamp,
    /// The last message they have read.
    pub last_read: Option<MessageId>,
}

/// A place in a list of conversations: behind this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversationCursor {
    /// When something was said in it last, then.
    pub active_at: Timestamp,
    /// Which.
    pub id: ConversationId,
}

impl ConversationRecord {
    /// The place behind it.
    pub fn cursor(&self) -> ConversationCursor {
        ConversationCursor {
            active_at: self.active_at,
            id: self.id,
        }
    }
}

/// What is told of each conversation `c`, for the participant `$1` whose pointer is `upto`.
macro_rules! columns {
    () => {
        r#"c.id, c.type, c.title, c.created_by, c.created_at, c.archived_at, c.version, c.active_at, c.epoch,
           c."offset", c.upto, unread_messages(c.id, $1, c.upto, $2) AS unread,
           (SELECT row_to_json(m)::text FROM message_of(c.last_message) AS m) AS last_message,
           (SELECT count(*) FROM conversation_participants p
            WHERE p.conversation_id = c.id AND p.left_version IS NULL) AS participant_count"#
    };
}

/// A page of somebody's conversations. Each is found by its key; those that the user takes part in are
/// put in order, no others.
pub const CONVERSATIONS_OF: &str = concat!(
    r#"WITH page AS MATERIALIZED (
        SELECT c.*, greatest(p.last_read, p.since) AS upto
        FROM conversation_participants p, LATERAL (
            SELECT * FROM conversations WHERE id = p.conversation_id OFFSET 0
        ) AS c
        WHERE p.user_id = $1 AND p.left_version IS NULL AND (c.active_at, c.id) < ($3, $4)
        ORDER BY c.active_at DESC, c.id DESC LIMIT $5
    ) SELECT "#,
    columns!(),
    " FROM page c ORDER BY c.active_at DESC, c.id DESC"
);

/// One of them, whether the user takes part or not: then nothing is unread.
pub const CONVERSATION: &str = concat!(
    r#"WITH page AS MATERIALIZED (
        SELECT c.*, coalesce(greatest(p.last_read, p.since), $4) AS upto
        FROM conversations c LEFT JOIN LATERAL (
            SELECT * FROM conversation_participants WHERE conversation_id = c.id AND user_id = $1 OFFSET 0
        ) AS p ON p.left_version IS NULL
        WHERE c.id = $3
    ) SELECT "#,
    columns!(),
    " FROM page c"
);

/// At most so many of each, along the key: what is left out later does not tempt the planner to another
/// index.
pub const PARTICIPANTS: &str = "SELECT p.conversation_id, p.user_id, u.username, p.role, p.joined_at, p.last_read \
     FROM unnest($1::uuid[]) AS asked(id), LATERAL ( \
         SELECT * FROM ( \
             SELECT * FROM conversation_participants WHERE conversation_id = asked.id \
             ORDER BY conversation_id, user_id OFFSET 0 \
         ) AS everybody WHERE left_version IS NULL LIMIT $2 \
     ) AS p, LATERAL (SELECT username FROM users WHERE id = p.user_id OFFSET 0) AS u";

impl Postgres {
    /// A conversation as this user sees it, with at most so many participants. It is for the caller
    /// to know whether the user may.
    pub async fn conversation(
        &self,
        conversation: ConversationId,
        user: UserId,
        participants: u32,
    ) -> Result<Option<ConversationRecord>, PgError> {
        let row = sqlx::query(CONVERSATION)
            .bind(user.0)
            .bind(MOST_UNREAD)
            .bind(conversation.0)
            .bind(Uuid::max())
            .fetch_optional(&self.pool)
            .await?;
        let mut found: Vec<_> = row.iter().map(record).collect::<Result<_, _>>()?;
        self.add_participants(&mut found, participants).await?;
        Ok(found.pop())
    }

    /// Conversations that a user takes part in, each with at most so many participants: those first in
    /// which something was said last. One in which something is said between two pages goes to
    /// the front; it does not come twice.
    pub async fn conversations_of(
        &self,
        user: UserId,
        after: Option<ConversationCursor>,
        limit: u32,
        participants: u32,
    ) -> Result<Vec<ConversationRecord>, PgError> {
        // Far away, and within what Postgres and this program can tell.
        let end = ConversationCursor {
            active_at: Timestamp(253_402_300_799_000),
            id: ConversationId(Uuid::max()),
        };
        let after = after.unwrap_or(end);
        let rows = sqlx::query(CONVERSATIONS_OF)
            .bind(user.0)
            .bind(MOST_UNREAD)
            .bind(after.active_at.to_datetime())
            .bind(after.id.0)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        let mut found: Vec<_> = rows.iter().map(record).collect::<Result<_, _>>()?;
        self.add_participants(&mut found, participants).await?;
        Ok(found)
    }

    async fn add_participants(
        &self,
        conversations: &mut [ConversationRecord],
        most: u32,
    ) -> Result<(), PgError> {
        if conversations.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(PARTICIPANTS)
            .bind(conversations.iter().map(|it| it.id.0).collect::<Vec<_>>())
            .bind(i64::from(most))
            .fetch_all(&self.pool)
            .await?;
        let mut found: HashMap<Uuid, Vec<Participant>> = HashMap::new();
        for row in &rows {
            let of = found.entry(row.try_get("conversation_id")?).or_default();
            of.push(participant(row)?);
        }
        for conversation in conversations {
            conversation.participants = found.remove(&conversation.id.0).unwrap_or_default();
        }
        Ok(())
    }
}

fn record(row: &PgRow) -> Result<ConversationRecord, PgError> {
    let last_message: Option<&str> = row.try_get("last_message")?;
    Ok(ConversationRecord {
        id: ConversationId(row.try_get("id")?),
        kind: conversations::kind(row)?,
        title: row.try_get("title")?,
        created_by: UserId(row.try_get("created_by")?),
        created_at: Timestamp::from_datetime(row.try_get("created_at")?),
        is_archived: rows::time(row, "archived_at")?.is_some(),
        version: row.try_get::<i64, _>("version")? as u64,
        active_at: Timestamp::from_datetime(row.try_get("active_at")?),
        participants: Vec::new(),
        participant_count: row.try_get::<i64, _>("participant_count")? as u32,
        unread: row.try_get::<i64, _>("unread")? as u32,
        read_upto: MessageId(row.try_get("upto")?),
        last_message: last_message.map(messages::read).transpose()?,
        written: rows::position(row)?,
    })
}

fn participant(row: &PgRow) -> Result<Participant, PgError> {
    let last_read: Option<Uuid> = row.try_get("last_read")?;
    Ok(Participant {
        user: UserId(row.try_get("user_id")?),
        username: row.try_get("username")?,
        role: conversations::role(row)?,
        joined_at: Timestamp::from_datetime(row.try_get("joined_at")?),
        last_read: last_read.map(MessageId),
    })
}
