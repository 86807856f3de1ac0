//! Groups of users, and what they may do.

use sqlx::Row;
use uuid::Uuid;

use super::{Audit, PgError, Postgres, audit, rows};
use crate::domain::{GroupName, Timestamp, UserId};

/// A group and its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name, which never changes.
    pub name: GroupName,
    /// Whether its members may send to everybody.
    pub may_allcast: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Somebody in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Who.
    pub user: UserId,
    /// The name they log in with.
    pub username: String,
    /// Since when.
    pub assigned_at: Timestamp,
}

/// What became of a change of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberChange {
    /// It is as was asked for.
    Done,
    /// There is no such group.
    NoGroup,
    /// There is no such user.
    NoUser,
    /// The user was not in the group.
    NoMember,
}

impl Postgres {
    /// Groups in the order of their names, behind `after`.
    pub async fn groups(&self, after: Option<&str>, limit: u32) -> Result<Vec<Group>, PgError> {
        let rows = sqlx::query(
            "SELECT name, may_allcast, created_at FROM groups \
             WHERE name > $1 ORDER BY name LIMIT $2",
        )
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let name: &str = row.try_get("name")?;
                Ok(Group {
                    name: name.parse().map_err(|_| rows::unreadable("group", name))?,
                    may_allcast: row.try_get("may_allcast")?,
                    created_at: Timestamp::from_datetime(row.try_get("created_at")?),
                })
            })
            .collect()
    }

    /// Makes a group or changes its rights.
    pub async fn put_group(
        &self,
        name: &GroupName,
        may_allcast: bool,
        what: &Audit,
    ) -> Result<Group, PgError> {
        let mut transaction = self.pool.begin().await?;
        let created_at: time::OffsetDateTime = sqlx::query_scalar(
            "INSERT INTO groups (name, may_allcast) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET may_allcast = excluded.may_allcast \
             RETURNING created_at",
        )
        .bind(name.as_str())
        .bind(may_allcast)
        .fetch_one(&mut *transaction)
        .await?;
        audit::done(&mut transaction, what).await?;
        transaction.commit().await?;
        Ok(Group {
            name: name.clone(),
            may_allcast,
            created_at: Timestamp::from_datetime(created_at),
        })
    }

    /// Members in the order of their ids, behind `after`. `None`: there is no such group.
    pub async fn members(
        &self,
        group: &GroupName,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Option<Vec<Membership>>, PgError> {
        let rows = sqlx::query(
            "SELECT m.user_id, u.username, m.assigned_at FROM user_groups m, \
             LATERAL (SELECT username FROM users WHERE id = m.user_id OFFSET 0) AS u \
             WHERE m.group_name = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3",
        )
        .bind(group.as_str())
        .bind(after.map_or(Uuid::nil(), |user| user.0))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        if rows.is_empty() && !self.has_group(group).await? {
            return Ok(None);
        }
        let members = rows.iter().map(|row| {
            Ok(Membership {
                user: UserId(row.try_get("user_id")?),
                username: row.try_get("username")?,
                assigned_at: Timestamp::from_datetime(row.try_get("assigned_at")?),
            })
        });
        members.collect::<Result<_, PgError>>().map(Some)
    }

    async fn has_group(&self, group: &GroupName) -> Result<bool, PgError> {
        let found = sqlx::query_scalar("SELECT EXISTS (SELECT FROM groups WHERE name = $1)")
            .bind(group.as_str())
            .fetch_one(&self.pool)
            .await?;
        Ok(found)
    }

    /// Puts a user into a group; once more changes nothing.
    pub async fn add_member(
        &self,
        group: &GroupName,
        user: UserId,
        what: &Audit,
    ) -> Result<MemberChange, PgError> {
        let mut transaction = self.pool.begin().await?;
        let (has_group, has_user): (bool, bool) = sqlx::query_as(
            "SELECT EXISTS (SELECT FROM groups WHERE name = $1), \
                    EXISTS (SELECT FROM users WHERE id = $2)",
        )
        .bind(group.as_str())
        .bind(user.0)
        .fetch_one(&mut *transaction)
        .await?;
        if !has_group {
            return Ok(MemberChange::NoGroup);
        }
        if !has_user {
            return Ok(MemberChange::NoUser);
        }
        sqlx::query(
            "INSERT INTO user_groups (user_id, group_name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(user.0)
        .bind(group.as_str())
        .execute(&mut *transaction)
        .await?;
        audit::done(&mut transaction, what).await?;
        transaction.commit().await?;
        Ok(MemberChange::Done)
    }

    /// Takes a user out of a group.
    pub async fn remove_member(
        &self,
        group: &GroupName,
        user: UserId,
        what: &Audit,
    ) -> Result<MemberChange, PgError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query("DELETE FROM user_groups WHERE user_id = $1 AND group_name = $2")
            .bind(user.0)
            .bind(group.as_str())
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(MemberChange::NoMember);
        }
        audit::done(&mut transaction, what).await?;
        transaction.commit().await?;
        Ok(MemberChange::Done)
    }
}
