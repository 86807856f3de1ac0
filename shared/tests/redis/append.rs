use std::time::Duration;

use futures_util::future::join_all;
use shared::{
    domain::{Digest, Durability, Persist, Position, Topic},
    redis::{Ack, Appended, StoreError},
};
use testkit::Redis;
use tokio::time::timeout;

use super::support::{BYTES, append, connect, entries, entry, user};

#[tokio::test]
async fn entries_are_appended_and_read_in_order() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    store
        .persist_floor(Topic::User(user).partition(store.partitions()), "0-0")
        .await
        .unwrap();
    let (_, first, _) = append(&store, entry(user, r#"{"n":1}"#)).await;
    let (_, second, _) = append(&store, entry(user, r#"{"n":2}"#)).await;
    assert!(first.is_followed_by(second));

    let page = store
        .read(Topic::User(user), Position::START, 10)
        .await
        .unwrap();
    assert_eq!(
        entries(page),
        [
            (first, r#"{"n":1}"#.to_owned()),
            (second, r#"{"n":2}"#.to_owned())
        ]
    );
    let page = store.read(Topic::User(user), first, 10).await.unwrap();
    assert_eq!(entries(page).len(), 1);
    let unknown = Topic::User(super::support::user());
    assert_eq!(
        store.heads(&[Topic::User(user), unknown]).await.unwrap(),
        [second, Position::START]
    );
}

#[tokio::test]
async fn a_second_try_is_a_duplicate_and_another_body_a_conflict() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let once = entry(user, "{}");
    let (id, position, _) = append(&store, once.clone()).await;
    let again = store.append(once.clone()).await.unwrap();
    assert!(
        matches!(again, Appended::Duplicate { id: same, position: there, .. } if same == id && there == position)
    );

    let mut other = once;
    other.digest = Digest::of(b"other");
    assert_eq!(
        store.append(other).await.unwrap(),
        Appended::Conflict { id }
    );
    assert_eq!(store.heads(&[Topic::User(user)]).await.unwrap(), [position]);
}

#[tokio::test]
async fn an_ended_entry_is_removed_with_the_step_that_ends_it() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let (id, first, _) = append(&store, entry(user, "1")).await;
    let mut end = entry(user, "2");
    end.remove = Some(first);
    let (_, second, _) = append(&store, end).await;
    let before = Position {
        offset: first.offset - 1,
        ..first
    };
    let page = store.read(Topic::User(user), before, 10).await.unwrap();
    assert_eq!(entries(page), [(second, "2".to_owned())]);
    assert_eq!(store.find(Topic::User(user), id).await.unwrap(), None);
}

#[tokio::test]
async fn what_a_device_has_confirmed_cannot_be_taken_back() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let (_, first, _) = append(&store, entry(user, "1")).await;
    let (_, second, _) = append(&store, entry(user, "2")).await;
    store
        .ack(&[Ack {
            user,
            device: "a".parse().unwrap(),
            queue: None,
            position: first,
            skipped: Vec::new(),
        }])
        .await
        .unwrap();

    let mut cancel = entry(user, "cancel");
    cancel.unless_delivered = Some(first);
    assert_eq!(
        store.append(cancel.clone()).await.unwrap(),
        Appended::Delivered
    );
    cancel.unless_delivered = Some(second);
    assert!(matches!(
        store.append(cancel).await.unwrap(),
        Appended::New { .. }
    ));
}

#[tokio::test]
async fn concurrent_senders_get_contiguous_offsets_in_their_own_order() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let senders = (0..20).map(|sender| {
        let store = store.clone();
        async move {
            let mut offsets = Vec::new();
            for n in 0..50 {
                let (_, position, _) = append(&store, entry(user, &format!("{sender}/{n}"))).await;
                offsets.push(position.offset);
            }
            assert!(offsets.is_sorted());
            offsets
        }
    });
    let mut all: Vec<u64> = join_all(senders).await.concat();
    all.sort_unstable();
    assert_eq!(all, (1..=1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn postgres_is_told_everything_in_order() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let partition = Topic::User(user).partition(store.partitions());
    let (id, position, persist_id) = append(&store, entry(user, "{}")).await;
    store
        .ack(&[Ack {
            user,
            device: "a".parse().unwrap(),
            queue: None,
            position,
            skipped: Vec::new(),
        }])
        .await
        .unwrap();

    let records = store
        .persist_read(partition, "0-0", 10, BYTES)
        .await
        .unwrap()
        .records;
    assert_eq!(records[0].id, persist_id);
    assert!(
        matches!(&records[0].what, Persist::Entry(entry) if entry.id == id && entry.position == position)
    );
    assert!(
        matches!(&records[1].what, Persist::Delivered { user: whose, from: Position::START, to, .. } if *whose == user && *to == position)
    );
    assert_eq!(store.persist_backlog(partition).await.unwrap().0, 2);
    let page = store
        .persist_read(partition, &persist_id, 10, BYTES)
        .await
        .unwrap();
    assert_eq!((page.records.len(), page.more), (1, false));

    store
        .persist_commit(partition, &records[1].id)
        .await
        .unwrap();
    assert_eq!(store.persist_backlog(partition).await.unwrap(), (0, None));
}

#[tokio::test]
async fn what_is_unreadable_is_handed_over_as_it_is() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    server
        .call(&["xadd", "{p3}:persist", "*", "topic", "nobody", "t", "1"])
        .await;
    let records = store
        .persist_read(shared::domain::Partition(3), "0-0", 10, BYTES)
        .await
        .unwrap()
        .records;
    assert!(matches!(&records[0].what, Persist::Unreadable { fields, .. } if fields.len() == 2));
}

#[tokio::test]
async fn stored_waits_for_the_commit() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let partition = Topic::User(user).partition(store.partitions());
    let mut wanted = entry(user, "{}");
    wanted.durability = Durability::Stored;
    let sender = store.clone();
    let mut waiting = tokio::spawn(async move { sender.append(wanted).await });
    assert!(
        timeout(Duration::from_millis(300), &mut waiting)
            .await
            .is_err(),
        "nobody has committed yet"
    );

    let records = store
        .persist_read(partition, "0-0", 10, BYTES)
        .await
        .unwrap()
        .records;
    store
        .persist_commit(partition, &records[0].id)
        .await
        .unwrap();
    let appended = timeout(Duration::from_secs(2), waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(matches!(appended, Appended::New { .. }));
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let server = Redis::start().await;
    let _store = connect(&server.url()).await;
    let mut settings = shared::redis::StoreSettings::new(server.url());
    settings.partitions = shared::domain::PartitionCount(128);
    let error = shared::redis::Store::connect(settings).await.err().unwrap();
    assert!(
        matches!(error, StoreError::Misconfigured(why) if why.contains("256") && why.contains("128"))
    );
}

#[tokio::test]
async fn records_are_read_up_to_a_number_of_them_and_of_bytes() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let partition = Topic::User(user).partition(store.partitions());
    for _ in 0..40 {
        append(&store, entry(user, &"x".repeat(1000))).await;
    }
    let mut after = "0-0".to_owned();
    let mut sizes = Vec::new();
    // The record that goes beyond the bytes is the last.
    for (records, bytes) in [(3, BYTES), (100, 4500), (17, BYTES), (100, 1), (14, BYTES)] {
        let page = store
            .persist_read(partition, &after, records, bytes)
            .await
            .unwrap();
        after.clone_from(&page.records.last().unwrap().id);
        sizes.push((page.records.len(), page.more));
    }
    assert_eq!(
        sizes,
        [(3, true), (5, true), (17, true), (1, true), (14, false)]
    );
}

#[tokio::test]
async fn receipts_fill_a_page_as_bodies_do() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let partition = Topic::User(user).partition(store.partitions());
    let stream = format!("{{p{}}}:persist", partition.0);
    // 14 lines of 74 bytes.
    let receipts = [format!("{user} {user}").as_str(); 14].join("\n");
    for _ in 0..5 {
        server
            .call(&["XADD", &stream, "*", "received", &receipts, "t", "1"])
            .await;
    }
    let page = store
        .persist_read(partition, "0-0", 100, 2500)
        .await
        .unwrap();
    assert_eq!((page.records.len(), page.more), (3, true));
    let page = store
        .persist_read(partition, "0-0", 100, BYTES)
        .await
        .unwrap();
    assert_eq!((page.records.len(), page.more), (5, false));
}
