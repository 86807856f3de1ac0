//! A migrated database and records to write into it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use shared::{
    domain::*,
    postgres::{
        ConversationCreated, NewConversation, PartitionBatch, PendingBatch, Postgres, StateChange,
        WriteError,
    },
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
pub fn record(what: Persist) -> PersistRecord {
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

/// A command for everybody whom its tags reach.
pub fn broadcast(sender: UserId) -> CommandBody {
    CommandBody {
        broadcast: Broadcast::Category,
        recipient_id: None,
        ..body(sender, sender)
    }
}

/// Some entry, accepted at a given time.
pub fn told(
    topic: Topic,
    kind: Kind,
    offset: u64,
    time: Timestamp,
    body: &impl serde::Serialize,
) -> PersistRecord {
    entry(Entry {
        topic,
        position: at(offset),
        id: id_at(now()),
        kind,
        at: time,
        body: serde_json::to_vec(body).unwrap().into(),
    })
}

/// A broadcast ended for everybody.
pub fn over(
    offset: u64,
    command: MessageId,
    state: CommandState,
    time: Timestamp,
) -> PersistRecord {
    let says = CommandStatus {
        command_id: command,
        recipient_id: None,
        status: state,
        broadcast: Some(Broadcast::Category),
        categories: vec!["general".parse().unwrap()],
        at: None,
    };
    told(Topic::Broadcast, Kind::CommandStatus, offset, time, &says)
}

/// The recipient's own log says they completed a broadcast.
pub fn done(user: UserId, offset: u64, command: MessageId, time: Timestamp) -> PersistRecord {
    let says = CommandStatus {
        command_id: command,
        recipient_id: Some(user),
        status: CommandState::Completed,
        broadcast: Some(Broadcast::Category),
        categories: vec![],
        at: None,
    };
    told(Topic::User(user), Kind::CommandStatus, offset, time, &says)
}

/// Devices of users confirmed broadcasts.
pub fn received(receipts: &[(UserId, &[MessageId])], time: Timestamp) -> PersistRecord {
    let receipts = receipts.iter().map(|(user, commands)| Receipt {
        user: *user,
        commands: commands.to_vec(),
    });
    record(Persist::Received {
        receipts: receipts.collect(),
        at: time,
    })
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

/// What somebody says in a conversation.
pub fn words(conversation: ConversationId, sender: UserId, content: &str) -> MessageBody {
    MessageBody {
        message_id: None,
        created_at: None,
        conversation_id: conversation,
        sender_id: sender,
        sender_name: "ann".into(),
        sender_type: SenderType::User,
        content: content.into(),
        sealed: None,
        message_type: MessageType::Text,
        files: vec![],
        uncopied: false,
        change: None,
    }
}

/// An entry of a conversation's log with this id, accepted when it was minted.
pub fn said(
    conversation: ConversationId,
    kind: Kind,
    id: MessageId,
    offset: u64,
    body: &impl serde::Serialize,
) -> PersistRecord {
    entry(Entry {
        topic: Topic::Conversation(conversation),
        position: at(offset),
        id,
        kind,
        at: Timestamp((id.0.as_u128() >> 80) as i64),
        body: serde_json::to_vec(body).unwrap().into(),
    })
}

/// A message.
pub fn message(id: MessageId, offset: u64, body: &MessageBody) -> PersistRecord {
    said(body.conversation_id, Kind::MessageNew, id, offset, body)
}

/// A message reads otherwise.
pub fn edited(of: MessageId, id: MessageId, offset: u64, body: &MessageBody) -> PersistRecord {
    let edited = MessageEdited {
        message_id: of,
        conversation_id: body.conversation_id,
        edited_by: body.sender_id,
        content: body.content.clone(),
        sealed: body.sealed.clone(),
        edited_at: None,
        uncopied: false,
    };
    said(
        body.conversation_id,
        Kind::MessageEdited,
        id,
        offset,
        &edited,
    )
}

/// A message is gone.
pub fn gone(
    conversation: ConversationId,
    of: MessageId,
    by: UserId,
    id: MessageId,
    offset: u64,
) -> PersistRecord {
    let deleted = MessageDeleted {
        message_id: of,
        conversation_id: conversation,
        deleted_by: by,
        deleted_at: None,
        uncopied: false,
    };
    said(conversation, Kind::MessageDeleted, id, offset, &deleted)
}

/// Somebody has received, or read, everything up to a message.
pub fn upto(
    conversation: ConversationId,
    kind: Kind,
    user: UserId,
    message: MessageId,
    offset: u64,
) -> PersistRecord {
    let receipt = MessageReceipt {
        conversation_id: conversation,
        message_ids: None,
        up_to: Some(message),
        user_id: user,
    };
    said(conversation, kind, id_at(now()), offset, &receipt)
}

/// A copy in a user's log.
pub fn copy(
    user: UserId,
    kind: Kind,
    id: MessageId,
    message: MessageId,
    conversation: ConversationId,
    offset: u64,
    time: Timestamp,
) -> PersistRecord {
    let of = CopyReference {
        message_id: message,
        conversation_id: conversation,
    };
    entry(Entry {
        topic: Topic::User(user),
        position: at(offset),
        id,
        kind,
        at: time,
        body: serde_json::to_vec(&of).unwrap().into(),
    })
}

impl Record {
    /// A user who is registered.
    pub async fn registered(&self, name: &str) -> UserId {
        let id = user();
        let made = self.postgres.create_user(id, name, "hash").await.unwrap();
        made.unwrap().id
    }

    /// A group of the first one, who manages it, and the others; made an hour ago.
    pub async fn group(&self, users: &[UserId]) -> ConversationId {
        self.conversation(ConversationType::Group, users).await
    }

    pub async fn conversation(&self, kind: ConversationType, users: &[UserId]) -> ConversationId {
        let new = new_conversation(kind, users);
        let made = self.postgres.create_conversation(&new, system).await;
        assert!(
            matches!(made.unwrap(), ConversationCreated::New { .. }),
            "{new:?}"
        );
        new.id
    }
}

pub fn new_conversation(kind: ConversationType, users: &[UserId]) -> NewConversation {
    NewConversation {
        id: ConversationId(Uuid::now_v7()),
        kind,
        title: (kind == ConversationType::Group).then(|| "garden".into()),
        created_by: users[0],
        others: users[1..].to_vec(),
        at: Timestamp(now().0 - 3_600_000),
    }
}

/// The body of a system message, as far as tests look at it.
pub fn system(change: &ConversationChange, members: &Members) -> String {
    let body = MessageBody::of_change(change, members, None, 500);
    serde_json::to_string(&body).unwrap()
}
