use std::{process::Command, time::Duration};

use shared::domain::*;
use testkit::eventually;
use uuid::Uuid;
use worker::sweep::{Found, Sweep};

use crate::support::*;

const TABLES: [&str; 9] = [
    "commands",
    "command_assignments",
    "user_events",
    "commands_archive",
    "revocations",
    "user_preferences",
    "persist_positions",
    "quarantine",
    "daily_partitions",
];

/// Every row, and every entry of these logs and persist streams.
async fn everything(deployment: &Deployment, users: &[UserId]) -> Vec<String> {
    let mut all = Vec::new();
    for table in TABLES {
        let sql =
            format!("SELECT md5(string_agg(it::text, '|' ORDER BY it::text)) FROM {table} it");
        all.push(format!("{:?}", deployment.database.query(&sql).await));
    }
    all.push(format!("{:?}", deployment.log_of(Topic::Broadcast).await));
    for user in users {
        all.push(format!("{:?}", deployment.log(*user).await));
    }
    all.push(deployment.waiting().await.to_string());
    all
}

/// A deployment with something to do for every step, no worker running.
async fn overdue(ann: UserId, bob: UserId) -> Deployment {
    let deployment = Deployment::start().await;
    let worker = deployment
        .worker_with("one", |settings| {
            settings.jobs.expire_interval = Duration::from_hours(1);
        })
        .await;
    // The first run, which finds nothing, is over once the job's lease is held and something
    // was written.
    let mut sent = Vec::new();
    for n in 0..9 {
        let expires_at = if n < 7 { in_an_hour() } else { a_minute_ago() };
        let direct = body(ann, bob, in_an_hour());
        let many = broadcast(ann, expires_at);
        sent.push(deployment.send(&direct, Durability::Stored).await.0);
        sent.push(deployment.send(&many, Durability::Stored).await.0);
    }
    worker.stop().await;
    let (direct, many): (Vec<_>, Vec<_>) = sent.chunks(2).map(|it| (it[0], it[1])).unzip();
    let database = &deployment.database;
    // Of the direct commands three are due and two wait for the archive, of the broadcasts one.
    for (n, id) in direct.iter().enumerate().take(5) {
        let state = if n < 3 { "pending" } else { "expired" };
        let sql = format!(
            "UPDATE command_assignments SET state = '{state}', expires_at = now() - interval '1 h' \
             WHERE command_id = '{id}'"
        );
        database.query(&sql).await;
    }
    let sql = format!(
        "UPDATE commands SET ended = 'expired' WHERE id = '{}'",
        many[0]
    );
    database.query(&sql).await;
    // The archive has one that is old and one that is not; a revocation is over.
    for days in [100, 10] {
        let (id, nobody) = (Uuid::now_v7(), Uuid::now_v7());
        let sql = format!(
            "INSERT INTO commands_archive (id, recipient_id, sender_id, command_type, broadcast, categories, body, \
             epoch, \"offset\", created_at, expires_at, archived_at) VALUES ('{id}', '{nobody}', '{nobody}', \
             'task', 'user', '{{}}', '{{}}', 1, 1, now(), now(), now() - interval '{days} d')"
        );
        database.query(&sql).await;
    }
    let sql = format!(
        "INSERT INTO revocations VALUES ('{0}', '{0}', NULL, 0, now() - interval '1 h')",
        Uuid::now_v7()
    );
    database.query(&sql).await;
    // Four days are past retention: one empty, one with a device's receipt only, one with what
    // has expired and one with what is open.
    for (days, what) in [(40, ""), (39, "received"), (38, "expired"), (37, "pending")] {
        let day = format!("current_date - {days}");
        database
            .query(&format!("SELECT make_days(ARRAY[{day}])"))
            .await;
        let id = format!("uuid_at(now() - interval '{days} d')");
        let rows = match what {
            "" => continue,
            "received" => format!(
                "INSERT INTO command_assignments (command_id, recipient_id, state, delivered_at) \
                 VALUES ({id}, '{bob}', 'delivered', now())"
            ),
            "expired" => format!(
                "INSERT INTO commands (id, sender_id, command_type, broadcast, categories, body, created_at, \
                 expires_at, epoch, \"offset\", ended) VALUES ({id}, '{ann}', 'task', 'allcast', '{{}}', '{{}}', \
                 now(), now() - interval '1 h', 1, 1, 'expired')"
            ),
            _ => format!(
                "INSERT INTO command_assignments (command_id, recipient_id, sender_id, state, epoch, \"offset\", \
                 expires_at) VALUES ({id}, '{bob}', '{ann}', 'pending', 1, 1, now() + interval '1 h')"
            ),
        };
        database.query(&rows).await;
    }
    deployment
}

