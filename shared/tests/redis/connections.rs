use std::{collections::BTreeSet, time::Duration};

use shared::{
    domain::NodeId,
    redis::{ConnectionsAfter, OpenSession, Store},
};
use testkit::{Redis, cluster::Cluster, eventually};

use super::support::{connect, idle, session, user};

async fn pages(store: &Store, nodes: &[NodeId], limit: u32) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), ConnectionsAfter::START);
    loop {
        let (page, next) = store.connections(nodes, after, limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        seen.extend(page.into_iter().map(|it| it.session.to_string()));
        match next {
            Some(next) => after = next,
            None => return seen,
        }
    }
}

async fn lists_everybody_once(store: &Store) {
    let nodes: [NodeId; 2] = ["n1", "n2"].map(|name| name.parse().unwrap());
    let mut open = Vec::new();
    for (number, owner) in (0..30).map(|number| (number, user())) {
        // Two sessions of each, so that a page ends within a user.
        for _ in 0..2 {
            let one = OpenSession {
                node: nodes[number % 2].clone(),
                hears_calls: number % 3 == 0,
                ..session(owner)
            };
            store.session_open(one.clone()).await.unwrap();
            idle(store, &one, true).await;
            open.push(one);
        }
    }
    let all: BTreeSet<_> = open.iter().map(|it| it.session.to_string()).collect();
    for limit in [1, 7, 60, 1000] {
        let listed = pages(store, &nodes, limit).await;
        assert_eq!(listed.len(), 60, "each once, {limit} a page");
        assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), all);
    }
    assert_eq!(store.sessions_at(&nodes).await.unwrap(), [30, 30]);

    // Who leaves between two pages takes nobody else along.
    let (first, next) = store
        .connections(&nodes, ConnectionsAfter::START, 20)
        .await
        .unwrap();
    let last = first.last().unwrap();
    let node = last.node.clone();
    store
        .session_close(last.user, last.session, &node, 1, Duration::ZERO)
        .await
        .unwrap();
    let (rest, end) = store.connections(&nodes, next.unwrap(), 100).await.unwrap();
    assert!(end.is_none());
    let listed: BTreeSet<_> = first
        .iter()
        .chain(&rest)
        .map(|it| it.session.to_string())
        .collect();
    assert_eq!(listed, all);
    assert_eq!(first.len() + rest.len(), 60);

    for it in first.iter().chain(&rest) {
        assert_eq!((&*it.dialect, it.is_idle), ("json", true));
    }
    let it = &first[0];
    let opened = open.iter().find(|open| open.session == it.session).unwrap();
    assert_eq!((it.user, &it.device), (opened.user, &opened.device));
    assert_eq!(it.node, opened.node);
    assert!(it.since.0 > 1_600_000_000_000);
}

#[tokio::test]
async fn sessions_are_listed_in_pages_each_once() {
    let server = Redis::start().await;
    lists_everybody_once(&connect(&server.url()).await).await;
}

#[tokio::test]
async fn the_sessions_of_a_user_are_theirs_alone() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let owner = user();
    assert_eq!(store.sessions_of(owner).await.unwrap(), []);
    let mut other = session(owner);
    other.hears_calls = false;
    let one = session(owner);
    for open in [&one, &session(user()), &other] {
        store.session_open(open.clone()).await.unwrap();
    }
    idle(&store, &other, true).await;
    let found = store.sessions_of(owner).await.unwrap();
    let mut ids: Vec<_> = found.iter().map(|it| it.session).collect();
    let mut expected = [one.session, other.session];
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert!(found.is_sorted_by_key(|it| it.since));
    for it in &found {
        assert_eq!(
            (it.user, &it.node, &it.device),
            (owner, &one.node, &one.device)
        );
        let is_idle = it.session == other.session;
        assert_eq!((&*it.dialect, it.is_idle), ("json", is_idle));
    }
}

#[tokio::test]
async fn what_a_node_says_of_its_sockets_counts_for_a_while() {
    let server = Redis::start().await;
    let store = connect(&server.url()).await;
    let nodes: [NodeId; 2] = ["n1", "n2"].map(|name| name.parse().unwrap());
    let show = async |ttl| {
        let speaking = [("json", 3), ("stomp", 0)];
        store.show_sockets(&nodes[1], &speaking, ttl).await.unwrap();
    };
    show(Duration::from_secs(60)).await;
    let said = store.sockets_at(&nodes).await.unwrap();
    assert_eq!(said[0], []);
    assert_eq!(said[1], [("json".into(), 3), ("stomp".into(), 0)]);
    show(Duration::from_millis(50)).await;
    eventually("it is forgotten", Duration::from_secs(5), async || {
        let said = store.sockets_at(&nodes).await.unwrap();
        said[1].is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn sessions_of_a_cluster_are_listed_too() {
    let cluster = Cluster::start().await;
    lists_everybody_once(&connect(&cluster.url()).await).await;
}
