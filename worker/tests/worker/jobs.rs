use std::time::Duration;

use shared::{domain::*, redis::OpenSession};
use testkit::eventually;
use uuid::Uuid;
use worker::{
    config::Settings,
    jobs::{expire_commands, make_partitions, reap_nodes},
    reaper::Reaper,
};

use crate::support::*;

#[tokio::test]
async fn an_overdue_command_expires_is_told_and_reaches_the_archive() {
    let deployment = Deployment::start().await;
    let _worker = deployment.worker("one").await;
    let (ann, bob) = (user(), user());
    let (over, _) = deployment
        .send(&body(ann, bob, a_minute_ago()), Durability::Memory)
        .await;
    let (open, _) = deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Memory)
        .await;
    deployment
        .waits_until_told(ann, &[(over, CommandState::Expired)])
        .await;
    deployment
        .waits_until_told(bob, &[(over, CommandState::Expired)])
        .await;
    deployment
        .waits_for_count(
            "SELECT count(*) FROM commands_archive WHERE status = 'expired'",
            1,
        )
        .await;
    assert_eq!(
        deployment
            .postgres
            .command(over)
            .await
            .unwrap()
            .unwrap()
            .state,
        CommandState::Expired
    );
    assert_eq!(
        deployment
            .postgres
            .command(open)
            .await
            .unwrap()
            .unwrap()
            .state,
        CommandState::Pending
    );
    // It is not replayed: neither from Redis nor from the record.
    let log = deployment.log(bob).await;
    let new: Vec<_> = log
        .iter()
        .filter(|entry| entry.kind == Kind::CommandNew)
        .map(|entry| entry.id)
        .collect();
    assert_eq!(new, [open]);
}

#[tokio::test]
async fn a_command_that_was_completed_in_time_does_not_expire() {
    let deployment = Deployment::start().await;
    let (ann, bob) = (user(), user());
    let (id, position) = deployment
        .send(&body(ann, bob, a_minute_ago()), Durability::Memory)
        .await;
    deployment.complete(bob, id, position).await;
    let _worker = deployment.worker("one").await;
    deployment
        .waits_until_told(
            ann,
            &[(id, CommandState::Delivered), (id, CommandState::Completed)],
        )
        .await;
    assert_eq!(
        deployment
            .database
            .count("SELECT count(*) FROM commands_archive")
            .await,
        0
    );
}

#[tokio::test]
async fn nothing_expires_while_postgres_may_not_know_that_it_has_ended() {
    let deployment = Deployment::start().await;
    let (ann, bob) = (user(), user());
    let worker = deployment.worker("one").await;
    let (id, position) = deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Stored)
        .await;
    worker.stop().await;
    // It is completed, Redis forgets that, and Postgres has not learnt it yet.
    deployment.complete(bob, id, position).await;
    let forgotten = format!("{{p{}}}:idem:final:{id}:{bob}", deployment.partition(bob).0);
    deployment.redis().call(&["DEL", &forgotten]).await;
    deployment
        .database
        .query("UPDATE command_assignments SET expires_at = now() - interval '1 min'")
        .await;
    let context = deployment
        .context("two", |settings| {
            settings.redis.idempotency_ttl = Duration::from_secs(1);
        })
        .await;
    let home = deployment.partition(bob);
    eventually("a backlog as old as half of that", PATIENCE, async || {
        let (_, oldest) = context.store.persist_backlog(home).await.unwrap();
        (context.age(oldest.unwrap()) > Duration::from_millis(600)).then_some(())
    })
    .await;
    expire_commands::run(context).await.unwrap();
    assert_eq!(
        deployment.told(bob).await,
        [(id, CommandState::Completed)],
        "nothing behind its end"
    );
    let _worker = deployment.worker("three").await;
    deployment
        .waits_until_told(
            ann,
            &[(id, CommandState::Delivered), (id, CommandState::Completed)],
        )
        .await;
}

