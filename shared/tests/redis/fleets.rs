//! More than one server: a Cluster, and a master with a replica under Sentinel.

use std::time::Duration;

use futures_util::future::join_all;
use shared::{
    domain::{Durability, Position, Topic, UserId},
    redis::{Append, Appended, Author, Echo, Store},
};
use testkit::{Redis, RedisOptions, cluster::Cluster, sentinel::Sentinel};

use super::support::{
    BYTES, Heard, all_after, append, connect, conversation, copier, entry, eventually, said, user,
};

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
            queue: None,
            position: *position,
            skipped: Vec::new(),
        });
    store.ack(&acks.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.furthest_cursor(users[7]).await.unwrap(), positions[7]);
    assert!(store.probe(&bells).await.into_iter().all(Echo::is_heard));
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
async fn a_dead_master_is_silent_and_the_others_are_heard() {
    let cluster = Cluster::start().await;
    for master in cluster.nodes() {
        let setting = ["config", "set", "cluster-require-full-coverage", "no"];
        master.call(&setting).await;
    }
    let store = connect(&cluster.url()).await;
    let (bells, _events) = store.subscriber().await.unwrap();
    assert!(store.probe(&bells).await.into_iter().all(Echo::is_heard));

    cluster.nodes()[1].kill9();
    let silent_and_heard = |shards: &[Echo]| {
        let silent = shards.iter().filter(|echo| **echo == Echo::Silent).count();
        let heard = shards.iter().filter(|echo| echo.is_heard()).count();
        (silent, heard) == (1, 2)
    };
    assert!(silent_and_heard(&store.probe(&bells).await));
    assert!(silent_and_heard(&store.ask_shards().await));
}

#[tokio::test]
async fn a_cluster_that_is_down_makes_nobody_deaf() {
    let cluster = Cluster::start().await;
    for master in cluster.nodes() {
        let setting = ["config", "set", "cluster-node-timeout", "500"];
        master.call(&setting).await;
    }
    let store = connect(&cluster.url()).await;
    let (bells, _events) = store.subscriber().await.unwrap();
    cluster.nodes()[1].kill9();
    eventually("the cluster is down", || async {
        store.ask_shards().await == [Echo::Silent; 3]
    })
    .await;
    // By default those that live still publish; what matters is that nobody takes it for deafness.
    assert!(!store.probe(&bells).await.contains(&Echo::Deaf));
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
        store.probe(&bells).await.into_iter().all(Echo::is_heard)
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
    let bodies: Vec<_> = all_after(&store, user, Position::START)
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

    let old = sentinel.primary().await.expect("there is a primary");
    sentinel.fail_over().await;
    // Nothing is taken before somebody follows the new one.
    old.restart().await;
    let first_after = entry(user, "after");
    eventually("the replica took over", || async {
        store.append(first_after.clone()).await.is_ok()
    })
    .await;
    let found: Vec<_> = all_after(&store, user, Position::START)
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
        store.probe(&bells).await.into_iter().all(Echo::is_heard)
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
    durable_waits_for(&replica, &store, user).await;
}

#[tokio::test]
async fn durable_is_not_accepted_before_a_replica_in_the_cluster_has_it() {
    let cluster = Cluster::start_replicated().await;
    let store = connect(&cluster.url()).await;
    let user = user();
    append(&store, entry(user, "before")).await;
    let partition = Topic::User(user).partition(store.partitions());
    let slot = cluster.slot_of(&format!("{{{partition}}}")).await;
    let master = cluster.owner_of(slot).await;
    durable_waits_for(cluster.replica_of(master).await, &store, user).await;
}

/// The replica is the only one that could confirm what a user gets.
async fn durable_waits_for(replica: &Redis, store: &Store, user: UserId) {
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
    let partition = Topic::User(user).partition(store.partitions());
    let recorded = async || store.persist_read(partition, "0-0", 10, BYTES).await;
    assert!(
        recorded().await.is_err(),
        "Postgres would have what may be lost"
    );

    replica.resume();
    eventually("the replica confirms again", || async {
        let again = store.append(unconfirmed.clone()).await;
        matches!(again, Ok(Appended::Duplicate { .. }))
    })
    .await;
    assert_eq!(recorded().await.unwrap().records.len(), 3);
}

