//! Conversations: made, and who takes part.

use std::num::NonZeroU64;

use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{PgError, Postgres, UntoldChange, conversation_changes, rows};
use crate::domain::{
    ConversationChange, ConversationId, ConversationType, Member, Members, ParticipantRole,
    Timestamp, UserId,
};

/// A conversation to be made.
#[derive(Debug, Clone)]
pub struct NewConversation {
    /// Its id. Made once: should there be one with this id, that is the answer.
    pub id: ConversationId,
    /// What sort.
    pub kind: ConversationType,
    /// What people call it.
    pub title: Option<String>,
    /// Who makes it, and takes part; in a group as its administrator.
    pub created_by: UserId,
    /// Who else takes part. In a direct one, just one.
    pub others: Vec<UserId>,
    /// When, by the clock of Redis.
    pub at: Timestamp,
}

/// What became of a conversation to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConversationCreated {
    /// It is there now, and Redis has to be told.
    New {
        /// Who takes part.
        members: Members,
        /// What Redis has to be told.
        untold: UntoldChange,
    },
    /// These two have one, or it was made by an earlier try.
    Existing(ConversationId),
    /// There is no such user, or they are banned.
    NoUser(UserId),
}

/// A conversation as one who takes part in it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenConversation {
    /// Which.
    pub id: ConversationId,
    /// Its version.
    pub version: u64,
    /// The version by which the user joined.
    pub joined: u64,
}

/// Who takes part, and what is told with it; one row if nobody does.
const MEMBERS: &str = "SELECT c.type, c.version, c.archived_at, \
           p.user_id, p.role, p.joined, p.left_version, p.muted_until \
     FROM conversations c LEFT JOIN LATERAL ( \
         SELECT * FROM conversation_participants WHERE conversation_id = c.id OFFSET 0 \
     ) AS p ON true \
     WHERE c.id = $1 ORDER BY p.user_id";

impl Postgres {
    /// Makes a conversation with its first system message, whose body `body` writes. Of a direct one
    /// there is only one for each pair, also if two nodes make it at once.
    pub async fn create_conversation(
        &self,
        new: &NewConversation,
        body: impl Fn(&ConversationChange, &Members) -> String,
    ) -> Result<ConversationCreated, PgError> {
        let mut everybody = new.others.clone();
        everybody.push(new.created_by);
        everybody.sort_unstable();
        everybody.dedup();
        let mut transaction = self.pool.begin().await?;
        if let Some(nobody) = not_active(&mut transaction, &everybody).await? {
            return Ok(ConversationCreated::NoUser(nobody));
        }
        let pair = (new.kind == ConversationType::Direct).then(|| pair(&everybody));
        let made = sqlx::query(
            "INSERT INTO conversations (id, type, title, pair, created_by, created_at, active_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT DO NOTHING",
        )
        .bind(new.id.0)
        .bind(new.kind.as_str())
        .bind(&new.title)
        .bind(&pair)
        .bind(new.created_by.0)
        .bind(new.at.to_datetime())
        .execute(&mut *transaction)
        .await?;
        if made.rows_affected() == 0 {
            let id: Uuid = sqlx::query_scalar(
                "SELECT id FROM conversations WHERE pair = $1 \
                 UNION ALL SELECT id FROM conversations WHERE id = $2 LIMIT 1",
            )
            .bind(&pair)
            .bind(new.id.0)
            .fetch_one(&mut *transaction)
            .await?;
            return Ok(ConversationCreated::Existing(ConversationId(id)));
        }
        let members = Members {
            conversation: new.id,
            kind: new.kind,
            version: 1,
            is_archived: false,
            all: everybody
                .iter()
                .map(|user| first_member(new, *user))
                .collect(),
        };
        conversation_changes::keep_members(&mut transaction, new.id, &members.all, 1, new.at)
            .await?;
        let untold = UntoldChange {
            conversation: new.id,
            version: 1,
            body: body(&ConversationChange::Created, &members),
        };
        conversation_changes::keep_untold(&mut transaction, std::slice::from_ref(&untold)).await?;
        transaction.commit().await?;
        Ok(ConversationCreated::New { members, untold })
    }

    /// Who takes part, and who did. `None`: there is no such conversation.
    pub async fn conversation_members(
        &self,
        conversation: ConversationId,
    ) -> Result<Option<Members>, PgError> {
        let mut connection = self.pool.acquire().await.map_err(PgError::from)?;
        members(&mut connection, conversation).await
    }

