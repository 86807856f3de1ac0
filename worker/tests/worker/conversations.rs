//! What workers do for conversations: tell, copy, archive, write, encrypt anew.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use shared::{
    config::Secret,
    contents::{Contents, ContentsKey, ContentsSettings},
    copies::{Copies, CopyError},
    domain::*,
    postgres::{ConversationCreated, HistoryFrom, NewConversation},
    redis::{Append, Appended, Author, Copier, Copying, IdempotencyKey},
};
use uuid::Uuid;
use worker::{
    jobs::{archive_idle, repair_copies, tell_changes},
    rotate,
};

use crate::support::*;

const DAY: Duration = Duration::from_hours(24);

impl Deployment {
    pub async fn registered(&self, name: &str) -> UserId {
        let made = self.postgres.create_user(user(), name, "hash").await;
        made.unwrap().unwrap().id
    }

    /// A group of these, as it is in Postgres before anybody has told Redis.
    pub async fn group(&self, users: &[UserId]) -> ConversationId {
        let new = NewConversation {
            id: ConversationId(Uuid::now_v7()),
            kind: ConversationType::Group,
            title: None,
            created_by: users[0],
            others: users[1..].to_vec(),
            at: Timestamp(in_an_hour().0 - 7_200_000),
        };
        let body = |change: &ConversationChange, members: &Members| {
            serde_json::to_string(&MessageBody::of_change(change, members, None, 500)).unwrap()
        };
        let made = self.postgres.create_conversation(&new, body).await.unwrap();
        assert!(matches!(made, ConversationCreated::New { .. }));
        new.id
    }

    /// As if this much time had passed since the changes.
    pub async fn changes_age(&self) {
        self.database
            .query("UPDATE conversation_changes SET at = at - interval '1 min'")
            .await;
    }

    /// A message, appended as a gateway would that then goes away without copying it.
    async fn say(&self, body: &MessageBody, copier: &Copier) -> (Entry, Copying) {
        let topic = Topic::Conversation(body.conversation_id);
        let json = serde_json::to_vec(body).unwrap();
        let (version, _) = self.store.standing(body.conversation_id).await.unwrap();
        let append = Append {
            author: Some(Author::By {
                version: version.unwrap(),
                copier: Some(copier.clone()),
            }),
            ..Append::new(
                topic,
                Kind::MessageNew,
                json.clone(),
                IdempotencyKey(Uuid::now_v7().to_string()),
                Digest::of(&json),
                Durability::Memory,
            )
        };
        match self.store.append(append).await.unwrap() {
            Appended::New {
                id,
                position,
                at,
                copying,
                ..
            } => {
                let entry = Entry {
                    topic,
                    position,
                    id,
                    kind: Kind::MessageNew,
                    at,
                    body: json.into(),
                };
                (entry, copying)
            }
            other => panic!("{other:?}"),
        }
    }

    /// As if whoever copies had stopped long ago.
    async fn copier_is_gone(&self, conversation: ConversationId) {
        let topic = Topic::Conversation(conversation);
        let tag = format!("{{p{}}}", topic.partition(self.store.partitions()).0);
        let (head, fanout) = (format!("{tag}:head:{topic}"), format!("{tag}:fanout"));
        self.redis().call(&["HSET", &head, "w", "gone:1 1"]).await;
        let one = conversation.to_string();
        self.redis().call(&["ZADD", &fanout, "1", &one]).await;
    }

    /// Ids of what was said, as a user's log has it.
    async fn inbox(&self, user: UserId) -> Vec<MessageId> {
        let log = self.log(user).await;
        let new = log.iter().filter(|it| it.kind == Kind::MessageNew);
        new.map(|it| {
            let body: MessageBody = serde_json::from_slice(&it.body).unwrap();
            assert_eq!(body.message_id, Some(it.id));
            it.id
        })
        .collect()
    }
}

