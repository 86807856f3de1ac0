//! A deployment of one Redis and one database, workers on it, and what a gateway would do.

use std::{sync::Arc, time::Duration};

use shared::{
    clock::Clock,
    domain::*,
    lifecycle::Lifecycle,
    postgres::Postgres,
    redis::{Ack, Append, Appended, IdempotencyKey, Page, Store},
};
use testkit::{Database, Node, Redis, eventually};
use uuid::Uuid;
use worker::{config::Settings, context::Context, runner};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Deployment {
    url: String,
    redis: Option<Redis>,
    pub database: Database,
    pub store: Store,
    pub postgres: Postgres,
}

/// A worker that stops when it is dropped.
pub struct Worker {
    pub context: Arc<Context>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.context.lifecycle.stop();
    }
}

impl Worker {
    /// Stops and waits for it.
    pub async fn stop(self) {
        self.context.lifecycle.stop();
        assert!(
            self.context.lifecycle.finish(PATIENCE).await,
            "the worker did not stop by itself"
        );
    }
}

impl Deployment {
    pub async fn start() -> Self {
        let redis = Redis::start().await;
        let url = redis.url();
        Self {
            redis: Some(redis),
            ..Self::start_on(url).await
        }
    }

    /// On a Redis that is somebody else's.
    pub async fn start_on(url: String) -> Self {
        let database = Database::create("worker").await;
        let store = Store::connect(settings(&url, &database).redis.store(Clock::told()))
            .await
            .unwrap();
        let postgres = Postgres::new(&database.url(), 4, Duration::from_secs(5)).unwrap();
        postgres.migrate().await.unwrap();
        Self {
            url,
            redis: None,
            database,
            store,
            postgres,
        }
    }

    pub fn redis(&self) -> &Redis {
        self.redis.as_ref().unwrap()
    }

    /// What a worker reaches, with nothing running.
    pub async fn context(&self, name: &str, adjust: impl FnOnce(&mut Settings)) -> Arc<Context> {
        let mut settings = settings(&self.url, &self.database);
        settings.node.id = Some(name.parse().unwrap());
        adjust(&mut settings);
        let store = Store::connect(settings.redis.store(Clock::told()))
            .await
            .unwrap();
        let postgres =
            Postgres::new(settings.postgres.url.expose(), 8, Duration::from_secs(2)).unwrap();
        Arc::new(Context::new(store, postgres, settings, Lifecycle::new()).await)
    }

    pub async fn worker(&self, name: &str) -> Worker {
        self.worker_with(name, |_| {}).await
    }

    pub async fn worker_with(&self, name: &str, adjust: impl FnOnce(&mut Settings)) -> Worker {
        let context = self.context(name, adjust).await;
        runner::start(&context).await;
        Worker { context }
    }

