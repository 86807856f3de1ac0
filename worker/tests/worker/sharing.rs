use std::collections::BTreeSet;

use shared::domain::*;
use testkit::eventually;

use crate::support::*;

/// Owners of the partitions' leases, asked by somebody who gets none while they last.
async fn owners(deployment: &Deployment) -> Vec<String> {
    let mut owners = Vec::new();
    for n in 0..deployment.store.partitions().0 {
        let reply = deployment
            .redis()
            .call(&["HGET", &format!("lease:partition:{n}"), "owner"])
            .await;
        owners.push(format!("{reply:?}"));
    }
    owners
}

#[tokio::test]
async fn two_workers_share_and_the_one_that_stays_takes_all() {
    let deployment = Deployment::start().await;
    let one = deployment.worker("one").await;
    eventually("one to have all", PATIENCE, async || {
        owners(&deployment)
            .await
            .iter()
            .all(|owner| owner.contains("worker.one"))
            .then_some(())
    })
    .await;
    let two = deployment.worker("two").await;
    eventually("both to have half", PATIENCE, async || {
        let owners = owners(&deployment).await;
        (owners
            .iter()
            .filter(|owner| owner.contains("worker.two"))
            .count()
            == 8)
            .then_some(())
    })
    .await;
    let (ann, users) = (user(), (0..40).map(|_| user()).collect::<BTreeSet<_>>());
    for bob in &users {
        deployment
            .send(&body(ann, *bob, in_an_hour()), Durability::Memory)
            .await;
    }
    one.stop().await;
    for bob in &users {
        deployment
            .send(&body(ann, *bob, in_an_hour()), Durability::Memory)
            .await;
    }
    deployment
        .waits_for_count("SELECT count(*) FROM commands", 80)
        .await;
    assert_eq!(
        deployment
            .database
            .count("SELECT count(DISTINCT command_id) FROM command_assignments")
            .await,
        80
    );
    two.stop().await;
    let nodes = deployment.store.nodes().await.unwrap();
    assert!(nodes.is_empty(), "workers leave no node behind: {nodes:?}");
}

#[test]
fn a_killed_worker_is_replaced_when_its_leases_end() {
    let main = tokio::runtime::Runtime::new().unwrap();
    let (deployment, ann, bob) =
        main.block_on(async { (Deployment::start().await, user(), user()) });
    let doomed = tokio::runtime::Runtime::new().unwrap();
    let killed = doomed.block_on(deployment.worker("killed"));
    main.block_on(deployment.send(&body(ann, bob, in_an_hour()), Durability::Stored));
    // Everything it runs is gone at an arbitrary await.
    doomed.shutdown_background();
    main.block_on(async {
        let _heir = deployment.worker("heir").await;
        deployment
            .send(&body(ann, bob, in_an_hour()), Durability::Memory)
            .await;
        deployment
            .waits_for_count("SELECT count(*) FROM commands", 2)
            .await;
    });
    drop(killed);
}
