//! Shorthands for the tests.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use shared::{
    domain::{
        ConversationId, Digest, Durability, Kind, MessageId, Position, SessionId, Timestamp, Topic,
        UserId,
    },
    redis::{
        Activity, Append, Appended, Author, BellEvent, Copier, IdempotencyKey, OpenSession, Page,
        Store, StoreSettings,
    },
};
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

/// More than a test reads at once.
pub const BYTES: u32 = 1_000_000;

pub async fn connect(url: &str) -> Store {
    timeout(
        Duration::from_secs(20),
        Store::connect(StoreSettings::new(url)),
    )
    .await
    .unwrap()
    .unwrap()
}

pub fn user() -> UserId {
    UserId(Uuid::now_v7())
}

/// An entry with a key of its own and a digest of its body.
pub fn entry(user: UserId, body: &str) -> Append {
    Append::new(
        Topic::User(user),
        Kind::CommandNew,
        Bytes::copy_from_slice(body.as_bytes()),
        IdempotencyKey(format!("test:{}", Uuid::now_v7())),
        Digest::of(body.as_bytes()),
        Durability::Durable,
    )
}

pub fn conversation() -> ConversationId {
    ConversationId(Uuid::now_v7())
}

/// An entry of a conversation with a key of its own.
pub fn said(conversation: ConversationId, author: Author, body: &str) -> Append {
    Append {
        author: Some(author),
        ..Append::new(
            Topic::Conversation(conversation),
            Kind::MessageNew,
            Bytes::copy_from_slice(body.as_bytes()),
            IdempotencyKey(format!("test:{}", Uuid::now_v7())),
            Digest::of(body.as_bytes()),
            Durability::Durable,
        )
    }
}

/// Somebody who decided by this version.
pub fn by(version: u64) -> Author {
    Author::By {
        version,
        copier: None,
    }
}

/// A change to this version.
pub fn change(version: u64) -> Author {
    Author::Change {
        version,
        copier: None,
    }
}

pub fn copier(node: &str) -> Copier {
    Copier::new(&node.parse().unwrap(), 1)
}

pub fn session(user: UserId) -> OpenSession {
    OpenSession {
        user,
        session: SessionId(Uuid::now_v7()),
        device: "phone".parse().unwrap(),
        node: "n1".parse().unwrap(),
        incarnation: 1,
        max_sessions: 5,
        after: None,
        dialect: "json",
        hears_calls: true,
        by_queue: false,
        page: 100,
    }
}

/// That a session's client does nothing, or does something again.
pub fn activity(of: &OpenSession, is_idle: bool) -> Activity {
    Activity {
        user: of.user,
        session: of.session,
        is_idle,
    }
}

/// The same, and the store is told.
pub async fn idle(store: &Store, it: &OpenSession, is_idle: bool) {
    let told = store.note_activity(&[activity(it, is_idle)]).await;
    told.into_iter().for_each(Result::unwrap);
}

/// Appends and answers the place of what is new.
pub async fn append(store: &Store, entry: Append) -> (MessageId, Position, String) {
    match store.append(entry).await.unwrap() {
        Appended::New {
            id,
            position,
            persist_id,
            ..
        } => (id, position, persist_id),
        other => panic!("not new: {other:?}"),
    }
}

/// Positions and bodies of a page.
pub fn entries(page: Page) -> Vec<(Position, String)> {
    match page {
        Page::Entries { entries, .. } => entries
            .into_iter()
            .map(|entry| {
                (
                    entry.position,
                    String::from_utf8(entry.body.to_vec()).unwrap(),
                )
            })
            .collect(),
        other => panic!("no entries: {other:?}"),
    }
}

/// Everything that Redis holds of a user's log after a position, as if Postgres had nothing.
pub async fn all_after(
    store: &Store,
    user: UserId,
    mut after: Position,
) -> Vec<(Position, String)> {
    let mut found = Vec::new();
    loop {
        match store.read(Topic::User(user), after, 1000).await.unwrap() {
            Page::Cold { first, .. } => {
                after = Position {
                    offset: first.offset - 1,
                    ..first
                };
            }
            page => {
                let more = entries(page);
                let Some((last, _)) = more.last() else {
                    return found;
                };
                after = *last;
                found.extend(more);
            }
        }
    }
}

/// Tries until it holds, at most 15 s.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let tries = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        timeout(Duration::from_secs(15), tries).await.is_ok(),
        "never happened: {what}"
    );
}

/// Waits until the clock of Redis is past this: what begins at the time is greater from then on.
pub async fn time_is_past(store: &Store, time: Timestamp) {
    eventually("the clock goes on", || async {
        store.time().await.unwrap() > time
    })
    .await;
}

/// What the subscriber hears, one by one.
pub struct Heard {
    events: mpsc::Receiver<Vec<BellEvent>>,
    waiting: std::collections::VecDeque<BellEvent>,
}

impl Heard {
    pub fn new(events: mpsc::Receiver<Vec<BellEvent>>) -> Self {
        Self {
            events,
            waiting: std::collections::VecDeque::new(),
        }
    }

    pub async fn next(&mut self) -> BellEvent {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            let batch = timeout(Duration::from_secs(15), self.events.recv()).await;
            self.waiting
                .extend(batch.expect("silence").expect("closed"));
        }
    }

    /// The next event that `pick` takes; others are dropped.
    pub async fn next_that<T>(&mut self, pick: impl Fn(BellEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.next().await) {
                return found;
            }
        }
    }

    /// The next entry, as position and body.
    pub async fn entry(&mut self) -> (Position, String) {
        self.next_that(|event| match event {
            BellEvent::Entry(entry) => Some((
                entry.position,
                String::from_utf8(entry.body.to_vec()).unwrap(),
            )),
            _ => None,
        })
        .await
    }

    pub async fn gap(&mut self) -> usize {
        self.next_that(|event| match event {
            BellEvent::Gap { shard } => Some(shard),
            _ => None,
        })
        .await
    }
}
