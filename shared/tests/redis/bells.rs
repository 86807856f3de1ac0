use shared::{domain::Topic, redis::Echo};
use testkit::Redis;

use super::support::{Heard, append, connect, entry, eventually, user};

#[tokio::test]
async fn a_confirmed_subscription_hears_the_very_next_entry() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let user = user();
    bells.subscribe(Topic::User(user)).await.unwrap();
    let (_, position, _) = append(&store, entry(user, r#"{"x":"ü\n"}"#)).await;
    assert_eq!(heard.entry().await, (position, r#"{"x":"ü\n"}"#.to_owned()));
}

#[tokio::test]
async fn a_probe_comes_back() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (bells, _events) = store.subscriber().await.unwrap();
    let found = store.probe(&bells).await;
    assert_eq!(found.len(), 1);
    assert!(found[0].is_heard());
}

#[tokio::test]
async fn a_subscriber_that_is_shut_out_is_told_from_a_server_that_is_away() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (bells, _events) = store.subscriber().await.unwrap();
    assert!(store.probe(&bells).await[0].is_heard());

    server
        .call(&["acl", "setuser", "default", "-ssubscribe"])
        .await;
    server.call(&["client", "kill", "type", "pubsub"]).await;
    eventually("it is deaf", || async {
        store.probe(&bells).await == [Echo::Deaf]
    })
    .await;
    assert!(store.ask_shards().await[0].is_heard());

    server.kill9();
    assert_eq!(store.probe(&bells).await, [Echo::Silent]);
    assert_eq!(store.ask_shards().await, [Echo::Silent]);
}
