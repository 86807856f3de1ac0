//! Who may write to a conversation is decided in the step that writes, and ids rise in its log.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use shared::{
    domain::{
        ConversationId, MessageId, Persist, Position, SessionId, Signal, SignalKind, Topic, UserId,
    },
    redis::{Append, Appended, Author, BellEvent, Copying, Store, StoreError},
};
use testkit::{Redis, cluster::Cluster};
use uuid::Uuid;

use super::support::{
    BYTES, Heard, append, by, change, connect, conversation, entries, entry, eventually, said, user,
};

/// The version Redis knows.
async fn version(store: &Store, conversation: ConversationId) -> Option<u64> {
    store.standing(conversation).await.unwrap().0
}

async fn bodies(store: &Store, conversation: ConversationId, first: Position) -> Vec<String> {
    let before = Position {
        offset: first.offset - 1,
        ..first
    };
    let page = store.read(Topic::Conversation(conversation), before, 1000);
    let found = entries(page.await.unwrap());
    found.into_iter().map(|(_, body)| body).collect()
}

#[tokio::test]
async fn whoever_decided_by_another_version_writes_nothing() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let conversation = conversation();
    let topic = Topic::Conversation(conversation);
    let write = async |version| store.append(said(conversation, by(version), "{}")).await;
    assert_eq!(write(3).await.unwrap(), Appended::Outdated, "none is known");
    store.keep_version(conversation, 3).await.unwrap();
    for other in [2, 4, 33] {
        assert_eq!(write(other).await.unwrap(), Appended::Outdated);
    }
    assert_eq!(
        store.standing(conversation).await.unwrap(),
        (Some(3), Position::START)
    );
    let partition = topic.partition(store.partitions());
    assert_eq!(store.persist_backlog(partition).await.unwrap().0, 0);

    let Appended::New {
        position, copying, ..
    } = write(3).await.unwrap()
    else {
        panic!("the version is the present one")
    };
    assert_eq!(copying, Copying::NotMine, "nobody asked for copies");
    assert_eq!(
        store.standing(conversation).await.unwrap(),
        (Some(3), position)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_was_lost_counts_from_the_change_on_whoever_is_writing() {
    let server = Redis::start().await;
    let (one, two) = (connect(&server.url()).await, connect(&server.url()).await);
    let conversation = conversation();
    one.keep_version(conversation, 1).await.unwrap();
    let (_, first, _) = append(&one, said(conversation, by(1), "first")).await;
    // They write until they are refused.
    let writers = (0..8).map(|writer| {
        let store = if writer % 2 == 0 { &one } else { &two };
        async move {
            for _ in 0..2_000 {
                let appended = store.append(said(conversation, by(1), "before")).await;
                match appended.unwrap() {
                    Appended::New { .. } => {}
                    Appended::Outdated => return,
                    other => panic!("{other:?}"),
                }
            }
            panic!("never refused");
        }
    });
    let changing = async {
        eventually("they write", || async {
            one.standing(conversation).await.unwrap().1.offset > first.offset + 50
        })
        .await;
        append(&two, said(conversation, change(2), "change")).await;
        append(&one, said(conversation, by(2), "after")).await;
    };
    tokio::join!(join_all(writers), changing);
    let found = bodies(&one, conversation, first).await;
    let at = found.iter().position(|body| body == "change").unwrap();
    assert!(at > 50);
    assert_eq!(found[at + 1..], ["after"]);
}

#[tokio::test]
async fn a_second_try_gets_the_first_answer_though_the_version_moved_on() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let conversation = conversation();
    store.keep_version(conversation, 1).await.unwrap();
    let once = said(conversation, by(1), "{}");
    let (id, position, _) = append(&store, once.clone()).await;
    append(&store, said(conversation, change(2), "{}")).await;
    let again = store.append(once).await.unwrap();
    assert!(
        matches!(again, Appended::Duplicate { id: same, position: there, .. } if same == id && there == position),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_version_never_goes_back() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let conversation = conversation();
    // Of a conversation that nobody asked for yet.
    append(&store, said(conversation, change(9), "{}")).await;
    assert_eq!(version(&store, conversation).await, Some(9));
    store.keep_version(conversation, 8).await.unwrap();
    assert_eq!(version(&store, conversation).await, Some(9));
    // A change that was held up is told all the same.
    append(&store, said(conversation, change(7), "{}")).await;
    assert_eq!(version(&store, conversation).await, Some(9));
    store.keep_version(conversation, 10).await.unwrap();
    assert_eq!(version(&store, conversation).await, Some(10));
}

#[tokio::test]
async fn a_server_that_may_lack_a_change_takes_nothing_until_it_was_told_the_version() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (conversation, signal) = (conversation(), typing(user()));
    store.keep_version(conversation, 5).await.unwrap();
    append(&store, said(conversation, by(5), "{}")).await;
    server.restart().await;
    eventually("redis is back", || async {
        store.time().await.is_ok() && store.standing(conversation).await.is_ok()
    })
    .await;
    assert_eq!(version(&store, conversation).await, None);
    assert!(!store.signal(conversation, 5, &signal).await.unwrap());
    let write = async |version| store.append(said(conversation, by(version), "{}")).await;
    assert_eq!(write(5).await.unwrap(), Appended::Outdated);
    // Also not by a change from before the one it knows of.
    append(&store, said(conversation, change(5), "{}")).await;
    assert_eq!(version(&store, conversation).await, None);
    assert_eq!(write(5).await.unwrap(), Appended::Outdated);
    // Who was asked may have been asked before the last change.
    store.keep_version(conversation, 4).await.unwrap();
    assert_eq!(version(&store, conversation).await, Some(5));
    assert!(matches!(write(5).await.unwrap(), Appended::New { .. }));
}

