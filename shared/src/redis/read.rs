//! Reading logs.

use fred::types::Value;
use futures_util::future::try_join_all;

use super::{
    error::StoreError,
    functions, keys, reply,
    store::{Store, texts},
};
use crate::domain::{Entry, MessageId, Position, Topic};

/// Most bytes of bodies in a page, unless its first entry alone is longer.
pub(super) const PAGE_BYTES: i64 = 256 * 1024;
/// How many of the newest entries `find` looks at.
const FIND_WITHIN: i64 = 1000;
/// Most topics in one call.
const HEADS_PER_CALL: usize = 500;

/// What `read` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// Entries after the position asked for, oldest first, and the last position of the log at
    /// that moment.
    Entries {
        /// May have holes where ended commands were removed.
        entries: Vec<Entry>,
        /// Everything up to here is among them: the head, if the page reached the end.
        end: Position,
        /// The last position of the log.
        head: Position,
    },
    /// The position is older than what Redis surely holds, or an epoch ends with it and Redis may
    /// have lost what followed: read Postgres up to, not including, `first`, and go on here from
    /// the position before `first`.
    Cold {
        /// The first position that is surely here; its offset is at least 1.
        first: Position,
        /// The last position of the log.
        head: Position,
    },
    /// The position lies ahead of the log: it was never handed out by this deployment.
    Reset {
        /// The last position of the log.
        head: Position,
    },
}

impl Store {
    /// Entries after `after`, at most `count` entries and 256 KiB.
    pub async fn read(
        &self,
        topic: Topic,
        after: Position,
        count: u32,
    ) -> Result<Page, StoreError> {
        let partition = self.partition_of(topic);
        let mut args = texts([
            &keys::tag(partition),
            &topic.to_string(),
            &after.epoch.to_string(),
            &after.offset.to_string(),
        ]);
        args.push(i64::from(count).into());
        args.push(PAGE_BYTES.into());
        page(topic, self.call(partition, functions::READ, args).await?)
    }

    /// The last position of each topic, [`Position::START`] for one without a log. Same order.
    pub async fn heads(&self, topics: &[Topic]) -> Result<Vec<Position>, StoreError> {
        let groups = self.groups(topics.iter().copied())?;
        let calls = groups
            .iter()
            .flat_map(|group| group.chunks(HEADS_PER_CALL))
            .map(|group| async move {
                let args = group
                    .iter()
                    .flat_map(|(partition, index)| {
                        texts([&keys::tag(*partition), &topics[*index].to_string()])
                    })
                    .collect();
                let answer = self.call(group[0].0, functions::HEADS, args).await?;
                let heads = reply::list(answer)?
                    .iter()
                    .map(reply::parse)
                    .collect::<Result<Vec<Position>, _>>()?;
                if heads.len() != group.len() {
                    return Err(StoreError::unexpected(
                        "heads answered for another number of topics",
                    ));
                }
                Ok(group
                    .iter()
                    .map(|(_, index)| *index)
                    .zip(heads)
                    .collect::<Vec<_>>())
            });
        let mut heads = vec![Position::START; topics.len()];
        for (index, head) in try_join_all(calls).await?.into_iter().flatten() {
            heads[index] = head;
        }
        Ok(heads)
    }

    /// Looks for an entry by id among the newest 1 000 of a log.
    pub async fn find(&self, topic: Topic, id: MessageId) -> Result<Option<Entry>, StoreError> {
        let partition = self.partition_of(topic);
        let mut args = texts([&keys::tag(partition), &topic.to_string(), &id.to_string()]);
        args.push(FIND_WITHIN.into());
        let answer = self.call(partition, functions::FIND, args).await?;
        Ok(reply::entries(topic, reply::list(answer)?)?.0.pop())
    }
}

/// Reads a page as `read.lua` answers it.
pub(super) fn page(topic: Topic, answer: Value) -> Result<Page, StoreError> {
    let mut items = reply::list(answer)?.into_iter();
    let mut next = || {
        items
            .next()
            .ok_or_else(|| StoreError::unexpected("half a page"))
    };
    let what = next()?;
    let (epoch, offset) = (next()?, next()?);
    let place = reply::position(reply::text(&epoch)?, reply::text(&offset)?)?;
    match reply::text(&what)? {
        "E" => {
            let (entries, last) = reply::entries(topic, items)?;
            Ok(Page::Entries {
                entries,
                // Trailing entries may have been removed: nothing exists up to the head.
                end: last.unwrap_or(place),
                head: place,
            })
        }
        "C" => {
            let (epoch, offset) = (next()?, next()?);
            let head = reply::position(reply::text(&epoch)?, reply::text(&offset)?)?;
            Ok(Page::Cold { first: place, head })
        }
        "R" => Ok(Page::Reset { head: place }),
        other => Err(StoreError::unexpected(format!(
            "a page of kind {other:.20}"
        ))),
    }
}
