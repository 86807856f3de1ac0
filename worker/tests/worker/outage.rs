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
