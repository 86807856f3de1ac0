use std::time::Duration;

use shared::{config::SecretUrl, domain::*, postgres::Postgres};
use testkit::eventually;

use crate::support::*;

#[tokio::test]
async fn what_was_appended_while_postgres_was_away_is_written_when_it_is_back() {
    let deployment = Deployment::start().await;
    // A server of its own: the shared one serves other tests.
    let server = testkit::Postgres::start().await;
    server.create("away").await;
    let url = server.url("away");
    let postgres = Postgres::new(&url, 2, Duration::from_secs(2)).unwrap();
    postgres.migrate().await.unwrap();
    let worker = deployment
        .worker_with("one", |settings| {
            settings.postgres.url = SecretUrl::new(&url);
        })
        .await;
    let (ann, bob) = (user(), user());
    deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Stored)
        .await;

    server.stop().await;
    let (id, position) = deployment
        .send(&body(ann, bob, in_an_hour()), Durability::Memory)
        .await;
    deployment.confirm(bob, position).await;
    eventually("an outage", PATIENCE, async || {
        worker.context.outage.is_on().then_some(())
    })
    .await;
    assert!(deployment.waiting().await >= 2);
    server.restart().await;
    eventually("the command in the record", PATIENCE, async || {
        postgres
            .command(id)
            .await
            .ok()
            .flatten()
            .filter(|it| it.state == CommandState::Delivered)
    })
    .await;
    eventually("the end of the outage", PATIENCE, async || {
        (!worker.context.outage.is_on()).then_some(())
    })
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn a_day_nobody_made_a_partition_for_does_not_cost_a_record() {
    let deployment = Deployment::start().await;
    let _worker = deployment.worker("one").await;
    deployment
        .database
        .query(
            "DO $$ DECLARE it record; BEGIN FOR it IN SELECT name FROM daily_partitions \
                LOOP EXECUTE 'DROP TABLE ' || it.name; END LOOP; END $$",
        )
        .await;
    let (id, _) = deployment
        .send(&body(user(), user(), in_an_hour()), Durability::Stored)
        .await;
    assert!(deployment.postgres.command(id).await.unwrap().is_some());
    assert_eq!(
        deployment
            .database
            .count("SELECT count(*) FROM quarantine")
            .await,
        0
    );
}

#[tokio::test]
async fn a_transaction_that_takes_too_long_is_halved() {
    let deployment = Deployment::start().await;
    deployment
        .database
        .query(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF (SELECT count(*) FROM fresh) > 12 THEN PERFORM pg_sleep(60); END IF; RETURN NULL; END $$; \
             CREATE TRIGGER slow AFTER INSERT ON commands REFERENCING NEW TABLE AS fresh \
                 FOR EACH STATEMENT EXECUTE FUNCTION slow()",
        )
        .await;
    let (ann, bob) = (user(), user());
    for _ in 0..20 {
        deployment
            .send(&body(ann, bob, in_an_hour()), Durability::Memory)
            .await;
    }
    let small = |settings: &mut worker::config::Settings| settings.persist.batch_rows = 24;
    let _worker = deployment.worker_with("one", small).await;
    deployment
        .waits_for_count("SELECT count(*) FROM commands", 20)
        .await;
}

#[tokio::test]
async fn a_whole_log_is_delivered_by_one_confirmation() {
    let deployment = Deployment::start().await;
    let (ann, bob) = (user(), user());
    let bodies: Vec<_> = (0..2100).map(|_| body(ann, bob, in_an_hour())).collect();
    let sent = bodies
        .iter()
        .map(|body| deployment.send(body, Durability::Memory));
    let sent = futures_util::future::join_all(sent).await;
    let last = sent.iter().map(|(_, position)| *position).max().unwrap();
    deployment.confirm(bob, last).await;
    let _worker = deployment.worker("one").await;
    deployment
        .waits_for_count(
            "SELECT count(*) FROM command_assignments WHERE state = 'delivered'",
            2100,
        )
        .await;
    eventually("empty persist streams", PATIENCE, async || {
        (deployment.waiting().await == 0).then_some(())
    })
    .await;
}
