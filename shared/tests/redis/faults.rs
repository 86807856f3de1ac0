use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use shared::{
    domain::{Durability, Position, Topic},
    redis::{Appended, Page, StoreError},
};
use testkit::{Redis, RedisOptions};
use tokio::time::{Instant, timeout};

use super::support::{Heard, all_after, append, connect, entry, eventually, user};

#[tokio::test]
async fn a_restart_raises_the_epoch_and_no_id_goes_back() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let (_, before, persist_before) = append(&store, entry(user, "1")).await;
    let ms = |id: &str| id.split('-').next().unwrap().parse::<i64>().unwrap();
    server.restart().await;
    let retried = entry(user, "2");
    eventually("redis is back", || async {
        store.append(retried.clone()).await.is_ok()
    })
    .await;
    let (_, after, persist_after) = append(&store, entry(user, "3")).await;
    assert!(after.epoch > before.epoch);
    assert!(after.offset > before.offset + 1_000_000 - 1);
    assert!(ms(&persist_after) >= ms(&persist_before) + 60_000);
    // Postgres may have what Redis lost behind the last entry of the old epoch.
    let page = store.read(Topic::User(user), before, 10).await.unwrap();
    assert!(matches!(page, Page::Cold { first, .. } if first > before && first < after));
    let found = all_after(&store, user, before).await;
    assert_eq!(found.len(), 2, "old cursors lead to the new epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_a_kill_under_load() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let users: Vec<_> = (0..20).map(|_| user()).collect();
    let count = AtomicUsize::new(0);
    let senders = users.iter().map(|user| {
        let (store, count) = (store.clone(), &count);
        async move {
            let mut accepted = Vec::new();
            for n in 0..60 {
                let body = n.to_string();
                if store.append(entry(*user, &body)).await.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                    accepted.push(body);
                }
            }
            accepted
        }
    });
    let killing = async {
        eventually("load", || async { count.load(Ordering::Relaxed) > 200 }).await;
        server.restart().await;
    };
    let (accepted, ()) = tokio::join!(join_all(senders), killing);
    assert!(accepted.iter().flatten().count() > 200);
    for (user, accepted) in users.iter().zip(accepted) {
        let found = all_after(&store, *user, Position::START).await;
        let bodies: Vec<_> = found.into_iter().map(|(_, body)| body).collect();
        assert!(
            accepted.iter().all(|body| bodies.contains(body)),
            "lost something accepted"
        );
        let mut unique = bodies.clone();
        unique.dedup();
        assert_eq!(unique, bodies, "nothing twice");
    }
}

#[tokio::test]
async fn a_killed_subscription_is_a_gap_and_then_heard_again() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let users: Vec<_> = (0..200).map(|_| user()).collect();
    for result in join_all(users.iter().map(|user| bells.subscribe(Topic::User(*user)))).await {
        result.unwrap();
    }
    for _ in 0..3 {
        server.call(&["client", "kill", "type", "pubsub"]).await;
        heard.gap().await;
        for user in [users[0], users[100], users[199]] {
            let (_, position, _) = append(&store, entry(user, "{}")).await;
            assert_eq!(heard.entry().await.0, position);
        }
    }
}

#[tokio::test]
async fn an_unsubscribed_topic_is_silent() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let (one, two) = (user(), user());
    bells.subscribe(Topic::User(one)).await.unwrap();
    bells.subscribe(Topic::User(two)).await.unwrap();
    bells.unsubscribe(Topic::User(one)).await.unwrap();
    append(&store, entry(one, "1")).await;
    append(&store, entry(two, "2")).await;
    assert_eq!(heard.entry().await.1, "2");
}

