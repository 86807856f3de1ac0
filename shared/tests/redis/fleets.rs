//! More than one server: a Cluster, and a master with a replica under Sentinel.

use std::time::Duration;

use futures_util::future::join_all;
use shared::{
    domain::{Durability, Partition, Position, Topic},
    redis::{Append, Appended},
};

use super::{
    server::{Server, free_port},
    support::{Heard, all_after, append, connect, entry, eventually, user},
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
    assert!(store.probe(&bells).await.iter().all(Option::is_some));
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
        store.probe(&bells).await.iter().all(Option::is_some)
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
    let mut master = Server::with(&["--repl-diskless-sync-delay", "0"]);
    let follower = || Server::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let replicas = [follower(), follower()];
    eventually("both replicas follow", || async {
        let state = master.cli(&["info", "replication"]);
        state.matches("state=online").count() == 2
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
    eventually("sentinel knows both", || async {
        let known = sentinel.cli(&["sentinel", "replicas", "main"]);
        replicas
            .iter()
            .all(|replica| known.contains(&replica.port.to_string()))
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
    let first_after = entry(user, "after");
    eventually("a replica took over", || async {
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
        store.probe(&bells).await.iter().all(Option::is_some)
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

#[tokio::test]
async fn a_server_that_takes_over_again_begins_a_new_epoch() {
    let (one, two) = (Server::start(), Server::start());
    for server in [&one, &two] {
        server.cli(&["config", "set", "repl-diskless-sync-delay", "0"]);
    }
    let follow = async |server: &Server, primary: &Server| {
        server.cli(&["replicaof", "127.0.0.1", &primary.port.to_string()]);
        eventually("it follows", || async {
            let state = server.cli(&["info", "replication"]);
            state.contains("master_link_status:up")
        })
        .await;
    };
    let store = connect(&one.url()).await;
    let user = user();
    append(&store, entry(user, "1")).await;
    follow(&two, &one).await;
    two.cli(&["replicaof", "no", "one"]);
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
    one.cli(&["replicaof", "no", "one"]);

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
    let server = Server::start();
    let _store = connect(&server.url()).await; // loads the functions
    let id = uuid::Uuid::now_v7().to_string();
    let digest = "0".repeat(32);
    let take = |guarded| {
        let entry = [
            "{p1}",
            "user:ann",
            "command.new",
            "key",
            &digest,
            &id,
            "",
            "",
            "{}",
        ];
        let mut args = vec![
            "fcall",
            "tidegate_v1_append",
            "1",
            "{p1}:meta",
            "1000",
            guarded,
        ];
        args.extend(entry);
        server.cli(&args)
    };
    assert!(take("1").contains("NOREPLICAS"));
    let follower = Server::with(&["--replicaof", "127.0.0.1", &server.port.to_string()]);
    eventually("it takes entries once it has a replica", || async {
        take("1").starts_with("N ")
    })
    .await;
    drop(follower);
    eventually("its replica is gone", || async {
        server
            .cli(&["info", "replication"])
            .contains("connected_slaves:0")
    })
    .await;
    assert!(
        take("1").starts_with("D "),
        "the barrier is what counts then"
    );
}
