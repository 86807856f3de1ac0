//! Bots: users that are programs, and the keys they log in with.

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{Audit, PgError, Postgres, User, audit, rows, users};
use crate::domain::{Timestamp, UserId};

/// No password has this hash.
const NO_PASSWORD: &str = "none";

/// A key of a bot, without what it opens with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: Uuid,
    /// What people call it.
    pub title: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it counts no longer.
    pub revoked_at: Option<Timestamp>,
}

impl Postgres {
    /// A new bot, or `None`: the name is taken (case-insensitive).
    pub async fn create_bot(
        &self,
        id: UserId,
        username: &str,
        what: &Audit,
    ) -> Result<Option<User>, PgError> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query(concat!(
            "INSERT INTO users (id, username, password_hash, is_bot) VALUES ($1, $2, $3, true) \
             ON CONFLICT (lower(username)) DO NOTHING RETURNING ",
            users::columns!(),
        ))
        .bind(id.0)
        .bind(username)
        .bind(NO_PASSWORD)
        .fetch_optional(&mut *transaction)
        .await?;
        let bot = row.as_ref().map(users::user).transpose()?;
        if bot.is_some() {
            audit::done(&mut transaction, what).await?;
            transaction.commit().await?;
        }
        Ok(bot)
    }

    /// Keeps a key of a bot: its SHA-256, for keys are random. False: there is no such bot.
    pub async fn create_api_key(
        &self,
        id: Uuid,
        bot: UserId,
        hash: &[u8; 32],
        title: &str,
        what: &Audit,
    ) -> Result<bool, PgError> {
        let mut transaction = self.pool.begin().await?;
        let made = sqlx::query(
            "INSERT INTO api_keys (id, user_id, hash, title) \
             SELECT $1, id, $3, $4 FROM users WHERE id = $2 AND is_bot",
        )
        .bind(id)
        .bind(bot.0)
        .bind(hash.as_slice())
        .bind(title)
        .execute(&mut *transaction)
        .await?;
        if made.rows_affected() == 0 {
            return Ok(false);
        }
        audit::done(&mut transaction, what).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Whose key this is, by its SHA-256. Nobody's once it is revoked. A banned bot is found, too.
    pub async fn api_key(&self, hash: &[u8; 32]) -> Result<Option<User>, PgError> {
        let row = sqlx::query(concat!(
            "SELECT ",
            users::columns!(),
            " FROM users WHERE id = (SELECT user_id FROM api_keys WHERE hash = $1 AND revoked_at IS NULL)"
        ))
        .bind(hash.as_slice())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(users::user).transpose()
    }

    /// Keys of a bot in the order in which they were made, with those that count no longer.
    pub async fn api_keys(&self, bot: UserId) -> Result<Vec<ApiKey>, PgError> {
        let rows = sqlx::query(
            "SELECT id, title, created_at, revoked_at FROM api_keys WHERE user_id = $1 \
             ORDER BY created_at, id",
        )
        .bind(bot.0)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(key).collect()
    }

    /// A key counts no longer; whose it is. `None`: there is no such key. Revoking one again is fine:
    /// what follows from it may not have been done.
    pub async fn revoke_api_key(&self, id: Uuid, what: &Audit) -> Result<Option<UserId>, PgError> {
        let mut transaction = self.pool.begin().await?;
        let whose: Option<Uuid> = sqlx::query_scalar(
            "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 \
             RETURNING user_id",
        )
        .bind(id)
        .fetch_optional(&mut *transaction)
        .await?;
        if whose.is_some() {
            audit::done(&mut transaction, what).await?;
            transaction.commit().await?;
        }
        Ok(whose.map(UserId))
    }
}

fn key(row: &PgRow) -> Result<ApiKey, PgError> {
    Ok(ApiKey {
        id: row.try_get("id")?,
        title: row.try_get("title")?,
        created_at: Timestamp::from_datetime(row.try_get("created_at")?),
        revoked_at: rows::time(row, "revoked_at")?,
    })
}
