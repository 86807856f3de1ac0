//! Broadcasts and preferences on nodes: whom an entry reaches, live and after being away.

use std::{sync::atomic::Ordering, time::Duration};

use gateway::fanout::FanoutSettings;
use shared::domain::{
    Category, Kind, MessageId, Persist, Position, Preferences, Receipt, Timestamp, Topic, UserId,
};
use testkit::eventually;
use uuid::Uuid;

use crate::support::{Ask, PATIENCE, World, publish, publish_to, user};

fn tags(text: &str) -> Vec<Category> {
    text.split_whitespace()
        .map(|tag| tag.parse().unwrap())
        .collect()
}

async fn broadcast(world: &World, text: &str, categories: &str) -> Position {
    let body = serde_json::json!({"content": text, "categories": tags(categories)});
    publish_to(
        &world.store,
        Topic::Broadcast,
        Kind::CommandNew,
        body.to_string(),
    )
    .await
}

async fn direct(world: &World, to: UserId, text: &str, categories: &str) -> Position {
    let body = serde_json::json!({"content": text, "categories": tags(categories)});
    publish_to(
        &world.store,
        Topic::User(to),
        Kind::CommandNew,
        body.to_string(),
    )
    .await
}

async fn choose(world: &World, who: UserId, blocked: &str, allowed: &str) {
    let preferences = Preferences {
        blocked_categories: tags(blocked).into_iter().collect(),
        allowed_categories: tags(allowed).into_iter().collect(),
    };
    let body = serde_json::to_string(&preferences).unwrap();
    publish_to(&world.store, Topic::User(who), Kind::Preferences, body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_reaches_whom_it_may_on_every_node_and_nobody_else() {
    let world = World::start().await;
    let nodes = [world.node().await, world.node().await];
    let [open, blocks, allows] = [user(), user(), user()];
    choose(&world, blocks, "adult", "").await;
    choose(&world, allows, "extreme", "mild adult").await;
    let mut clients = Vec::new();
    for node in &nodes {
        for (who, device) in [(open, "a"), (blocks, "a"), (allows, "a")] {
            let ask = Ask {
                device,
                ..Ask::of(who)
            };
            clients.push((who, ask.client(node).await));
        }
    }
    broadcast(&world, "adult", "adult").await;
    broadcast(&world, "mild", "mild").await;
    broadcast(&world, "both", "mild adult").await;
    broadcast(&world, "general", "general").await;
    broadcast(&world, "extreme", "mild extreme").await;
    broadcast(&world, "all", "").await;
    for (who, client) in &clients {
        if *who == open {
            client
                .hears(&["adult", "mild", "both", "general", "extreme", "all"])
                .await;
        } else if *who == blocks {
            client.hears(&["mild", "general", "extreme", "all"]).await;
        } else {
            client.hears(&["adult", "mild", "both", "all"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_gets_what_was_missed_under_the_choice_of_then() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    let client = Ask::of(anna).client(&node).await;
    broadcast(&world, "1", "mild").await;
    client.hears(&["1"]).await;
    drop(client);
    for number in 2..=9 {
        let tag = if number % 2 == 0 { "adult" } else { "mild" };
        broadcast(&world, &number.to_string(), tag).await;
    }
    choose(&world, anna, "adult", "").await;
    // On another node, which began later: it reads the end of the log first.
    let other = world.node().await;
    let client = Ask::of(anna).client(&other).await;
    client.hears(&["3", "5", "7", "9"]).await;
    choose(&world, anna, "mild", "").await;
    client.sees(2).await;
    broadcast(&world, "10", "mild").await;
    broadcast(&world, "11", "adult").await;
    client.hears(&["3", "5", "7", "9", "11"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_user_gets_no_broadcast_from_before_they_registered() {
    let world = World::start().await;
    let node = world.node().await;
    let at = |ms: i64| UserId(Uuid::from_u128((ms as u128) << 80 | 7 << 76 | 2 << 62));
    let now = world.store.clock().now().0;
    broadcast(&world, "old", "mild").await;
    let later = Ask::of(at(now + 60_000)).client(&node).await;
    let before = Ask::of(at(now - 60_000)).client(&node).await;
    before.hears(&["old"]).await;
    broadcast(&world, "new", "mild").await;
    before.hears(&["old", "new"]).await;
    later.hears(&["new"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_commands_are_held_to_the_choice_and_stay_pending() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    choose(&world, anna, "adult", "").await;
    let client = Ask::of(anna).client(&node).await;
    direct(&world, anna, "1", "mild").await;
    let kept = direct(&world, anna, "2", "adult").await;
    direct(&world, anna, "3", "").await;
    client.sees(3).await;
    // The choice itself comes first.
    assert_eq!(client.seen.texts(), ["", "1", "3"]);
    let skipped = eventually("the confirmation is recorded", PATIENCE, async || {
        let found = deliveries(&world, anna).await;
        found
            .iter()
            .any(|(_, skipped)| skipped.contains(&kept))
            .then_some(found)
    })
    .await;
    let all: Vec<Position> = skipped
        .into_iter()
        .flat_map(|(_, skipped)| skipped)
        .collect();
    assert_eq!(all, [kept]);
}

async fn deliveries(world: &World, who: UserId) -> Vec<(Position, Vec<Position>)> {
    let partition = Topic::User(who).partition(world.store.partitions());
    let page = world.store.persist_read(partition, "0-0", 1000, 1 << 20);
    let records = page.await.unwrap().records;
    let found = records.into_iter().filter_map(|record| match record.what {
        Persist::Delivered {
            user, to, skipped, ..
        } if user == who => Some((to, skipped)),
        _ => None,
    });
    found.collect()
}

async fn receipts(world: &World, who: UserId) -> Vec<MessageId> {
    let partition = Topic::User(who).partition(world.store.partitions());
    let page = world.store.persist_read(partition, "0-0", 1000, 1 << 20);
    let records = page.await.unwrap().records;
    let found = records.into_iter().filter_map(|record| match record.what {
        Persist::Received { receipts, .. } => Some(receipts),
        _ => None,
    });
    let mine = found.flatten().filter(|Receipt { user, .. }| *user == who);
    mine.flat_map(|receipt| receipt.commands).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_wait_for_their_round_or_for_the_device_to_leave() {
    let world = World::start().await;
    let never = |settings| FanoutSettings {
        receipt_interval: Duration::from_secs(3600),
        ..settings
    };
    let often = |settings| FanoutSettings {
        receipt_interval: Duration::from_millis(100),
        ..settings
    };
    let (lazy, eager) = (world.node_with(never).await, world.node_with(often).await);
    let [anna, bert] = [user(), user()];
    choose(&world, bert, "adult", "").await;
    let leaves = Ask::of(anna).client(&lazy).await;
    let stays = Ask::of(bert).client(&eager).await;
    broadcast(&world, "1", "mild").await;
    broadcast(&world, "2", "adult").await;
    leaves.hears(&["1", "2"]).await;
    eventually("the round of the other node", PATIENCE, async || {
        (receipts(&world, bert).await.len() == 1).then_some(())
    })
    .await;
    stays.hears(&["1"]).await;
    assert_eq!(receipts(&world, anna).await, []);
    drop(leaves);
    eventually("a device that leaves is written", PATIENCE, async || {
        (receipts(&world, anna).await.len() == 2).then_some(())
    })
    .await;
    // It goes on behind what it has.
    let again = Ask::of(anna).client(&lazy).await;
    broadcast(&world, "3", "mild").await;
    again.hears(&["3"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_only_passed_broadcasts_over_does_not_look_at_them_again() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    choose(&world, anna, "", "mild").await;
    let client = Ask::of(anna).client(&node).await;
    let first = broadcast(&world, "1", "mild").await;
    client.hears(&["1"]).await;
    let mut last = first;
    for _ in 0..5 {
        last = broadcast(&world, "kept", "adult").await;
    }
    // Entries of one log are heard in order.
    let witness = Ask::of(user()).client(&node).await;
    broadcast(&world, "end", "adult").await;
    eventually("the node has heard them", PATIENCE, async || {
        witness
            .seen
            .broadcasts()
            .contains(&"end".to_owned())
            .then_some(())
    })
    .await;
    drop(client);
    eventually("the cursor has passed them", PATIENCE, async || {
        let furthest = world.store.furthest_broadcast(anna).await.unwrap();
        (furthest > Some(last)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_cannot_be_read_reach_nobody_and_hold_up_nobody() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    let client = Ask::of(anna).client(&node).await;
    for topic in [Topic::Broadcast, Topic::User(anna)] {
        publish_to(&world.store, topic, Kind::CommandNew, "{\"categ".to_owned()).await;
        publish_to(&world.store, topic, Kind::Preferences, "[]".to_owned()).await;
    }
    broadcast(&world, "fine", "mild").await;
    publish(&world.store, anna, "fine").await;
    client.hears(&["fine"]).await;
    client.sees(1).await;
    assert_eq!(client.seen.texts(), ["fine"]);
    // The same for who reads them from the log.
    let late = Ask {
        device: "late",
        after: Some(Position::START),
        ..Ask::of(anna)
    }
    .client(&world.node().await)
    .await;
    late.sees(1).await;
    assert_eq!(late.seen.texts(), ["fine"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_socket_reads_broadcasts_on_from_the_log() {
    const ENTRIES: usize = 700;
    let world = World::start().await;
    let node = world.node().await;
    let slow = Ask::of(user()).client(&node).await;
    let fast = Ask::of(user()).client(&node).await;
    slow.seen.stalled.store(true, Ordering::Relaxed);
    let texts: Vec<String> = (1..=ENTRIES).map(|number| number.to_string()).collect();
    for text in &texts {
        broadcast(&world, text, "mild").await;
    }
    let expected: Vec<&str> = texts.iter().map(String::as_str).collect();
    fast.hears(&expected).await;
    assert!(slow.seen.broadcasts().len() < ENTRIES / 2);
    slow.seen.stalled.store(false, Ordering::Relaxed);
    slow.hears(&expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_for_everybody_is_not_given_to_who_comes_later() {
    let world = World::start().await;
    let node = world.node().await;
    let (anna, bert) = (user(), user());
    let first = Ask::of(anna).client(&node).await;
    let position = broadcast(&world, "withdrawn", "mild").await;
    broadcast(&world, "kept", "mild").await;
    first.hears(&["withdrawn", "kept"]).await;
    let command = world.store.read(Topic::Broadcast, Position::START, 1);
    let shared::redis::Page::Entries { entries, .. } = command.await.unwrap() else {
        panic!("the log is hot");
    };
    let end = serde_json::json!({"commandId": entries[0].id, "status": "cancelled", "broadcast": "category", "categories": ["mild"]});
    let append = shared::redis::Append {
        remove: Some(position),
        ..shared::redis::Append::new(
            Topic::Broadcast,
            Kind::CommandStatus,
            end.to_string(),
            shared::redis::IdempotencyKey::end_of(entries[0].id, None),
            shared::domain::Digest::of(b"cancelled"),
            shared::domain::Durability::Memory,
        )
    };
    world.store.append(append).await.unwrap();
    // The end has no content.
    first.hears(&["withdrawn", "kept", ""]).await;
    let minted = Timestamp(world.store.clock().now().0 - 60_000);
    let early = UserId(Uuid::from_u128(
        (minted.0 as u128) << 80 | bert.0.as_u128() >> 48,
    ));
    let second = Ask::of(early).client(&node).await;
    second.hears(&["kept", ""]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_has_completed_is_not_given_to_their_other_devices() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    let [phone, tablet] = ["phone", "tablet"].map(|device| Ask {
        device,
        ..Ask::of(anna)
    });
    let client = phone.client(&node).await;
    drop(tablet.client(&node).await);
    broadcast(&world, "done", "mild").await;
    broadcast(&world, "open", "mild").await;
    client.hears(&["done", "open"]).await;
    let page = world.store.read(Topic::Broadcast, Position::START, 1).await;
    let shared::redis::Page::Entries { entries, .. } = page.unwrap() else {
        panic!("the log is hot");
    };
    let done = entries[0].id;
    let body = serde_json::json!({"commandId": done, "recipientId": anna, "status": "completed", "broadcast": "category"});
    let append = shared::redis::Append::new(
        Topic::User(anna),
        Kind::CommandStatus,
        body.to_string(),
        shared::redis::IdempotencyKey::end_of(done, Some(anna)),
        shared::domain::Digest::of(b"completed"),
        shared::domain::Durability::Memory,
    );
    world.store.append(append).await.unwrap();
    let other = tablet.client(&node).await;
    other.hears(&["open"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_that_are_kept_from_a_user_do_not_hold_up_the_others() {
    const KEPT: usize = 600;
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    choose(&world, anna, "adult", "").await;
    let client = Ask::of(anna).client(&node).await;
    client.sees(1).await;
    client.seen.silent.store(true, Ordering::Relaxed);
    direct(&world, anna, "first", "mild").await;
    client.sees(2).await;
    for _ in 0..KEPT {
        direct(&world, anna, "kept", "adult").await;
    }
    client.seen.silent.store(false, Ordering::Relaxed);
    client.outbox.confirmed(&client.outbox.written().unwrap());
    direct(&world, anna, "last", "mild").await;
    client.sees(3).await;
    assert_eq!(client.seen.texts(), ["", "first", "last"]);
    broadcast(&world, "also", "mild").await;
    client.hears(&["also"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_choice_counts_for_the_very_next_broadcast() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    let client = Ask::of(anna).client(&node).await;
    // The first entry of a log is read once more before it is given out, under the choice of then.
    choose(&world, anna, "", "").await;
    broadcast(&world, "begin", "adult").await;
    client.sees(1).await;
    client.hears(&["begin"]).await;
    let mut expected = vec!["begin".to_owned()];
    for round in 0..50 {
        // Not waited for in between: both are often heard at once.
        choose(&world, anna, "adult", "").await;
        broadcast(&world, "never", "adult").await;
        choose(&world, anna, "", "").await;
        broadcast(&world, &round.to_string(), "adult").await;
        expected.push(round.to_string());
    }
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    client.hears(&expected).await;
}