#[tokio::test]
async fn what_a_replica_does_not_have_yet_is_given_to_no_copier() {
    let master = Redis::start().await;
    let replica = Redis::start_with(RedisOptions {
        replica_of: Some(master.port()),
        ..RedisOptions::default()
    })
    .await;
    master
        .call(&["CONFIG", "SET", "appendfsync", "everysec"])
        .await;
    eventually("the replica follows", || async {
        replica.info("master_link_status").await.as_deref() == Some("up")
    })
    .await;
    let store = connect(&master.url()).await;
    let (conversation, copier) = (conversation(), copier("n1"));
    store.keep_version(conversation, 1).await.unwrap();
    let said = async |body: &str| {
        let author = Author::By {
            version: 1,
            copier: Some(copier.clone()),
        };
        let in_memory = Append {
            durability: Durability::Memory,
            ..said(conversation, author, body)
        };
        append(&store, in_memory).await.1
    };
    let first = said("1").await;
    replica.pause();
    said("2").await;
    assert!(store.copied(conversation, &copier, first).await.is_err());
    replica.resume();
    eventually("the replica confirms again", || async {
        let next = store.copied(conversation, &copier, first).await;
        next.is_ok_and(|next| next.is_some_and(|entries| entries.len() == 1))
    })
    .await;
}

#[tokio::test]
async fn a_server_that_takes_over_again_begins_a_new_epoch() {
    let (one, two) = (Redis::start().await, Redis::start().await);
    let follow = async |server: &Redis, primary: &Redis| {
        let port = primary.port().to_string();
        server.call(&["replicaof", "127.0.0.1", &port]).await;
        eventually("it follows", || async {
            server.info("master_link_status").await.as_deref() == Some("up")
        })
        .await;
    };
    let store = connect(&one.url()).await;
    let user = user();
    append(&store, entry(user, "1")).await;
    follow(&two, &one).await;
    two.call(&["replicaof", "no", "one"]).await;
    // The other one reigns; it never gets these, and has nothing to write itself.
    let mut lost = Vec::new();
    for n in 2..5 {
        let in_memory = Append {
            durability: Durability::Memory,
            ..entry(user, &n.to_string())
        };
        lost.push(append(&store, in_memory).await);
    }
    follow(&one, &two).await;
    one.call(&["replicaof", "no", "one"]).await;

    let retried = entry(user, "after");
    eventually("it takes entries again", || async {
        store.append(retried.clone()).await.is_ok()
    })
    .await;
    let (_, position, persist_id) = append(&store, entry(user, "and one more")).await;
    for (_, seen, persisted) in lost {
        assert!(
            position.epoch > seen.epoch,
            "{position} hides behind {seen}"
        );
        assert!(persist_order(&persist_id) > persist_order(&persisted));
    }
}

fn persist_order(id: &str) -> (u64, u64) {
    let (ms, number) = id.split_once('-').unwrap();
    (ms.parse().unwrap(), number.parse().unwrap())
}

#[tokio::test]
async fn a_primary_that_was_replaced_takes_nothing_on_its_own() {
    let server = Redis::start().await;
    let _store = connect(&server.url()).await; // loads the functions
    let id = uuid::Uuid::now_v7().to_string();
    let digest = "0".repeat(32);
    let take = async || {
        let call = ["fcall", "tidegate_v1_append", "1", "{p1}:meta", "1000", "1"];
        let entry = [
            "{p1}",
            "user:ann",
            "command.new",
            "key",
            &digest,
            &id,
            "",
            "",
            "",
            "",
            "{}",
        ];
        server.try_call(&[&call[..], &entry[..]].concat()).await
    };
    assert!(format!("{:?}", take().await).contains("NOREPLICAS"));
    let follower = Redis::start_with(RedisOptions {
        replica_of: Some(server.port()),
        ..RedisOptions::default()
    })
    .await;
    eventually("it takes entries once it has a replica", || async {
        format!("{:?}", take().await).contains("N ")
    })
    .await;
    follower.kill9();
    eventually("its replica is gone", || async {
        server.info("connected_slaves").await.as_deref() == Some("0")
    })
    .await;
    // The barrier is what counts then.
    assert!(format!("{:?}", take().await).contains("D "));
}
