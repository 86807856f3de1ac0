//! Requests that created something, remembered for a day by the key their sender gave them.

use sqlx::PgConnection;

use super::{PgError, Postgres};
use crate::domain::Digest;

/// Rows that have run out and go with each new one.
const FORGET_AT_ONCE: i64 = 10;

/// The name of a request: who asked, and what they called it.
#[derive(Debug, Clone)]
pub struct RequestKey {
    /// Who and what, for example a user id and a path.
    pub scope: String,
    /// The client's key.
    pub key: String,
    /// What a second try has to have in common with the first.
    pub digest: Digest,
}

/// Whether a request came before.
pub(super) enum Seen {
    /// It is new, and remembered if the transaction commits.
    New,
    /// It was done already.
    Before,
    /// Another request had this key.
    Other,
}

impl Postgres {
    /// Whether this very request was done within a day.
    pub async fn was_done(&self, request: &RequestKey) -> Result<bool, PgError> {
        let known = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM idempotency_keys WHERE scope = $1 AND key = $2 \
             AND digest = $3 AND at >= now() - interval '24 hours')",
        )
        .bind(&request.scope)
        .bind(&request.key)
        .bind(request.digest.to_string())
        .fetch_one(&self.pool)
        .await?;
        Ok(known)
    }
}

/// Remembers the request in the transaction that does it, so a refusal is not remembered. Waits for a
/// transaction that does the same at this moment.
pub(super) async fn remember(
    connection: &mut PgConnection,
    request: &RequestKey,
) -> Result<Seen, PgError> {
    sqlx::query(
        "DELETE FROM idempotency_keys WHERE (scope, key) IN \
         (SELECT scope, key FROM idempotency_keys WHERE at < now() - interval '24 hours' \
          ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED)",
    )
    .bind(FORGET_AT_ONCE)
    .execute(&mut *connection)
    .await?;
    let digest = request.digest.to_string();
    let known: Option<String> = sqlx::query_scalar(
        "INSERT INTO idempotency_keys (scope, key, digest) VALUES ($1, $2, $3) \
         ON CONFLICT (scope, key) DO UPDATE SET \
             digest = CASE WHEN idempotency_keys.at < now() - interval '24 hours' \
                           THEN excluded.digest ELSE idempotency_keys.digest END, \
             at = CASE WHEN idempotency_keys.at < now() - interval '24 hours' \
                       THEN now() ELSE idempotency_keys.at END \
         RETURNING CASE WHEN at = now() THEN NULL ELSE digest END",
    )
    .bind(&request.scope)
    .bind(&request.key)
    .bind(&digest)
    .fetch_one(connection)
    .await?;
    Ok(match known {
        None => Seen::New,
        Some(known) if known == digest => Seen::Before,
        Some(_) => Seen::Other,
    })
}
