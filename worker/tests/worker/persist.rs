use shared::{domain::*, postgres::PartitionBatch};
use testkit::eventually;
use worker::jobs::persist;

use crate::support::*;

#[tokio::test]
async fn what_is_appended_reaches_postgres_and_leaves_the_persist_streams() {
    let deployment = Deployment::start().await;
    let _worker = deployment.worker("one").await;
    let (ann, bob) = (user(), user());
    for n in 0..60 {
        let to = if n % 2 == 0 { bob } else { user() };
        deployment
            .send(&body(ann, to, in_an_hour()), Durability::Memory)
            .await;
    }
    // Returns once the bell has rung for the commit.
    let (last, _) = deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Stored)
        .await;
    assert!(deployment.postgres.command(last).await.unwrap().is_some());
    deployment
        .waits_for_count(
            "SELECT count(*) FROM command_assignments WHERE state = 'pending'",
            61,
        )
        .await;
    eventually("empty persist streams", PATIENCE, async || {
        (deployment.waiting().await == 0).then_some(())
    })
    .await;
    let position = deployment
        .postgres
        .persist_position(deployment.partition(bob))
        .await
        .unwrap();
    assert_ne!(position, "0-0");

    let log = deployment.log(bob).await;
    let record = deployment
        .postgres
        .entries_between(
            bob,
            Position::START,
            Position {
                epoch: i64::MAX as u64,
                offset: 0,
            },
            1000,
        )
        .await
        .unwrap();
    assert_eq!(record, log, "the record is the log");
}

#[tokio::test]
async fn a_sender_hears_delivered_and_completed_in_this_order() {
    let deployment = Deployment::start().await;
    let _worker = deployment.worker("one").await;
    let (ann, bob) = (user(), user());
    let (first, at_first) = deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Memory)
        .await;
    deployment.confirm(bob, at_first).await;
    deployment
        .waits_until_told(ann, &[(first, CommandState::Delivered)])
        .await;
    deployment.complete(bob, first, at_first).await;
    let mut told = vec![
        (first, CommandState::Delivered),
        (first, CommandState::Completed),
    ];
    deployment.waits_until_told(ann, &told).await;

    // Completed before any confirmation.
    let (second, at_second) = deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Memory)
        .await;
    deployment.complete(bob, second, at_second).await;
    told.extend([
        (second, CommandState::Delivered),
        (second, CommandState::Completed),
    ]);
    deployment.waits_until_told(ann, &told).await;

    // What was told is part of the sender's record, and of the recipient's what they said.
    deployment
        .waits_for_count(
            &format!("SELECT count(*) FROM user_events WHERE user_id = '{ann}'"),
            4,
        )
        .await;
    deployment
        .waits_for_count(
            &format!("SELECT count(*) FROM user_events WHERE user_id = '{bob}'"),
            2,
        )
        .await;
    deployment
        .waits_for_count(
            "SELECT count(*) FROM command_assignments WHERE state = 'completed'",
            2,
        )
        .await;
}

#[tokio::test]
async fn a_command_to_oneself_is_told_once() {
    let deployment = Deployment::start().await;
    let _worker = deployment.worker("one").await;
    let ann = user();
    let (id, position) = deployment
        .send(&body(ann, ann, in_an_hour()), Durability::Memory)
        .await;
    deployment.confirm(ann, position).await;
    deployment
        .waits_until_told(ann, &[(id, CommandState::Delivered)])
        .await;
    deployment.complete(ann, id, position).await;
    deployment
        .waits_for_count(
            "SELECT count(*) FROM command_assignments WHERE state = 'completed'",
            1,
        )
        .await;
    let told = [(id, CommandState::Delivered), (id, CommandState::Completed)];
    assert_eq!(deployment.told(ann).await, told);
}

