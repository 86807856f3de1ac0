//! How users appear, as it follows from their sessions and from what they say.

use std::time::Duration;

use shared::{
    domain::{Partition, Persist, Presence, PresenceStatus, Timestamp, Topic, UserId},
    redis::{BellEvent, Closed, OpenHere, OpenSession, Store},
};
use testkit::{Redis, cluster::Cluster};

use super::support::{Heard, activity, connect, idle, session, time_is_past, user};
use PresenceStatus::{Away, Busy, Offline, Online};

const NOW: Duration = Duration::ZERO;
const LATER: Duration = Duration::from_secs(3600);

async fn close(store: &Store, it: &OpenSession, grace: Duration) -> Closed {
    store
        .session_close(it.user, it.session, &it.node, it.incarnation, grace)
        .await
        .unwrap()
}

async fn settle(store: &Store) -> Vec<UserId> {
    let all: Vec<_> = (0..store.partitions().0).map(Partition).collect();
    let settled = store.settle_presences(&all).await;
    assert_eq!((settled.more, settled.failed), (vec![], vec![]));
    settled.gone
}

async fn presence_of(store: &Store, user: UserId) -> Presence {
    let found = store.presences(&[user]).await.remove(0).unwrap();
    assert_eq!(found.user, user);
    found
}

fn presence_key(store: &Store, user: UserId) -> String {
    let partition = Topic::User(user).partition(store.partitions());
    format!("{{{partition}}}:presence:{user}")
}

/// Milliseconds until a key is forgotten; -1 if it is not.
async fn ttl(server: &Redis, key: &str) -> i64 {
    match server.call(&["pttl", key]).await {
        testkit::resp::Reply::Int(left) => left,
        other => panic!("{other:?}"),
    }
}

async fn appears(store: &Store, user: UserId) -> (PresenceStatus, u32, Option<String>) {
    let it = presence_of(store, user).await;
    (it.status, it.devices, it.text.map(|text| text.to_string()))
}

async fn say(
    store: &Store,
    it: &OpenSession,
    status: PresenceStatus,
    text: Option<&str>,
) -> Presence {
    let said = store.set_presence(it.user, it.session, status, text).await;
    said.unwrap().expect("the session is open")
}

/// What watchers hear, until somebody appears so.
async fn told_until(heard: &mut Heard, status: PresenceStatus) -> Vec<PresenceStatus> {
    let mut told = Vec::new();
    while told.last() != Some(&status) {
        let one = heard.next_that(|event| match event {
            BellEvent::Presence(it) => Some(it.status),
            _ => None,
        });
        told.push(one.await);
    }
    told
}

/// The users whose last time was recorded.
async fn recorded(store: &Store, user: UserId) -> Vec<i64> {
    let partition = Topic::User(user).partition(store.partitions());
    let page = store.persist_read(partition, "0-0", 1000, 1_000_000).await;
    let seen = page
        .unwrap()
        .records
        .into_iter()
        .filter_map(|it| match it.what {
            Persist::Seen { users, .. } => Some(users),
            _ => None,
        });
    let of_user = seen.flatten().filter(|(who, _)| *who == user);
    of_user.map(|(_, at)| at.0).collect()
}

#[tokio::test]
async fn a_user_is_there_from_the_first_session_until_after_the_last() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let anna = user();
    bells.subscribe(Topic::Presence(anna)).await.unwrap();
    assert_eq!(appears(&store, anna).await, (Offline, 0, None));

    let (one, two) = (session(anna), session(anna));
    store.session_open(one.clone()).await.unwrap();
    store.session_open(two.clone()).await.unwrap();
    assert_eq!(appears(&store, anna).await, (Online, 2, None));
    assert_eq!(close(&store, &one, NOW).await, Closed::Session);
    assert_eq!(
        close(&store, &one, NOW).await,
        Closed::Nothing,
        "it is gone"
    );
    assert_eq!(settle(&store).await, [], "one is left");
    assert_eq!(close(&store, &two, LATER).await, Closed::Last);
    assert_eq!(settle(&store).await, [], "there is time to come back");
    assert_eq!(appears(&store, anna).await.0, Online);

    store.session_open(one.clone()).await.unwrap();
    assert_eq!(close(&store, &one, NOW).await, Closed::Last);
    assert_eq!(settle(&store).await, [anna]);
    assert_eq!(settle(&store).await, [], "once");
    assert_eq!(told_until(&mut heard, Offline).await, [Online, Offline]);
    let gone = presence_of(&store, anna).await;
    let seen = gone.last_seen_at.expect("somebody saw them");
    assert_eq!(recorded(&store, anna).await, [seen.0]);

    store.session_open(session(anna)).await.unwrap();
    let back = presence_of(&store, anna).await;
    assert!(back.version > gone.version);
    assert_eq!((back.status, back.last_seen_at), (Online, None));
}

