//! From columns to the domain and back.

use std::str::FromStr as _;

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{PgError, StoredCommand};
use crate::domain::{
    Broadcast, Category, CommandState, Entry, Kind, MessageId, Position, Timestamp, Topic,
};

/// A stored word this program does not know.
pub(super) fn unreadable(what: &str, found: &str) -> PgError {
    PgError::Unexpected(sqlx::Error::Decode(
        format!("unknown {what}: {found}").into(),
    ))
}

/// Ids are minted before the entry is taken, tried again for some seconds, and by a clock that
/// is off by a round trip.
const SLACK_MS: i64 = 60_000;

fn first_id_of_ms(ms: i64) -> Uuid {
    Uuid::from_u128(u128::from(ms.max(0) as u64) << 80)
}

/// No id minted at `at` or later is smaller.
pub(super) fn first_id_of(at: Timestamp) -> Uuid {
    first_id_of_ms(at.0)
}

/// No entry accepted at `at` or later has a smaller id.
pub(super) fn first_id_about(at: Timestamp) -> Uuid {
    first_id_of_ms(at.0 - SLACK_MS)
}

/// Every entry accepted before `at` has a smaller id.
pub(super) fn first_id_after(at: Timestamp) -> Uuid {
    first_id_of_ms(at.0 + SLACK_MS)
}

/// The lower bound of ids for what was created at or after `since`.
pub(super) fn since(since: Option<Timestamp>) -> Uuid {
    since.map_or(Uuid::nil(), first_id_about)
}

/// The upper bound of ids, itself left out.
pub(super) fn before(before: Option<MessageId>) -> Uuid {
    before.map_or(Uuid::max(), |id| id.0)
}

pub(super) fn state(text: &str) -> Result<CommandState, PgError> {
    [
        CommandState::Pending,
        CommandState::Delivered,
        CommandState::Completed,
        CommandState::Expired,
        CommandState::Cancelled,
    ]
    .into_iter()
    .find(|state| state.as_str() == text)
    .ok_or_else(|| unreadable("state of a command", text))
}

pub(super) fn broadcast(text: &str) -> Result<Broadcast, PgError> {
    [Broadcast::User, Broadcast::Category, Broadcast::Allcast]
        .into_iter()
        .find(|sort| sort.as_str() == text)
        .ok_or_else(|| unreadable("sort of a command", text))
}

/// A column of tags.
pub(super) fn categories<C: FromIterator<Category>>(
    row: &PgRow,
    column: &str,
) -> Result<C, PgError> {
    let tags: Vec<String> = row.try_get(column)?;
    tags.iter()
        .map(|tag| tag.parse().map_err(|_| unreadable("category", tag)))
        .collect()
}

/// Columns `epoch` and `offset`.
pub(super) fn position(row: &PgRow) -> Result<Position, sqlx::Error> {
    Ok(Position {
        epoch: row.try_get::<i64, _>("epoch")? as u64,
        offset: row.try_get::<i64, _>("offset")? as u64,
    })
}

/// A time that may be absent.
pub(super) fn time(row: &PgRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    let at: Option<time::OffsetDateTime> = row.try_get(column)?;
    Ok(at.map(Timestamp::from_datetime))
}

/// Columns of a command and of its assignment.
pub(super) fn stored_command(row: &PgRow) -> Result<StoredCommand, PgError> {
    let body: &str = row.try_get("body")?;
    Ok(StoredCommand {
        id: MessageId(row.try_get("id")?),
        body: serde_json::from_str(body)
            .map_err(|error| PgError::Unexpected(sqlx::Error::Decode(error.into())))?,
        created_at: Timestamp::from_datetime(row.try_get("created_at")?),
        position: position(row)?,
        state: state(row.try_get("state")?)?,
        delivered_at: time(row, "delivered_at")?,
        completed_at: time(row, "completed_at")?,
    })
}

/// Columns of an entry of a log.
pub(super) fn entry(row: &PgRow, topic: Topic) -> Result<Entry, PgError> {
    let kind: &str = row.try_get("kind")?;
    let body: String = row.try_get("body")?;
    Ok(Entry {
        topic,
        position: position(row)?,
        id: MessageId(row.try_get("id")?),
        kind: Kind::from_str(kind).map_err(|()| unreadable("kind of an entry", kind))?,
        at: Timestamp::from_datetime(row.try_get("created_at")?),
        body: body.into(),
    })
}