#[tokio::test]
async fn a_worker_that_died_between_commit_and_trim_leaves_no_duplicate() {
    let deployment = Deployment::start().await;
    let bob = user();
    // What ann is told is counted in a partition of her own.
    let is_apart = |ann: &UserId| deployment.partition(*ann) != deployment.partition(bob);
    let ann = std::iter::repeat_with(user).find(is_apart).unwrap();
    let (id, position) = deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Memory)
        .await;
    deployment.confirm(bob, position).await;
    // The first worker commits and is never heard of again.
    let dead = deployment.context("dead", |_| {}).await;
    let home = deployment.partition(bob);
    let (token, after) = dead
        .postgres
        .claim_partitions(&[(home, 1)])
        .await
        .unwrap()
        .remove(0);
    let records = deployment.records(home, &after).await;
    persist::write(
        &dead,
        &[PartitionBatch {
            partition: home,
            token,
            after,
            records: records.clone(),
        }],
    )
    .await
    .unwrap();
    assert_eq!(deployment.store.persist_backlog(home).await.unwrap().0, 2);

    let _worker = deployment.worker("heir").await;
    eventually("empty persist streams", PATIENCE, async || {
        (deployment.waiting().await == 0).then_some(())
    })
    .await;
    assert_eq!(deployment.told(ann).await, [(id, CommandState::Delivered)]);
    assert_eq!(
        deployment
            .database
            .count("SELECT count(*) FROM commands")
            .await,
        1
    );
    assert_eq!(
        deployment
            .database
            .count("SELECT count(*) FROM quarantine")
            .await,
        0
    );

    // It was no death but a long pause: it is fenced.
    let zombie = PartitionBatch {
        partition: home,
        token,
        after: "0-0".into(),
        records,
    };
    assert!(persist::write(&dead, &[zombie]).await.is_err());
}

#[tokio::test]
async fn a_worker_that_died_before_the_commit_tells_nobody_twice() {
    let deployment = Deployment::start().await;
    let (ann, bob) = (user(), user());
    let (id, position) = deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Memory)
        .await;
    deployment.confirm(bob, position).await;
    let dead = deployment.context("dead", |_| {}).await;
    let home = deployment.partition(bob);
    let (token, after) = dead
        .postgres
        .claim_partitions(&[(home, 1)])
        .await
        .unwrap()
        .remove(0);
    let records = deployment.records(home, &after).await;
    let batch = [PartitionBatch {
        partition: home,
        token,
        after,
        records,
    }];
    let pending = dead.postgres.begin_batch(&batch).await.unwrap();
    persist::tell_senders(&dead.store, &pending.changes)
        .await
        .unwrap();
    assert_eq!(deployment.told(ann).await, [(id, CommandState::Delivered)]);
    drop(pending);

    let _worker = deployment.worker("heir").await;
    deployment
        .waits_for_count(
            "SELECT count(*) FROM command_assignments WHERE state = 'delivered'",
            1,
        )
        .await;
    deployment
        .waits_for_count("SELECT count(*) FROM user_events", 1)
        .await;
    assert_eq!(deployment.told(ann).await, [(id, CommandState::Delivered)]);
}

#[tokio::test]
async fn what_nobody_understands_is_quarantined_and_the_rest_flows() {
    let deployment = Deployment::start().await;
    let (ann, bob) = (user(), user());
    deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Memory)
        .await;
    let stream = format!("{{p{}}}:persist", deployment.partition(bob).0);
    deployment
        .redis()
        .call(&["XADD", &stream, "*", "nobody", "knows"])
        .await;
    // Understood, and refused by Postgres.
    let bad = Revocation {
        user_id: ann,
        token_id: Some("nul\0".into()),
        issued_until: 0,
        expires_at: in_an_hour(),
    };
    deployment
        .append(Topic::Revocations, Kind::Revocation, &bad)
        .await;
    deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Memory)
        .await;
    let _worker = deployment.worker("one").await;
    deployment
        .waits_for_count("SELECT count(*) FROM commands", 2)
        .await;
    deployment
        .waits_for_count("SELECT count(*) FROM quarantine", 2)
        .await;
    eventually("empty persist streams", PATIENCE, async || {
        (deployment.waiting().await == 0).then_some(())
    })
    .await;
}
