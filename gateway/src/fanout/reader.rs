//! One sequence over what Redis holds of a log and what Postgres keeps of it. Whoever reads
//! does not notice where an entry came from.

use shared::{
    domain::{Code, DirectoryChange, Entry, Kind, MessageId, Position, Refusal, Timestamp, Topic},
    postgres::{PgError, Postgres},
    redis::{Page, Store, StoreError},
};
use uuid::Uuid;

use super::refusal::store_refusal;

/// Why a log could not be read. Trying again later is the cure for all of them.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The hot part is away.
    #[error(transparent)]
    Redis(#[from] StoreError),
    /// The cold part is away.
    #[error(transparent)]
    Postgres(#[from] PgError),
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Redis(error) => store_refusal(&error),
            ReadError::Postgres(error) => {
                tracing::warn!(%error, "the cold part of a log cannot be read");
                Self::new(Code::Unavailable, "older entries cannot be read now")
                    .retry_after(std::time::Duration::from_secs(1))
            }
        }
    }
}

/// A way through a log. Pure: tells what to read next and understands the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    at: Position,
    cold_before: Option<Position>,
}

/// What a walk reads next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Redis, after this position.
    Hot(Position),
    /// Postgres, between these positions, both exclusive.
    Cold(Position, Position),
}

/// A stretch of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Oldest first; may be empty before the end.
    pub entries: Vec<Entry>,
    /// Where the log ended, if the chunk reaches it.
    pub end: Option<Position>,
    /// The walk stood beyond the end of the log.
    pub reset: bool,
}

impl Walk {
    /// Begins behind `after`.
    pub fn from(after: Position) -> Self {
        Self {
            at: after,
            cold_before: None,
        }
    }

    /// Everything up to here was read.
    pub fn at(&self) -> Position {
        self.at
    }

    /// What to read next.
    pub fn next(&self) -> Source {
        match self.cold_before {
            Some(before) => Source::Cold(self.at, before),
            None => Source::Hot(self.at),
        }
    }

    /// Takes what Redis answered.
    pub fn hot(&mut self, page: Page) -> Chunk {
        match page {
            Page::Entries { entries, end, head } => {
                self.at = self.at.max(end);
                Chunk {
                    entries,
                    end: (end >= head).then_some(self.at),
                    reset: false,
                }
            }
            Page::Cold { first, .. } => {
                self.cold_before = Some(first);
                Chunk::default()
            }
            // Redis lost the tail this reader has seen. What comes next has a higher epoch.
            Page::Reset { .. } => Chunk {
                entries: Vec::new(),
                end: Some(self.at),
                reset: true,
            },
        }
    }

    /// The log was known to reach `target`. If Redis has lost its tail, what follows its end is to
    /// be had from Postgres, if anywhere.
    pub fn expect(&mut self, end: Option<Position>, target: Position) {
        if end.is_some_and(|end| end < target) {
            self.cold_before = Some(Position {
                offset: target.offset + 1,
                ..target
            });
        }
    }

    /// Takes what Postgres answered to a question for at most `limit` entries.
    pub fn cold(&mut self, entries: Vec<Entry>, limit: u32) -> Chunk {
        if let Some(last) = entries.last() {
            self.at = self.at.max(last.position);
        }
        if (entries.len() as u32) < limit
            && let Some(first) = self.cold_before.take()
        {
            let before_first = Position {
                offset: first.offset.saturating_sub(1),
                ..first
            };
            self.at = self.at.max(before_first);
        }
        Chunk {
            entries,
            end: None,
            reset: false,
        }
    }
}

/// Reads logs from both stores.
#[derive(Clone)]
pub struct Reader {
    store: Store,
    postgres: Postgres,
}

impl Reader {
    /// A reader of the deployment's logs.
    pub fn new(store: Store, postgres: Postgres) -> Self {
        Self { store, postgres }
    }

    /// The next at most `limit` entries of a walk.
    pub async fn next(
        &self,
        topic: Topic,
        walk: &mut Walk,
        limit: u32,
    ) -> Result<Chunk, ReadError> {
        match (walk.next(), topic) {
            (Source::Hot(after), _) => {
                let page = self.store.read(topic, after, limit).await?;
                Ok(walk.hot(page))
            }
            (Source::Cold(after, before), Topic::User(user)) => {
                let entries = self
                    .postgres
                    .entries_between(user, after, before, limit)
                    .await?;
                Ok(walk.cold(entries, limit))
            }
            (Source::Cold(after, before), Topic::Broadcast) => {
                let entries = self
                    .postgres
                    .broadcasts_between(after, before, limit)
                    .await?;
                Ok(walk.cold(entries, limit))
            }
            (Source::Cold(after, before), Topic::Conversation(conversation)) => {
                let entries = self
                    .postgres
                    .messages_between(conversation, after, before, limit)
                    .await?;
                Ok(walk.cold(entries, limit))
            }
            // It has no log.
            (Source::Cold(_, before), Topic::Presence(_)) => {
                debug_assert!(before == Position::END, "nothing stands in it");
                Ok(walk.cold(Vec::new(), limit))
            }
            // What is in force is in the record, whoever changed it when.
            (Source::Cold(_, before), Topic::Directory) => {
                Ok(walk.cold(vec![everything(before)], u32::MAX))
            }
            (Source::Cold(_, before), Topic::Revocations) => {
                let entries = self.stored_revocations(before).await?;
                // All of them at once.
                Ok(walk.cold(entries, u32::MAX))
            }
        }
    }

    /// Postgres keeps revocations as a set, not as a log; as entries they all stand before
    /// the first one that Redis has.
    async fn stored_revocations(&self, before: Position) -> Result<Vec<Entry>, PgError> {
        let revocations = self.postgres.live_revocations().await?;
        let entry = |revocation| Entry {
            topic: Topic::Revocations,
            position: Position {
                offset: before.offset.saturating_sub(1),
                ..before
            },
            id: MessageId(Uuid::nil()),
            kind: Kind::Revocation,
            at: Timestamp(0),
            body: serde_json::to_vec(&revocation).unwrap_or_default().into(),
        };
        Ok(revocations.into_iter().map(entry).collect())
    }
}

/// What stands for all changes that Redis has lost.
fn everything(before: Position) -> Entry {
    let change = DirectoryChange::Everything;
    Entry {
        topic: Topic::Directory,
        position: Position {
            offset: before.offset.saturating_sub(1),
            ..before
        },
        id: MessageId(Uuid::nil()),
        kind: Kind::DirectoryChange,
        at: Timestamp(0),
        body: serde_json::to_vec(&change).unwrap_or_default().into(),
    }
}
