//! What an absent Postgres means for readiness: before it was there once, no new work, for
//! nobody could log in and the schema might be another; afterwards the live part of the service goes on
//! without it, so the process is degraded, not unready.

use std::time::Duration;

use tokio::time::Instant;

use super::Check;
use crate::{lifecycle::Lifecycle, postgres::Postgres};

/// Pause between two questions while waiting for the first answer.
const WAIT: Duration = Duration::from_secs(1);
/// Pause between two questions afterwards.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// A result older than this means that asking itself hangs.
pub const MAX_AGE: Duration = Duration::from_secs(30);

/// Returns when Postgres answers and has this program's schema.
pub async fn reached(check: &Check, postgres: &Postgres) {
    loop {
        let began = Instant::now();
        match postgres.is_migrated().await {
            Ok(true) => return check.ok(began.elapsed()),
            Ok(false) => check.starting("the schema is not this program's: run `gateway migrate`"),
            Err(error) => {
                tracing::debug!(%error, "postgres was asked in vain");
                check.starting("postgres does not answer");
            }
        }
        tokio::time::sleep(WAIT).await;
    }
}

/// Asks over and over and tells the check, until the process stops.
pub async fn watch(check: Check, lifecycle: Lifecycle, postgres: Postgres) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = lifecycle.stopping() => return,
        }
        let began = Instant::now();
        match postgres.ping().await {
            Ok(()) => check.ok(began.elapsed()),
            Err(_) => check.degraded("postgres does not answer"),
        }
    }
}
