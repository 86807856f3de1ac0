//! The statements for broadcasts, and for what users chose.
//!
//! Nothing here depends on the order of the batches: a user's receipts and completions come by
//! another partition than the broadcast itself. States move forward, of two times the earlier
//! counts. Of the log of broadcasts and of a user's log, each by itself, the order is kept.

use std::cmp::Reverse;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::fact::{self, Fact, Means, What};
use crate::{
    domain::{Category, CommandState},
    postgres::PgError,
};

/// Most receipts of one statement: a record stands for any number of them.
const STEP: usize = 4000;

/// The commands themselves. They get no row per user.
pub(super) async fn insert(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
) -> Result<(), PgError> {
    let mut new: Vec<_> = facts
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Broadcast { entry, body, head } => Some((*entry, *body, head)),
            _ => None,
        })
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    // Appended again after Redis lost it: the later position counts.
    new.sort_unstable_by_key(|(entry, ..)| (entry.id, Reverse(entry.position)));
    new.dedup_by_key(|(entry, ..)| entry.id);
    let categories: Vec<String> = new
        .iter()
        .map(|(.., head)| fact::array_literal(head.categories.iter().map(Category::as_str)))
        .collect();
    sqlx::query(
        r#"INSERT INTO commands AS held (id, sender_id, command_type, broadcast, categories, body, created_at,
               expires_at, epoch, "offset")
           SELECT id, sender_id, command_type, broadcast, categories::text[], body, created_at, expires_at,
               epoch, "offset"
           FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
               $8::timestamptz[], $9::bigint[], $10::bigint[])
               AS row(id, sender_id, command_type, broadcast, categories, body, created_at, expires_at, epoch, "offset")
           ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, "offset" = excluded."offset"
               WHERE (held.epoch, held."offset") < (excluded.epoch, excluded."offset")"#,
    )
    .bind(new.iter().map(|(entry, ..)| entry.id.0).collect::<Vec<_>>())
    .bind(new.iter().map(|(.., head)| head.sender_id.0).collect::<Vec<_>>())
    .bind(new.iter().map(|(.., head)| head.command_type.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|(.., head)| head.broadcast.as_str()).collect::<Vec<_>>())
    .bind(categories)
    .bind(new.iter().map(|(_, body, _)| *body).collect::<Vec<_>>())
    .bind(new.iter().map(|(entry, ..)| entry.at.to_datetime()).collect::<Vec<_>>())
    .bind(new.iter().map(|(.., head)| head.expires_at.to_datetime()).collect::<Vec<_>>())
    .bind(new.iter().map(|(entry, ..)| entry.position.epoch as i64).collect::<Vec<_>>())
    .bind(new.iter().map(|(entry, ..)| entry.position.offset as i64).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// What became of them, and what users chose.
pub(super) async fn mark(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    mark_received(connection, facts).await?;
    mark_completed(connection, facts).await?;
    mark_over(connection, facts).await?;
    choose(connection, facts).await
}

/// A device has it: a row for its user.
async fn mark_received(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut receipts: Vec<(Uuid, Uuid, OffsetDateTime)> = Vec::new();
    for fact in facts {
        if let What::Received { receipts: some, at } = &fact.what {
            let at = at.to_datetime();
            receipts.extend(some.iter().map(|(id, user)| (id.0, user.0, at)));
        }
    }
    // The earliest of each comes first and stays.
    receipts.sort_unstable();
    receipts.dedup_by_key(|(command, user, _)| (*command, *user));
    for step in receipts.chunks(STEP) {
        sqlx::query(
            "INSERT INTO command_assignments AS held (command_id, recipient_id, state, delivered_at) \
             SELECT command_id, recipient_id, $4, at \
             FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS received(command_id, recipient_id, at) \
             ON CONFLICT (command_id, recipient_id) DO UPDATE SET delivered_at = excluded.delivered_at \
                 WHERE held.sender_id IS NULL AND excluded.delivered_at < held.delivered_at",
        )
        .bind(step.iter().map(|(command, ..)| *command).collect::<Vec<_>>())
        .bind(step.iter().map(|(_, user, _)| *user).collect::<Vec<_>>())
        .bind(step.iter().map(|(.., at)| *at).collect::<Vec<_>>())
        .bind(CommandState::Delivered.as_str())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// A user has done it: their row, whether a device confirmed it or not.
async fn mark_completed(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut done: Vec<(Uuid, Uuid, OffsetDateTime)> = facts
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Event {
                means: Means::Completed(done),
                ..
            } => Some((done.command, done.user.0, done.at.to_datetime())),
            _ => None,
        })
        .collect();
    if done.is_empty() {
        return Ok(());
    }
    done.sort_unstable();
    done.dedup_by_key(|(command, user, _)| (*command, *user));
    sqlx::query(
        "INSERT INTO command_assignments AS held (command_id, recipient_id, state, delivered_at, completed_at) \
         SELECT command_id, recipient_id, $4, at, at \
         FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS done(command_id, recipient_id, at) \
         ON CONFLICT (command_id, recipient_id) DO UPDATE SET state = excluded.state, \
             delivered_at = least(held.delivered_at, excluded.delivered_at), \
             completed_at = least(held.completed_at, excluded.completed_at) \
             WHERE held.sender_id IS NULL",
    )
    .bind(done.iter().map(|(command, ..)| *command).collect::<Vec<_>>())
    .bind(done.iter().map(|(_, user, _)| *user).collect::<Vec<_>>())
    .bind(done.iter().map(|(.., at)| *at).collect::<Vec<_>>())
    .bind(CommandState::Completed.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Broadcasts that end for everybody; the first end counts. No sender is told: they see it in
/// the log of broadcasts, as everybody does.
async fn mark_over(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut ends: Vec<(Uuid, CommandState, OffsetDateTime)> = facts
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Event {
                means: Means::Over(end),
                ..
            } => Some((end.command, end.state, end.at.to_datetime())),
            _ => None,
        })
        .collect();
    if ends.is_empty() {
        return Ok(());
    }
    // Stable, then the first of each command.
    ends.sort_by_key(|(command, ..)| *command);
    ends.dedup_by_key(|(command, ..)| *command);
    sqlx::query(
        r#"INSERT INTO commands AS held (id, sender_id, command_type, broadcast, categories, body, created_at,
               expires_at, epoch, "offset", ended, ended_at)
           SELECT found.id, found.sender_id, found.command_type, found.broadcast, found.categories, found.body,
               found.created_at, found.expires_at, found.epoch, found."offset", over.state, over.at
           FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS over(id, state, at),
           LATERAL (
               SELECT * FROM commands WHERE id = over.id AND broadcast <> 'user' AND ended IS NULL FOR UPDATE
           ) AS found
           ON CONFLICT (id) DO UPDATE SET ended = excluded.ended, ended_at = excluded.ended_at"#,
    )
    .bind(ends.iter().map(|(command, ..)| *command).collect::<Vec<_>>())
    .bind(ends.iter().map(|(_, state, _)| state.as_str()).collect::<Vec<_>>())
    .bind(ends.iter().map(|(.., at)| *at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// What users chose; the later position wins.
async fn choose(connection: &mut PgConnection, facts: &[Fact<'_>]) -> Result<(), PgError> {
    let mut chosen: Vec<_> = facts
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Event {
                entry,
                user,
                means: Means::Chosen(preferences),
                ..
            } => Some((user.0, *entry, preferences)),
            _ => None,
        })
        .collect();
    if chosen.is_empty() {
        return Ok(());
    }
    chosen.sort_unstable_by_key(|(user, entry, _)| (*user, Reverse(entry.position)));
    chosen.dedup_by_key(|(user, ..)| *user);
    let lists = |of: fn(&crate::domain::Preferences) -> &std::collections::BTreeSet<Category>| {
        let literals = chosen
            .iter()
            .map(|(.., it)| fact::array_literal(of(it).iter().map(Category::as_str)));
        literals.collect::<Vec<_>>()
    };
    sqlx::query(
        r#"INSERT INTO user_preferences AS held (user_id, blocked, allowed, epoch, "offset", updated_at)
           SELECT user_id, blocked::text[], allowed::text[], epoch, "offset", at
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::timestamptz[])
               AS chosen(user_id, blocked, allowed, epoch, "offset", at)
           ON CONFLICT (user_id) DO UPDATE SET blocked = excluded.blocked, allowed = excluded.allowed,
               epoch = excluded.epoch, "offset" = excluded."offset", updated_at = excluded.updated_at
               WHERE (held.epoch, held."offset") < (excluded.epoch, excluded."offset")"#,
    )
    .bind(chosen.iter().map(|(user, ..)| *user).collect::<Vec<_>>())
    .bind(lists(|it| &it.blocked_categories))
    .bind(lists(|it| &it.allowed_categories))
    .bind(chosen.iter().map(|(_, entry, _)| entry.position.epoch as i64).collect::<Vec<_>>())
    .bind(chosen.iter().map(|(_, entry, _)| entry.position.offset as i64).collect::<Vec<_>>())
    .bind(chosen.iter().map(|(_, entry, _)| entry.at.to_datetime()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
