//! What administrators did, and what they were refused.

use serde_json::Value;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{PgError, Postgres};
use crate::domain::{Timestamp, UserId};

/// Something an administrator asked for, on its way into the log.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Who; nobody at the command line.
    pub actor: Option<UserId>,
    /// What was asked for, for example `PATCH /admin/users/{id}`.
    pub action: String,
    /// What it was done to, for example `users/<id>`.
    pub target: String,
    /// The request's arguments, without secrets.
    pub details: Value,
    /// The id of the request.
    pub request_id: Option<String>,
    /// Where it came from.
    pub address: Option<String>,
}

/// A line of the log.
#[derive(Debug, Clone)]
pub struct Audited {
    /// Grows with each line.
    pub id: i64,
    /// What was asked for.
    pub what: Audit,
    /// `done`, or the code of the refusal.
    pub outcome: String,
    /// When.
    pub at: Timestamp,
}

impl Postgres {
    /// Writes down what changed nothing in Postgres: a refusal, or what happens elsewhere.
    pub async fn audit(&self, what: &Audit, outcome: &str) -> Result<(), PgError> {
        let mut connection = self.pool.acquire().await.map_err(PgError::from)?;
        write(&mut connection, what, outcome).await
    }

    /// The log, newest first, below `before`.
    pub async fn audit_log(
        &self,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Audited>, PgError> {
        let rows = sqlx::query(
            "SELECT id, actor, action, target, details, outcome, request_id, address, at \
             FROM audit_log WHERE id < $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(audited).collect()
    }
}

/// In the transaction of the change itself: one is never there without the other.
pub(super) async fn done(connection: &mut PgConnection, what: &Audit) -> Result<(), PgError> {
    write(connection, what, "done").await
}

async fn write(connection: &mut PgConnection, what: &Audit, outcome: &str) -> Result<(), PgError> {
    sqlx::query(
        "INSERT INTO audit_log (actor, action, target, details, outcome, request_id, address) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(what.actor.map(|actor| actor.0))
    .bind(&what.action)
    .bind(&what.target)
    .bind(&what.details)
    .bind(outcome)
    .bind(&what.request_id)
    .bind(&what.address)
    .execute(connection)
    .await?;
    Ok(())
}

fn audited(row: &PgRow) -> Result<Audited, PgError> {
    let actor: Option<Uuid> = row.try_get("actor")?;
    Ok(Audited {
        id: row.try_get("id")?,
        what: Audit {
            actor: actor.map(UserId),
            action: row.try_get("action")?,
            target: row.try_get("target")?,
            details: row.try_get("details")?,
            request_id: row.try_get("request_id")?,
            address: row.try_get("address")?,
        },
        outcome: row.try_get("outcome")?,
        at: Timestamp::from_datetime(row.try_get("at")?),
    })
}
