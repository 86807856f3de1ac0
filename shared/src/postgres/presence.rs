//! Who may see how others appear, and when they were last seen.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;
use uuid::Uuid;

use super::{PgError, Postgres};
use crate::domain::{Timestamp, UserId};

impl Postgres {
    /// Those of these users who exist.
    pub async fn existing_users(&self, users: &[UserId]) -> Result<HashSet<UserId>, PgError> {
        let found: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM users WHERE id = ANY($1)")
            .bind(users.iter().map(|user| user.0).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await?;
        Ok(found.into_iter().map(UserId).collect())
    }

    /// Those of these pairs who take part in a conversation together that is not archived.
    pub async fn who_share_a_conversation(
        &self,
        pairs: &[(UserId, UserId)],
    ) -> Result<HashSet<(UserId, UserId)>, PgError> {
        let found = sqlx::query(
            "SELECT pair.one, pair.other FROM unnest($1::uuid[], $2::uuid[]) AS pair(one, other) \
             WHERE EXISTS (SELECT FROM conversation_participants mine \
                 JOIN conversation_participants theirs USING (conversation_id) \
                 JOIN conversations ON conversations.id = conversation_id \
                 WHERE mine.user_id = pair.one AND mine.left_version IS NULL \
                   AND theirs.user_id = pair.other AND theirs.left_version IS NULL \
                   AND conversations.archived_at IS NULL)",
        )
        .bind(pairs.iter().map(|(one, _)| one.0).collect::<Vec<_>>())
        .bind(pairs.iter().map(|(_, other)| other.0).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await?;
        found
            .iter()
            .map(|row| {
                let (one, other): (Uuid, Uuid) = (row.try_get("one")?, row.try_get("other")?);
                Ok((UserId(one), UserId(other)))
            })
            .collect()
    }

    /// The others who take part in conversations with a user, at most so many: those first with whom
    /// something was said last.
    pub async fn contacts_of(&self, user: UserId, limit: u32) -> Result<Vec<UserId>, PgError> {
        let found: Vec<Uuid> = sqlx::query_scalar(
            "SELECT theirs.user_id FROM ( \
                 SELECT c.id, c.active_at FROM conversation_participants p, LATERAL ( \
                     SELECT * FROM conversations WHERE id = p.conversation_id OFFSET 0 \
                 ) AS c \
                 WHERE p.user_id = $1 AND p.left_version IS NULL AND c.archived_at IS NULL \
                 ORDER BY c.active_at DESC LIMIT $2 \
             ) AS mine, LATERAL ( \
                 SELECT user_id FROM conversation_participants \
                 WHERE conversation_id = mine.id AND left_version IS NULL AND user_id <> $1 LIMIT $2 \
             ) AS theirs \
             GROUP BY theirs.user_id ORDER BY max(mine.active_at) DESC, theirs.user_id LIMIT $2",
        )
        .bind(user.0)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        Ok(found.into_iter().map(UserId).collect())
    }

    /// When these users were last seen, of whom that was ever written.
    pub async fn last_seen(&self, users: &[UserId]) -> Result<HashMap<UserId, Timestamp>, PgError> {
        let found = sqlx::query(
            "SELECT id, last_seen_at FROM users WHERE id = ANY($1) AND last_seen_at IS NOT NULL",
        )
        .bind(users.iter().map(|user| user.0).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await?;
        found
            .iter()
            .map(|row| {
                let id: Uuid = row.try_get("id")?;
                let at = Timestamp::from_datetime(row.try_get("last_seen_at")?);
                Ok((UserId(id), at))
            })
            .collect()
    }
}
