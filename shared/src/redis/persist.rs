//! The persist streams: what workers have to write to Postgres, partition by partition.

use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    error::StoreError,
    functions, keys, reply,
    store::{Store, texts},
};
use crate::domain::{
    Entry, MessageId, Partition, Persist, PersistRecord, Position, Receipt, Timestamp, UserId,
};

/// Logs that `trim_step` looks at side by side.
const TRIMS_AT_ONCE: usize = 16;
/// Most entries that one call takes from a log.
const TRIM_ENTRIES: i64 = 200;

/// What was read of a persist stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistPage {
    /// In the order of the stream.
    pub records: Vec<PersistRecord>,
    /// There are more.
    pub more: bool,
}

/// What a step of the sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimStep {
    /// Where to go on; `None` when the scan is through.
    pub next: Option<u64>,
    /// Logs looked at.
    pub logs: u32,
    /// Entries removed.
    pub entries: u64,
}

impl Store {
    /// Records of a partition's persist stream after `after` (a stream id, "0-0" for all): at most
    /// so many, and no more once their bodies have so many bytes. They outlive the server: while
    /// no other one has them that should, it is `Unavailable`.
    pub async fn persist_read(
        &self,
        partition: Partition,
        after: &str,
        records: u32,
        bytes: u32,
    ) -> Result<PersistPage, StoreError> {
        let mut args = texts([&keys::tag(partition), after]);
        args.extend([records, bytes].map(|most| i64::from(most).into()));
        let answer = self
            .call_settled(partition, functions::PERSIST_READ, args, |answer| {
                answer.array_len().is_some_and(|length| length > 1)
            })
            .await?;
        page(answer)
    }

    /// Postgres has everything up to `upto`: trims the persist stream and rings `Stored`.
    pub async fn persist_commit(&self, partition: Partition, upto: &str) -> Result<(), StoreError> {
        let args = texts([&keys::tag(partition), upto]);
        self.call(partition, functions::PERSIST_COMMIT, args)
            .await?;
        Ok(())
    }

    /// What Postgres has of a partition, "0-0" for nothing; called by a worker that begins to
    /// serve it, before it reads. Makes sure that new records get higher ids (Redis may have lost
    /// its data) and lets readers know whether the history in Redis is complete.
    pub async fn persist_floor(
        &self,
        partition: Partition,
        position: &str,
    ) -> Result<(), StoreError> {
        let args = texts([&keys::tag(partition), position]);
        self.call(partition, functions::PERSIST_FLOOR, args).await?;
        Ok(())
    }

    /// How many records wait and how old the oldest is.
    pub async fn persist_backlog(
        &self,
        partition: Partition,
    ) -> Result<(u64, Option<Timestamp>), StoreError> {
        let key = keys::persist(partition);
        let length = reply::number(&self.command("XLEN", &key, Vec::new()).await?)?;
        if length == 0 {
            return Ok((0, None));
        }
        let mut args = texts([&keys::tag(partition), "0-0"]);
        args.extend([1.into(), 1.into()]);
        let answer = self.call(partition, functions::PERSIST_READ, args).await?;
        let oldest = page(answer)?.records.pop();
        Ok((length, oldest.and_then(|record| record.at())))
    }

    /// One step of the sweep over all logs: scans about `count` keys of a shard and trims what is
    /// older than `window` and persisted.
    pub async fn trim_step(
        &self,
        shard: usize,
        cursor: u64,
        window: Duration,
        count: u32,
    ) -> Result<TrimStep, StoreError> {
        let topology = self.topology()?;
        let Some(node) = topology.nodes.get(shard) else {
            return Ok(TrimStep {
                next: None,
                logs: 0,
                entries: 0,
            });
        };
        let args = texts([
            &cursor.to_string(),
            "MATCH",
            keys::ALL_LOGS,
            "COUNT",
            &count.to_string(),
            "TYPE",
            "stream",
        ]);
        let answer = reply::list(node.command("SCAN", args).await?)?;
        let [next, found] = <[Value; 2]>::try_from(answer)
            .map_err(|_| StoreError::unexpected("SCAN answered something else"))?;
        let next: u64 = reply::parse(&next)?;
        let found = reply::list(found)?;
        let logs: Vec<_> = found
            .iter()
            .filter_map(|key| keys::parse_log(reply::text(key).ok()?))
            .collect();
        let looked_at = logs.len() as u32;
        let entries = stream::iter(logs)
            .map(|(partition, topic)| async move {
                let mut args = texts([
                    &keys::tag(partition),
                    &topic.to_string(),
                    &window.as_millis().to_string(),
                ]);
                args.push(TRIM_ENTRIES.into());
                let mut removed = 0;
                loop {
                    let more =
                        reply::number(&self.call(partition, functions::TRIM, args.clone()).await?)?;
                    removed += more;
                    if more < TRIM_ENTRIES as u64 {
                        return Ok::<_, StoreError>(removed);
                    }
                }
            })
            .buffer_unordered(TRIMS_AT_ONCE)
            .try_fold(0, |sum, removed| async move { Ok(sum + removed) })
            .await?;
        Ok(TrimStep {
            next: (next != 0).then_some(next),
            logs: looked_at,
            entries,
        })
    }
}

