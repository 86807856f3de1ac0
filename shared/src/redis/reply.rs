//! Takes answers of the server functions apart. Whatever does not fit becomes
//! [`StoreError::Unexpected`], never a panic.

use std::str::FromStr;

use bytes::Bytes;
use fred::types::Value;

use super::error::StoreError;
use crate::domain::{Entry, MessageId, Position, Timestamp, Topic};

/// The items of an array answer.
pub(super) fn list(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Null => Ok(Vec::new()),
        other => Err(StoreError::unexpected(format!(
            "{:?} where a list is due",
            other.kind()
        ))),
    }
}

/// A text answer.
pub(super) fn text(value: &Value) -> Result<&str, StoreError> {
    value
        .as_bytes()
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .ok_or_else(|| StoreError::unexpected(format!("{:?} where a text is due", value.kind())))
}

/// The bytes of an answer, shared with what was received.
pub(super) fn bytes(value: Value) -> Bytes {
    match value {
        Value::String(text) => text.into_inner(),
        Value::Bytes(bytes) => bytes,
        other => other.into_bytes().unwrap_or_default(),
    }
}

/// Parses a text answer.
pub(super) fn parse<T: FromStr>(value: &Value) -> Result<T, StoreError> {
    parse_text(text(value)?)
}

/// Parses a piece of a text.
pub(super) fn parse_text<T: FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse()
        .map_err(|_| StoreError::unexpected(format!("{text:.60} does not parse")))
}

/// A count.
pub(super) fn number(value: &Value) -> Result<u64, StoreError> {
    value.as_u64().map_or_else(|| parse(value), Ok)
}

/// Two texts as a position.
pub(super) fn position(epoch: &str, offset: &str) -> Result<Position, StoreError> {
    Ok(Position {
        epoch: parse_text(epoch)?,
        offset: parse_text(offset)?,
    })
}

/// `<epoch>-<offset>`, the id of an entry in its log.
pub(super) fn stream_position(id: &str) -> Result<Position, StoreError> {
    let (epoch, offset) = id
        .split_once('-')
        .ok_or_else(|| StoreError::unexpected("a stream id without '-'"))?;
    position(epoch, offset)
}

/// Reads entries given as five values each: stream id, id, kind, ms, body; answers the position of
/// the last one, too. An entry of a kind this release does not know is left out: it was written by
/// a newer one.
pub(super) fn entries(
    topic: Topic,
    values: impl IntoIterator<Item = Value>,
) -> Result<(Vec<Entry>, Option<Position>), StoreError> {
    let mut values = values.into_iter();
    let (mut entries, mut last) = (Vec::new(), None);
    while let Some(place) = values.next() {
        let [Some(id), Some(kind), Some(at), Some(body)] =
            [values.next(), values.next(), values.next(), values.next()]
        else {
            return Err(StoreError::unexpected("half an entry"));
        };
        let position = stream_position(text(&place)?)?;
        last = Some(position);
        let (Ok(kind), Ok(id)) = (text(&kind)?.parse(), parse::<MessageId>(&id)) else {
            tracing::warn!(%topic, %position, "left out an entry that does not parse");
            continue;
        };
        let at = Timestamp(parse(&at)?);
        entries.push(Entry {
            topic,
            position,
            id,
            kind,
            at,
            body: bytes(body),
        });
    }
    Ok((entries, last))
}
