use std::time::Duration;

use shared::{
    domain::{Device, NodeId, Position, SessionId, Timestamp, Topic},
    redis::{Ack, BellEvent, OpenSession, Page, Store},
};
use testkit::{HostClock, Redis, RedisOptions};

use super::support::{Heard, append, connect, entries, entry, session, time_is_past, user};

fn device(name: &str) -> Device {
    name.parse().unwrap()
}

async fn confirm(store: &Store, open: &OpenSession, position: Position) {
    let ack = Ack {
        user: open.user,
        device: open.device.clone(),
        queue: None,
        position,
        skipped: Vec::new(),
    };
    store.ack(&[ack]).await.unwrap();
}

#[tokio::test]
async fn a_device_goes_on_where_it_confirmed_and_a_new_one_where_the_user_is_furthest() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let phone = session(user());
    let partition = Topic::User(phone.user).partition(store.partitions());
    store.persist_floor(partition, "0-0").await.unwrap();
    let (_, first, _) = append(&store, entry(phone.user, "1")).await;
    let (_, second, _) = append(&store, entry(phone.user, "2")).await;

    let opened = store.session_open(phone.clone()).await.unwrap();
    assert_eq!(opened.cursor, Position::START);
    assert_eq!(entries(opened.page).len(), 2);
    confirm(&store, &phone, first).await;
    assert_eq!(store.furthest_cursor(phone.user).await.unwrap(), first);

    let tablet = OpenSession {
        device: device("tablet"),
        ..session(phone.user)
    };
    let opened = store.session_open(tablet.clone()).await.unwrap();
    assert_eq!(
        (opened.cursor, entries(opened.page)),
        (first, vec![(second, "2".to_owned())])
    );

    // What the phone confirms does not move a tablet that was seen before.
    confirm(&store, &phone, second).await;
    assert_eq!(
        store.session_open(tablet.clone()).await.unwrap().cursor,
        first
    );
    assert_eq!(
        store.session_open(phone.clone()).await.unwrap().cursor,
        second
    );
    let replay = OpenSession {
        after: Some(Position { offset: 0, ..first }),
        ..phone
    };
    assert_eq!(
        entries(store.session_open(replay).await.unwrap().page).len(),
        2
    );
}

#[tokio::test]
async fn confirmations_only_move_forward_and_never_beyond_the_log() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let phone = session(user());
    let partition = Topic::User(phone.user).partition(store.partitions());
    let (_, first, _) = append(&store, entry(phone.user, "1")).await;
    let (_, second, _) = append(&store, entry(phone.user, "2")).await;
    confirm(
        &store,
        &phone,
        Position {
            offset: 99,
            ..first
        },
    )
    .await;
    assert_eq!(
        store.furthest_cursor(phone.user).await.unwrap(),
        Position::START
    );
    confirm(&store, &phone, second).await;
    confirm(&store, &phone, first).await;
    confirm(&store, &phone, second).await;
    assert_eq!(store.furthest_cursor(phone.user).await.unwrap(), second);
    assert_eq!(
        store.persist_backlog(partition).await.unwrap().0,
        3,
        "two entries, one delivery"
    );
}

#[tokio::test]
async fn the_oldest_session_beyond_the_limit_is_displaced_and_told() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let user = user();
    bells.subscribe(Topic::User(user)).await.unwrap();
    let open = || OpenSession {
        max_sessions: 2,
        ..session(user)
    };
    let sessions = [open(), open(), open()];
    for open in &sessions[..2] {
        assert!(
            store
                .session_open(open.clone())
                .await
                .unwrap()
                .displaced
                .is_empty()
        );
        time_is_past(&store, store.time().await.unwrap()).await;
    }
    let opened = store.session_open(sessions[2].clone()).await.unwrap();
    assert_eq!(opened.displaced, [sessions[0].session]);
    let told = heard
        .next_that(|event| match event {
            BellEvent::Displaced { session, topic } if topic == Topic::User(user) => Some(session),
            _ => None,
        })
        .await;
    assert_eq!(told, sessions[0].session);

    let node = sessions[1].node.clone();
    store
        .session_close(user, sessions[1].session, &node, 1, Duration::ZERO)
        .await
        .unwrap();
    assert!(
        store
            .session_open(open())
            .await
            .unwrap()
            .displaced
            .is_empty(),
        "there was room again"
    );
}