#[tokio::test]
async fn who_was_forgotten_comes_back_with_a_version_that_is_news() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let anna = user();
    let one = session(anna);
    store.session_open(one.clone()).await.unwrap();
    for status in [Busy, Away, Busy] {
        say(&store, &one, status, None).await;
    }
    let before = say(&store, &one, Away, None).await;
    close(&store, &one, NOW).await;
    assert_eq!(settle(&store).await, [anna]);
    let key = presence_key(&store, anna);
    let left: i64 = ttl(&server, &key).await;
    assert!(left > 0, "who is gone is forgotten some time");
    server.call(&["del", &key]).await;
    // It begins at the time in ms, and nobody is forgotten that soon.
    time_is_past(&store, Timestamp(before.version as i64)).await;
    store.session_open(one).await.unwrap();
    assert!(presence_of(&store, anna).await.version > before.version);
}

#[tokio::test]
async fn who_is_there_is_not_forgotten_however_long_that_is() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let anna = user();
    let one = session(anna);
    let key = presence_key(&store, anna);
    for _ in 0..2 {
        store.session_open(one.clone()).await.unwrap();
        assert_eq!(ttl(&server, &key).await, -1);
        // Whoever hides is there, too.
        say(&store, &one, Offline, None).await;
        assert_eq!(ttl(&server, &key).await, -1);
        close(&store, &one, NOW).await;
        assert_eq!(settle(&store).await, [anna]);
        assert!(ttl(&server, &key).await > 0);
    }
    // Neither is who says so at once.
    store.session_open(one.clone()).await.unwrap();
    server.call(&["pexpire", &key, "100000"]).await;
    say(&store, &one, Busy, None).await;
    assert_eq!(ttl(&server, &key).await, -1);
}

#[tokio::test]
async fn somebody_was_last_seen_when_their_last_session_ended() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let anna = user();
    let one = session(anna);
    store.session_open(one.clone()).await.unwrap();
    close(&store, &one, Duration::from_millis(50)).await;
    let closed = store.time().await.unwrap();
    testkit::eventually("anna is gone", Duration::from_secs(20), || async {
        (settle(&store).await == [anna]).then_some(())
    })
    .await;
    let seen = presence_of(&store, anna).await.last_seen_at.unwrap();
    assert!(seen <= closed, "{seen:?} is after {closed:?}");
    assert_eq!(recorded(&store, anna).await, [seen.0]);
}

#[tokio::test]
async fn who_comes_back_in_time_was_never_away() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let anna = user();
    for _ in 0..50 {
        let one = session(anna);
        store.session_open(one.clone()).await.unwrap();
        close(&store, &one, LATER).await;
    }
    let last = session(anna);
    store.session_open(last.clone()).await.unwrap();
    // What is waited for now is nobody's last session any more.
    assert_eq!(settle(&store).await, []);
    let before = presence_of(&store, anna).await;
    assert_eq!(close(&store, &last, LATER).await, Closed::Last);
    store.session_open(last.clone()).await.unwrap();
    // Even at the last moment, before anybody settled it.
    assert_eq!(close(&store, &last, NOW).await, Closed::Last);
    store.session_open(last).await.unwrap();
    assert_eq!(settle(&store).await, []);
    let after = presence_of(&store, anna).await;
    assert_eq!(before, after, "nothing was told in between");
}

#[tokio::test]
async fn somebody_is_away_when_all_clients_do_nothing() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let anna = user();
    let (one, two) = (session(anna), session(anna));
    store.session_open(one.clone()).await.unwrap();
    store.session_open(two.clone()).await.unwrap();
    idle(&store, &one, true).await;
    assert_eq!(appears(&store, anna).await.0, Online, "the other is in use");
    idle(&store, &two, true).await;
    assert_eq!(appears(&store, anna).await.0, Away);
    idle(&store, &one, false).await;
    assert_eq!(appears(&store, anna).await.0, Online);
    close(&store, &one, LATER).await;
    assert_eq!(appears(&store, anna).await.0, Away, "what is left is idle");
    store.session_open(session(anna)).await.unwrap();
    assert_eq!(appears(&store, anna).await.0, Online);
    idle(&store, &one, true).await;
    assert_eq!(appears(&store, anna).await, (Online, 2, None), "it is gone");
}

