//! Nodes, and clients that read outboxes as sessions do.

use std::{
    collections::HashMap,
    future::poll_fn,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use gateway::{
    app::{App, AppSettings, CallSettings, ConversationSettings, Limits, Rate, Texts, Visibility},
    dialect::{DialectId, Wish},
    fanout::{
        Attach, Attached, Batch, CloseReason, Fanout, FanoutSettings, Notice, Outbox, OutboxLimits,
        Taken, TokenRef,
    },
};
use parking_lot::Mutex;
use shared::{
    contents::Contents,
    domain::{Digest, Durability, Kind, Partition, Position, Refusal, SessionId, Topic, UserId},
    lifecycle::Lifecycle,
    postgres::Postgres,
    redis::{Append, Appended, Copier, IdempotencyKey, Store, StoreSettings},
};
use testkit::{Database, Redis};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Redis, Postgres, and what is needed to make nodes.
pub struct World {
    pub redis: Redis,
    pub store: Store,
    pub postgres: Postgres,
    pub life: Lifecycle,
    pub database: Database,
    nodes: AtomicU64,
}

impl World {
    pub async fn start() -> Self {
        let (redis, database) = tokio::join!(Redis::start(), Database::create("node"));
        let store = Store::connect(StoreSettings::new(redis.url()))
            .await
            .unwrap();
        let postgres = Postgres::new(&database.url(), 4, Duration::from_secs(5)).unwrap();
        postgres.migrate().await.unwrap();
        // As a worker does that finds nothing in Postgres.
        for partition in 0..store.partitions().0 {
            store
                .persist_floor(Partition(partition), "0-0")
                .await
                .unwrap();
        }
        Self {
            redis,
            store,
            postgres,
            life: Lifecycle::new(),
            database,
            nodes: AtomicU64::new(0),
        }
    }

    pub async fn node(&self) -> Arc<Fanout> {
        self.node_with(|settings| settings).await
    }

    pub async fn node_with(
        &self,
        adapt: impl FnOnce(FanoutSettings) -> FanoutSettings,
    ) -> Arc<Fanout> {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        let settings = FanoutSettings::new(format!("n{number}").parse().unwrap(), 1);
        let (store, postgres) = (self.store.clone(), self.postgres.clone());
        Fanout::start(store, postgres, adapt(settings), self.life.clone())
            .await
            .unwrap()
    }

    pub async fn app(&self) -> Arc<App> {
        let rate = Rate::per_second(1000, 1000);
        let settings = AppSettings {
            durability: Durability::Durable,
            limits: Limits {
                requests: rate,
                commands: rate,
                broadcasts: rate,
            },
            conversations: ConversationSettings {
                inbox_max_members: 500,
                copier: Copier::new(&"n".parse().unwrap(), 1),
            },
            edit_window: Duration::from_mins(15),
            texts: Arc::new(Texts::new(Contents::default(), true)),
            visibility: Visibility::Contacts,
            calls: CallSettings {
                ring_timeout: Duration::from_secs(45),
                reconnect_grace: Duration::from_secs(1),
                max_sdp: 32 * 1024,
                max_candidate: 4096,
            },
        };
        let (store, postgres) = (self.store.clone(), self.postgres.clone());
        App::start(store, postgres, self.node().await, settings, &self.life)
    }

    pub async fn user(&self, name: &str) -> UserId {
        let id = user();
        self.postgres
            .create_user(id, name, "no password")
            .await
            .unwrap()
            .unwrap();
        id
    }
}

pub fn user() -> UserId {
    UserId(Uuid::now_v7())
}

/// Questions that wait for a permit: of each of these the next one.
pub struct Held<K>(Mutex<HashMap<K, Arc<Semaphore>>>);

impl<K> Default for Held<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Held<K> {
    pub fn hold(&self, key: K) -> Arc<Semaphore> {
        let permits = Arc::new(Semaphore::new(0));
        self.0.lock().insert(key, permits.clone());
        permits
    }

    /// Waits if the question is about one of them.
    pub async fn pass<'a>(&self, mut about: impl Iterator<Item = &'a K>)
    where
        K: 'a,
    {
        let permits = {
            let mut held = self.0.lock();
            about.find_map(|key| held.remove(key))
        };
        if let Some(permits) = permits {
            permits.acquire().await.unwrap().forget();
        }
    }
}

/// Lets a socket hear these: one answer for each.
pub async fn hear(
    node: &Arc<Fanout>,
    outbox: &Arc<Outbox>,
    wishes: &[Wish],
) -> Vec<Result<(), Refusal>> {
    let answers = node.subscribe(outbox, wishes.to_vec()).await;
    answers.into_iter().map(|(_, answer)| answer).collect()
}