#[tokio::test]
async fn a_dead_node_is_reaped_by_incarnation() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let partition = Topic::User(user).partition(store.partitions());
    let node = session(user).node;
    let old = session(user);
    let new = OpenSession {
        incarnation: 2,
        ..session(user)
    };
    store.session_open(old.clone()).await.unwrap();
    store.session_open(new.clone()).await.unwrap();

    assert_eq!(
        store.reap(partition, &node, 1, 10).await.unwrap(),
        [(user, old.session)]
    );
    assert_eq!(store.reap(partition, &node, 1, 10).await.unwrap(), []);
    let by_another_life = SessionId(uuid::Uuid::now_v7());
    store
        .session_close(user, by_another_life, &node, 1, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(
        store.reap(partition, &node, 2, 10).await.unwrap(),
        [(user, new.session)]
    );
}

#[tokio::test]
async fn sessions_that_are_gone_already_do_not_count_as_reaped() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let user = user();
    let partition = Topic::User(user).partition(store.partitions());
    let node = session(user).node;
    let at = format!("{{p{}}}:at:{node}", partition.0);
    for n in 0..5 {
        server
            .call(&["sadd", &at, &format!("1 {user} gone-{n}")])
            .await;
    }
    for _ in 0..3 {
        store.session_open(session(user)).await.unwrap();
    }
    let reaped = async || store.reap(partition, &node, 1, 2).await.unwrap().len();
    assert_eq!((reaped().await, reaped().await), (2, 1));
}

#[tokio::test]
async fn a_node_is_alive_while_its_heart_beats() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let node = session(user()).node;
    let alive = |store: Store| async move { store.nodes().await.unwrap() };
    store
        .node_heartbeat(&node, 7, Duration::from_secs(60))
        .await
        .unwrap();
    store
        .node_heartbeat(&node, 7, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(alive(store.clone()).await, [(node.clone(), 7, true)]);
    store
        .node_heartbeat(&node, 8, Duration::from_secs(60))
        .await
        .unwrap();
    store.node_leave(&node, 7).await.unwrap();
    assert_eq!(
        alive(store.clone()).await,
        [(node.clone(), 8, true)],
        "another life cannot say goodbye"
    );
    store.node_leave(&node, 8).await.unwrap();
    assert_eq!(alive(store.clone()).await, [(node.clone(), 8, false)]);
    store.forget_node(&node, 8).await.unwrap();
    assert_eq!(alive(store.clone()).await, []);
}

#[tokio::test]
async fn a_lease_has_one_owner_and_a_rising_token() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (one, two) = ("w1".parse().unwrap(), "w2".parse().unwrap());
    let minute = Duration::from_secs(60);
    let token = store.lease("p1", &one, minute).await.unwrap().unwrap();
    assert_eq!(store.lease("p1", &two, minute).await.unwrap(), None);
    assert_eq!(
        store.lease("p1", &one, minute).await.unwrap(),
        Some(token),
        "renewed"
    );
    store.release("p1", &two).await.unwrap();
    assert_eq!(
        store.lease("p1", &two, minute).await.unwrap(),
        None,
        "only its owner gives it back"
    );
    store.release("p1", &one).await.unwrap();
    let next = store.lease("p1", &two, minute).await.unwrap().unwrap();
    assert!(next > token);
    server.call(&["flushall"]).await;
    // After a loss the token begins at the time in ms, and no server is lost and back within one.
    time_is_past(&store, Timestamp(next as i64)).await;
    assert!(
        store.lease("p1", &one, minute).await.unwrap().unwrap() > next,
        "also after a loss"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn leases_and_signs_of_life_do_not_outlast_a_clock_that_is_set_back() {
    let clock = HostClock::default();
    let server = Redis::start_with(RedisOptions {
        clock: Some(clock.clone()),
        ..RedisOptions::default()
    })
    .await;
    let store = connect(&server.url()).await;
    let (one, two): (NodeId, NodeId) = ("w1".parse().unwrap(), "w2".parse().unwrap());
    let minute = Duration::from_secs(60);
    let token = store.lease("p1", &one, minute).await.unwrap().unwrap();
    store.node_heartbeat(&one, 7, minute).await.unwrap();

    clock.set(-600_000);
    assert_eq!(store.nodes().await.unwrap(), [(one.clone(), 7, false)]);
    let next = store.lease("p1", &two, minute).await.unwrap().unwrap();
    assert!(next > token, "{next} fences {token}");
    assert_eq!(store.lease("p1", &one, minute).await.unwrap(), None);
    store.node_heartbeat(&one, 7, minute).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [(one, 7, true)]);
}

#[tokio::test]
async fn a_session_of_a_user_without_a_log_begins_at_the_start() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let open = session(user());
    store
        .persist_floor(Topic::User(open.user).partition(store.partitions()), "0-0")
        .await
        .unwrap();
    let opened = store.session_open(open).await.unwrap();
    assert_eq!(
        opened.page,
        Page::Entries {
            entries: vec![],
            end: Position::START,
            head: Position::START
        }
    );
}
