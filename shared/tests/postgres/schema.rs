use testkit::Database;

use crate::support::connect;

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
    assert!(
        matches!(error, shared::postgres::PgError::Unavailable(_)),
        "{error:?}"
    );
}