    /// Conversations that a user takes part in and that are not archived; those first in which
    /// something was said last.
    pub async fn open_conversations_of(
        &self,
        user: UserId,
        limit: u32,
    ) -> Result<Vec<OpenConversation>, PgError> {
        let rows = sqlx::query(
            "SELECT c.id, c.version, p.joined FROM conversation_participants p, LATERAL ( \
                 SELECT * FROM conversations WHERE id = p.conversation_id OFFSET 0 \
             ) AS c \
             WHERE p.user_id = $1 AND p.left_version IS NULL AND c.archived_at IS NULL \
             ORDER BY c.active_at DESC, c.id DESC LIMIT $2",
        )
        .bind(user.0)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let found = rows.iter().map(|row| {
            Ok(OpenConversation {
                id: ConversationId(row.try_get("id")?),
                version: row.try_get::<i64, _>("version")? as u64,
                joined: row.try_get::<i64, _>("joined")? as u64,
            })
        });
        found.collect()
    }

    /// The direct conversation of these two, if there is one.
    pub async fn direct_conversation(
        &self,
        one: UserId,
        other: UserId,
    ) -> Result<Option<ConversationId>, PgError> {
        let id: Option<Uuid> = sqlx::query_scalar("SELECT id FROM conversations WHERE pair = $1")
            .bind(pair(&[one.min(other), one.max(other)]))
            .fetch_optional(&self.pool)
            .await?;
        Ok(id.map(ConversationId))
    }

    /// Every conversation that a user takes part in now, in the order of their ids, behind `after`.
    pub async fn conversation_ids_of(
        &self,
        user: UserId,
        after: Option<ConversationId>,
        limit: u32,
    ) -> Result<Vec<ConversationId>, PgError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT conversation_id FROM conversation_participants \
             WHERE user_id = $1 AND left_version IS NULL AND conversation_id > $2 \
             ORDER BY user_id, conversation_id LIMIT $3",
        )
        .bind(user.0)
        .bind(after.map_or(Uuid::nil(), |id| id.0))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(ConversationId).collect())
    }
}

/// Both users, the lesser id first.
fn pair(sorted: &[UserId]) -> String {
    let both: Vec<String> = sorted.iter().map(ToString::to_string).collect();
    both.join(":")
}

fn first_member(new: &NewConversation, user: UserId) -> Member {
    let manages = new.kind == ConversationType::Group && user == new.created_by;
    Member {
        user,
        role: if manages {
            ParticipantRole::Admin
        } else {
            ParticipantRole::Member
        },
        joined: 1,
        left: None,
        muted_until: None,
    }
}

/// One of these that is no user who may come in.
pub(super) async fn not_active(
    connection: &mut PgConnection,
    users: &[UserId],
) -> Result<Option<UserId>, PgError> {
    let ids: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    let active: Vec<Uuid> = sqlx::query_scalar(
        "SELECT it.id FROM unnest($1::uuid[]) AS asked(id), LATERAL \
         (SELECT id FROM users WHERE id = asked.id AND status = 'active' OFFSET 0) AS it",
    )
    .bind(&ids)
    .fetch_all(connection)
    .await?;
    let nobody = users.iter().find(|user| !active.contains(&user.0));
    Ok(nobody.copied())
}

/// Who takes part, as this transaction sees it.
pub(super) async fn members(
    connection: &mut PgConnection,
    conversation: ConversationId,
) -> Result<Option<Members>, PgError> {
    let rows = sqlx::query(MEMBERS)
        .bind(conversation.0)
        .fetch_all(connection)
        .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let archived_at = rows::time(first, "archived_at")?;
    let mut members = Members {
        conversation,
        kind: kind(first)?,
        version: first.try_get::<i64, _>("version")? as u64,
        is_archived: archived_at.is_some(),
        all: Vec::with_capacity(rows.len()),
    };
    for row in &rows {
        if let Some(user) = row.try_get::<Option<Uuid>, _>("user_id")? {
            members.all.push(member(row, UserId(user))?);
        }
    }
    Ok(Some(members))
}

fn member(row: &PgRow, user: UserId) -> Result<Member, PgError> {
    let left: Option<i64> = row.try_get("left_version")?;
    Ok(Member {
        user,
        role: role(row)?,
        joined: row.try_get::<i64, _>("joined")? as u64,
        left: left.and_then(|version| NonZeroU64::new(version as u64)),
        muted_until: rows::time(row, "muted_until")?,
    })
}

/// Column `type`.
pub(super) fn kind(row: &PgRow) -> Result<ConversationType, PgError> {
    let text: &str = row.try_get("type")?;
    text.parse()
        .map_err(|_| rows::unreadable("type of a conversation", text))
}

/// Column `role`.
pub(super) fn role(row: &PgRow) -> Result<ParticipantRole, PgError> {
    let text: &str = row.try_get("role")?;
    text.parse()
        .map_err(|_| rows::unreadable("role of a participant", text))
}