#[tokio::test]
async fn a_stopped_redis_fails_calls_in_time_and_is_used_again_when_it_goes_on() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    append(&store, entry(user, "1")).await;
    server.pause();
    let began = Instant::now();
    let hung = entry(user, "2");
    let outcome = store.append(hung.clone()).await;
    assert!(
        matches!(outcome, Err(StoreError::Unknown(_))),
        "{outcome:?}"
    );
    assert!(
        began.elapsed() < Duration::from_millis(2600),
        "{:?}",
        began.elapsed()
    );

    // A crowd does not wait: the node is known to be hung, and the queue has an end.
    let crowd = join_all((0..6000).map(|_| store.append(entry(user, "x"))));
    let began = Instant::now();
    let outcomes = timeout(Duration::from_secs(5), crowd).await.unwrap();
    assert!(outcomes.iter().all(Result::is_err));
    assert!(began.elapsed() < Duration::from_secs(3));
    eventually("calls fail at once", || async {
        let began = Instant::now();
        store.time().await.is_err() && began.elapsed() < Duration::from_millis(50)
    })
    .await;

    server.resume();
    eventually("redis is used again", || async {
        store.append(hung.clone()).await.is_ok()
    })
    .await;
    assert!(matches!(
        store.append(hung).await.unwrap(),
        Appended::Duplicate { .. }
    ));
}

#[tokio::test]
async fn without_redis_an_append_is_refused_within_a_second() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    server.kill9();
    let began = Instant::now();
    let outcome = store.append(entry(user(), "1")).await;
    assert!(outcome.is_err());
    assert!(began.elapsed() < Duration::from_millis(2600));
    let began = Instant::now();
    let outcome = store.append(entry(user(), "1")).await;
    assert!(
        matches!(outcome, Err(StoreError::Unavailable(_))),
        "{outcome:?}"
    );
    assert!(
        began.elapsed() < Duration::from_millis(1200),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn nearly_full_memory_refuses_what_is_durable() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    append(&store, entry(user, "1")).await;
    let used: u64 = server.info("used_memory").await.unwrap().parse().unwrap();
    server
        .call(&[
            "config",
            "set",
            "maxmemory",
            &(used + used / 20).to_string(),
        ])
        .await;
    eventually("the limit is noticed", || async {
        matches!(
            store.append(entry(user, "2")).await,
            Err(StoreError::OutOfMemory)
        )
    })
    .await;
    let mut fleeting = entry(user, "3");
    fleeting.durability = Durability::Memory;
    assert!(matches!(
        store.append(fleeting).await,
        Err(StoreError::OutOfMemory)
    ));
    assert!(store.append_from_reserve(entry(user, "4")).await.is_ok());

    // What frees memory works when there is none left, also for a process that starts now.
    server
        .call(&["config", "set", "maxmemory", "1000000"])
        .await;
    let newcomer = connect(&server.url()).await;
    assert!(newcomer.append_from_reserve(entry(user, "5")).await.is_ok());
    // What keeps the fleet alive still works.
    store
        .node_heartbeat(&"n1".parse().unwrap(), 1, Duration::from_secs(9))
        .await
        .unwrap();
    store
        .session_open(super::support::session(user))
        .await
        .unwrap();

    server.call(&["config", "set", "maxmemory", "0"]).await;
    eventually("there is room again", || async {
        store.append(entry(user, "6")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn functions_that_redis_forgot_are_loaded_again() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    server.call(&["function", "flush"]).await;
    append(&store, entry(user, "1")).await;
    server.call(&["function", "flush"]).await;
    store.heads(&[Topic::User(user)]).await.unwrap();
}

#[tokio::test]
async fn weak_settings_are_named() {
    // As Redis comes.
    let options = RedisOptions::default()
        .with("appendonly", "no")
        .with("stream-node-max-bytes", "4096");
    let server = Redis::start_with(options).await;
    let store = connect(&server.url()).await;
    let found = store.audit().await.unwrap();
    for name in ["appendonly:", "stream-node-max-bytes:", "maxmemory:"] {
        assert!(
            found.iter().any(|weakness| weakness.starts_with(name)),
            "{name} in {found:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_would_lose_it_takes_nothing_durable() {
    let server = Redis::start_with(RedisOptions {
        appendfsync: "everysec",
        ..RedisOptions::default()
    })
    .await;
    let store = connect(&server.url()).await;
    let user = user();
    let refused = store.append(entry(user, "durable")).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    let mut fleeting = entry(user, "memory");
    fleeting.durability = Durability::Memory;
    store.append(fleeting).await.unwrap();
    store
        .append_from_reserve(entry(user, "an end"))
        .await
        .unwrap();
    server
        .call(&["config", "set", "appendfsync", "always"])
        .await;
    eventually("the new setting is noticed", || async {
        store.append(entry(user, "durable")).await.is_ok()
    })
    .await;
}
