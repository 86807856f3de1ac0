//! Daily partitions: made a week ahead, dropped when nothing in them is open.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Executor, Row};
use time::Date;

use super::{PgError, Postgres, pool::DAYS_AHEAD};

/// The table that has a retention of its own.
const MESSAGES: &str = "messages";
/// Conversations that forget a day in one statement.
const DAYS_AT_ONCE: i64 = 5000;

/// For what a day is kept, table by table; each condition has its partial index. Recipients of
/// broadcasts have no time of their own and keep no day: what they confirmed does.
const NEEDED: [(&str, &str); 2] = [
    (
        "command_assignments",
        "state IN ('pending', 'delivered', 'expired') AND expires_at IS NOT NULL",
    ),
    (
        "commands",
        "broadcast <> 'user' AND (ended IS NULL OR ended = 'expired')",
    ),
];

/// The same without what only has to reach the archive.
const OPEN: [(&str, &str); 2] = [
    (
        "command_assignments",
        "state IN ('pending', 'delivered') AND expires_at IS NOT NULL",
    ),
    ("commands", "broadcast <> 'user' AND ended IS NULL"),
];

/// What is older than its day goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptFrom {
    /// Everything but messages.
    pub record: Date,
    /// Messages of conversations; they stay if there is none.
    pub messages: Option<Date>,
}

/// A daily partition.
struct Table {
    parent: String,
    name: String,
    detaching: bool,
}

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

    /// Sees to it that these days have their partitions, too, unless retention has gone past them.
    /// Answers every day there is of the table.
    pub(super) async fn make_days_still_kept(
        &self,
        table: &str,
        days: &BTreeSet<Date>,
    ) -> Result<BTreeSet<Date>, PgError> {
        let there = self.days(table).await?;
        let oldest = there.first().copied().unwrap_or(Date::MIN);
        let missing: BTreeSet<Date> = days
            .iter()
            .filter(|day| **day > oldest && !there.contains(day))
            .copied()
            .collect();
        if missing.is_empty() {
            return Ok(there);
        }
        self.make_days(&missing).await?;
        self.days(table).await
    }

    /// Days with a partition of the table that is not about to go.
    async fn days(&self, table: &str) -> Result<BTreeSet<Date>, PgError> {
        let days: Vec<Date> = sqlx::query_scalar(
            "SELECT day FROM daily_partitions WHERE parent = $1 AND NOT detaching",
        )
        .bind(table)
        .fetch_all(&self.pool)
        .await?;
        Ok(days.into_iter().collect())
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

    /// Old days as [`Postgres::drop_partitions_before`] would find them, if nothing that has expired
    /// waited for the archive any more. Changes nothing.
    pub async fn droppable_partitions(&self, kept: KeptFrom) -> Result<DroppedPartitions, PgError> {
        let mut found = DroppedPartitions::default();
        for (day, tables) in self.tables_before(kept).await? {
            if self.has_rows_that(&tables, OPEN).await? {
                found.kept.push(day);
            } else {
                found
                    .dropped
                    .extend(tables.into_iter().map(|table| table.name));
            }
        }
        Ok(found)
    }

    /// Drops the partitions of old days. A day whose commands have not all ended, or of which some
    /// wait for the archive, is kept with all its tables.
    pub async fn drop_partitions_before(
        &self,
        kept: KeptFrom,
    ) -> Result<DroppedPartitions, PgError> {
        let mut result = DroppedPartitions::default();
        for (day, tables) in self.tables_before(kept).await? {
            if self.has_rows_that(&tables, NEEDED).await? {
                result.kept.push(day);
                continue;
            }
            for Table {
                parent,
                name,
                detaching,
            } in tables
            {
                if parent == MESSAGES {
                    self.forget_day(day).await?;
                }
                self.drop_partition(&parent, &name, detaching).await?;
                result.dropped.push(name);
            }
        }
        Ok(result)
    }

    async fn tables_before(&self, kept: KeptFrom) -> Result<BTreeMap<Date, Vec<Table>>, PgError> {
        let mut days: BTreeMap<Date, Vec<Table>> = BTreeMap::new();
        let rows = sqlx::query(
            "SELECT parent, name, day, detaching FROM daily_partitions \
             WHERE day < CASE WHEN parent = $1 THEN $2 ELSE $3 END",
        )
        .bind(MESSAGES)
        .bind(kept.messages)
        .bind(kept.record)
        .fetch_all(&self.pool)
        .await?;
        for row in rows {
            days.entry(row.try_get("day")?).or_default().push(Table {
                parent: row.try_get("parent")?,
                name: row.try_get("name")?,
                detaching: row.try_get("detaching")?,
            });
        }
        // `commands` last: should dropping stop halfway, no assignment lacks its command.
        for tables in days.values_mut() {
            tables.sort_by(|a, b| {
                (a.parent == "commands", &a.parent).cmp(&(b.parent == "commands", &b.parent))
            });
        }
        Ok(days)
    }

    /// Nothing was said on this day in any conversation, as far as anybody knows from now on.
    async fn forget_day(&self, day: Date) -> Result<(), PgError> {
        loop {
            let gone = sqlx::query(
                "DELETE FROM conversation_days WHERE (conversation_id, day) IN \
                 (SELECT conversation_id, day FROM conversation_days WHERE day = $1 LIMIT $2)",
            )
            .bind(day)
            .bind(DAYS_AT_ONCE)
            .execute(&self.pool)
            .await?;
            if gone.rows_affected() < DAYS_AT_ONCE as u64 {
                return Ok(());
            }
        }
    }

    async fn has_rows_that(
        &self,
        tables: &[Table],
        conditions: [(&str, &str); 2],
    ) -> Result<bool, PgError> {
        for (parent, condition) in conditions {
            let Some(table) = tables.iter().find(|table| table.parent == parent) else {
                continue;
            };
            let found = sqlx::query_scalar(AssertSqlSafe(format!(
                "SELECT EXISTS (SELECT FROM {} WHERE {condition})",
                table.name
            )))
            .persistent(false)
            .fetch_one(&self.pool)
            .await?;
            if found {
                return Ok(true);
            }
        }
        Ok(false)
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
