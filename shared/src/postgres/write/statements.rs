//! The statements of a batch: one per table, whatever the number of rows.
//!
//! Rows that exist are changed by `INSERT … SELECT … ON CONFLICT DO UPDATE` over a LATERAL query
//! that locks them: each is found by its key, one at a time. A join of an UPDATE leaves the order
//! of the tables to the planner, and a plan made while a day's partition was empty then reads all
//! of it for every row. For the same reason states are parameters: constants would let the partial
//! index of expiry in.

use std::cmp::Reverse;

use sqlx::PgConnection;

use super::{
    Changes, broadcasts,
    fact::{self, Fact, What},
    inbox, messages, progress, seen, states,
};
use crate::{
    domain::{Category, Entry, UserId},
    postgres::PgError,
};

/// Whether all was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    All,
    /// More was delivered than fits into a step: the same facts have to be written again.
    Step,
}

/// Writes facts in the order in which they depend on each other: what is new, then what was
/// delivered, then what ended. A fact understood as bad is skipped.
pub(super) async fn write(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
    changes: &mut Changes,
) -> Result<Written, PgError> {
    insert_commands(connection, facts).await?;
    broadcasts::insert(connection, facts).await?;
    insert_events(connection, facts).await?;
    insert_revocations(connection, facts).await?;
    messages::write(connection, facts).await?;
    progress::write(connection, facts).await?;
    inbox::write(connection, facts).await?;
    seen::write(connection, facts).await?;
    if states::mark_delivered(connection, facts, changes).await? == Written::Step {
        return Ok(Written::Step);
    }
    states::mark_ended(connection, facts, changes).await?;
    broadcasts::mark(connection, facts).await?;
    Ok(Written::All)
}

async fn insert_commands(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut commands: Vec<_> = facts
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Command {
                entry,
                body,
                recipient,
                head,
            } => Some((*entry, *body, *recipient, head)),
            _ => None,
        })
        .collect();
    if commands.is_empty() {
        return Ok(());
    }
    // Redis may have lost an entry, and the second try of whoever sent it has its id: the later
    // position counts.
    commands.sort_unstable_by_key(|(entry, _, to, _)| (entry.id, *to, Reverse(entry.position)));
    commands.dedup_by_key(|(entry, _, to, _)| (entry.id, *to));
    let categories: Vec<String> = commands
        .iter()
        .map(|(.., head)| fact::array_literal(head.categories.iter().map(Category::as_str)))
        .collect();
    sqlx::query(
        r#"WITH new AS MATERIALIZED (
               SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[],
                   $7::text[], $8::timestamptz[], $9::timestamptz[], $10::bigint[], $11::bigint[])
               AS row(id, sender_id, recipient_id, command_type, broadcast, categories, body, created_at,
                   expires_at, epoch, "offset")
           ), command AS (
               INSERT INTO commands (id, sender_id, command_type, broadcast, categories, body, created_at, expires_at)
               SELECT id, sender_id, command_type, broadcast, categories::text[], body, created_at, expires_at
               FROM new ON CONFLICT DO NOTHING
           )
           INSERT INTO command_assignments AS held (command_id, recipient_id, sender_id, epoch, "offset", expires_at)
           SELECT id, recipient_id, sender_id, epoch, "offset", expires_at FROM new
           ON CONFLICT (command_id, recipient_id) DO UPDATE SET sender_id = excluded.sender_id,
               epoch = excluded.epoch, "offset" = excluded."offset", expires_at = excluded.expires_at
               WHERE held.sender_id IS NULL OR (held.epoch, held."offset") < (excluded.epoch, excluded."offset")"#,
    )
    .bind(commands.iter().map(|(entry, ..)| entry.id.0).collect::<Vec<_>>())
    .bind(commands.iter().map(|(.., head)| head.sender_id.0).collect::<Vec<_>>())
    .bind(commands.iter().map(|(_, _, recipient, _)| recipient.0).collect::<Vec<_>>())
    .bind(commands.iter().map(|(.., head)| head.command_type.as_str()).collect::<Vec<_>>())
    .bind(commands.iter().map(|(.., head)| head.broadcast.as_str()).collect::<Vec<_>>())
    .bind(categories)
    .bind(commands.iter().map(|(_, body, ..)| *body).collect::<Vec<_>>())
    .bind(commands.iter().map(|(entry, ..)| entry.at.to_datetime()).collect::<Vec<_>>())
    .bind(commands.iter().map(|(.., head)| head.expires_at.to_datetime()).collect::<Vec<_>>())
    .bind(commands.iter().map(|(entry, ..)| entry.position.epoch as i64).collect::<Vec<_>>())
    .bind(commands.iter().map(|(entry, ..)| entry.position.offset as i64).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_events(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut events: Vec<(&Entry, &str, UserId)> = facts
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Event {
                entry, body, user, ..
            } => Some((*entry, *body, *user)),
            _ => None,
        })
        .collect();
    if events.is_empty() {
        return Ok(());
    }
    events.sort_unstable_by_key(|(entry, ..)| entry.id);
    sqlx::query(
        r#"INSERT INTO user_events (id, user_id, epoch, "offset", kind, body, created_at)
           SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
               $7::timestamptz[])
           ON CONFLICT DO NOTHING"#,
    )
    .bind(events.iter().map(|(entry, ..)| entry.id.0).collect::<Vec<_>>())
    .bind(events.iter().map(|(.., user)| user.0).collect::<Vec<_>>())
    .bind(events.iter().map(|(entry, ..)| entry.position.epoch as i64).collect::<Vec<_>>())
    .bind(events.iter().map(|(entry, ..)| entry.position.offset as i64).collect::<Vec<_>>())
    .bind(events.iter().map(|(entry, ..)| entry.kind.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, body, _)| *body).collect::<Vec<_>>())
    .bind(events.iter().map(|(entry, ..)| entry.at.to_datetime()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_revocations(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
) -> Result<(), PgError> {
    let mut revocations: Vec<_> = facts
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Revocation { entry, revocation } => Some((entry.id.0, revocation)),
            _ => None,
        })
        .collect();
    if revocations.is_empty() {
        return Ok(());
    }
    revocations.sort_unstable_by_key(|(id, _)| *id);
    sqlx::query(
        "INSERT INTO revocations (id, user_id, token_id, issued_until, expires_at) \
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(revocations.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(
        revocations
            .iter()
            .map(|(_, it)| it.user_id.0)
            .collect::<Vec<_>>(),
    )
    .bind(
        revocations
            .iter()
            .map(|(_, it)| it.token_id.as_deref())
            .collect::<Vec<_>>(),
    )
    .bind(
        revocations
            .iter()
            .map(|(_, it)| it.issued_until)
            .collect::<Vec<_>>(),
    )
    .bind(
        revocations
            .iter()
            .map(|(_, it)| it.expires_at.to_datetime())
            .collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
