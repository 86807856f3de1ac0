//! People who may log in.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{Audit, PgError, Postgres, RequestKey, audit, idempotency, rows::unreadable};
use crate::domain::{Timestamp, UserId};

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
    /// What they say of themselves.
    pub bio: Option<String>,
    /// The hash of the file with their picture.
    pub avatar: Option<String>,
    /// When they registered.
    pub created_at: Timestamp,
    /// Whether one of their groups may send to everybody.
    pub may_allcast: bool,
    /// Whether it is a program, which has an API key instead of a password.
    pub is_bot: bool,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Use the service.
    User,
    /// Judge what users report.
    Moderator,
    /// Everything.
    Admin,
}

impl Role {
    /// The name on the wire and in Postgres.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Moderator => "moderator",
            Self::Admin => "admin",
        }
    }
}

/// Whether a user may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserStatus {
    /// They may.
    Active,
    /// They may not.
    Banned,
}

impl UserStatus {
    /// The name on the wire and in Postgres.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Banned => "banned",
        }
    }
}

/// What users write about themselves; what is absent is taken away.
#[derive(Debug, Clone, Default)]
pub struct NewProfile {
    /// What others are shown.
    pub display_name: Option<String>,
    /// What they say of themselves.
    pub bio: Option<String>,
    /// The hash of the file with their picture.
    pub avatar: Option<String>,
}

/// A change by somebody who may; what is absent stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserChange {
    /// What they may do from now on.
    pub role: Option<Role>,
    /// Whether they may come in from now on.
    pub status: Option<UserStatus>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserChanged {
    /// The user is like this now.
    Done(User),
    /// There is no such user.
    NoUser,
    /// Not of this user.
    Forbidden,
    /// There would be no administrator left.
    LastAdmin,
}

/// Columns of [`User`], of the table `users` by that name.
macro_rules! columns {
    () => {
        "id, username, role, status, display_name, bio, avatar, created_at, is_bot, \
    EXISTS (SELECT FROM user_groups m, \
            LATERAL (SELECT may_allcast FROM groups WHERE name = m.group_name OFFSET 0) AS g \
            WHERE m.user_id = users.id AND g.may_allcast) AS may_allcast"
    };
}

pub(super) use columns;

/// Held by whoever changes who is an administrator.
const ADMINS_LOCK: i64 = 0x7469_6465_6164_6d69;

impl Postgres {
    /// `None`: the name is taken (case-insensitive).
    pub async fn create_user(
        &self,
        id: UserId,
        username: &str,
        password_hash: &str,
    ) -> Result<Option<User>, PgError> {
        let mut connection = self.pool.acquire().await.map_err(PgError::from)?;
        insert(&mut connection, id, username, password_hash, Role::User).await
    }

    /// The same, and the request is remembered by the key its sender gave it.
    pub async fn create_user_as(
        &self,
        id: UserId,
        username: &str,
        password_hash: &str,
        request: &RequestKey,
    ) -> Result<Option<User>, PgError> {
        let mut transaction = self.pool.begin().await?;
        let user = insert(&mut transaction, id, username, password_hash, Role::User).await?;
        if user.is_some() {
            idempotency::remember(&mut transaction, request).await?;
            transaction.commit().await?;
        }
        Ok(user)
    }

    /// A new administrator, or `None`: the name is taken.
    pub async fn create_admin(
        &self,
        id: UserId,
        username: &str,
        password_hash: &str,
        what: &Audit,
    ) -> Result<Option<User>, PgError> {
        let mut transaction = self.pool.begin().await?;
        let user = insert(&mut transaction, id, username, password_hash, Role::Admin).await?;
        if user.is_some() {
            audit::done(&mut transaction, what).await?;
            transaction.commit().await?;
        }
        Ok(user)
    }