fn page(answer: Value) -> Result<PersistPage, StoreError> {
    let mut parts = reply::list(answer)?.into_iter();
    let more = parts
        .next()
        .ok_or_else(|| StoreError::unexpected("an empty answer to persist_read"))?;
    Ok(PersistPage {
        more: reply::number(&more)? == 1,
        records: parts.map(record).collect::<Result<_, _>>()?,
    })
}

/// Reads `[id, [field, value, ...]]`.
fn record(value: Value) -> Result<PersistRecord, StoreError> {
    let [id, fields] = <[Value; 2]>::try_from(reply::list(value)?)
        .map_err(|_| StoreError::unexpected("a stream entry of another shape"))?;
    let id = reply::text(&id)?.to_owned();
    let mut flat = reply::list(fields)?.into_iter();
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        let name = String::from_utf8_lossy(&reply::bytes(name)).into_owned();
        fields.push((name, reply::bytes(value)));
    }
    let what = understand(&fields).unwrap_or_else(|reason| Persist::Unreadable {
        reason: reason.into(),
        fields: std::mem::take(&mut fields),
    });
    Ok(PersistRecord { id, what })
}

/// Everything between blanks.
fn words<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    text.split_ascii_whitespace()
        .map(|word| word.parse().ok())
        .collect()
}

/// `<user> <command> ...`
fn receipt(line: &str) -> Option<Receipt> {
    let (user, commands) = line.split_once(' ')?;
    let commands: Vec<MessageId> = words(commands)?;
    Some(Receipt {
        user: user.parse().ok()?,
        commands,
    })
}

/// `<user> <ms>`
fn seen(line: &str) -> Option<(UserId, Timestamp)> {
    let (user, ms) = line.split_once(' ')?;
    Some((user.parse().ok()?, Timestamp(ms.parse().ok()?)))
}

fn understand(fields: &[(String, Bytes)]) -> Result<Persist, &'static str> {
    let bytes = |name: &str| {
        fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value)
    };
    let text = |name| bytes(name).and_then(|value| std::str::from_utf8(value).ok());
    let at = Timestamp(text("t").and_then(|t| t.parse().ok()).ok_or("no time")?);
    if let Some(user) = text("delivered") {
        return Ok(Persist::Delivered {
            user: user.parse().map_err(|_| "no user id")?,
            from: text("from")
                .and_then(|from| from.parse().ok())
                .ok_or("no position in `from`")?,
            to: text("to")
                .and_then(|to| to.parse().ok())
                .ok_or("no position in `to`")?,
            skipped: words(text("skip").unwrap_or_default()).ok_or("no position in `skip`")?,
            at,
        });
    }
    if let Some(lines) = text("received") {
        let receipts = lines.lines().map(receipt).collect::<Option<_>>();
        return Ok(Persist::Received {
            receipts: receipts.ok_or("unreadable receipts")?,
            at,
        });
    }
    if let Some(lines) = text("seen") {
        let users = lines.lines().map(seen).collect::<Option<_>>();
        return Ok(Persist::Seen {
            users: users.ok_or("unreadable times")?,
            at,
        });
    }
    let number = |name| text(name).and_then(|n| n.parse().ok());
    Ok(Persist::Entry(Entry {
        topic: text("topic")
            .and_then(|topic| topic.parse().ok())
            .ok_or("unknown topic")?,
        position: Position {
            epoch: number("e").ok_or("no epoch")?,
            offset: number("n").ok_or("no offset")?,
        },
        id: text("id")
            .and_then(|id| id.parse().ok())
            .ok_or("no message id")?,
        kind: text("k")
            .and_then(|kind| kind.parse().ok())
            .ok_or("unknown kind")?,
        at,
        body: bytes("d").ok_or("no body")?.clone(),
    }))
}

#[cfg(test)]
mod fuzz;
