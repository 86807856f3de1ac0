//! What the server functions keep of a user beside the log: broadcasts, choices, what was skipped.

use shared::{
    domain::{
        Device, Digest, Durability, Kind, MessageId, Persist, Position, Preferences, Topic, UserId,
    },
    redis::{Ack, Append, IdempotencyKey, Known, OpenSession, Receive, Store},
};
use testkit::Redis;
use uuid::Uuid;

use super::support::{append, connect, entry, session, user};

fn at(epoch: u64, offset: u64) -> Position {
    Position { epoch, offset }
}

async fn receive(store: &Store, who: UserId, device: &str, position: Position, ids: &[MessageId]) {
    let received = Receive {
        user: who,
        device: device.parse().unwrap(),
        position,
        commands: ids.to_vec(),
    };
    store.receive(&[received]).await.unwrap();
}

async fn records(store: &Store, who: UserId) -> Vec<Persist> {
    let partition = Topic::User(who).partition(store.partitions());
    let page = store.persist_read(partition, "0-0", 100, 1 << 20).await;
    page.unwrap()
        .records
        .into_iter()
        .map(|it| it.what)
        .collect()
}

fn on(who: UserId, device: &str) -> OpenSession {
    OpenSession {
        device: device.parse().unwrap(),
        ..session(who)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_has_its_own_cursor_among_broadcasts_and_a_new_one_begins_at_the_furthest() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let anna = user();
    let opened = store.session_open(on(anna, "phone")).await.unwrap();
    assert_eq!(opened.broadcasts, None);
    assert_eq!(store.furthest_broadcast(anna).await.unwrap(), None);
    receive(&store, anna, "phone", at(7, 5), &[]).await;
    // Only forward.
    receive(&store, anna, "phone", at(7, 3), &[]).await;
    let opened = store.session_open(on(anna, "tablet")).await.unwrap();
    assert_eq!(opened.broadcasts, Some(at(7, 5)));
    receive(&store, anna, "phone", at(8, 2), &[]).await;
    let opened = store.session_open(on(anna, "tablet")).await.unwrap();
    assert_eq!(
        opened.broadcasts,
        Some(at(7, 5)),
        "written down when it came"
    );
    assert_eq!(
        store.furthest_broadcast(anna).await.unwrap(),
        Some(at(8, 2))
    );
    // Not mistaken for a device's place in the user's own log.
    assert_eq!(store.furthest_cursor(anna).await.unwrap(), Position::START);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_of_many_users_are_one_record_per_partition() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let id = |n: u128| MessageId(Uuid::from_u128(n));
    let users: Vec<UserId> = (0..2000).map(|_| user()).collect();
    let received: Vec<Receive> = users
        .iter()
        .map(|who| Receive {
            user: *who,
            device: Device::default(),
            position: at(7, 1),
            commands: vec![id(1), id(2)],
        })
        .collect();
    for batch in received.chunks(500) {
        store.receive(batch).await.unwrap();
    }
    let mut told = 0;
    for partition in 0..store.partitions().0 {
        let partition = shared::domain::Partition(partition);
        let page = store
            .persist_read(partition, "0-0", 100, 1 << 20)
            .await
            .unwrap();
        // 500 users a batch, 100 a call.
        assert!(page.records.len() <= 20, "{}", page.records.len());
        for record in page.records {
            let Persist::Received { receipts, .. } = record.what else {
                panic!("{record:?}");
            };
            for receipt in receipts {
                assert_eq!(receipt.commands, [id(1), id(2)]);
                assert!(users.contains(&receipt.user));
                told += 1;
            }
        }
    }
    assert_eq!(told, users.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_from_a_device_is_told_with_the_stretch() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let anna = user();
    let mut positions = Vec::new();
    for text in ["{}", "{ }", "{  }"] {
        positions.push(append(&store, entry(anna, text)).await.1);
    }
    let ack = Ack {
        user: anna,
        device: Device::default(),
        queue: None,
        position: positions[2],
        skipped: positions[..2].to_vec(),
    };
    store.ack(&[ack]).await.unwrap();
    let skipped = records(&store, anna)
        .await
        .into_iter()
        .find_map(|it| match it {
            Persist::Delivered { skipped, .. } => Some(skipped),
            _ => None,
        });
    assert_eq!(skipped.as_deref(), Some(&positions[..2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_choice_is_there_with_the_entry_that_tells_it_and_wins_over_the_record() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let anna = user();
    assert_eq!(store.preferences(anna).await.unwrap(), Known::Nothing);
    let choice = |tag: &str| Preferences {
        blocked_categories: [tag.parse().unwrap()].into(),
        ..Preferences::default()
    };
    let body = serde_json::to_vec(&choice("adult")).unwrap();
    let digest = Digest::of(&body);
    let entry = Append::new(
        Topic::User(anna),
        Kind::Preferences,
        body,
        IdempotencyKey("choice".to_owned()),
        digest,
        Durability::Memory,
    );
    store.append(entry).await.unwrap();
    assert_eq!(
        store.preferences(anna).await.unwrap(),
        Known::Chosen(choice("adult"))
    );
    // What the record said a moment ago comes too late.
    store.keep_preferences(anna, None).await.unwrap();
    let old = (at(1, 1), choice("mild"));
    store.keep_preferences(anna, Some(&old)).await.unwrap();
    let opened = store.session_open(session(anna)).await.unwrap();
    assert_eq!(opened.preferences, Known::Chosen(choice("adult")));

    let bert = user();
    store.keep_preferences(bert, None).await.unwrap();
    let opened = store.session_open(session(bert)).await.unwrap();
    assert_eq!(opened.preferences, Known::Unchosen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_room_for_a_device_forgets_its_broadcasts_and_nothing_else() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let anna = user();
    store.keep_preferences(anna, None).await.unwrap();
    receive(&store, anna, "d0", at(7, 1), &[]).await;
    for number in 0..110 {
        let open = on(anna, &format!("d{number}"));
        store.session_open(open).await.unwrap();
    }
    let opened = store.session_open(on(anna, "last")).await.unwrap();
    assert_eq!(opened.preferences, Known::Unchosen);
    assert_eq!(opened.broadcasts, Some(at(7, 1)));
    let fields: i64 = redis
        .call(&["HLEN", &redis_key(&store, anna)])
        .await
        .text()
        .and_then(|text| text.parse().ok())
        .unwrap();
    // A hundred devices, each with two cursors; `*` is not there yet, `b:*` and `=` are.
    assert!(fields <= 202, "{fields}");
}

fn redis_key(store: &Store, who: UserId) -> String {
    let partition = Topic::User(who).partition(store.partitions());
    format!("{{{partition}}}:user:{who}")
}
