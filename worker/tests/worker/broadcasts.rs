use std::time::Duration;

use shared::{domain::*, metrics};
use testkit::eventually;
use worker::metrics::TABLES;

use crate::support::*;

/// A series as it stands in the metrics of this process.
fn series(name: &str) -> f64 {
    let text = metrics::install(TABLES).render();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

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

#[test]
fn receipts_that_piled_up_while_no_worker_lived_all_arrive_once() {
    const RECORDS: usize = 1500;
    const OF_EACH: usize = 4;
    metrics::install(TABLES);
    let main = tokio::runtime::Runtime::new().unwrap();
    let deployment = main.block_on(Deployment::start());
    let doomed = tokio::runtime::Runtime::new().unwrap();
    let killed = doomed.block_on(deployment.worker("killed"));
    let ids: Vec<_> = main.block_on(async {
        let mut ids = Vec::new();
        for _ in 0..3 {
            let body = broadcast(user(), in_an_hour());
            ids.push(deployment.send(&body, Durability::Stored).await.0);
        }
        ids
    });
    // Everything it runs is gone at an arbitrary await.
    doomed.shutdown_background();
    main.block_on(async {
        let users: Vec<_> = (0..RECORDS * OF_EACH / 2).map(|_| user()).collect();
        // Two devices of each user, on two nodes.
        for half in users.chunks(OF_EACH).cycle().take(RECORDS) {
            for id in &ids[..1] {
                // A record is of one partition; which one does not matter to the rows.
                let home = deployment.partition(half[0]);
                let some: Vec<_> = half.iter().map(|user| (*user, *id)).collect();
                deployment.receive(home, &some).await;
            }
        }
        // And a few of another broadcast, with what cannot be read between them.
        let home = deployment.partition(users[0]);
        let stream = format!("{{p{}}}:persist", home.0);
        for user in &users[..10] {
            deployment.receive(home, &[(*user, ids[1])]).await;
            deployment
                .redis()
                .call(&["XADD", &stream, "*", "received", "nobody nothing", "t", "1"])
                .await;
        }
        let waiting = deployment.waiting().await;
        assert_eq!(waiting, RECORDS as u64 + 20);
        let counted = "tidegate_persist_lag_seconds_count{record=\"received\"}";
        let before = series(counted);

        // Nothing can be written until the backlog was seen.
        let rename = "ALTER TABLE command_assignments RENAME TO hidden";
        deployment.database.query(rename).await;
        let heir = deployment
            .worker_with("heir", |settings| settings.persist.batch_rows = 50)
            .await;
        eventually("a backlog to be seen", PATIENCE, async || {
            let backlog = series("tidegate_persist_backlog_records ");
            (backlog == waiting as f64).then_some(())
        })
        .await;
        assert!(series("tidegate_persist_backlog_age_seconds ") > 0.0);
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
        eventually("no backlog any more", PATIENCE, async || {
            (series("tidegate_persist_backlog_records ") == 0.0).then_some(())
        })
        .await;
        // Other tests count in the same process.
        assert!(series(counted) - before >= (RECORDS + 10) as f64);
        heir.stop().await;
    });
    main.shutdown_timeout(Duration::from_secs(5));
    drop(killed);
}
