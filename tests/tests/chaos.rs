//! Faults under load. Each scenario ends healed and drained, and then the history is judged: lost,
//! phantom, foreign, reordered = 0; duplicates recognisable and few; rows in Postgres = promises.
//!
//! `TIDEGATE_CHAOS=long` makes every fault last longer and come more often.

mod chat;
mod clocks;
mod power;
mod slow;

use std::{sync::Arc, time::Duration};

use testkit::{
    Deployment, Plan, Redis, RedisKind, cluster::Cluster, deployment::Backing, eventually,
    proxy::Direction, resp::Reply, wait::PATIENCE,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::support::{Load, LoadSize, unlimited};

/// One at a time: each has a load of its own.
static TURN: Mutex<()> = Mutex::const_new(());

fn long() -> bool {
    std::env::var("TIDEGATE_CHAOS").is_ok_and(|kind| kind == "long")
}

fn times(short: usize, many: usize) -> usize {
    if long() { many } else { short }
}

/// A primary that lost its place is started again, and follows the new one.
async fn rejoins(old: &Redis) {
    old.restart().await;
    eventually("the old primary follows", PATIENCE * 3, || async {
        (old.info("role").await? == "slave" && old.info("master_link_status").await? == "up")
            .then_some(())
    })
    .await;
}

/// Load, fault, more load, drain, verdict.
async fn under_load(plan: Plan, fault: impl AsyncFnOnce(&Deployment, &Load)) {
    let _turn = TURN.lock().await;
    let tidegate = Deployment::start_with(plan).await;
    judged(loaded(tidegate, usual(), fault).await).await;
}

/// Drain, verdict.
async fn judged(load: Load) {
    let (promised, verdict) = load.finish().await;
    eprintln!("{promised} commands promised");
    verdict.assert_clean();
}

/// The load of most scenarios.
fn usual() -> LoadSize {
    LoadSize {
        senders: 4,
        recipients: 3,
        devices: 2,
        pause: Duration::from_millis(5),
        each: None,
        padding: 0,
    }
}

/// Load, fault, more load; the verdict is for the caller to ask for.
async fn loaded(
    tidegate: Deployment,
    size: LoadSize,
    fault: impl AsyncFnOnce(&Deployment, &Load),
) -> Load {
    let tidegate = Arc::new(tidegate);
    let load = Load::start(tidegate.clone(), size).await;
    load.flows(100).await;
    fault(&tidegate, &load).await;
    load.flows(100).await;
    load
}

#[tokio::test]
async fn a_gateway_is_killed() {
    under_load(unlimited(), async |tidegate, load| {
        for n in 0..times(3, 30) {
            tidegate.gateways[n % 2].restart().await;
            load.flows(50).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_worker_is_killed() {
    under_load(unlimited(), async |tidegate, load| {
        for n in 0..times(5, 50) {
            // At another moment of its round each time.
            sleep(Duration::from_millis(37 * (n as u64 % 11))).await;
            tidegate.workers[0].restart().await;
            load.flows(20).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_of_two_workers_is_killed_and_the_other_takes_over() {
    under_load(unlimited().workers(2), async |tidegate, load| {
        tidegate.workers[0].kill9();
        load.flows(100).await;
    })
    .await;
}

#[tokio::test]
async fn a_stopped_worker_wakes_up_without_its_lease() {
    under_load(unlimited().workers(2), async |tidegate, load| {
        for n in 0..times(1, 10) {
            let worker = tidegate.workers[n % 2].process();
            worker.signal("STOP");
            // Longer than its lease of 2 s.
            sleep(Duration::from_secs(4)).await;
            worker.signal("CONT");
            load.flows(50).await;
        }
    })
    .await;
}

#[tokio::test]
async fn redis_is_killed() {
    under_load(unlimited(), async |tidegate, load| {
        for _ in 0..times(3, 20) {
            tidegate.redis().restart().await;
            load.flows(50).await;
        }
    })
    .await;
}

#[tokio::test]
async fn redis_stands_still_for_five_seconds() {
    under_load(unlimited(), async |tidegate, load| {
        for _ in 0..times(1, 5) {
            tidegate.redis().pause();
            sleep(Duration::from_secs(5)).await;
            tidegate.redis().resume();
            load.flows(50).await;
        }
    })
    .await;
}

#[tokio::test]
async fn subscriptions_are_cut_every_second() {
    under_load(unlimited(), async |tidegate, load| {
        for _ in 0..times(8, 60) {
            tidegate
                .redis()
                .call(&["CLIENT", "KILL", "TYPE", "pubsub"])
                .await;
            sleep(Duration::from_secs(1)).await;
        }
        load.flows(10).await;
    })
    .await;
}

#[tokio::test]
async fn postgres_is_away() {
    under_load(unlimited().own_postgres(), async |tidegate, load| {
        let ann = tidegate.user("ann").await;
        let postgres = tidegate.database.server();
        postgres.crash().await;
        let end = Instant::now() + Duration::from_secs(if long() { 60 } else { 10 });
        while Instant::now() < end {
            // Everything live goes on meanwhile.
            load.flows(20).await;
            for gateway in &tidegate.gateways {
                let refused = gateway.rest().login(&ann.name, &ann.password).await;
                let refused = refused.expect("the gateway answers");
                assert_eq!(refused.status, 503, "{refused:?}");
                assert_eq!(refused.body["error"]["code"], "unavailable");
            }
            for node in tidegate.nodes() {
                let ready = node.ops_get("/ready").await.expect("the node answers");
                assert_eq!(ready.status, 200, "{}: {ready:?}", node.name());
            }
            sleep(Duration::from_millis(200)).await;
        }
        postgres.restart().await;
        eventually("one can log in again", PATIENCE, || async {
            let answer = tidegate.gateways[0].rest();
            let answer = answer.login(&ann.name, &ann.password).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_sentinel_fails_over() {
    under_load(
        unlimited().redis(RedisKind::Sentinel),
        async |tidegate, load| {
            let Backing::Sentinel(sentinel) = &tidegate.backing else {
                unreachable!("as planned")
            };
            for _ in 0..times(1, 5) {
                let old = sentinel.primary().await.expect("a primary");
                sentinel.fail_over().await;
                // It comes back as a second primary until Sentinel notices: nothing may be
                // promised on its word alone.
                rejoins(old).await;
                load.flows(100).await;
            }
        },
    )
    .await;
}

/// The hash tags of partitions in which users have logs.
async fn tags_of_logs(cluster: &Cluster) -> Vec<String> {
    let mut tags = Vec::new();
    for node in cluster.nodes() {
        for key in node.call(&["KEYS", "*log:user:*"]).await.list() {
            let Reply::Text(key) = key else { continue };
            tags.extend(key.split_once('}').map(|(tag, _)| format!("{tag}}}")));
        }
    }
    tags.sort();
    tags.dedup();
    assert!(!tags.is_empty(), "there are logs");
    tags
}

#[tokio::test]
async fn slots_move_between_live_masters() {
    under_load(
        unlimited().redis(RedisKind::Cluster),
        async |tidegate, load| {
            let Backing::Cluster(cluster) = &tidegate.backing else {
                unreachable!("as planned")
            };
            let tags = tags_of_logs(cluster).await;
            for turn in 0..times(3, 20) {
                for tag in &tags {
                    let slot = cluster.slot_of(tag).await;
                    let to = (cluster.owner_of(slot).await + 1 + turn % 2) % 3;
                    cluster.move_slot(slot, to).await;
                }
                load.flows(50).await;
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_cluster_master_is_killed_and_comes_back() {
    under_load(
        unlimited().redis(RedisKind::Cluster),
        async |tidegate, load| {
            let Backing::Cluster(cluster) = &tidegate.backing else {
                unreachable!("as planned")
            };
            for n in 0..times(2, 12) {
                cluster.nodes()[n % 3].restart().await;
                load.flows(50).await;
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_replica_in_a_cluster_takes_over_and_its_master_comes_back() {
    under_load(
        unlimited().redis(RedisKind::ReplicatedCluster),
        async |tidegate, load| {
            let Backing::Cluster(cluster) = &tidegate.backing else {
                unreachable!("as planned")
            };
            let tags = tags_of_logs(cluster).await;
            for turn in 0..times(1, 6) {
                let slot = cluster.slot_of(&tags[turn % tags.len()]).await;
                let master = cluster.owner_of(slot).await;
                let replica = cluster.replica_of(master).await;
                // What was promised on the master's word alone from now on would be lost.
                replica.turn_away().await;
                sleep(Duration::from_secs(1)).await;
                let old = cluster.fail_over(slot).await;
                replica.turn_back().await;
                // The new master has nobody who could confirm to it until the old one follows.
                old.restart().await;
                eventually("the old master follows", PATIENCE * 3, || async {
                    (old.info("role").await? == "slave"
                        && old.info("master_link_status").await? == "up")
                        .then_some(())
                })
                .await;
                load.flows(100).await;
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_gateway_stands_still_and_goes_on() {
    under_load(unlimited(), async |tidegate, load| {
        let gateway = tidegate.gateways[0].process();
        gateway.signal("STOP");
        sleep(Duration::from_secs(3)).await;
        gateway.signal("CONT");
        load.flows(50).await;
    })
    .await;
}

#[tokio::test]
async fn the_network_to_redis_falls_silent() {
    under_load(unlimited().proxied(), async |tidegate, load| {
        for _ in 0..times(1, 6) {
            tidegate.proxy().set_both(|link| link.paused = true);
            sleep(Duration::from_secs(5)).await;
            tidegate.proxy().heal();
            load.flows(50).await;
        }
    })
    .await;
}

#[tokio::test]
async fn connections_to_redis_are_reset_in_the_middle_of_a_reply() {
    under_load(unlimited().proxied(), async |tidegate, load| {
        for n in 0..times(6, 60) {
            tidegate.proxy().set(Direction::Down, |link| {
                link.cut_after = Some(4000 + 777 * n);
            });
            sleep(Duration::from_millis(500)).await;
            tidegate.proxy().heal();
            tidegate.proxy().reset_all();
            load.flows(10).await;
        }
    })
    .await;
}
