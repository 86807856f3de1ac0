//! Connections and the schema's version.

use std::{str::FromStr, time::Duration};

use sqlx::{
    Connection, Executor, PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::PgError;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Days of partitions made ahead.
pub(super) const DAYS_AHEAD: i32 = 7;

/// What every connection is told first.
///
/// Plans are made once per statement, possibly while a day's partition is still empty, and
/// kept. So the planner may not choose what only looks cheap then: a scan or a hash of a table
/// that has a million rows an hour later. Every question here has its index; where the order of
/// tables matters, too, it is fixed by LATERAL.
const CONNECTION: &str = "SET statement_timeout = '5s'; SET lock_timeout = '2s'; \
    SET idle_in_transaction_session_timeout = '30s'; \
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
    SET plan_cache_mode = force_generic_plan";

/// A pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Postgres {
    pub(crate) pool: PgPool,
    options: PgConnectOptions,
}

impl Postgres {
    /// Reads a URL, connects to nothing. The error does not quote it.
    pub fn check_url(url: &str) -> Result<(), String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("expected postgres://user:password@host/database".to_owned());
        }
        match PgConnectOptions::from_str(url) {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Configuration(error)) => Err(error.to_string()),
            Err(_) => Err("cannot be read".to_owned()),
        }
    }

    /// Lazy: never fails because the server is away, only on a URL that is none. A statement
    /// may take 5 s, a wait for a lock 2 s.
    pub fn new(
        url: &str,
        max_connections: u32,
        acquire_timeout: Duration,
    ) -> Result<Self, PgError> {
        let options = PgConnectOptions::from_str(url)?.application_name("tidegate");
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(acquire_timeout)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(CONNECTION).await.map(|_| ()) })
            })
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options })
    }

    /// One round trip.
    pub async fn ping(&self) -> Result<(), PgError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Applies the migrations under an advisory lock and makes the partitions of today and the
    /// next week. Migrations of a newer version are left alone: old and new run side by side.
    pub async fn migrate(&self) -> Result<(), PgError> {
        // A connection of its own without time-outs: another process may hold the lock long.
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let mut migrator = Migrator {
            migrations: MIGRATIONS.migrations.clone(),
            ..Migrator::DEFAULT
        };
        migrator.set_ignore_missing(true);
        migrator
            .run(&mut connection)
            .await
            .map_err(migration_error)?;
        sqlx::query("SELECT make_partitions($1)")
            .bind(DAYS_AHEAD)
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    }

    /// True if the schema has everything this program was built with.
    pub async fn is_migrated(&self) -> Result<bool, PgError> {
        let table: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&self.pool)
            .await?;
        if !table {
            return Ok(false);
        }
        let applied: Vec<i64> =
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
                .fetch_all(&self.pool)
                .await?;
        Ok(MIGRATIONS
            .iter()
            .all(|migration| applied.contains(&migration.version)))
    }

    /// Closes the pool; waits for connections in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn migration_error(error: MigrateError) -> PgError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => PgError::Unexpected(sqlx::Error::Migrate(Box::new(other))),
    }
}
