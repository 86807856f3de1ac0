use shared::{domain::UserId, postgres::PgError};
use testkit::Database;

use crate::support::{Record, connect};

#[tokio::test]
async fn migrating_twice_and_at_once_changes_nothing() {
    let database = Database::create("schema").await;
    let postgres = connect(&database.url());
    assert!(!postgres.is_migrated().await.unwrap());
    let (one, other) = tokio::join!(postgres.migrate(), postgres.migrate());
    one.unwrap();
    other.unwrap();
    assert!(postgres.is_migrated().await.unwrap());
    let before = database
        .query("SELECT relname FROM pg_class ORDER BY 1")
        .await;
    postgres.migrate().await.unwrap();
    assert_eq!(
        database
            .query("SELECT relname FROM pg_class ORDER BY 1")
            .await,
        before
    );
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_not_a_failure_to_start() {
    let postgres = shared::postgres::Postgres::new(
        "postgres://nobody@localhost/none?host=/nonexistent",
        1,
        std::time::Duration::from_millis(50),
    )
    .unwrap();
    let error = postgres.ping().await.unwrap_err();
    assert!(matches!(error, PgError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_primary_no_more_is_unavailable() {
    let record = Record::new().await;
    record
        .database
        .query("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', \
                current_database()); END $$")
        .await;
    let postgres = connect(&record.database.url());
    let user = UserId(uuid::Uuid::now_v7());
    let error = postgres.create_user(user, "ann", "hash").await.unwrap_err();
    assert!(matches!(error, PgError::Unavailable(_)), "{error:?}");
}