#[tokio::test]
async fn what_users_say_counts_until_they_are_gone() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let anna = user();
    let one = session(anna);
    store.session_open(one.clone()).await.unwrap();
    let said = say(&store, &one, Busy, Some("in a meeting")).await;
    assert_eq!(
        (said.status, said.text.as_deref()),
        (Busy, Some("in a meeting"))
    );
    let busy = (Busy, 1, Some("in a meeting".to_owned()));
    assert_eq!(appears(&store, anna).await, busy);
    idle(&store, &one, true).await;
    let two = session(anna);
    store.session_open(two.clone()).await.unwrap();
    assert_eq!(
        appears(&store, anna).await.0,
        Busy,
        "whatever the devices do"
    );
    let again = say(&store, &one, Busy, None).await;
    assert_eq!(again.version, said.version, "nothing new");
    close(&store, &two, LATER).await;
    close(&store, &one, LATER).await;
    store.session_open(one.clone()).await.unwrap();
    assert_eq!(appears(&store, anna).await, busy, "they came back in time");
    close(&store, &one, NOW).await;
    assert_eq!(settle(&store).await, [anna]);
    assert_eq!(appears(&store, anna).await, (Offline, 0, None));
    store.session_open(one.clone()).await.unwrap();
    assert_eq!(
        appears(&store, anna).await,
        (Online, 1, None),
        "it is forgotten"
    );

    say(&store, &one, Away, Some("lunch")).await;
    let said = say(&store, &one, Online, Some("")).await;
    assert_eq!((said.status, said.text), (Online, None));
    idle(&store, &one, true).await;
    assert_eq!(appears(&store, anna).await.0, Away, "derived again");
    assert_eq!(
        say(&store, &one, Online, None).await.status,
        Online,
        "who speaks is there"
    );
    // Nor is that forgotten when other devices come and go.
    let other = session(anna);
    store.session_open(other.clone()).await.unwrap();
    idle(&store, &other, true).await;
    close(&store, &other, LATER).await;
    assert_eq!(appears(&store, anna).await.0, Online);
    let closed = session(anna);
    let nobody = store.set_presence(anna, closed.session, Busy, None).await;
    assert_eq!(nobody.unwrap(), None);
}

#[tokio::test]
async fn who_is_invisible_looks_gone_in_every_way() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let anna = user();
    bells.subscribe(Topic::Presence(anna)).await.unwrap();
    let one = session(anna);
    store.session_open(one.clone()).await.unwrap();
    say(&store, &one, Online, Some("here")).await;
    let hidden = say(&store, &one, Offline, None).await;
    assert_eq!(
        (hidden.status, hidden.devices, hidden.text),
        (Offline, 0, None)
    );
    let seen = hidden.last_seen_at.expect("as if they had gone");
    store.session_open(session(anna)).await.unwrap();
    say(&store, &one, Offline, Some("boo")).await;
    close(&store, &one, NOW).await;
    let now = presence_of(&store, anna).await;
    assert_eq!(now.version, hidden.version, "nobody is told anything");
    assert_eq!((now.last_seen_at, now.text), (Some(seen), None));
    assert_eq!(told_until(&mut heard, Offline).await.last(), Some(&Offline));
    assert_eq!(recorded(&store, anna).await, [seen.0]);
}

#[tokio::test]
async fn who_hid_and_went_is_settled_and_not_told_again() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let anna = user();
    let one = session(anna);
    store.session_open(one.clone()).await.unwrap();
    let hidden = say(&store, &one, Offline, None).await;
    close(&store, &one, NOW).await;
    assert_eq!(settle(&store).await, [anna], "calls end with them");
    let gone = presence_of(&store, anna).await;
    assert_eq!(gone, hidden);
    assert_eq!(recorded(&store, anna).await.len(), 1);
    store.session_open(one).await.unwrap();
    assert_eq!(appears(&store, anna).await.0, Online, "not hidden any more");
}

#[tokio::test]
async fn what_a_dead_node_left_goes_and_who_lives_is_told_again() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (anna, ben) = (user(), user());
    let (of_anna, of_ben) = (session(anna), session(ben));
    let elsewhere = OpenSession {
        node: "n2".parse().unwrap(),
        ..session(ben)
    };
    for it in [&of_anna, &of_ben, &elsewhere] {
        store.session_open(it.clone()).await.unwrap();
    }
    for user in [anna, ben] {
        let partition = Topic::User(user).partition(store.partitions());
        store.reap(partition, &of_anna.node, 1, 10).await.unwrap();
    }
    assert_eq!(settle(&store).await, [anna], "ben has another node");
    assert_eq!(appears(&store, ben).await, (Online, 1, None));

    // It was not dead after all.
    let here = OpenHere {
        user: anna,
        session: of_anna.session,
        device: of_anna.device.clone(),
        dialect: "json",
        is_idle: true,
        hears_calls: true,
    };
    let kept = store.session_keep(&of_anna.node, 1, 5, &[here]).await;
    assert_eq!(kept.unwrap(), [true]);
    assert_eq!(appears(&store, anna).await, (Away, 1, None));
}

