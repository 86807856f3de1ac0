//! The statements of a batch: one per table, whatever the number of rows.
//!
//! Rows that exist are changed by `INSERT … SELECT … ON CONFLICT DO UPDATE` over a LATERAL query
//! that locks them: each is found by its key, one at a time. A join of an UPDATE leaves the order
//! of the tables to the planner, and a plan made while a day's partition was empty then reads all
//! of it for every row. For the same reason states are parameters: constants would let the partial
//! index of expiry in.

use std::{cmp::Reverse, collections::HashSet};

use sqlx::{PgConnection, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Buried, Changes, StateChange, broadcasts,
    fact::{self, Fact, What},
};
use crate::{
    domain::{Category, CommandState, Entry, MessageId, Position, Timestamp, UserId},
    postgres::{PgError, rows},
};

/// Most deliveries marked by one statement. One record may stand for any number of them: a user
/// who comes with a new device confirms a whole log.
const STEP: usize = 2000;

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
    if mark_delivered(connection, facts, changes).await? == Written::Step {
        return Ok(Written::Step);
    }
    mark_ended(connection, facts, changes).await?;
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

/// Pending commands in a stretch of their recipient's log become delivered, a step of them at
/// most. What had ended before the stretch was confirmed is left to its end.
async fn mark_delivered(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
    changes: &mut Changes,
) -> Result<Written, PgError> {
    // With their places among the facts: a record comes behind what happened before it.
    let mut stretches: Vec<_> = facts
        .iter()
        .zip(0_i32..)
        .filter_map(|(fact, place)| match fact.what {
            What::Delivered {
                user,
                from,
                to,
                skipped,
                at,
            } => Some((user, around(from, to, skipped), at, place)),
            _ => None,
        })
        .flat_map(|(user, parts, at, place)| {
            let whole = parts.into_iter();
            whole.map(move |(from, to)| (user, from, to, at, place))
        })
        .collect();
    if stretches.is_empty() {
        return Ok(Written::All);
    }
    let ends: Vec<_> = facts
        .iter()
        .zip(0_i32..)
        .filter_map(|(fact, place)| Some((fact.ended()?, place)))
        .collect();
    stretches.sort_unstable();
    // Where two overlap (Redis forgot a cursor), the first one counts: no row may come up twice.
    let mut reached = None;
    stretches.retain_mut(|(user, from, to, ..)| {
        if let Some((of, upto)) = reached
            && of == *user
        {
            *from = (*from).max(upto);
        }
        let open = *from < *to;
        if open {
            reached = Some((*user, *to));
        }
        open
    });
    let rows = sqlx::query(
        r#"INSERT INTO command_assignments AS held (command_id, recipient_id, sender_id, epoch, "offset", expires_at,
               state, delivered_at)
           SELECT found.command_id, stretch.user_id, found.sender_id, found.epoch, found."offset", found.expires_at,
               'delivered', stretch.at
           FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::int[])
               AS stretch(user_id, from_epoch, from_offset, to_epoch, to_offset, at, place),
           LATERAL (
               SELECT * FROM command_assignments AS it
               WHERE recipient_id = stretch.user_id AND state = $8
                 AND (epoch, "offset") > (stretch.from_epoch, stretch.from_offset)
                 AND (epoch, "offset") <= (stretch.to_epoch, stretch.to_offset)
                 AND NOT EXISTS (
                     SELECT FROM unnest($9::uuid[], $10::uuid[], $11::int[]) AS ended(command_id, user_id, place)
                     WHERE ended.command_id = it.command_id AND ended.user_id = stretch.user_id
                       AND ended.place < stretch.place
                 )
               FOR UPDATE
           ) AS found
           LIMIT $12
           ON CONFLICT (command_id, recipient_id) DO UPDATE
               SET state = excluded.state, delivered_at = excluded.delivered_at
               WHERE held.state = $8
           RETURNING command_id, sender_id, recipient_id, state, delivered_at"#,
    )
    .bind(stretches.iter().map(|(user, ..)| user.0).collect::<Vec<_>>())
    .bind(stretches.iter().map(|(_, from, ..)| from.epoch as i64).collect::<Vec<_>>())
    .bind(stretches.iter().map(|(_, from, ..)| from.offset as i64).collect::<Vec<_>>())
    .bind(stretches.iter().map(|(_, _, to, ..)| to.epoch as i64).collect::<Vec<_>>())
    .bind(stretches.iter().map(|(_, _, to, ..)| to.offset as i64).collect::<Vec<_>>())
    .bind(stretches.iter().map(|(.., at, _)| at.to_datetime()).collect::<Vec<_>>())
    .bind(stretches.iter().map(|(.., place)| *place).collect::<Vec<_>>())
    .bind(CommandState::Pending.as_str())
    .bind(ends.iter().map(|(end, _)| end.command).collect::<Vec<_>>())
    .bind(ends.iter().map(|(end, _)| end.user.0).collect::<Vec<_>>())
    .bind(ends.iter().map(|(_, place)| *place).collect::<Vec<_>>())
    .bind(STEP as i64)
    .fetch_all(connection)
    .await?;
    for row in &rows {
        changes
            .delivered
            .push(change(row, row.try_get("delivered_at")?)?);
    }
    Ok(if rows.len() < STEP {
        Written::All
    } else {
        Written::Step
    })
}

