use shared::domain::*;
use testkit::{Node, eventually};

use crate::support::*;

#[tokio::test]
async fn a_broadcast_is_one_row_and_its_users_come_with_what_they_confirm() {
    let deployment = Deployment::start().await;
    let _worker = deployment.worker("one").await;
    let (ann, bob, eve) = (user(), user(), user());
    let (id, position) = deployment
        .send(&broadcast(ann, in_an_hour()), Durability::Stored)
        .await;
    let found = deployment.postgres.command(id).await.unwrap().unwrap();
    assert_eq!(
        (found.position, found.state),
        (position, CommandState::Pending)
    );
    let rows = "SELECT count(*) FROM command_assignments";
    assert_eq!(deployment.database.count(rows).await, 0);

    for user in [bob, eve, bob] {
        let home = deployment.partition(user);
        deployment.receive(home, &[(user, id)]).await;
    }
    let done = CommandStatus {
        command_id: id,
        recipient_id: Some(bob),
        status: CommandState::Completed,
        broadcast: Some(Broadcast::Category),
        categories: vec![],
        at: None,
    };
    deployment
        .append(Topic::User(bob), Kind::CommandStatus, &done)
        .await;
    let counts = eventually("both users' states", PATIENCE, async || {
        let counts = deployment.postgres.recipient_counts(id).await.unwrap();
        (counts.completed == 1 && counts.delivered == 1).then_some(counts)
    })
    .await;
    assert_eq!(
        (counts.pending, counts.expired, counts.cancelled),
        (0, 0, 0)
    );
    eventually("empty persist streams", PATIENCE, async || {
        (deployment.waiting().await == 0).then_some(())
    })
    .await;
    assert_eq!(
        deployment.told(ann).await,
        [],
        "its sender is not told of each"
    );
    let record = deployment
        .postgres
        .broadcasts_between(Position::START, Position::END, 10)
        .await
        .unwrap();
    assert_eq!(record, deployment.log_of(Topic::Broadcast).await);
}

#[tokio::test]
async fn what_a_user_chose_is_kept_and_the_directory_leaves_no_row() {
    let deployment = Deployment::start().await;
    let _worker = deployment.worker("one").await;
    let ann = user();
    let mut wanted = Preferences::default();
    for tag in ["feet", "extreme"] {
        wanted.blocked_categories.insert(tag.parse().unwrap());
        deployment
            .append(Topic::User(ann), Kind::Preferences, &wanted)
            .await;
    }
    deployment
        .append(
            Topic::Directory,
            Kind::DirectoryChange,
            &DirectoryChange::Groups,
        )
        .await;
    eventually("her last choice", PATIENCE, async || {
        let found = deployment.postgres.preferences(ann).await.unwrap();
        found.filter(|(_, it)| *it == wanted)
    })
    .await;
    eventually("empty persist streams", PATIENCE, async || {
        (deployment.waiting().await == 0).then_some(())
    })
    .await;
    for (table, rows) in [("user_events", 2), ("quarantine", 0)] {
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(deployment.database.count(&sql).await, rows, "{table}");
    }
}