#[tokio::test]
async fn ids_rise_in_the_order_of_the_log_though_those_that_were_minted_do_not() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let conversation = conversation();
    store.keep_version(conversation, 1).await.unwrap();
    let id = |text: &str| text.parse::<MessageId>().unwrap();
    let with = async |wanted| {
        let entry = Append {
            id: Some(wanted),
            ..said(conversation, by(1), "{}")
        };
        append(&store, entry).await.0
    };
    let first = id("01a1fd73-3a86-7000-8000-0000000000ff");
    assert_eq!(with(first).await, first);
    assert_eq!(
        with(first).await,
        id("01a1fd73-3a86-7000-8000-000000000100")
    );
    let lower = id("01a1fd73-3a85-7fff-bfff-ffffffffffff");
    assert_eq!(
        with(lower).await,
        id("01a1fd73-3a86-7000-8000-000000000101")
    );
    let last = id("01a1fd73-3a86-7fff-80ff-ffffffffffff");
    assert_eq!(with(last).await, last);
    assert_eq!(
        with(lower).await,
        id("01a1fd73-3a86-7fff-8100-000000000000")
    );

    // By the clocks of two processes, at once.
    let other = connect(&server.url()).await;
    let writers = (0..200).map(|n| {
        let store = if n % 2 == 0 { &store } else { &other };
        append(store, said(conversation, by(1), "{}"))
    });
    let mut appended = join_all(writers).await;
    appended.sort_by_key(|(_, position, _)| *position);
    assert!(appended.is_sorted_by(|one, next| one.0 < next.0));
}

#[tokio::test]
async fn a_copy_has_the_id_it_is_given_and_postgres_is_told_something_else() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let id = MessageId(Uuid::from_u128(7));
    let copy = Append {
        id: Some(id),
        persisted: Some(Bytes::from_static(b"{\"reference\":1}")),
        ..entry(user, "{\"content\":\"hi\"}")
    };
    let (found, position, _) = append(&store, copy).await;
    assert_eq!(found, id);
    let page = store.read(
        Topic::User(user),
        Position {
            offset: 0,
            ..position
        },
        10,
    );
    assert_eq!(
        entries(page.await.unwrap()),
        [(position, "{\"content\":\"hi\"}".to_owned())]
    );
    let partition = Topic::User(user).partition(store.partitions());
    let records = store.persist_read(partition, "0-0", 10, BYTES).await;
    let Persist::Entry(told) = &records.unwrap().records[0].what else {
        panic!("an entry was appended")
    };
    assert_eq!(told.body, "{\"reference\":1}");
    assert_eq!((told.id, told.position), (id, position));
}

