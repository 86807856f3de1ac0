use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use gateway::fanout::{CloseReason, FanoutSettings, MAX_FRAMES, OutboxLimits, Reach, TokenRef};
use shared::domain::{Code, Kind, Position, Revocation, Timestamp, Topic};
use testkit::eventually;
use tokio::sync::watch;

use crate::support::{Ask, PATIENCE, World, publish, publish_to, user};

fn texts(range: std::ops::RangeInclusive<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_attaches_while_others_publish_gets_everything_once_and_in_order() {
    const ENTRIES: usize = 60;
    let world = Arc::new(World::start().await);
    let nodes = [world.node().await, world.node().await];
    for round in 0..15_u64 {
        let anna = user();
        let (published, mut progress) = watch::channel(0);
        let publishing = tokio::spawn({
            let world = world.clone();
            async move {
                for number in 1..=ENTRIES {
                    publish(&world.store, anna, &number.to_string()).await;
                    published.send_replace(number);
                }
            }
        });
        let mut clients = Vec::new();
        for (index, device) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let moment = rand::random_range(0..=ENTRIES / 2) + index * ENTRIES / 10;
            progress.wait_for(|number| *number >= moment).await.unwrap();
            let after = Some(Position::START);
            let ask = Ask {
                device,
                after,
                ..Ask::of(anna)
            };
            clients.push(ask.client(&nodes[(index + round as usize) % 2]).await);
        }
        publishing.await.unwrap();
        for client in &clients {
            client.sees(ENTRIES).await;
            assert_eq!(client.seen.texts(), texts(1..=ENTRIES));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_published_while_somebody_attaches_needs_no_later_one_to_be_seen() {
    let world = Arc::new(World::start().await);
    // No comparison of heads finds what was missed.
    let never = Duration::from_secs(3600);
    let settings = |settings| FanoutSettings {
        head_interval: never,
        ..settings
    };
    let node = world.node_with(settings).await;
    for round in 0..200 {
        let anna = user();
        let publishing = tokio::spawn({
            let world = world.clone();
            async move {
                // Not a wait: each round publishes at another moment of attaching.
                tokio::time::sleep(Duration::from_micros(round * 10)).await;
                publish(&world.store, anna, "only").await;
            }
        });
        let ask = Ask {
            after: Some(Position::START),
            ..Ask::of(anna)
        };
        let client = ask.client(&node).await;
        publishing.await.unwrap();
        client.sees(1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_socket_reads_on_from_the_log_and_the_others_do_not_wait() {
    const ENTRIES: usize = 1500;
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    let slow = Ask {
        device: "slow",
        ..Ask::of(anna)
    }
    .client(&node)
    .await;
    let fast = Ask {
        device: "fast",
        ..Ask::of(anna)
    }
    .client(&node)
    .await;
    slow.seen.stalled.store(true, Ordering::Relaxed);
    for number in 1..=ENTRIES {
        publish(&world.store, anna, &number.to_string()).await;
    }
    fast.sees(ENTRIES).await;
    // What it was waiting for when it was told to stall.
    assert!(slow.seen.count() <= MAX_FRAMES);
    slow.seen.stalled.store(false, Ordering::Relaxed);
    slow.sees(ENTRIES).await;
    assert_eq!(slow.seen.texts(), texts(1..=ENTRIES));
    publish(&world.store, anna, "last").await;
    slow.sees(ENTRIES + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_confirms_nothing_gets_one_window_and_the_rest_when_it_does() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    let limits = OutboxLimits {
        window: 20,
        ..OutboxLimits::default()
    };
    let client = Ask {
        limits,
        ..Ask::of(anna)
    }
    .client(&node)
    .await;
    client.seen.silent.store(true, Ordering::Relaxed);
    for number in 1..=100 {
        publish(&world.store, anna, &number.to_string()).await;
    }
    client.sees(20).await;
    let confirmed = client.seen.entries.lock()[19].0;
    assert_eq!(client.outbox.unconfirmed(), 20);
    client.seen.silent.store(false, Ordering::Relaxed);
    client.outbox.confirmed(&Reach {
        user: confirmed,
        ..Reach::default()
    });
    client.sees(100).await;
    assert_eq!(client.seen.texts(), texts(1..=100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_is_not_sent_to_the_device_again_on_any_node() {
    let world = World::start().await;
    let nodes = [world.node().await, world.node().await];
    let anna = user();
    let phone = Ask::of(anna).client(&nodes[0]).await;
    for number in 1..=5 {
        publish(&world.store, anna, &number.to_string()).await;
    }
    phone.sees(5).await;
    let last = phone.seen.entries.lock()[4].0;
    drop(phone);
    eventually("the cursor is written", PATIENCE, async || {
        (world.store.furthest_cursor(anna).await.ok()? == last).then_some(())
    })
    .await;
    publish(&world.store, anna, "6").await;
    let phone = Ask::of(anna).client(&nodes[1]).await;
    assert_eq!(phone.cursor, last);
    phone.sees(1).await;
    assert_eq!(phone.seen.texts(), ["6"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bells_that_are_cut_off_again_and_again_lose_nothing() {
    const ENTRIES: usize = 400;
    let world = World::start().await;
    let node = world.node().await;
    let users = [user(), user(), user()];
    let mut clients = Vec::new();
    for user in users {
        clients.push(Ask::of(user).client(&node).await);
    }
    for number in 1..=ENTRIES {
        if number % 100 == 50 {
            world
                .redis
                .try_call(&["CLIENT", "KILL", "TYPE", "pubsub"])
                .await
                .unwrap();
        }
        for user in users {
            publish(&world.store, user, &number.to_string()).await;
        }
    }
    for client in &clients {
        client.sees(ENTRIES).await;
        assert_eq!(client.seen.texts(), texts(1..=ENTRIES));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_session_beyond_the_limit_is_asked_to_close_wherever_it_is() {
    let world = World::start().await;
    let few = |settings| FanoutSettings {
        max_sessions: 2,
        ..settings
    };
    let nodes = [world.node_with(few).await, world.node_with(few).await];
    let anna = user();
    let first = Ask {
        device: "a",
        ..Ask::of(anna)
    }
    .client(&nodes[0])
    .await;
    let second = Ask {
        device: "b",
        ..Ask::of(anna)
    }
    .client(&nodes[1])
    .await;
    let _third = Ask {
        device: "c",
        ..Ask::of(anna)
    }
    .client(&nodes[1])
    .await;
    assert_eq!(first.closed().await, CloseReason::Displaced);
    let _fourth = Ask {
        device: "d",
        ..Ask::of(anna)
    }
    .client(&nodes[1])
    .await;
    assert_eq!(second.closed().await, CloseReason::Displaced);
}

/// The one key of this kind that holds a user's sessions.
async fn sessions_key(world: &World, user: shared::domain::UserId) -> String {
    let pattern = format!("*sess:{user}");
    let found = world.redis.call(&["KEYS", &pattern]).await;
    found.list()[0].text().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_forgot_of_open_sessions_is_told_again_and_the_displaced_close() {
    let world = World::start().await;
    let few = |settings| FanoutSettings {
        max_sessions: 2,
        ..settings
    };
    let node = world.node_with(few).await;
    let (anna, bert) = (user(), user());
    let kept = Ask::of(anna).client(&node).await;
    let displaced = Ask::of(bert).client(&node).await;
    // Anna's session was reaped; Bert's was displaced by two others, and nobody heard of it.
    let annas = sessions_key(&world, anna).await;
    let berts = sessions_key(&world, bert).await;
    for key in [&annas, &berts] {
        world.redis.call(&["DEL", key]).await;
    }
    for other in ["one", "two"] {
        world
            .redis
            .call(&["HSET", &berts, other, "other 1 phone 1"])
            .await;
    }
    world
        .redis
        .call(&["CLIENT", "KILL", "TYPE", "pubsub"])
        .await;
    assert_eq!(displaced.closed().await, CloseReason::Displaced);
    eventually("anna is registered again", PATIENCE, || async {
        let length = world.redis.call(&["HLEN", &annas]).await;
        (length.text()? == "1").then_some(())
    })
    .await;
    drop(kept);
    eventually("her session is closed", PATIENCE, || async {
        let length = world.redis.call(&["HLEN", &annas]).await;
        (length.text()? == "0").then_some(())
    })
    .await;
}

async fn revoke(world: &World, revocation: &Revocation) {
    let body = serde_json::to_string(revocation).unwrap();
    publish_to(&world.store, Topic::Revocations, Kind::Revocation, body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_closes_sockets_and_is_known_to_nodes_that_start_later() {
    let world = World::start().await;
    let node = world.node().await;
    let (anna, bert) = (user(), user());
    let token = |id: &str| TokenRef {
        id: id.into(),
        issued_at: 1000,
    };
    let annas = Ask {
        token: token("a"),
        ..Ask::of(anna)
    };
    let berts = Ask {
        token: token("b"),
        ..Ask::of(bert)
    };
    let [first, second] = [annas.client(&node).await, berts.client(&node).await];
    let expires_at = Timestamp(i64::MAX / 2);
    let of_token = Revocation {
        user_id: anna,
        token_id: Some("a".into()),
        issued_until: 1000,
        expires_at,
    };
    revoke(&world, &of_token).await;
    assert_eq!(first.closed().await, CloseReason::Unauthorized);
    assert!(second.seen.closed.lock().is_none());
    revoke(
        &world,
        &Revocation {
            user_id: bert,
            token_id: None,
            ..of_token
        },
    )
    .await;
    assert_eq!(second.closed().await, CloseReason::Unauthorized);

    let late = world.node().await;
    eventually("revocations are loaded", PATIENCE, async || {
        late.knows_revocations().then_some(())
    })
    .await;
    assert!(late.is_revoked(anna, &token("a")));
    assert!(!late.is_revoked(anna, &token("other")));
    assert!(late.is_revoked(bert, &token("any")));
    let refused = Ask {
        session: Ask::of(anna).session,
        ..annas
    }
    .attach(&late)
    .await;
    assert_eq!(
        refused.err().map(|refusal| refusal.code),
        Some(Code::Unauthorized)
    );
    assert_eq!(late.sockets(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_nobody_gave_out_is_passed_over_and_the_device_goes_on() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    for number in 1..=3 {
        publish(&world.store, anna, &number.to_string()).await;
    }
    let client = Ask::of(anna).client(&node).await;
    client.sees(3).await;
    drop(client);
    testkit::eventually("what was seen is confirmed", PATIENCE, async || {
        let cursor = world.store.furthest_cursor(anna).await.unwrap();
        (cursor.offset == 3).then_some(())
    })
    .await;
    publish(&world.store, anna, "4").await;

    let after = Some(Position {
        epoch: 9_999_999_999,
        offset: 1,
    });
    let client = Ask {
        after,
        ..Ask::of(anna)
    }
    .client(&node)
    .await;
    assert_eq!((client.cursor.offset, client.replayed), (3, 1));
    assert!(!client.complete);
    client.sees(1).await;
    publish(&world.store, anna, "5").await;
    client.sees(2).await;
    assert_eq!(client.seen.texts(), texts(4..=5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_tells_how_many_follow_at_once_and_whether_those_are_all() {
    let world = World::start().await;
    let node = world
        .node_with(|settings| FanoutSettings {
            first_page: 5,
            ..settings
        })
        .await;
    let anna = user();
    let told = async |device| {
        let ask = Ask {
            device,
            ..Ask::of(anna)
        };
        let (attached, _) = ask.attach(&node).await.unwrap();
        (attached.replayed, attached.complete)
    };
    assert_eq!(told("a").await, (0, true));
    for number in 1..=5 {
        publish(&world.store, anna, &number.to_string()).await;
    }
    assert_eq!(told("b").await, (5, true));
    publish(&world.store, anna, "6").await;
    assert_eq!(told("c").await, (5, false));
    // What has left Redis follows from Postgres, nobody knows yet how many.
    let partition = Topic::User(anna).partition(world.store.partitions());
    let all = "99999999999999-0";
    world.store.persist_commit(partition, all).await.unwrap();
    let step = world.store.trim_step(0, 0, Duration::ZERO, 100_000).await;
    assert_eq!(step.unwrap().entries, 6);
    assert_eq!(told("d").await, (0, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_asks_every_socket_and_leaves_nothing_behind() {
    let world = World::start().await;
    let node = world.node().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let anna = user();
        let client = Ask::of(anna).client(&node).await;
        publish(&world.store, anna, "1").await;
        client.sees(1).await;
        clients.push((anna, client));
    }
    node.drain(Duration::from_millis(50)).await;
    assert_eq!(node.sockets(), 0);
    assert!(node.flush(PATIENCE).await);
    for (anna, client) in &clients {
        assert!(matches!(
            client.closed().await,
            CloseReason::Draining { .. }
        ));
        let confirmed = client.seen.entries.lock()[0].0;
        assert_eq!(world.store.furthest_cursor(*anna).await.unwrap(), confirmed);
    }
    world.life.stop();
    assert!(
        world.life.finish(PATIENCE).await,
        "{:?}",
        world.life.running()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaching_without_redis_is_refused_and_open_sockets_stay() {
    let world = World::start().await;
    let node = world.node().await;
    let anna = user();
    let client = Ask::of(anna).client(&node).await;
    publish(&world.store, anna, "1").await;
    client.sees(1).await;
    world.redis.pause();
    let refused = Ask {
        device: "b",
        ..Ask::of(anna)
    }
    .attach(&node)
    .await;
    assert_eq!(
        refused.err().map(|refusal| refusal.code),
        Some(Code::Unavailable)
    );
    let refused = Ask::of(user()).attach(&node).await;
    assert_eq!(
        refused.err().map(|refusal| refusal.code),
        Some(Code::Unavailable)
    );
    assert_eq!(node.sockets(), 1);
    world.redis.resume();
    publish(&world.store, anna, "2").await;
    client.sees(2).await;
    assert_eq!(client.seen.texts(), texts(1..=2));
}
