//! People who may log in.

use sqlx::{Row, postgres::PgRow};

use super::{PgError, Postgres, rows::unreadable};
use crate::domain::UserId;

/// A person, without the password's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Minted at registration.
    pub id: UserId,
    /// As it was typed; unique whatever its case.
    pub username: String,
    /// What they may do.
    pub role: Role,
    /// Whether they may come in.
    pub status: UserStatus,
    /// What others are shown.
    pub display_name: Option<String>,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Use the service.
    User,
    /// Judge what users report.
    Moderator,
    /// Everything.
    Admin,
}

/// Whether a user may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserStatus {
    /// They may.
    Active,
    /// They may not.
    Banned,
}

impl Postgres {
    /// `None`: the name is taken (case-insensitive).
    pub async fn create_user(
        &self,
        id: UserId,
        username: &str,
        password_hash: &str,
    ) -> Result<Option<User>, PgError> {
        let row = sqlx::query(
            "INSERT INTO users (id, username, password_hash) VALUES ($1, $2, $3) \
             ON CONFLICT (lower(username)) DO NOTHING \
             RETURNING id, username, role, status, display_name",
        )
        .bind(id.0)
        .bind(username)
        .bind(password_hash)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(user).transpose()
    }

    /// The user and their password hash.
    pub async fn user_by_name(&self, username: &str) -> Result<Option<(User, String)>, PgError> {
        let row = sqlx::query(
            "SELECT id, username, role, status, display_name, password_hash FROM users \
             WHERE lower(username) = lower($1)",
        )
        .bind(username)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| Ok((user(&row)?, row.try_get("password_hash")?)))
            .transpose()
    }

    /// Who is banned.
    pub async fn banned_users(&self) -> Result<Vec<UserId>, PgError> {
        let ids: Vec<uuid::Uuid> =
            sqlx::query_scalar("SELECT id FROM users WHERE status = 'banned'")
                .fetch_all(&self.pool)
                .await?;
        Ok(ids.into_iter().map(UserId).collect())
    }

    /// The user with this id.
    pub async fn user_by_id(&self, id: UserId) -> Result<Option<User>, PgError> {
        let row =
            sqlx::query("SELECT id, username, role, status, display_name FROM users WHERE id = $1")
                .bind(id.0)
                .fetch_optional(&self.pool)
                .await?;
        row.as_ref().map(user).transpose()
    }
}

fn user(row: &PgRow) -> Result<User, PgError> {
    let role = match row.try_get("role")? {
        "user" => Role::User,
        "moderator" => Role::Moderator,
        "admin" => Role::Admin,
        other => return Err(unreadable("role", other)),
    };
    let status = match row.try_get("status")? {
        "active" => UserStatus::Active,
        "banned" => UserStatus::Banned,
        other => return Err(unreadable("status of a user", other)),
    };
    Ok(User {
        id: UserId(row.try_get("id")?),
        username: row.try_get("username")?,
        role,
        status,
        display_name: row.try_get("display_name")?,
    })
}
