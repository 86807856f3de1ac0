//! More than one server: a Cluster, and a master with a replica under Sentinel.

use std::time::Duration;

use futures_util::future::join_all;
use shared::{
    domain::{Durability, Partition, Position, Topic, UserId},
    redis::{Append, Appended, Echo, Page, Store},
};

use super::{
    server::{Server, free_port},
    support::{Heard, append, connect, entries, entry, eventually, user},
};

struct Cluster {
    masters: Vec<Server>,
}

impl Cluster {
    async fn start() -> Self {
        let options = [
            "--cluster-enabled",
            "yes",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ];
        let masters: Vec<_> = (0..3).map(|_| Server::with(&options)).collect();
        for (index, master) in masters.iter().enumerate() {
            let (from, to) = (
                index * 5461,
                if index == 2 {
                    16383
                } else {
                    index * 5461 + 5460
                },
            );
            master.cli(&[
                "cluster",
                "addslotsrange",
                &from.to_string(),
                &to.to_string(),
            ]);
            master.cli(&["cluster", "set-config-epoch", &(index + 1).to_string()]);
            master.cli(&["cluster", "meet", "127.0.0.1", &masters[0].port.to_string()]);
        }
        eventually("the cluster stands", || async {
            masters.iter().all(|master| {
                let info = master.cli(&["cluster", "info"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        })
        .await;
        Self { masters }
    }

    fn url(&self) -> String {
        let ports: Vec<_> = self.masters.iter().map(|master| master.port).collect();
        format!(
            "redis-cluster://127.0.0.1:{}?node=127.0.0.1:{}&node=127.0.0.1:{}",
            ports[0], ports[1], ports[2]
        )
    }

    fn id(&self, index: usize) -> String {
        self.masters[index].cli(&["cluster", "myid"])
    }

    /// Moves a partition's slot with its keys between living masters.
    fn move_slot(&self, partition: Partition, from: usize, to: usize) {
        let slot = self.masters[0].cli(&["cluster", "keyslot", &format!("{{{partition}}}")]);
        let (source, target) = (&self.masters[from], &self.masters[to]);
        target.cli(&["cluster", "setslot", &slot, "importing", &self.id(from)]);
        source.cli(&["cluster", "setslot", &slot, "migrating", &self.id(to)]);
        loop {
            let keys = source.cli(&["cluster", "getkeysinslot", &slot, "100"]);
            let keys: Vec<_> = keys.lines().filter(|key| !key.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            let port = target.port.to_string();
            let mut args = vec!["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
            args.extend(keys);
            source.cli(&args);
        }
        for master in [target, source] {
            master.cli(&["cluster", "setslot", &slot, "node", &self.id(to)]);
        }
        for master in &self.masters {
            master.cli(&["cluster", "setslot", &slot, "node", &self.id(to)]);
        }
    }
}

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
    let mut cluster = Cluster::start().await;
    for master in &cluster.masters {
        master.cli(&["config", "set", "cluster-require-full-coverage", "no"]);
    }
    let store = connect(&cluster.url()).await;
    let (bells, _events) = store.subscriber().await.unwrap();
    assert!(store.probe(&bells).await.into_iter().all(Echo::is_heard));

    cluster.masters[1].kill();
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
    let mut cluster = Cluster::start().await;
    for master in &cluster.masters {
        master.cli(&["config", "set", "cluster-node-timeout", "500"]);
    }
    let store = connect(&cluster.url()).await;
    let (bells, _events) = store.subscriber().await.unwrap();
    cluster.masters[1].kill();
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

    let port = |shard: usize| cluster.masters[shard].port;
    let slot: usize = cluster.masters[0]
        .cli(&[
            "cluster",
            "keyslot",
            &format!("{{{}}}", topic.partition(store.partitions())),
        ])
        .parse()
        .unwrap();
    let from = (slot / 5461).min(2);
    let to = (from + 1) % 3;
    assert_ne!(port(from), port(to));
    cluster.move_slot(topic.partition(store.partitions()), from, to);

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
    let bodies: Vec<_> = all(&store, user)
        .await
        .into_iter()
        .map(|(_, body)| body)
        .collect();
    assert_eq!(bodies, (1..=n).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_replica_confirmed_survives_a_failover() {
    let mut master = Server::with(&["--repl-diskless-sync-delay", "0"]);
    let replica = Server::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    eventually("the replica follows", || async {
        master
            .cli(&["info", "replication"])
            .contains("state=online")
    })
    .await;
    let port = free_port();
    let config = std::env::temp_dir().join(format!("tidegate-sentinel-{port}.conf"));
    let lines = format!(
        "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 1000\n\
         sentinel failover-timeout main 5000\n",
        master.port
    );
    std::fs::write(&config, lines).unwrap();
    let sentinel = Server::on(port, &[config.to_str().unwrap(), "--sentinel"]);
    eventually("sentinel knows the replica", || async {
        sentinel
            .cli(&["sentinel", "replicas", "main"])
            .contains(&replica.port.to_string())
    })
    .await;

    let store = connect(&format!(
        "redis-sentinel://127.0.0.1:{port}?sentinelServiceName=main"
    ))
    .await;
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    let user = user();
    bells.subscribe(Topic::User(user)).await.unwrap();
    let before: Vec<_> = join_all((0..50).map(|n| {
        let store = store.clone();
        async move { append(&store, entry(user, &n.to_string())).await.1 }
    }))
    .await;

    master.kill();
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
        store.probe(&bells).await.into_iter().all(Echo::is_heard)
    })
    .await;
    assert!(matches!(
        store.append(first_after).await.unwrap(),
        Appended::Duplicate { .. }
    ));
    let _ = std::fs::remove_file(config);
}

#[tokio::test]
async fn durable_is_not_accepted_before_a_replica_has_it() {
    let master = Server::with(&["--repl-diskless-sync-delay", "0"]);
    let replica = Server::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    eventually("the replica follows", || async {
        master
            .cli(&["info", "replication"])
            .contains("state=online")
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
