//! When users were last seen. Only ever later, so the order of batches does not matter.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::fact::{Fact, What};
use crate::postgres::PgError;

/// All of a batch. Users that do not exist (any more) are passed over.
pub(super) async fn write(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
) -> Result<(), PgError> {
    let mut all = BTreeMap::new();
    for fact in facts {
        if let What::Seen(users) = fact.what {
            for (user, at) in users {
                let latest = all.entry(user.0).or_insert(*at);
                *latest = (*latest).max(*at);
            }
        }
    }
    if all.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE users AS held SET last_seen_at = new.at \
         FROM unnest($1::uuid[], $2::timestamptz[]) AS new(id, at) \
         WHERE held.id = new.id AND (held.last_seen_at IS NULL OR held.last_seen_at < new.at)",
    )
    .bind(all.keys().copied().collect::<Vec<_>>())
    .bind(all.values().map(|at| at.to_datetime()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
