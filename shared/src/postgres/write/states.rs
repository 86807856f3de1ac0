//! The statements for states of direct commands, of which their senders are told.

use std::collections::HashSet;

use sqlx::{PgConnection, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Changes, StateChange,
    fact::{Fact, What},
    statements::Written,
};
use crate::{
    domain::{CommandState, MessageId, Position, Timestamp, UserId},
    postgres::{PgError, rows},
};

/// Most deliveries marked by one statement. One record may stand for any number of them: a user
/// who comes with a new device confirms a whole log.
const STEP: usize = 2000;

/// Pending commands in a stretch of their recipient's log become delivered, a step of them at
/// most. What had ended before the stretch was confirmed is left to its end.
pub(super) async fn mark_delivered(
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
pub(super) async fn mark_ended(
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
