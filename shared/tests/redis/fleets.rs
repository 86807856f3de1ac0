//! More than one server: a Cluster, and a master with a replica under Sentinel.

use std::time::Duration;

use futures_util::future::join_all;
use shared::{
    domain::{Durability, Position, Topic, UserId},
    redis::{Append, Appended, Page, Store},
};
use testkit::{Redis, RedisOptions, cluster::Cluster, sentinel::Sentinel};

use super::support::{Heard, append, connect, entries, entry, eventually, user};

/// Everything of a log that Redis has.
async fn all(store: &Store, user: UserId) -> Vec<(Position, String)> {
    let topic = Topic::User(user);
    match store.read(topic, Position::START, 1000).await.unwrap() {
        Page::Cold { first, .. } => {
            let from = Position {
                offset: first.offset - 1,
                ..first
            };
            entries(store.read(topic, from, 1000).await.unwrap())
        }
        page => entries(page),
    }
}

#[tokio::test]
async fn a_cluster_does_what_one_redis_does() {
    let cluster = Cluster::start().await;
    let store = connect(&cluster.url()).await;
    assert_eq!(store.shards(), 3);
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let users: Vec<_> = (0..30).map(|_| user()).collect();
    let topics: Vec<_> = users.iter().map(|user| Topic::User(*user)).collect();
    for topic in &topics {
        bells.subscribe(*topic).await.unwrap();
    }
    let appended = join_all(users.iter().map(|user| append(&store, entry(*user, "{}")))).await;
    let positions: Vec<_> = appended.iter().map(|(_, position, _)| *position).collect();
    assert_eq!(store.heads(&topics).await.unwrap(), positions);
    for _ in &users {
        heard.entry().await;
    }
    let acks = users
        .iter()
        .zip(&positions)
        .map(|(user, position)| shared::redis::Ack {
            user: *user,
            device: "a".parse().unwrap(),
            position: *position,
        });
    store.ack(acks.collect()).await.unwrap();
    assert_eq!(store.furthest_cursor(users[7]).await.unwrap(), positions[7]);
    assert!(store.probe(&bells).await.iter().all(Option::is_some));
    store
        .node_heartbeat(&"n1".parse().unwrap(), 1, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(store.nodes().await.unwrap().len(), 1);
    assert!(
        store
            .lease("x", &"w1".parse().unwrap(), Duration::from_secs(9))
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_slot_that_moves_takes_its_topics_along() {
    let cluster = Cluster::start().await;
    let store = connect(&cluster.url()).await;
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let user = user();
    let topic = Topic::User(user);
    bells.subscribe(topic).await.unwrap();
    let (_, before, _) = append(&store, entry(user, "1")).await;
    assert_eq!(heard.entry().await.0, before);

    let tag = format!("{{{}}}", topic.partition(store.partitions()));
    let slot = cluster.slot_of(&tag).await;
    let from = cluster.owner_of(slot).await;
    cluster.move_slot(slot, (from + 1) % 3).await;

    let moved = entry(user, "2");
    eventually("appends follow the slot", || async {
        store.append(moved.clone()).await.is_ok()
    })
    .await;
    heard.gap().await;
    eventually("bells follow the slot", || async {
        store.probe(&bells).await.iter().all(Option::is_some)
    })
    .await;
    // The gap may come before the new subscription stands; a second one follows it.
    let mut n = 2;
    loop {
        n += 1;
        append(&store, entry(user, &n.to_string())).await;
        let next = tokio::time::timeout(Duration::from_millis(300), heard.entry()).await;
        if next.is_ok() || n > 30 {
            break;
        }
    }
    assert!(n <= 30, "bells never came back");
    let bodies: Vec<_> = all(&store, user)
        .await
        .into_iter()
        .map(|(_, body)| body)
        .collect();
    assert_eq!(bodies, (1..=n).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_replica_confirmed_survives_a_failover() {
    let sentinel = Sentinel::start().await;
    let store = connect(&sentinel.url()).await;
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let user = user();
    bells.subscribe(Topic::User(user)).await.unwrap();
    let before: Vec<_> = join_all((0..50).map(|n| {
        let store = store.clone();
        async move { append(&store, entry(user, &n.to_string())).await.1 }
    }))
    .await;

    sentinel.fail_over().await;
    // Nobody is left to confirm it: `durable` would be refused.
    let first_after = Append {
        durability: Durability::Memory,
        ..entry(user, "after")
    };
    eventually("the replica took over", || async {
        store.append(first_after.clone()).await.is_ok()
    })
    .await;
    let found: Vec<_> = all(&store, user)
        .await
        .into_iter()
        .map(|(position, _)| position)
        .collect();
    assert!(
        before.iter().all(|position| found.contains(position)),
        "an accepted entry was lost"
    );
    let furthest = before.iter().max().unwrap();
    assert!(store.heads(&[Topic::User(user)]).await.unwrap()[0].epoch > furthest.epoch);
    heard.gap().await;
    eventually("bells ring from the new master", || async {
        store.probe(&bells).await.iter().all(Option::is_some)
    })
    .await;
    assert!(matches!(
        store.append(first_after).await.unwrap(),
        Appended::Duplicate { .. }
    ));
}

#[tokio::test]
async fn durable_is_not_accepted_before_a_replica_has_it() {
    let everysec = |replica_of| {
        Redis::start_with(RedisOptions {
            appendfsync: "everysec",
            replica_of,
            ..RedisOptions::default()
        })
    };
    let master = everysec(None).await;
    let replica = everysec(Some(master.port())).await;
    eventually("the replica follows", || async {
        replica.info("master_link_status").await.as_deref() == Some("up")
    })
    .await;
    let store = connect(&master.url()).await;
    let user = user();
    append(&store, entry(user, "before")).await;

    replica.pause();
    let in_memory = Append {
        durability: Durability::Memory,
        ..entry(user, "in memory")
    };
    store.append(in_memory).await.unwrap();
    let unconfirmed = entry(user, "unconfirmed");
    assert!(
        store.append(unconfirmed.clone()).await.is_err(),
        "accepted although no replica has it"
    );

    replica.resume();
    eventually("the replica confirms again", || async {
        let again = store.append(unconfirmed.clone()).await;
        matches!(again, Ok(Appended::Duplicate { .. }))
    })
    .await;
}