    /// The user and their password hash. Bots have no password and are not found.
    pub async fn user_by_name(&self, username: &str) -> Result<Option<(User, String)>, PgError> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            ", password_hash FROM users WHERE lower(username) = lower($1) AND NOT is_bot"
        ))
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
        let row = sqlx::query(concat!("SELECT ", columns!(), " FROM users WHERE id = $1"))
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(user).transpose()
    }

    /// Users whose names begin with `prefix`, whatever its case, in the order of their names in lower
    /// case, behind `after`.
    pub async fn users(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<User>, PgError> {
        let prefix = prefix.to_ascii_lowercase();
        // Names are ASCII: nothing of the prefix stands behind this.
        let end = format!("{prefix}\u{7f}");
        let rows = sqlx::query(concat!(
            r#"SELECT "#,
            columns!(),
            r#" FROM users
               WHERE lower(username) COLLATE "C" >= $1 AND lower(username) COLLATE "C" > $2
                 AND lower(username) COLLATE "C" < $3
               ORDER BY lower(username) COLLATE "C" LIMIT $4"#
        ))
        .bind(prefix)
        .bind(after.unwrap_or_default())
        .bind(end)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(user).collect()
    }

    /// Writes what a user says of themselves. `None`: there is no such user.
    pub async fn put_profile(
        &self,
        id: UserId,
        profile: &NewProfile,
    ) -> Result<Option<User>, PgError> {
        let row = sqlx::query(concat!(
            "UPDATE users SET display_name = $2, bio = $3, avatar = $4 WHERE id = $1 \
             RETURNING ",
            columns!(),
            ""
        ))
        .bind(id.0)
        .bind(&profile.display_name)
        .bind(&profile.bio)
        .bind(&profile.avatar)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(user).transpose()
    }

    /// Changes what a user may do, if `allows` says yes to the user as they are at that moment and an
    /// active administrator remains.
    pub async fn change_user(
        &self,
        id: UserId,
        change: UserChange,
        allows: impl Fn(&User) -> bool,
        what: &Audit,
    ) -> Result<UserChanged, PgError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(ADMINS_LOCK)
            .execute(&mut *transaction)
            .await?;
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM users WHERE id = $1 FOR UPDATE"
        ))
        .bind(id.0)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else {
            return Ok(UserChanged::NoUser);
        };
        let before = user(&row)?;
        if !allows(&before) {
            return Ok(UserChanged::Forbidden);
        }
        let (role, status) = (
            change.role.unwrap_or(before.role),
            change.status.unwrap_or(before.status),
        );
        let counts = |role, status| role == Role::Admin && status == UserStatus::Active;
        if counts(before.role, before.status)
            && !counts(role, status)
            && !has_another_admin(&mut transaction, id).await?
        {
            return Ok(UserChanged::LastAdmin);
        }
        sqlx::query("UPDATE users SET role = $2, status = $3 WHERE id = $1")
            .bind(id.0)
            .bind(role.as_str())
            .bind(status.as_str())
            .execute(&mut *transaction)
            .await?;
        audit::done(&mut transaction, what).await?;
        transaction.commit().await?;
        Ok(UserChanged::Done(User {
            role,
            status,
            ..before
        }))
    }
}

async fn insert(
    connection: &mut PgConnection,
    id: UserId,
    username: &str,
    password_hash: &str,
    role: Role,
) -> Result<Option<User>, PgError> {
    let row = sqlx::query(concat!(
        "INSERT INTO users (id, username, password_hash, role) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (lower(username)) DO NOTHING RETURNING ",
        columns!(),
        ""
    ))
    .bind(id.0)
    .bind(username)
    .bind(password_hash)
    .bind(role.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(user).transpose()
}

async fn has_another_admin(connection: &mut PgConnection, id: UserId) -> Result<bool, PgError> {
    let found = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM users WHERE role = 'admin' AND status = 'active' AND id <> $1)",
    )
    .bind(id.0)
    .fetch_one(connection)
    .await?;
    Ok(found)
}

/// Reads [`columns`].
pub(super) fn user(row: &PgRow) -> Result<User, PgError> {
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
        bio: row.try_get("bio")?,
        avatar: row.try_get("avatar")?,
        created_at: Timestamp::from_datetime(row.try_get("created_at")?),
        may_allcast: row.try_get("may_allcast")?,
        is_bot: row.try_get("is_bot")?,
    })
}