fn words(conversation: ConversationId, sender: UserId, content: &str) -> MessageBody {
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

fn gateway() -> Copier {
    Copier::new(&"gateway".parse().unwrap(), 1)
}

#[tokio::test]
async fn a_change_that_a_gateway_left_is_told_once_with_its_copies() {
    let deployment = Deployment::start().await;
    let (ann, bob) = (
        deployment.registered("ann").await,
        deployment.registered("bob").await,
    );
    let group = deployment.group(&[ann, bob]).await;
    let left = ConversationChange::Left { user_id: ann };
    let body = |change: &ConversationChange, members: &Members| {
        serde_json::to_string(&MessageBody::of_change(change, members, None, 500)).unwrap()
    };
    deployment
        .postgres
        .change_conversation(
            group,
            std::slice::from_ref(&left),
            |_| true,
            body,
            Timestamp(0),
        )
        .await
        .unwrap();
    let context = deployment.context("one", |_| {}).await;
    // What is young is for whoever made it.
    tell_changes::run(context.clone()).await.unwrap();
    assert_eq!(deployment.store.standing(group).await.unwrap().0, None);

    deployment.changes_age().await;
    for _ in 0..2 {
        tell_changes::run(context.clone()).await.unwrap();
        let told = deployment.log_of(Topic::Conversation(group)).await;
        let changes: Vec<_> = told
            .iter()
            .map(|it| {
                let body: MessageBody = serde_json::from_slice(&it.body).unwrap();
                body.change.unwrap()
            })
            .collect();
        let promoted = ConversationChange::Role {
            user_id: bob,
            role: ParticipantRole::Admin,
        };
        assert_eq!(
            changes,
            [ConversationChange::Created, left.clone(), promoted]
        );
        let ids: Vec<_> = told.iter().map(|it| it.id).collect();
        assert_eq!(deployment.inbox(bob).await, ids);
        assert_eq!(deployment.inbox(ann).await, ids[..2], "who left");
        let (version, _) = deployment.store.standing(group).await.unwrap();
        assert_eq!(version, Some(3));
        let notes = "SELECT count(*) FROM conversation_changes";
        assert_eq!(deployment.database.count(notes).await, 0);
    }
}

#[tokio::test]
async fn copies_that_a_gateway_left_are_made_in_order_and_once() {
    let deployment = Deployment::start().await;
    let (ann, bob) = (
        deployment.registered("ann").await,
        deployment.registered("bob").await,
    );
    let group = deployment.group(&[ann, bob]).await;
    let context = deployment.context("one", |_| {}).await;
    deployment.changes_age().await;
    tell_changes::run(context.clone()).await.unwrap();
    let gateway = gateway();
    let mut ids = deployment.inbox(ann).await;
    for n in 0..100 {
        let body = words(group, ann, &n.to_string());
        let (entry, copying) = deployment.say(&body, &gateway).await;
        let expected = if n == 0 {
            Copying::Mine
        } else {
            Copying::NotMine
        };
        assert_eq!(copying, expected);
        ids.push(entry.id);
    }
    // The gateway makes those of the first one, then it fails.
    let first = deployment.log_of(Topic::Conversation(group)).await[1].clone();
    let members = deployment.postgres.conversation_members(group).await;
    let members = members.unwrap().unwrap();
    let asked = AtomicU64::new(0);
    let copies = Copies {
        store: &deployment.store,
        copier: &gateway,
        conversation: group,
    };
    let stopped = copies
        .of_appended(first, 1, Copying::Mine, |_, _| {
            let version = 1 - asked.fetch_add(1, Ordering::Relaxed);
            let members = Members {
                version,
                ..members.clone()
            };
            async move { Ok(Some(Arc::new(members))) }
        })
        .await;
    let behind = CopyError::Behind {
        known: 0,
        wanted: 1,
    };
    assert_eq!(stopped.unwrap_err().to_string(), behind.to_string());
    // While it may be alive nobody interferes.
    repair_copies::run(context.clone()).await.unwrap();
    assert_eq!(deployment.inbox(ann).await, ids[..2]);
    deployment.copier_is_gone(group).await;
    for _ in 0..2 {
        repair_copies::run(context.clone()).await.unwrap();
        for user in [ann, bob] {
            assert_eq!(deployment.inbox(user).await, ids);
        }
    }
    let next = words(group, bob, "next");
    let (_, copying) = deployment.say(&next, &gateway).await;
    assert_eq!(copying, Copying::Mine, "nobody copies any more");
}

#[tokio::test]
async fn what_was_said_and_copied_is_read_back_from_postgres() {
    let deployment = Deployment::start().await;
    let (ann, bob) = (
        deployment.registered("ann").await,
        deployment.registered("bob").await,
    );
    let group = deployment.group(&[ann, bob]).await;
    deployment.changes_age().await;
    let worker = deployment.worker("one").await;
    deployment
        .waits_for_count(
            "SELECT count(*) FROM messages WHERE sender_type = 'SYSTEM'",
            1,
        )
        .await;
    let gateway = gateway();
    let (said, copying) = deployment.say(&words(group, ann, "hello"), &gateway).await;
    let copies = Copies {
        store: &deployment.store,
        copier: &gateway,
        conversation: group,
    };
    let made = copies
        .of_appended(said.clone(), 1, copying, worker.context.members_of())
        .await;
    assert_eq!(made.unwrap(), 2);
    let read = MessageReceipt {
        conversation_id: group,
        message_ids: None,
        up_to: Some(said.id),
        user_id: bob,
    };
    let json = serde_json::to_vec(&read).unwrap();
    let receipt = Append {
        author: Some(Author::By {
            version: 1,
            copier: None,
        }),
        ..Append::new(
            Topic::Conversation(group),
            Kind::MessageRead,
            json.clone(),
            IdempotencyKey("read".into()),
            Digest::of(&json),
            Durability::Stored,
        )
    };
    deployment.store.append(receipt).await.unwrap();
    deployment
        .waits_for_count("SELECT count(*) FROM inbox", 4)
        .await;
    let copied = deployment
        .postgres
        .entries_between(bob, Position::START, Position::END, 10)
        .await
        .unwrap();
    let hot = deployment.log(bob).await;
    assert_eq!(copied.len(), 2);
    assert_eq!(copied, hot, "byte for byte");
    let (page, written) = deployment
        .postgres
        .history(group, HistoryFrom::Newest, 10)
        .await
        .unwrap();
    assert_eq!(page[0].id, said.id);
    assert_eq!(
        serde_json::to_vec(&page[0].body).unwrap(),
        said.body.to_vec()
    );
    let (_, end) = deployment.store.standing(group).await.unwrap();
    assert_eq!(written, end);
    let lowest = deployment.postgres.lowest_pointers(group).await.unwrap();
    assert_eq!(lowest.status(said.id, ann), MessageStatus::Read);
    worker.stop().await;
}

#[tokio::test]
async fn idle_conversations_are_archived_and_everybody_hears_of_it() {
    let deployment = Deployment::start().await;
    let ann = deployment.registered("ann").await;
    let (idle, young) = (
        deployment.group(&[ann]).await,
        deployment.group(&[ann]).await,
    );
    deployment.changes_age().await;
    deployment
        .database
        .query(&format!(
            "UPDATE conversations SET active_at = now() - interval '3 d' WHERE id = '{idle}'"
        ))
        .await;
    let is_archived = async |conversation| {
        let members = deployment.postgres.conversation_members(conversation).await;
        members.unwrap().unwrap().is_archived
    };
    let off = deployment.context("off", |_| {}).await;
    archive_idle::run(off.clone()).await.unwrap();
    assert!(!is_archived(idle).await);
    let context = deployment
        .context("on", |settings| {
            settings.conversations.archive_after = Some(2 * DAY);
        })
        .await;
    // Postgres does not know yet what was said.
    tell_changes::run(off).await.unwrap();
    archive_idle::run(context.clone()).await.unwrap();
    assert!(!is_archived(idle).await);
    let (_, end) = deployment.store.standing(idle).await.unwrap();
    deployment
        .database
        .query(&format!(
            "UPDATE conversations SET epoch = {}, \"offset\" = {} WHERE id = '{idle}'",
            end.epoch, end.offset
        ))
        .await;
    archive_idle::run(context).await.unwrap();
    assert!(is_archived(idle).await && !is_archived(young).await);
    let log = deployment.log_of(Topic::Conversation(idle)).await;
    let last: MessageBody = serde_json::from_slice(&log.last().unwrap().body).unwrap();
    assert_eq!(last.change, Some(ConversationChange::Archived));
    assert_eq!(last.sender_id, UserId(Uuid::nil()));
    assert_eq!(deployment.store.standing(idle).await.unwrap().0, Some(2));
}

/// Keys by their ids, of which one is the current.
fn keys(ids: &[&str], current: &str) -> ContentsSettings {
    let keys = ids.iter().map(|id| ContentsKey {
        id: (*id).to_owned(),
        key: Secret::new(match *id {
            "old" => "b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xkIG9sZCE=",
            _ => "bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3IG5ldyE=",
        }),
    });
    ContentsSettings {
        keys: keys.collect(),
        current: current.to_owned(),
    }
}

#[tokio::test]
async fn rotating_keys_leaves_nothing_that_needs_the_old_one() {
    let deployment = Deployment::start().await;
    let ann = deployment.registered("ann").await;
    let group = deployment.group(&[ann]).await;
    deployment.changes_age().await;
    let _worker = deployment.worker("one").await;
    deployment
        .waits_for_count("SELECT count(*) FROM messages", 1)
        .await;
    let old = Contents::new(&keys(&["old"], "old")).unwrap();
    let mut lost = words(group, ann, "????");
    lost.sealed = Some("lost".into());
    let mut sealed = words(group, ann, "");
    (sealed.content, sealed.sealed) = old.seal(group, "hello").unwrap();
    for body in [&words(group, ann, "plain"), &sealed, &lost] {
        deployment.say(body, &gateway()).await;
    }
    deployment
        .waits_for_count("SELECT count(*) FROM messages", 4)
        .await;
    let texts = async |contents: &Contents| {
        let page = deployment
            .postgres
            .history(group, HistoryFrom::Newest, 10)
            .await
            .unwrap()
            .0;
        let bodies = page.into_iter().map(|it| it.body);
        bodies
            .map(|it| {
                let text = contents.open(group, &it.content, it.sealed.as_deref());
                text.unwrap_or_else(|error| error.to_string())
            })
            .collect::<Vec<_>>()
    };
    let both = Contents::new(&keys(&["old", "new"], "new")).unwrap();
    let rotated = rotate::run(&deployment.postgres, &both).await.unwrap();
    assert_eq!((rotated.done, rotated.key.as_deref()), (2, Some("new")));
    let left: Vec<_> = rotated.left.iter().collect();
    assert_eq!(left, [(&"no key with the id lost".to_owned(), &1)]);
    let new = Contents::new(&keys(&["new"], "new")).unwrap();
    let expected = ["no key with the id lost", "hello", "plain", ""];
    assert_eq!(texts(&new).await, expected);
    let sealed = "SELECT count(*) FROM messages WHERE sealed = 'new'";
    assert_eq!(deployment.database.count(sealed).await, 2);
    let again = rotate::run(&deployment.postgres, &both).await.unwrap();
    assert_eq!(again.done, 0);

    // As a command; and without a current key everything becomes readable.
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command
        .arg("rotate-keys")
        .arg(format!("--set=postgres.url={}", deployment.database.url()))
        .env(
            "TIDEGATE_CONTENTS__KEYS",
            "[{ id = \"new\", key = \"bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3IG5ldyE=\" }]",
        );
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("decrypted: 2 contents"), "{text}");
    assert!(
        text.contains("left as they are: 1, no key with the id lost"),
        "{text}"
    );
    assert_eq!(texts(&Contents::default()).await, expected);
}
