//! The statement for copies in users' logs: which message stands where.

use sqlx::PgConnection;

use super::fact::{Fact, What};
use crate::{
    domain::{CopyReference, Entry, UserId},
    postgres::PgError,
};

/// All of a batch.
pub(super) async fn write(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
) -> Result<(), PgError> {
    let mut copies: Vec<(&Entry, UserId, &CopyReference)> = facts
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Copied { entry, user, of } => Some((*entry, *user, of)),
            _ => None,
        })
        .collect();
    if copies.is_empty() {
        return Ok(());
    }
    copies.sort_unstable_by_key(|(entry, user, _)| (entry.id, *user, entry.position));
    sqlx::query(
        r#"INSERT INTO inbox (id, user_id, epoch, "offset", kind, message_id, created_at)
           SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::uuid[],
               $7::timestamptz[])
           ON CONFLICT DO NOTHING"#,
    )
    .bind(copies.iter().map(|(entry, ..)| entry.id.0).collect::<Vec<_>>())
    .bind(copies.iter().map(|(_, user, _)| user.0).collect::<Vec<_>>())
    .bind(copies.iter().map(|(entry, ..)| entry.position.epoch as i64).collect::<Vec<_>>())
    .bind(copies.iter().map(|(entry, ..)| entry.position.offset as i64).collect::<Vec<_>>())
    .bind(copies.iter().map(|(entry, ..)| entry.kind.as_str()).collect::<Vec<_>>())
    .bind(copies.iter().map(|(.., of)| of.message_id.0).collect::<Vec<_>>())
    .bind(copies.iter().map(|(entry, ..)| entry.at.to_datetime()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