/// A stretch `(from, to]` without the positions that were passed over: these stay pending.
fn around(from: Position, to: Position, skipped: &[Position]) -> Vec<(Position, Position)> {
    let mut skipped: Vec<Position> = skipped
        .iter()
        .filter(|it| from < **it && **it <= to)
        .copied()
        .collect();
    skipped.sort_unstable();
    let mut parts = Vec::with_capacity(skipped.len() + 1);
    let mut begin = from;
    for it in skipped {
        let before = Position {
            offset: it.offset.saturating_sub(1),
            ..it
        };
        parts.push((begin, before));
        begin = it;
    }
    parts.push((begin, to));
    parts.retain(|(from, to)| from < to);
    parts
}

/// Direct commands that have not ended end; the first end counts.
async fn mark_ended(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
    changes: &mut Changes,
) -> Result<(), PgError> {
    let mut ends: Vec<(Uuid, Uuid, CommandState, OffsetDateTime)> = facts
        .iter()
        .filter_map(Fact::ended)
        .map(|end| (end.command, end.user.0, end.state, end.at.to_datetime()))
        .collect();
    if ends.is_empty() {
        return Ok(());
    }
    // Stable, then the first of each command: an UPDATE would pick any.
    ends.sort_by_key(|(command, user, ..)| (*command, *user));
    ends.dedup_by_key(|(command, user, ..)| (*command, *user));
    let rows = sqlx::query(
        r#"INSERT INTO command_assignments AS held (command_id, recipient_id, sender_id, epoch, "offset", expires_at,
               state, delivered_at, completed_at)
           SELECT ended.command_id, ended.recipient_id, found.sender_id, found.epoch, found."offset",
               found.expires_at, ended.state,
               CASE ended.state WHEN $5 THEN coalesce(found.delivered_at, ended.at) ELSE found.delivered_at END,
               CASE ended.state WHEN $5 THEN ended.at END
           FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[])
               AS ended(command_id, recipient_id, state, at),
           LATERAL (
               SELECT * FROM command_assignments
               WHERE command_id = ended.command_id AND recipient_id = ended.recipient_id AND state = ANY($6)
                 AND sender_id IS NOT NULL
               FOR UPDATE
           ) AS found
           ON CONFLICT (command_id, recipient_id) DO UPDATE
               SET state = excluded.state, delivered_at = excluded.delivered_at, completed_at = excluded.completed_at
           RETURNING command_id, sender_id, recipient_id, state, completed_at, delivered_at"#,
    )
    .bind(ends.iter().map(|(command, ..)| *command).collect::<Vec<_>>())
    .bind(ends.iter().map(|(_, user, ..)| *user).collect::<Vec<_>>())
    .bind(ends.iter().map(|(_, _, state, _)| state.as_str()).collect::<Vec<_>>())
    .bind(ends.iter().map(|(.., at)| *at).collect::<Vec<_>>())
    .bind(CommandState::Completed.as_str())
    .bind([CommandState::Pending, CommandState::Delivered].map(CommandState::as_str).to_vec())
    .fetch_all(connection)
    .await?;
    let confirmed: HashSet<_> = changes
        .delivered
        .iter()
        .map(|it| (it.command, it.recipient))
        .collect();
    for row in &rows {
        let key = (row.try_get("command_id")?, row.try_get("recipient_id")?);
        let found = ends.binary_search_by_key(&key, |(command, user, ..)| (*command, *user));
        let Ok(index) = found else { continue };
        let ended = change(row, ends[index].3)?;
        // Done before any confirmation came: a sender sees it delivered first all the same.
        let delivered_too = ended.state == CommandState::Completed
            && rows::time(row, "delivered_at")? == rows::time(row, "completed_at")?;
        if delivered_too && !confirmed.contains(&(ended.command, ended.recipient)) {
            changes.delivered.push(StateChange {
                state: CommandState::Delivered,
                ..ended
            });
        }
        changes.ended.push(ended);
    }
    Ok(())
}

fn change(row: &PgRow, at: OffsetDateTime) -> Result<StateChange, PgError> {
    Ok(StateChange {
        command: MessageId(row.try_get("command_id")?),
        sender: UserId(row.try_get("sender_id")?),
        recipient: UserId(row.try_get("recipient_id")?),
        state: rows::state(row.try_get("state")?)?,
        at: Timestamp::from_datetime(at),
    })
}

/// Puts records understood as bad into quarantine.
pub(super) async fn bury(
    connection: &mut PgConnection,
    facts: &[Fact<'_>],
) -> Result<Vec<Buried>, PgError> {
    let buried: Vec<Buried> = facts
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Bad(reason) => Some(Buried {
                partition: fact.partition,
                record_id: fact.record.id.clone(),
                // The reason must not be the next thing Postgres refuses.
                reason: reason.replace('\0', "\u{fffd}"),
            }),
            _ => None,
        })
        .collect();
    if buried.is_empty() {
        return Ok(buried);
    }
    sqlx::query(
        "INSERT INTO quarantine (partition, record_id, reason, record) \
         SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::bytea[])",
    )
    .bind(
        buried
            .iter()
            .map(|it| i32::from(it.partition.0))
            .collect::<Vec<_>>(),
    )
    .bind(
        buried
            .iter()
            .map(|it| it.record_id.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        buried
            .iter()
            .map(|it| it.reason.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        facts
            .iter()
            .map(|fact| fact::dump(fact.record))
            .collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(buried)
}
