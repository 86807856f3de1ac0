//! What a sweep would do, or has done.

use std::fmt;

use shared::domain::Timestamp;

use super::Sweep;

/// Numbers of each step. [`Sweep::look`] and [`Sweep::run`] answer the same while nothing else
/// happens; only a run that takes long leaves some of what is due to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Direct commands whose time is over.
    pub expire_direct: u64,
    /// Broadcasts whose time is over.
    pub expire_broadcasts: u64,
    /// Of both sorts, those that have to wait: Postgres is behind, so they may have ended.
    pub left_behind: u64,
    /// The time of the one that is overdue the longest; only counted, not done.
    pub oldest_due: Option<Timestamp>,
    /// Expired direct commands that go to the archive.
    pub archive_direct: u64,
    /// Expired broadcasts that go to the archive.
    pub archive_broadcasts: u64,
    /// Archived commands that are forgotten.
    pub forget_archived: u64,
    /// When the oldest of these was archived; only counted, not done.
    pub oldest_archived: Option<Timestamp>,
    /// Revocations that are forgotten.
    pub forget_revocations: u64,
    /// Daily tables that are dropped.
    pub drop_tables: Vec<String>,
    /// Days that are old enough, and stay because something in them is open.
    pub kept_days: Vec<String>,
}

impl Found {
    pub(super) fn is_due(&mut self, at: Timestamp) {
        self.oldest_due = Some(self.oldest_due.map_or(at, |oldest| oldest.min(at)));
    }
}

impl Sweep {
    /// What [`Sweep::run`] would do now. Changes nothing.
    pub async fn look(&self) -> anyhow::Result<Found> {
        let mut found = Found::default();
        self.count_due(&mut found).await?;
        let now = self.store.clock().now();
        let old = self.forgotten_before(now);
        let rest = self.postgres.sweepable(now, old).await?;
        let kept = self.kept_from(self.store.time().await?);
        let days = self.postgres.droppable_partitions(kept).await?;
        Ok(Found {
            archive_direct: rest.archive_direct,
            archive_broadcasts: rest.archive_broadcasts,
            forget_archived: rest.forget_archived,
            oldest_archived: rest.oldest_archived,
            forget_revocations: rest.forget_revocations,
            drop_tables: days.dropped,
            kept_days: days.kept.iter().map(ToString::to_string).collect(),
            ..found
        })
    }
}

/// For a terminal: a line each, and the names of tables and days.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, count: u64, oldest: Option<Timestamp>| {
            write!(f, "{what:<36}{count:>12}")?;
            if let Some(oldest) = oldest {
                write!(f, "   oldest {oldest}")?;
            }
            writeln!(f)
        };
        line(
            "direct commands to expire",
            self.expire_direct,
            self.oldest_due,
        )?;
        line("broadcasts to expire", self.expire_broadcasts, None)?;
        line("due, but postgres is behind", self.left_behind, None)?;
        line("direct commands to archive", self.archive_direct, None)?;
        line("broadcasts to archive", self.archive_broadcasts, None)?;
        let oldest = self.oldest_archived;
        line("archived commands to forget", self.forget_archived, oldest)?;
        line("revocations to forget", self.forget_revocations, None)?;
        line("daily tables to drop", self.drop_tables.len() as u64, None)?;
        for table in &self.drop_tables {
            writeln!(f, "  {table}")?;
        }
        for day in &self.kept_days {
            writeln!(f, "{day} stays: commands in it are open")?;
        }
        Ok(())
    }
}