#[tokio::test]
async fn an_entry_has_an_author_in_conversations_and_nowhere_else() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let authorless = Append {
        author: None,
        ..said(conversation(), by(1), "{}")
    };
    let elsewhere = Append {
        author: Some(by(1)),
        ..entry(user(), "{}")
    };
    for wrong in [authorless, elsewhere] {
        let refused = store.append(wrong).await;
        assert!(matches!(refused, Err(StoreError::Unexpected(_))));
    }
}

fn typing(user: UserId) -> Signal {
    Signal {
        kind: SignalKind::TypingStart,
        user,
        session: Some(SessionId(Uuid::now_v7())),
    }
}

#[tokio::test]
async fn a_signal_is_heard_if_the_right_to_it_is_the_present_one_and_is_in_no_log() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let conversation = conversation();
    let topic = Topic::Conversation(conversation);
    bells.subscribe(topic).await.unwrap();
    let (first, second) = (typing(user()), typing(user()));
    let without_session = Signal {
        kind: SignalKind::TypingStop,
        session: None,
        ..second
    };
    assert!(!store.signal(conversation, 2, &first).await.unwrap());
    store.keep_version(conversation, 2).await.unwrap();
    assert!(!store.signal(conversation, 1, &first).await.unwrap());
    assert!(store.signal(conversation, 2, &second).await.unwrap());
    let told = store.signal(conversation, 2, &without_session).await;
    assert!(told.unwrap());
    for expected in [second, without_session] {
        let found = heard
            .next_that(|event| match event {
                BellEvent::Signal { topic, signal } => Some((topic, signal)),
                _ => None,
            })
            .await;
        assert_eq!(found, (topic, expected));
    }
    assert_eq!(store.heads(&[topic]).await.unwrap(), [Position::START]);
}

#[tokio::test]
async fn a_version_that_is_used_is_remembered_and_one_that_is_not_is_forgotten() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let conversation = conversation();
    store.keep_version(conversation, 1).await.unwrap();
    let partition = Topic::Conversation(conversation).partition(store.partitions());
    let key = format!("{{{partition}}}:version:{conversation}");
    let ttl = async || {
        let ttl = server.call(&["PTTL", &key]).await.text().unwrap();
        Duration::from_millis(ttl.parse().unwrap())
    };
    let hour = Duration::from_hours(1);
    assert!(ttl().await > 40 * hour);
    server.call(&["PEXPIRE", &key, "3600000"]).await;
    append(&store, said(conversation, by(1), "{}")).await;
    assert!(ttl().await > 40 * hour);
    server.call(&["PEXPIRE", &key, "3600000"]).await;
    store
        .signal(conversation, 1, &typing(user()))
        .await
        .unwrap();
    assert!(ttl().await > 40 * hour);
}

#[tokio::test]
async fn conversations_live_on_every_shard_of_a_cluster() {
    let cluster = Cluster::start().await;
    let store = connect(&cluster.url()).await;
    let copier = super::support::copier("n1");
    let all: Vec<_> = (0..30).map(|_| conversation()).collect();
    let each = all.iter().map(|conversation| {
        let (store, copier) = (&store, &copier);
        async move {
            let created = Author::Change {
                version: 1,
                copier: Some(copier.clone()),
            };
            let (_, first, _) = append(store, said(*conversation, created, "{}")).await;
            assert!(
                store
                    .signal(*conversation, 1, &typing(user()))
                    .await
                    .unwrap()
            );
            let outdated = said(*conversation, by(2), "{}");
            assert_eq!(store.append(outdated).await.unwrap(), Appended::Outdated);
            let (_, second, _) = append(store, said(*conversation, by(1), "{}")).await;
            store.keep_version(*conversation, 2).await.unwrap();
            assert_eq!(
                store.standing(*conversation).await.unwrap(),
                (Some(2), second)
            );
            let next = store.copied(*conversation, copier, first).await.unwrap();
            assert_eq!(next, Some(vec![]));
            let next = store.take_over_copies(*conversation, copier).await;
            assert_eq!(next.unwrap(), Some(vec![]));
            let partition = Topic::Conversation(*conversation).partition(store.partitions());
            let left = store.uncopied(partition, Duration::ZERO, 10).await;
            assert!(!left.unwrap().contains(conversation));
        }
    });
    join_all(each).await;
}