#[tokio::test]
async fn logs_are_trimmed_once_they_are_old_and_stored() {
    let deployment = Deployment::start().await;
    let (ann, bob) = (user(), user());
    deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Memory)
        .await;
    let short = |settings: &mut Settings| settings.retention.hot_window = Duration::from_secs(1);
    let _worker = deployment.worker_with("one", short).await;
    let log = format!("{{p{}}}:log:user:{bob}", deployment.partition(bob).0);
    eventually("a trimmed log", PATIENCE, async || {
        let reply = deployment.redis().call(&["EXISTS", &log]).await;
        (format!("{reply:?}").contains('0')).then_some(())
    })
    .await;
    assert_eq!(
        deployment
            .database
            .count("SELECT count(*) FROM commands")
            .await,
        1
    );
}

#[tokio::test]
async fn sessions_of_a_dead_node_are_reaped_and_others_stay() {
    let deployment = Deployment::start().await;
    let context = deployment.context("one", |_| {}).await;
    *context.reaper.lock().await = Reaper::new(Duration::from_millis(50));
    let (dead, alive): (NodeId, NodeId) = ("dead".parse().unwrap(), "alive".parse().unwrap());
    let ann = user();
    let open = |node: &NodeId| OpenSession {
        user: ann,
        session: SessionId(Uuid::now_v7()),
        device: Device::default(),
        node: node.clone(),
        incarnation: 1,
        max_sessions: 10,
        after: None,
        dialect: "json",
        hears_calls: true,
        by_queue: false,
        page: 1,
    };
    for node in [&dead, &alive] {
        let ttl = if node == &dead {
            Duration::from_millis(20)
        } else {
            Duration::from_mins(1)
        };
        deployment.store.node_heartbeat(node, 1, ttl).await.unwrap();
        deployment.store.session_open(open(node)).await.unwrap();
    }
    eventually("the dead node's end", PATIENCE, async || {
        reap_nodes::run(context.clone()).await.unwrap();
        let nodes = deployment.store.nodes().await.unwrap();
        (!nodes.iter().any(|(node, ..)| node == &dead)).then_some(())
    })
    .await;
    assert!(
        deployment
            .store
            .nodes()
            .await
            .unwrap()
            .iter()
            .any(|(node, ..)| node == &alive)
    );
    let sessions = format!("{{p{}}}:sess:{ann}", deployment.partition(ann).0);
    let left = format!("{:?}", deployment.redis().call(&["HVALS", &sessions]).await);
    assert!(left.contains("alive") && !left.contains("dead"), "{left}");
}

#[tokio::test]
async fn what_a_node_left_is_reaped_although_it_is_back() {
    let deployment = Deployment::start().await;
    let context = deployment.context("one", |_| {}).await;
    *context.reaper.lock().await = Reaper::new(Duration::from_millis(50));
    let node: NodeId = "fixed".parse().unwrap();
    let ann = user();
    for incarnation in [3, 7] {
        deployment
            .store
            .node_heartbeat(&node, incarnation, Duration::from_mins(1))
            .await
            .unwrap();
        deployment
            .store
            .session_open(OpenSession {
                user: ann,
                session: SessionId(Uuid::now_v7()),
                device: Device::default(),
                node: node.clone(),
                incarnation,
                max_sessions: 10,
                after: None,
                dialect: "json",
                hears_calls: true,
                by_queue: false,
                page: 1,
            })
            .await
            .unwrap();
    }
    let sessions = format!("{{p{}}}:sess:{ann}", deployment.partition(ann).0);
    eventually("only the session of this life", PATIENCE, async || {
        reap_nodes::run(context.clone()).await.unwrap();
        let left = format!("{:?}", deployment.redis().call(&["HVALS", &sessions]).await);
        assert!(left.contains("fixed 7 "), "{left}");
        (!left.contains("fixed 3 ")).then_some(())
    })
    .await;
    assert_eq!(deployment.store.nodes().await.unwrap(), [(node, 7, true)]);
}

#[tokio::test]
async fn partitions_are_made_ahead() {
    let deployment = Deployment::start().await;
    let context = deployment.context("one", |_| {}).await;
    deployment
        .database
        .query("DO $$ DECLARE it record; BEGIN FOR it IN SELECT name FROM daily_partitions WHERE day > now()::date + 2 \
                LOOP EXECUTE 'DROP TABLE ' || it.name; END LOOP; END $$")
        .await;
    assert_eq!(deployment.postgres.partition_days_ahead().await.unwrap(), 2);
    make_partitions::run(context).await.unwrap();
    assert_eq!(deployment.postgres.partition_days_ahead().await.unwrap(), 7);
}
