//! Daily partitions: made a week ahead, dropped when nothing in them is open.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Executor, Row};
use time::Date;

use super::{PgError, Postgres, pool::DAYS_AHEAD};

/// What [`Postgres::drop_partitions_before`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DroppedPartitions {
    /// Names of the dropped tables.
    pub dropped: Vec<String>,
    /// Days that are old enough but still have open commands.
    pub kept: Vec<Date>,
}

impl Postgres {
    /// Makes the partitions up to a week ahead; returns how many it made.
    pub async fn make_partitions(&self) -> Result<u32, PgError> {
        let made: i32 = sqlx::query_scalar("SELECT make_partitions($1)")
            .bind(DAYS_AHEAD)
            .fetch_one(&self.pool)
            .await?;
        Ok(made as u32)
    }

    /// Makes the partitions of these days; answers those that are too far from today (a year) to
    /// be true.
    pub(super) async fn make_days(&self, days: &BTreeSet<Date>) -> Result<Vec<Date>, PgError> {
        let days: Vec<Date> = days.iter().copied().collect();
        Ok(sqlx::query_scalar("SELECT make_days($1)")
            .bind(days)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Whole days after today for which every table has a partition. Below 0: writing fails.
    pub async fn partition_days_ahead(&self) -> Result<i32, PgError> {
        let days: Option<i32> = sqlx::query_scalar(
            "SELECT min(last) - (now() AT TIME ZONE 'UTC')::date \
             FROM (SELECT max(day) AS last FROM daily_partitions GROUP BY parent) AS lasts",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(days.unwrap_or(-1))
    }

    /// Drops the partitions of days before `day`. A day whose commands have not all ended is
    /// kept, with all its tables.
    pub async fn drop_partitions_before(&self, day: Date) -> Result<DroppedPartitions, PgError> {
        let mut days: BTreeMap<Date, Vec<(String, String, bool)>> = BTreeMap::new();
        for row in
            sqlx::query("SELECT parent, name, day, detaching FROM daily_partitions WHERE day < $1")
                .bind(day)
                .fetch_all(&self.pool)
                .await?
        {
            days.entry(row.try_get("day")?).or_default().push((
                row.try_get("parent")?,
                row.try_get("name")?,
                row.try_get("detaching")?,
            ));
        }
        let mut result = DroppedPartitions::default();
        for (day, mut tables) in days {
            if self.has_open_commands(&tables).await? {
                result.kept.push(day);
                continue;
            }
            // `commands` last: should this stop halfway, no assignment lacks its command.
            tables.sort_by(|a, b| (a.0 == "commands", &a.0).cmp(&(b.0 == "commands", &b.0)));
            for (parent, name, detaching) in tables {
                self.drop_partition(&parent, &name, detaching).await?;
                result.dropped.push(name);
            }
        }
        Ok(result)
    }

    async fn has_open_commands(&self, tables: &[(String, String, bool)]) -> Result<bool, PgError> {
        let Some((_, name, _)) = tables
            .iter()
            .find(|(parent, ..)| parent == "command_assignments")
        else {
            return Ok(false);
        };
        // The condition of the partial index; expired ones still have to reach the archive.
        let open = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT EXISTS (SELECT FROM {name} WHERE state IN ('pending', 'delivered', 'expired'))"
        )))
        .persistent(false)
        .fetch_one(&self.pool)
        .await?;
        Ok(open)
    }

    /// Detaching concurrently leaves readers and writers alone, but waits for the transactions
    /// that run; it cannot be part of one itself.
    async fn drop_partition(
        &self,
        parent: &str,
        name: &str,
        detaching: bool,
    ) -> Result<(), PgError> {
        let how = if detaching {
            "FINALIZE"
        } else {
            "CONCURRENTLY"
        };
        let mut connection = self.pool.acquire().await?;
        connection
            .execute("SET statement_timeout = '60s'; SET lock_timeout = '60s'")
            .await?;
        let detached = connection
            .execute(sqlx::raw_sql(AssertSqlSafe(format!(
                "ALTER TABLE {parent} DETACH PARTITION {name} {how}"
            ))))
            .await;
        let dropped = match detached {
            Ok(_) => {
                connection
                    .execute(sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE {name}"))))
                    .await
            }
            failed => failed,
        };
        // A connection with these time-outs does not go back to the pool.
        connection.close().await?;
        dropped?;
        Ok(())
    }
}
