//! A migrated database and records to write into it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use shared::{
    domain::*,
    postgres::{PartitionBatch, PendingBatch, Postgres, StateChange, WriteError},
};
use testkit::Database;
use uuid::Uuid;

pub const HOME: Partition = Partition(3);
pub const EPOCH: u64 = 1_790_000_000;

/// A database with the schema, and one claimed partition.
pub struct Record {
    pub database: Database,
    pub postgres: Postgres,
    pub token: u64,
    position: tokio::sync::Mutex<String>,
}

impl Record {
    pub async fn new() -> Self {
        let database = Database::create("record").await;
        let postgres = connect(&database.url());
        postgres.migrate().await.unwrap();
        let (token, position) = postgres
            .claim_partitions(&[(HOME, 1)])
            .await
            .unwrap()
            .remove(0);
        Self {
            database,
            postgres,
            token,
            position: position.into(),
        }
    }

    pub fn batch(&self, after: &str, records: Vec<PersistRecord>) -> PartitionBatch {
        PartitionBatch {
            partition: HOME,
            token: self.token,
            after: after.to_owned(),
            records,
        }
    }

    /// Writes and commits the next records of the home partition.
    pub async fn write(&self, records: Vec<PersistRecord>) -> Vec<StateChange> {
        let pending = self.begin(records).await.unwrap();
        let changes = pending.changes.clone();
        pending.commit().await.unwrap();
        changes
    }

    /// Writes the next records, leaves it to the caller to commit. The position moves anyway.
    pub async fn begin(&self, records: Vec<PersistRecord>) -> Result<PendingBatch, WriteError> {
        let mut position = self.position.lock().await;
        let upto = records.last().unwrap().id.clone();
        let pending = self
            .postgres
            .begin_batch(&[self.batch(&position, records)])
            .await;
        *position = upto;
        pending
    }

    /// How a connection of the pool would answer a question.
    pub async fn plan(&self, question: &str, types: &str, arguments: &str) -> String {
        let plan = self
            .database
            .query(&format!(
                "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                 SET plan_cache_mode = force_generic_plan; \
                 PREPARE asked({types}) AS {question}; EXPLAIN EXECUTE asked({arguments})"
            ))
            .await
            .concat()
            .join("\n");
        assert!(!plan.contains("Seq Scan"), "{plan}");
        plan
    }

    pub async fn states(&self) -> Vec<String> {
        let rows = self
            .database
            .query("SELECT state FROM command_assignments ORDER BY epoch, \"offset\"")
            .await;
        rows.into_iter().map(|mut row| row.remove(0)).collect()
    }
}

pub fn connect(url: &str) -> Postgres {
    Postgres::new(url, 4, Duration::from_secs(5)).unwrap()
}

pub fn now() -> Timestamp {
    shared::clock::Clock::system().now()
}

pub fn user() -> UserId {
    UserId(Uuid::now_v7())
}

pub fn at(offset: u64) -> Position {
    Position {
        epoch: EPOCH,
        offset,
    }
}

/// Ids that rise within a test run, minted at a given time.
pub fn id_at(time: Timestamp) -> MessageId {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    MessageId(Uuid::from_u128(
        (time.0 as u128) << 80 | 0x7 << 76 | 0x2 << 62 | u128::from(counter),
    ))
}

/// A record's stream id; the counter of [`id_at`] would do as well.
fn record(what: Persist) -> PersistRecord {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    PersistRecord {
        id: format!("{}-0", COUNTER.fetch_add(1, Ordering::Relaxed)),
        what,
    }
}

pub fn body(sender: UserId, recipient: UserId) -> CommandBody {
    CommandBody {
        command_type: CommandType::Task,
        content: "water the \u{1f331}, \"please\"".into(),
        data: Some(
            serde_json::value::RawValue::from_string(r#"{ "b":1, "a":"\u0000" }"#.into()).unwrap(),
        ),
        sender_id: sender,
        sender_name: "ann".into(),
        broadcast: Broadcast::User,
        recipient_id: Some(recipient),
        categories: vec!["general".parse().unwrap(), "feet".parse().unwrap()],
        files: vec![],
        expires_at: Timestamp(now().0 + 1_000_000),
    }
}

pub fn command_entry(id: MessageId, offset: u64, body: &CommandBody) -> Entry {
    Entry {
        topic: body.recipient_id.map_or(Topic::Broadcast, Topic::User),
        position: at(offset),
        id,
        kind: Kind::CommandNew,
        at: Timestamp((id.0.as_u128() >> 80) as i64),
        body: serde_json::to_vec(body).unwrap().into(),
    }
}

pub fn command(id: MessageId, offset: u64, body: &CommandBody) -> PersistRecord {
    record(Persist::Entry(command_entry(id, offset, body)))
}

pub fn entry(entry: Entry) -> PersistRecord {
    record(Persist::Entry(entry))
}

pub fn status(user: UserId, offset: u64, status: &CommandStatus) -> PersistRecord {
    record(Persist::Entry(Entry {
        topic: Topic::User(user),
        position: at(offset),
        id: id_at(now()),
        kind: Kind::CommandStatus,
        at: now(),
        body: serde_json::to_vec(status).unwrap().into(),
    }))
}

/// The recipient's log says the command ended.
pub fn ended(
    recipient: UserId,
    offset: u64,
    command: MessageId,
    state: CommandState,
) -> PersistRecord {
    let says = CommandStatus {
        command_id: command,
        recipient_id: Some(recipient),
        status: state,
        broadcast: None,
        categories: vec![],
        at: None,
    };
    status(recipient, offset, &says)
}

pub fn delivered(user: UserId, from: u64, to: u64) -> PersistRecord {
    record(Persist::Delivered {
        user,
        from: at(from),
        to: at(to),
        skipped: vec![],
        at: now(),
    })
}

pub fn unreadable() -> PersistRecord {
    let fields = vec![("x".to_owned(), bytes::Bytes::from_static(b"\xff\0"))];
    record(Persist::Unreadable {
        fields,
        reason: "no topic".into(),
    })
}
