//! What a fault of Redis means for readiness.

use std::time::Duration;

use testkit::{
    Deployment, Plan,
    deployment::{Backing, RedisKind},
    eventually,
    node::Node,
    wait::PATIENCE,
};
use tokio::time::Instant;

async fn is_degraded(node: &Node, reason: &str) -> Option<()> {
    let answer = node.ops_get("/ready").await?;
    let body = answer.body.to_string();
    (answer.status == 200 && body.contains("degraded") && body.contains(reason)).then_some(())
}

#[tokio::test]
async fn a_dead_shard_evicts_no_gateway() {
    let plan = Plan::default().redis(RedisKind::Cluster);
    let tidegate = Deployment::start_with(plan).await;
    let Backing::Cluster(cluster) = &tidegate.backing else {
        unreachable!("as planned")
    };
    for node in cluster.nodes() {
        node.call(&["CONFIG", "SET", "cluster-require-full-coverage", "no"])
            .await;
    }
    // Not the one that answers for the deployment as a whole.
    let owner = cluster.owner_of(cluster.slot_of("tidegate").await).await;
    let shard = &cluster.nodes()[(owner + 1) % 3];
    shard.kill9();
    for node in tidegate.nodes() {
        eventually("it is degraded", PATIENCE, || is_degraded(node, "shards")).await;
    }
    // Two lost probes in a row would make it unready; by the end there were more.
    let until = Instant::now() + Duration::from_secs(12);
    while Instant::now() < until {
        for node in tidegate.nodes() {
            let answer = node.ops_get("/ready").await.expect("answered");
            assert_eq!(answer.status, 200, "{}: {answer:?}", node.name());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    shard.restart().await;
    for node in tidegate.nodes() {
        eventually("it is well again", PATIENCE * 2, || async {
            let body = node.ops_get("/ready").await?.body;
            (body["status"] == "ready").then_some(())
        })
        .await;
    }
}
