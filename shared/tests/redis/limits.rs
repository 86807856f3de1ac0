//! Buckets that nodes share.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::redis::{Limit, LimitOwner, LimitStep, Store, StoreError, Tokens};
use testkit::{Redis, cluster::Cluster};

use super::support::{append, connect, entry, eventually, user};

/// So slow that no token comes back during a test.
const HOUR: Duration = Duration::from_secs(3600);

fn limit(owner: LimitOwner, spacing: Duration, burst: u32) -> Limit {
    Limit {
        what: "requests",
        owner,
        spacing,
        burst,
    }
}

async fn step(store: &Store, limit: &Limit, step: LimitStep) -> Result<Tokens, StoreError> {
    store.limit(&[(limit.clone(), step)]).await.pop().unwrap()
}

async fn take(store: &Store, limit: &Limit, count: u32) -> Tokens {
    step(store, limit, LimitStep::Take(count)).await.unwrap()
}

async fn give(store: &Store, limit: &Limit, count: u32, full_at: u64) -> u32 {
    let give = LimitStep::Give { count, full_at };
    step(store, limit, give).await.unwrap().count
}

#[tokio::test]
async fn nodes_that_take_at_once_get_a_bucket_between_them() {
    let redis = Redis::start().await;
    let nodes = [connect(&redis.url()).await, connect(&redis.url()).await];
    let mine = limit(LimitOwner::User(user()), HOUR, 50);
    let takes = (0..100).map(|n| take(&nodes[n % 2], &mine, 3));
    let taken: u32 = join_all(takes)
        .await
        .iter()
        .map(|tokens| tokens.count)
        .sum();
    assert_eq!(taken, 50);
    // The next one is an hour away, less the moment this test takes.
    let refused = take(&nodes[0], &mine, 1).await;
    assert_eq!(refused.count, 0);
    assert!(refused.next_in <= HOUR && refused.next_in > HOUR / 2);
    // Neither another user's nor another limit is touched.
    let other = limit(LimitOwner::User(user()), HOUR, 50);
    assert_eq!(take(&nodes[0], &other, 99).await.count, 50);
    let address = limit(LimitOwner::Named("192.0.2.1".into()), HOUR, 50);
    assert_eq!(take(&nodes[0], &address, 99).await.count, 50);
}

#[tokio::test]
async fn tokens_come_back_at_the_rate_and_no_faster() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let mine = limit(LimitOwner::User(user()), Duration::from_millis(2), 10);
    let began = Instant::now();
    let mut taken = 0;
    while taken < 200 {
        let tokens = take(&store, &mine, 7).await;
        taken += tokens.count;
        let most = 10 + began.elapsed().as_micros() / 2000 + 1;
        assert!(u128::from(taken) <= most, "{taken} of {most}");
    }
    // A bucket at rest needs no key.
    let key = "{p*}:limit:*";
    eventually("the bucket is forgotten", || async {
        redis.call(&["KEYS", key]).await.list().is_empty()
    })
    .await;
    assert_eq!(take(&store, &mine, 99).await.full_before, 0);
}

#[tokio::test]
async fn what_is_put_back_can_be_taken_again() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let mine = limit(LimitOwner::User(user()), HOUR, 10);
    let first = take(&store, &mine, 6).await;
    assert_eq!(give(&store, &mine, 4, first.full_at).await, 4);
    let second = take(&store, &mine, 99).await;
    assert_eq!(second.count, 8);
    // Twice is once: the bucket is not any more as it was.
    assert_eq!(give(&store, &mine, 4, first.full_at).await, 0);
    // All of it: the bucket is full, and stays so.
    assert_eq!(give(&store, &mine, 8, second.full_at).await, 8);
    let third = take(&store, &mine, 2).await;
    assert_eq!(third.count, 2);
    // Somebody took after them: they stay taken.
    let fourth = take(&store, &mine, 1).await;
    assert_eq!(fourth.full_before, third.full_at);
    assert_eq!(give(&store, &mine, 2, third.full_at).await, 0);
    assert_eq!(give(&store, &mine, 1, fourth.full_at).await, 1);
}

#[tokio::test]
async fn a_bucket_from_before_the_clock_was_set_back_is_full() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let mine = limit(LimitOwner::User(user()), Duration::from_millis(10), 5);
    take(&store, &mine, 5).await;
    let keys = redis.call(&["KEYS", "{p*}:limit:*"]).await;
    let key = keys.list()[0].text().unwrap();
    redis.call(&["SET", &key, "9000000000000000"]).await;
    assert_eq!(take(&store, &mine, 99).await.count, 5);
}

#[tokio::test]
async fn limits_hold_while_memory_is_full() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    append(&store, entry(user(), "{}")).await;
    redis.call(&["config", "set", "maxmemory", "1000000"]).await;
    let mine = limit(LimitOwner::User(user()), HOUR, 10);
    let refused = redis.try_call(&["SET", "x", "y"]).await;
    assert!(refused.is_err(), "memory is not full: {refused:?}");
    let tokens = take(&store, &mine, 7).await;
    assert_eq!(give(&store, &mine, 2, tokens.full_at).await, 2);
    assert_eq!(take(&store, &mine, 99).await.count, 5);
}

#[tokio::test]
async fn on_a_cluster_a_dead_master_takes_only_its_own_buckets_along() {
    let cluster = Cluster::start().await;
    for master in cluster.nodes() {
        let setting = ["config", "set", "cluster-require-full-coverage", "no"];
        master.call(&setting).await;
    }
    let store = connect(&cluster.url()).await;
    let steps: Vec<_> = (0..300)
        .map(|_| {
            let mine = limit(LimitOwner::User(user()), HOUR, 10);
            (mine, LimitStep::Take(4))
        })
        .collect();
    let full = |answers: &[Result<Tokens, StoreError>]| {
        let taken = answers.iter().flatten();
        taken.filter(|tokens| tokens.count == 4).count()
    };
    assert_eq!(full(&store.limit(&steps).await), 300);
    cluster.nodes()[1].kill9();
    let answers = store.limit(&steps).await;
    // A third has no answer; each of the others is that of its own bucket.
    assert!((100..300).contains(&full(&answers)), "{}", full(&answers));
    assert_eq!(
        full(&answers),
        answers.iter().flatten().count(),
        "what is answered is answered right"
    );
}