pub async fn publish(store: &Store, user: UserId, text: &str) -> Position {
    publish_to(
        store,
        Topic::User(user),
        Kind::CommandNew,
        format!(r#"{{"content":"{text}"}}"#),
    )
    .await
}

pub async fn publish_to(store: &Store, topic: Topic, kind: Kind, body: String) -> Position {
    let digest = Digest::of(body.as_bytes());
    let key = IdempotencyKey(Uuid::now_v7().to_string());
    let append = Append::new(topic, kind, body, key, digest, Durability::Memory);
    // As a publisher does whose outcome is unknown: again, under the same key.
    loop {
        match store.append(append.clone()).await {
            Ok(Appended::New { position, .. } | Appended::Duplicate { position, .. }) => {
                return position;
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => eprintln!("publishing again: {error}"),
        }
    }
}

/// Who attaches, with defaults for everything but the user.
pub struct Ask {
    pub user: UserId,
    pub session: SessionId,
    pub device: &'static str,
    pub token: TokenRef,
    pub after: Option<Position>,
    pub limits: OutboxLimits,
    pub dialect: DialectId,
}

impl Ask {
    pub fn of(user: UserId) -> Self {
        Self {
            user,
            session: SessionId(Uuid::now_v7()),
            device: "phone",
            token: TokenRef {
                id: "token".into(),
                issued_at: 1000,
            },
            after: None,
            limits: OutboxLimits::default(),
            dialect: DialectId::Json,
        }
    }

    pub async fn attach(&self, fanout: &Arc<Fanout>) -> Result<(Attached, Arc<Outbox>), Refusal> {
        let outbox = Outbox::new(self.limits, self.dialect);
        let attach = Attach {
            user: self.user,
            session: self.session,
            device: self.device.parse().unwrap(),
            token: self.token.clone(),
            after: self.after,
            outbox: outbox.clone(),
        };
        fanout
            .attach(attach)
            .await
            .map(|attached| (attached, outbox))
    }

    pub async fn client(&self, fanout: &Arc<Fanout>) -> Client {
        let (attached, outbox) = self.attach(fanout).await.unwrap();
        Client::start(attached, outbox)
    }
}

/// What a client has seen.
#[derive(Default)]
pub struct Seen {
    /// Of the user's log, and of conversations.
    pub entries: Mutex<Vec<(Position, String)>>,
    /// Of the log of broadcasts.
    pub broadcasts: Mutex<Vec<(Position, String)>>,
    /// What its session would have told it.
    pub notices: Mutex<Vec<Notice>>,
    /// What stands in no log.
    pub signals: Mutex<Vec<String>>,
    /// Of those, users and how they appear.
    pub presences: Mutex<Vec<String>>,
    pub closed: Mutex<Option<CloseReason>>,
    /// Takes nothing while set.
    pub stalled: AtomicBool,
    /// Confirms nothing while set.
    pub silent: AtomicBool,
}

impl Seen {
    fn take(&self, frame: &[u8]) {
        let start = frame.iter().position(|byte| *byte == b'{').unwrap();
        let json: serde_json::Value = serde_json::from_slice(&frame[start..]).unwrap();
        let number = |name: &str| json[name].as_u64();
        let (Some(epoch), Some(offset)) = (number("epoch"), number("offset")) else {
            let name = json["type"].as_str().unwrap_or_default();
            if let (Some(user), Some(status)) = (
                json["payload"]["userId"].as_str(),
                json["payload"]["status"].as_str(),
            ) {
                let presence = format!("{user} {status}");
                self.presences.lock().push(presence);
            }
            return self.signals.lock().push(name.to_owned());
        };
        let text = json["payload"]["content"].as_str().unwrap_or_default();
        let log = match json["topic"].as_str() {
            Some("broadcast") => &self.broadcasts,
            _ => &self.entries,
        };
        log.lock()
            .push((Position { epoch, offset }, text.to_owned()));
    }

    pub fn texts(&self) -> Vec<String> {
        self.entries
            .lock()
            .iter()
            .map(|(_, text)| text.clone())
            .collect()
    }

    pub fn count(&self) -> usize {
        self.entries.lock().len()
    }

    pub fn broadcasts(&self) -> Vec<String> {
        self.broadcasts
            .lock()
            .iter()
            .map(|(_, text)| text.clone())
            .collect()
    }
}

/// A session without a socket. Dropping it is a lost connection.
pub struct Client {
    pub seen: Arc<Seen>,
    pub cursor: Position,
    pub replayed: u32,
    pub complete: bool,
    pub outbox: Arc<Outbox>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    pub fn start(attached: Attached, outbox: Arc<Outbox>) -> Self {
        let seen = Arc::new(Seen::default());
        let Attached {
            cursor,
            replayed,
            complete,
            ..
        } = attached;
        let attachment = attached.start();
        let task = tokio::spawn({
            let (seen, outbox) = (seen.clone(), outbox.clone());
            async move {
                let _attachment = attachment;
                loop {
                    while seen.stalled.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    let mut batch = Batch::new();
                    match poll_fn(|cx| outbox.poll_batch(cx, &mut batch)).await {
                        Taken::Close(reason) => {
                            *seen.closed.lock() = Some(reason);
                            return;
                        }
                        Taken::Notice(notice) => seen.notices.lock().push(notice),
                        Taken::Frames(_) => {}
                    }
                    for frame in &batch {
                        seen.take(frame);
                    }
                    outbox.drained(0);
                    if !seen.silent.load(Ordering::Relaxed)
                        && let Some(reach) = outbox.written()
                    {
                        outbox.confirmed(&reach);
                    }
                }
            }
        });
        Self {
            seen,
            cursor,
            replayed,
            complete,
            outbox,
            task,
        }
    }

    pub async fn sees(&self, count: usize) {
        testkit::eventually("entries arrive", PATIENCE, async || {
            (self.seen.count() >= count).then_some(())
        })
        .await;
    }

    /// These broadcasts arrive, in this order.
    pub async fn hears(&self, texts: &[&str]) {
        testkit::eventually("broadcasts arrive", PATIENCE, async || {
            (self.seen.broadcasts().len() >= texts.len()).then_some(())
        })
        .await;
        assert_eq!(self.seen.broadcasts(), texts);
    }

    pub async fn closed(&self) -> CloseReason {
        testkit::eventually("the socket closes", PATIENCE, async || {
            *self.seen.closed.lock()
        })
        .await
    }
}
