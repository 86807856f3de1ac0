use std::time::Duration;

use shared::{
    domain::{Partition, Position, Topic, UserId},
    redis::{Page, Store},
};
use testkit::{Redis, resp::Reply};

use super::support::{BYTES, append, connect, entries, entry, user};

async fn sweep(store: &Store, window: Duration) -> u64 {
    let (mut cursor, mut removed) = (0, 0);
    loop {
        let step = store.trim_step(0, cursor, window, 1000).await.unwrap();
        removed += step.entries;
        match step.next {
            Some(next) => cursor = next,
            None => return removed,
        }
    }
}

fn partition(store: &Store, user: UserId) -> Partition {
    Topic::User(user).partition(store.partitions())
}

#[tokio::test]
async fn trimming_stops_at_what_postgres_has_and_readers_are_told() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let topic = Topic::User(user);
    store
        .persist_floor(partition(&store, user), "0-0")
        .await
        .unwrap();
    let (_, first, p1) = append(&store, entry(user, "1")).await;
    let (_, second, _) = append(&store, entry(user, "2")).await;
    let (_, third, p3) = append(&store, entry(user, "3")).await;

    assert_eq!(
        sweep(&store, Duration::ZERO).await,
        0,
        "nothing is in Postgres"
    );
    store
        .persist_commit(partition(&store, user), &p1)
        .await
        .unwrap();
    assert_eq!(
        sweep(&store, Duration::from_secs(3600)).await,
        0,
        "nothing is old"
    );
    assert_eq!(sweep(&store, Duration::ZERO).await, 1);
    let cold = store.read(topic, Position::START, 10).await.unwrap();
    assert_eq!(
        cold,
        Page::Cold {
            first: second,
            head: third
        }
    );
    let from_there = Position {
        offset: second.offset - 1,
        ..second
    };
    assert_eq!(
        entries(store.read(topic, from_there, 10).await.unwrap()).len(),
        2
    );
    assert_eq!(
        entries(store.read(topic, first, 10).await.unwrap()).len(),
        2
    );

    store
        .persist_commit(partition(&store, user), &p3)
        .await
        .unwrap();
    assert_eq!(sweep(&store, Duration::ZERO).await, 2);
    assert_eq!(
        server
            .call(&[
                "exists",
                &format!("{{{}}}:log:{topic}", partition(&store, user))
            ])
            .await,
        Reply::Int(0)
    );
    let after_all = Position {
        offset: third.offset + 1,
        ..third
    };
    assert_eq!(
        store.read(topic, second, 10).await.unwrap(),
        Page::Cold {
            first: after_all,
            head: third
        }
    );
    assert_eq!(
        store.read(topic, third, 10).await.unwrap(),
        Page::Entries {
            entries: vec![],
            end: third,
            head: third
        }
    );

    let (_, fourth, _) = append(&store, entry(user, "4")).await;
    assert!(third.is_followed_by(fourth), "the head outlives its log");
}

#[tokio::test]
async fn a_position_ahead_of_the_log_is_a_reset() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let (_, first, _) = append(&store, entry(user, "1")).await;
    let ahead = Position { offset: 2, ..first };
    assert_eq!(
        store.read(Topic::User(user), ahead, 10).await.unwrap(),
        Page::Reset { head: first }
    );
}

#[tokio::test]
async fn a_log_that_was_deleted_is_cold() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let topic = Topic::User(user);
    let (_, first, _) = append(&store, entry(user, "1")).await;
    let (_, head, _) = append(&store, entry(user, "2")).await;
    server
        .call(&[
            "del",
            &format!("{{{}}}:log:{topic}", partition(&store, user)),
        ])
        .await;
    assert!(
        matches!(store.read(topic, first, 10).await.unwrap(), Page::Cold { head: at, .. } if at == head)
    );
}

#[tokio::test]
async fn a_page_is_bounded_by_count_and_by_bytes() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let topic = Topic::User(user);
    let body = "x".repeat(60_000);
    let (_, first, _) = append(&store, entry(user, &body)).await;
    for _ in 0..9 {
        append(&store, entry(user, &body)).await;
    }
    let start = Position { offset: 0, ..first };
    assert_eq!(entries(store.read(topic, start, 3).await.unwrap()).len(), 3);
    assert_eq!(
        entries(store.read(topic, start, 100).await.unwrap()).len(),
        4,
        "256 KiB"
    );
}

#[tokio::test]
async fn until_a_worker_has_vouched_a_young_log_sends_its_readers_to_postgres_once() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let topic = Topic::User(user);
    let Page::Cold { first, .. } = store.read(topic, Position::START, 10).await.unwrap() else {
        panic!("Redis cannot know")
    };
    let from_there = Position {
        offset: first.offset - 1,
        ..first
    };
    assert_eq!(
        entries(store.read(topic, from_there, 10).await.unwrap()),
        []
    );
    let (_, position, _) = append(&store, entry(user, "1")).await;
    assert!(
        matches!(store.read(topic, Position::START, 10).await.unwrap(), Page::Cold { first, .. } if first == position)
    );
    store
        .persist_floor(partition(&store, user), "0-0")
        .await
        .unwrap();
    assert_eq!(
        entries(store.read(topic, Position::START, 10).await.unwrap()).len(),
        1
    );
}

#[tokio::test]
async fn after_redis_lost_its_data_nothing_hides_behind_old_positions() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let topic = Topic::User(user);
    let partition = partition(&store, user);
    let (_, before, _) = append(&store, entry(user, "1")).await;
    server.call(&["flushall"]).await;
    // The next epoch begins in another second.
    let then = store.time().await.unwrap().0 / 1000;
    super::support::eventually("the next second", || async {
        store.time().await.unwrap().0 / 1000 > then
    })
    .await;
    let (_, after, low) = append(&store, entry(user, "2")).await;
    assert!(after > before);
    assert!(
        matches!(store.read(topic, before, 10).await.unwrap(), Page::Cold { first, .. } if first == after)
    );

    // Postgres is far ahead of the ids given out since: the record is written again behind it.
    let floor = format!(
        "{}-5",
        low.split('-').next().unwrap().parse::<u64>().unwrap() + 1_000_000
    );
    store.persist_floor(partition, &floor).await.unwrap();
    let records = store
        .persist_read(partition, &floor, 10, BYTES)
        .await
        .unwrap()
        .records;
    assert_eq!(records.len(), 1);
    assert_eq!(store.persist_backlog(partition).await.unwrap().0, 1);
    assert!(matches!(
        store.read(topic, Position::START, 10).await.unwrap(),
        Page::Cold { .. }
    ));
}