#[tokio::test]
async fn a_look_changes_nothing_and_a_sweep_does_what_it_said() {
    let (ann, bob) = (user(), user());
    let deployment = overdue(ann, bob).await;
    let context = deployment.context("two", |_| {}).await;
    let sweep = Sweep::of(&context);
    let before = everything(&deployment, &[ann, bob]).await;
    let found = sweep.look().await.unwrap();
    assert_eq!(sweep.look().await.unwrap(), found);
    assert_eq!(everything(&deployment, &[ann, bob]).await, before);

    let numbers = [
        found.expire_direct,
        found.expire_broadcasts,
        found.left_behind,
        found.archive_direct,
        found.archive_broadcasts,
        found.forget_archived,
        found.forget_revocations,
    ];
    assert_eq!(numbers, [3, 2, 0, 2, 2, 1, 1]);
    assert_eq!(found.drop_tables.len(), 12, "{found}");
    assert_eq!(found.kept_days.len(), 1, "{found}");
    assert!(found.oldest_due.is_some() && found.oldest_archived.is_some());

    let done = sweep.run().await.unwrap();
    let expected = Found {
        oldest_due: None,
        oldest_archived: None,
        ..found.clone()
    };
    assert_eq!(done, expected);
    assert_ne!(everything(&deployment, &[ann, bob]).await, before);
    // What has ended is known once a worker has written it, then there is nothing to do.
    let _worker = deployment.worker("three").await;
    eventually("nothing more to do", PATIENCE, async || {
        let idle = Found {
            kept_days: found.kept_days.clone(),
            ..Found::default()
        };
        (sweep.look().await.unwrap() == idle).then_some(())
    })
    .await;
    let archived = "SELECT count(*) FROM commands_archive WHERE status = 'expired'";
    assert_eq!(deployment.database.count(archived).await, 10);
}

#[tokio::test]
async fn the_command_prints_what_there_is_to_do() {
    let (ann, bob) = (user(), user());
    let deployment = overdue(ann, bob).await;
    let context = deployment.context("two", |_| {}).await;
    let before = everything(&deployment, &[ann, bob]).await;
    let settings = &context.settings;
    let run = |arguments: &'static [&'static str]| {
        let (redis, postgres) = (&settings.redis.url, &settings.postgres.url);
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
        command
            .args(arguments)
            .arg(format!("--set=redis.url={}", redis.expose()))
            .arg(format!("--set=postgres.url={}", postgres.expose()))
            .arg(format!(
                "--set=redis.partitions={}",
                settings.redis.partitions
            ));
        async {
            let output = tokio::task::spawn_blocking(move || command.output());
            let output = output.await.unwrap().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{text}");
            // Without the lines of the log.
            let lines = text.lines().filter(|line| !line.starts_with('{'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        }
    };
    let look = run(&["sweep", "--dry-run"]).await;
    assert_eq!(everything(&deployment, &[ann, bob]).await, before);
    let numbers = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter();
        lines
            .map(|line| line.split("   oldest").next().unwrap().to_owned())
            .collect()
    };
    assert!(look[0].starts_with("direct commands to expire"), "{look:?}");
    assert!(look[0].contains(" 3   oldest 20"), "{look:?}");
    assert!(
        look.iter()
            .any(|line| line.ends_with(" stays: commands in it are open"))
    );
    let done = run(&["sweep"]).await;
    assert_eq!(numbers(&done), numbers(&look));
    assert_ne!(everything(&deployment, &[ann, bob]).await, before);
}