#[tokio::test]
async fn an_overdue_broadcast_expires_for_everybody_and_reaches_the_archive() {
    let deployment = Deployment::start().await;
    let _worker = deployment.worker("one").await;
    let (ann, bob) = (user(), user());
    let (over, _) = deployment
        .send(&broadcast(ann, a_minute_ago()), Durability::Memory)
        .await;
    let (open, _) = deployment
        .send(&broadcast(ann, in_an_hour()), Durability::Memory)
        .await;
    deployment
        .receive(deployment.partition(bob), &[(bob, over)])
        .await;
    deployment
        .waits_for_count("SELECT count(*) FROM commands_archive", 1)
        .await;
    let found = deployment.postgres.command(over).await.unwrap().unwrap();
    assert_eq!(found.state, CommandState::Expired);
    let log = deployment.log_of(Topic::Broadcast).await;
    let new = log.iter().filter(|it| it.kind == Kind::CommandNew);
    assert_eq!(new.map(|it| it.id).collect::<Vec<_>>(), [open]);
    let ends: Vec<CommandStatus> = log
        .iter()
        .filter(|it| it.kind == Kind::CommandStatus)
        .map(|it| serde_json::from_slice(&it.body).unwrap())
        .collect();
    let said = CommandStatus {
        command_id: over,
        recipient_id: None,
        status: CommandState::Expired,
        broadcast: Some(Broadcast::Category),
        categories: vec!["general".parse().unwrap()],
        at: None,
    };
    assert_eq!(ends, [said], "once, for everybody");
    assert_eq!(deployment.told(ann).await, []);
    // Who had it keeps that, and the sender still finds it.
    let states = deployment.postgres.states_of(bob, &[over]).await.unwrap();
    assert_eq!(states[&over], CommandState::Delivered);
    let sent = deployment.postgres.sent_commands(ann, None, None, 9).await;
    let sent: Vec<_> = sent.unwrap().iter().map(|it| (it.id, it.state)).collect();
    let expected = [(open, CommandState::Pending), (over, CommandState::Expired)];
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn receipts_that_piled_up_while_no_worker_lived_all_arrive_once() {
    const RECORDS: u64 = 1500;
    const OF_EACH: usize = 4;
    let deployment = Deployment::start().await;
    let worker = deployment.process("killed").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let body = broadcast(user(), in_an_hour());
        ids.push(deployment.send(&body, Durability::Stored).await.0);
    }
    worker.kill9();
    let users: Vec<_> = (0..RECORDS as usize * OF_EACH / 2)
        .map(|_| user())
        .collect();
    // Two devices of each user, on two nodes. In whose partition a record stands does not matter
    // to the rows.
    for some in users.chunks(OF_EACH).cycle().take(RECORDS as usize) {
        let receipts: Vec<_> = some.iter().map(|user| (*user, ids[0])).collect();
        let home = deployment.partition(some[0]);
        deployment.receive(home, &receipts).await;
    }
    // And a few of another broadcast, with what cannot be read between them.
    let home = deployment.partition(users[0]);
    let stream = format!("{{p{}}}:persist", home.0);
    for user in &users[..10] {
        deployment.receive(home, &[(*user, ids[1])]).await;
        let bad = ["XADD", &stream, "*", "received", "nobody nothing", "t", "1"];
        deployment.redis().call(&bad).await;
    }
    let waiting = deployment.waiting().await;
    assert_eq!(waiting, RECORDS + 20);

    // Nothing can be written until the backlog was seen.
    let rename = "ALTER TABLE command_assignments RENAME TO hidden";
    deployment.database.query(rename).await;
    worker.restart().await;
    until_metric(&worker, "tidegate_persist_backlog_records", waiting).await;
    let age = worker.metric("tidegate_persist_backlog_age_seconds").await;
    assert!(age.is_some_and(|age| age > 0.0), "{age:?}");
    let back = "ALTER TABLE hidden RENAME TO command_assignments";
    deployment.database.query(back).await;

    eventually("empty persist streams", PATIENCE, async || {
        (deployment.waiting().await == 0).then_some(())
    })
    .await;
    for (id, expected) in [(ids[0], users.len() as u64), (ids[1], 10), (ids[2], 0)] {
        let counts = deployment.postgres.recipient_counts(id).await.unwrap();
        assert_eq!(counts.delivered, expected);
    }
    let quarantine = "SELECT count(*) FROM quarantine";
    assert_eq!(deployment.database.count(quarantine).await, 10);
    until_metric(&worker, "tidegate_persist_backlog_records", 0).await;
    // Of each that was understood, once.
    until_metric(&worker, "tidegate_persist_lag_seconds_count", RECORDS + 10).await;
    until_metric(&worker, "tidegate_persist_quarantined_total", 10).await;
    worker.stop(PATIENCE).await;
}

async fn until_metric(worker: &Node, name: &str, expected: u64) {
    let what = format!("{name} to be {expected}");
    eventually(&what, PATIENCE, async || {
        let value = worker.metric(name).await?;
        ((value - expected as f64).abs() < 0.5).then_some(())
    })
    .await;
}