#[tokio::test]
async fn users_of_a_cluster_are_asked_for_and_settled_too() {
    let cluster = Cluster::start().await;
    let store = connect(&cluster.url()).await;
    let users: Vec<UserId> = (0..40).map(|_| user()).collect();
    let sessions: Vec<OpenSession> = users.iter().map(|it| session(*it)).collect();
    for it in &sessions {
        store.session_open(it.clone()).await.unwrap();
    }
    let found = store.presences(&users).await;
    let found: Vec<Presence> = found.into_iter().map(Result::unwrap).collect();
    assert!(found.iter().all(|it| it.status == Online));
    let order: Vec<UserId> = found.iter().map(|it| it.user).collect();
    assert_eq!(order, users);
    // Of every other user, so that nobody is taken for somebody else.
    let some = sessions.iter().step_by(2).map(|it| activity(it, true));
    let some: Vec<_> = some.collect();
    let told = store.note_activity(&some).await;
    assert_eq!(told.len(), some.len());
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    let found = store.presences(&users).await;
    for (n, found) in found.into_iter().enumerate() {
        let status = if n % 2 == 0 { Away } else { Online };
        assert_eq!(found.unwrap().status, status);
    }
    for it in &sessions {
        close(&store, it, NOW).await;
    }
    let mut gone = settle(&store).await;
    gone.sort_unstable();
    let mut all = users;
    all.sort_unstable();
    assert_eq!(gone, all);
}

#[tokio::test]
async fn who_is_there_is_told_while_memory_is_full() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let (anna, ben) = (user(), user());
    let (one, of_ben) = (session(anna), session(ben));
    store.session_open(of_ben.clone()).await.unwrap();
    server
        .call(&["config", "set", "maxmemory", "1000000"])
        .await;
    let refused = store.append(super::support::entry(anna, "{}")).await;
    assert!(refused.is_err(), "memory is not full: {refused:?}");

    store.session_open(one.clone()).await.unwrap();
    idle(&store, &one, true).await;
    assert_eq!(appears(&store, anna).await.0, Away);
    say(&store, &one, Busy, Some("no memory")).await;
    say(&store, &one, Offline, None).await;
    assert_eq!(
        appears(&store, anna).await.0,
        Offline,
        "who hides is hidden"
    );
    let here = OpenHere {
        hears_calls: true,
        user: ben,
        session: of_ben.session,
        device: of_ben.device.clone(),
        dialect: "json",
        is_idle: true,
    };
    let kept = store.session_keep(&of_ben.node, 1, 5, &[here]).await;
    assert_eq!(kept.unwrap(), [true]);
    close(&store, &of_ben, NOW).await;
    assert_eq!(settle(&store).await, [ben]);
}

#[tokio::test]
async fn a_shard_that_is_away_fails_its_own_users_only() {
    let cluster = Cluster::start().await;
    for master in cluster.nodes() {
        let setting = ["config", "set", "cluster-require-full-coverage", "no"];
        master.call(&setting).await;
    }
    let store = connect(&cluster.url()).await;
    let users: Vec<UserId> = (0..60).map(|_| user()).collect();
    let shard = |user: &UserId| store.shard_of(Topic::User(*user));
    let away = shard(&users[0]);
    let sessions: Vec<OpenSession> = users.iter().map(|it| session(*it)).collect();
    for it in &sessions {
        store.session_open(it.clone()).await.unwrap();
    }
    let tag = format!(
        "{{{}}}",
        Topic::User(users[0]).partition(store.partitions())
    );
    let owner = cluster.owner_of(cluster.slot_of(&tag).await).await;
    cluster.nodes()[owner].pause();

    let activities: Vec<_> = sessions.iter().map(|it| activity(it, true)).collect();
    let told = store.note_activity(&activities).await;
    let found = store.presences(&users).await;
    for ((user, told), found) in users.iter().zip(told).zip(found) {
        let is_away = shard(user) == away;
        assert_eq!((told.is_err(), found.is_err()), (is_away, is_away));
        if let Ok(found) = found {
            assert_eq!((found.user, found.status), (*user, Away));
        }
    }
    let mut here = Vec::new();
    for it in sessions.iter().filter(|it| shard(&it.user) != away) {
        close(&store, it, NOW).await;
        here.push(it.user);
    }
    let all: Vec<_> = (0..store.partitions().0).map(Partition).collect();
    let settled = store.settle_presences(&all).await;
    let mut gone = settled.gone;
    gone.sort_unstable();
    here.sort_unstable();
    assert_eq!(gone, here);
    assert_eq!(settled.more, []);
    let partition = |user: &UserId| Topic::User(*user).partition(store.partitions());
    assert!(settled.failed.contains(&partition(&users[0])));
    assert!(
        !here
            .iter()
            .any(|it| settled.failed.contains(&partition(it)))
    );
    assert!(settled.error.is_some());
    cluster.nodes()[owner].resume();
}