    /// A worker that is a process, and can be killed.
    pub async fn process(&self, name: &str) -> Node {
        let settings = settings(&self.url, &self.database);
        let (redis, postgres) = (&settings.redis.url, &settings.postgres.url);
        let settings = [
            ("NODE__ID", name.to_owned()),
            ("OPS__LISTEN", "127.0.0.1:0".to_owned()),
            ("REDIS__URL", redis.expose().to_owned()),
            ("REDIS__PARTITIONS", settings.redis.partitions.to_string()),
            ("POSTGRES__URL", postgres.expose().to_owned()),
            ("PERSIST__LEASE_TTL", "1s".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (format!("TIDEGATE_{name}"), value));
        let node = Node::new("worker", name, settings.into());
        node.start().await;
        node.until_ready().await;
        node
    }

    /// A command, appended as a gateway would.
    pub async fn send(&self, body: &CommandBody, durability: Durability) -> (MessageId, Position) {
        let key = IdempotencyKey(format!("{}:{}", body.sender_id, Uuid::now_v7()));
        let json = serde_json::to_vec(body).unwrap();
        let digest = Digest::of(&json);
        let appended = self
            .store
            .append(Append::new(
                body.recipient_id.map_or(Topic::Broadcast, Topic::User),
                Kind::CommandNew,
                json,
                key,
                digest,
                durability,
            ))
            .await
            .unwrap();
        match appended {
            Appended::New { id, position, .. } => (id, position),
            other => panic!("{other:?}"),
        }
    }

    /// Any entry, under a key of its own.
    pub async fn append(&self, topic: Topic, kind: Kind, body: &impl serde::Serialize) -> Position {
        let json = serde_json::to_vec(body).unwrap();
        let digest = Digest::of(&json);
        let appended = self
            .store
            .append(Append::new(
                topic,
                kind,
                json,
                IdempotencyKey(Uuid::now_v7().to_string()),
                digest,
                Durability::Memory,
            ))
            .await
            .unwrap();
        match appended {
            Appended::New { position, .. } => position,
            other => panic!("{other:?}"),
        }
    }

    /// The recipient says it is done.
    pub async fn complete(&self, recipient: UserId, command: MessageId, position: Position) {
        let status = CommandState::Completed;
        let body = CommandStatus {
            command_id: command,
            recipient_id: Some(recipient),
            status,
            broadcast: None,
            categories: vec![],
            at: None,
        };
        self.store
            .append(Append {
                remove: Some(position),
                ..Append::new(
                    Topic::User(recipient),
                    Kind::CommandStatus,
                    serde_json::to_vec(&body).unwrap(),
                    IdempotencyKey::end_of(command, Some(recipient)),
                    Digest::of(status.as_str().as_bytes()),
                    Durability::Memory,
                )
            })
            .await
            .unwrap();
    }

    pub async fn confirm(&self, user: UserId, position: Position) {
        self.store
            .ack(&[Ack {
                user,
                device: Device::default(),
                queue: None,
                position,
                skipped: Vec::new(),
            }])
            .await
            .unwrap();
    }

    /// Devices confirmed broadcasts, as a gateway writes it to the partition of their users.
    pub async fn receive(&self, partition: Partition, receipts: &[(UserId, MessageId)]) {
        let stream = format!("{{p{}}}:persist", partition.0);
        let lines: Vec<String> = receipts
            .iter()
            .map(|(user, command)| format!("{user} {command}"))
            .collect();
        let now = self.store.time().await.unwrap().0.to_string();
        let lines = lines.join("\n");
        self.redis()
            .call(&["XADD", &stream, "*", "received", &lines, "t", &now])
            .await;
    }

    /// What stands in a user's log in Redis.
    pub async fn log(&self, user: UserId) -> Vec<Entry> {
        self.log_of(Topic::User(user)).await
    }

    /// What stands in a log in Redis.
    pub async fn log_of(&self, topic: Topic) -> Vec<Entry> {
        let mut after = Position::START;
        loop {
            match self.store.read(topic, after, 1000).await.unwrap() {
                Page::Entries { entries, .. } => return entries,
                // Until a worker has said that Postgres has nothing older.
                Page::Cold { first, .. } => {
                    after = Position {
                        offset: first.offset - 1,
                        ..first
                    }
                }
                Page::Reset { head } => panic!("the log is at {head}"),
            }
        }
    }

    /// States a user was told, in order.
    pub async fn told(&self, user: UserId) -> Vec<(MessageId, CommandState)> {
        let entries = self.log(user).await;
        let states = entries
            .iter()
            .filter(|entry| entry.kind == Kind::CommandStatus);
        states
            .map(|entry| serde_json::from_slice::<CommandStatus>(&entry.body).unwrap())
            .map(|status| (status.command_id, status.status))
            .collect()
    }

    pub async fn waits_until_told(&self, user: UserId, expected: &[(MessageId, CommandState)]) {
        eventually("the states the sender was told", PATIENCE, async || {
            (self.told(user).await == expected).then_some(())
        })
        .await;
    }

    pub async fn waits_for_count(&self, sql: &str, expected: u64) {
        eventually(sql, PATIENCE, async || {
            (self.database.count(sql).await == expected).then_some(())
        })
        .await;
    }

    pub fn partition(&self, user: UserId) -> Partition {
        Topic::User(user).partition(self.store.partitions())
    }

    /// What waits of a partition.
    pub async fn records(&self, partition: Partition, after: &str) -> Vec<PersistRecord> {
        let page = self.store.persist_read(partition, after, 100, 1_000_000);
        page.await.unwrap().records
    }

    /// Records that wait in all persist streams.
    pub async fn waiting(&self) -> u64 {
        let mut sum = 0;
        for partition in (0..self.store.partitions().0).map(Partition) {
            sum += self.store.persist_backlog(partition).await.unwrap().0;
        }
        sum
    }
}

fn settings(url: &str, database: &Database) -> Settings {
    let mut settings = Settings::default();
    settings.redis.url = shared::config::SecretUrl::new(url);
    settings.redis.partitions = 16;
    settings.postgres.url = shared::config::SecretUrl::new(database.url());
    settings.persist.poll_interval = Duration::from_millis(10);
    settings.persist.lease_ttl = Duration::from_secs(1);
    settings.persist.lanes = 2;
    settings.jobs.expire_interval = Duration::from_millis(100);
    settings.jobs.trim_interval = Duration::from_millis(100);
    settings
}

pub fn user() -> UserId {
    UserId(Uuid::now_v7())
}

pub fn body(sender: UserId, recipient: UserId, expires_at: Timestamp) -> CommandBody {
    CommandBody {
        command_type: CommandType::Message,
        content: "hello".into(),
        data: None,
        sender_id: sender,
        sender_name: "ann".into(),
        broadcast: Broadcast::User,
        recipient_id: Some(recipient),
        categories: vec![],
        files: vec![],
        expires_at,
    }
}

/// For everybody whom its tag reaches.
pub fn broadcast(sender: UserId, expires_at: Timestamp) -> CommandBody {
    CommandBody {
        broadcast: Broadcast::Category,
        recipient_id: None,
        categories: vec!["general".parse().unwrap()],
        ..body(sender, sender, expires_at)
    }
}

pub fn in_an_hour() -> Timestamp {
    Timestamp(Clock::system().now().0 + 3_600_000)
}

pub fn a_minute_ago() -> Timestamp {
    Timestamp(Clock::system().now().0 - 60_000)
}
