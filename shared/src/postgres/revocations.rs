//! Withdrawn tokens.

use sqlx::Row;

use super::{PgError, Postgres};
use crate::domain::{Revocation, Timestamp, UserId};

impl Postgres {
    /// Revocations still in force, for a node whose log of them no longer reaches back far
    /// enough.
    pub async fn live_revocations(&self) -> Result<Vec<Revocation>, PgError> {
        let rows = sqlx::query(
            "SELECT user_id, token_id, issued_until, expires_at FROM revocations \
             WHERE expires_at > now() ORDER BY expires_at",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Revocation {
                    user_id: UserId(row.try_get("user_id")?),
                    token_id: row.try_get("token_id")?,
                    issued_until: row.try_get("issued_until")?,
                    expires_at: Timestamp::from_datetime(row.try_get("expires_at")?),
                })
            })
            .collect()
    }

    /// Drops up to `limit` revocations that expired before `before`; returns how many.
    pub async fn forget_revocations(&self, before: Timestamp, limit: u32) -> Result<u64, PgError> {
        let done = sqlx::query(
            "DELETE FROM revocations WHERE id IN \
             (SELECT id FROM revocations WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)",
        )
        .bind(before.to_datetime())
        .bind(i64::from(limit))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
