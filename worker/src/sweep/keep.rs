//! What has ended goes to the archive, from there and from the record after its time.

use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::{
    domain::Timestamp,
    postgres::{PgError, Postgres},
};

use super::{Found, Progress, Sweep};
use crate::metrics::Step;

const PAGE: u32 = 500;
/// Pause between two pages.
const PACE: Duration = Duration::from_millis(50);
/// A day goes this much later: with the longest life of a command it ends when its last one is
/// due, and expiring that takes its time.
pub(super) const MARGIN: Duration = Duration::from_hours(48);

/// A page of a step, with the time now and the time before which what is archived is forgotten;
/// answers how many there were.
type Page = fn(&Postgres, now: Timestamp, old: Timestamp) -> BoxFuture<'_, Result<u64, PgError>>;

impl Sweep {
    /// Expired commands go to the archive.
    pub async fn archive(&self, done: &mut Found) -> anyhow::Result<()> {
        let direct: Page = |postgres, _, _| Box::pin(postgres.archive_expired(PAGE));
        let broadcasts: Page = |postgres, _, _| Box::pin(postgres.archive_expired_broadcasts(PAGE));
        done.archive_direct += self.all(Step::ArchiveDirect, direct).await?;
        done.archive_broadcasts += self.all(Step::ArchiveBroadcasts, broadcasts).await?;
        Ok(())
    }

    /// What was in the archive for `retention.archive` goes, and revocations that name no living
    /// token.
    pub async fn forget(&self, done: &mut Found) -> anyhow::Result<()> {
        let archived: Page = |postgres, _, old| Box::pin(postgres.forget_archived(old, PAGE));
        let revoked: Page = |postgres, now, _| Box::pin(postgres.forget_revocations(now, PAGE));
        done.forget_archived += self.all(Step::ForgetArchived, archived).await?;
        done.forget_revocations += self.all(Step::ForgetRevocations, revoked).await?;
        Ok(())
    }

    /// Page after page, until one is not full.
    async fn all(&self, step: Step, page: Page) -> anyhow::Result<u64> {
        let now = self.store.clock().now();
        let mut progress = Progress::new(step);
        loop {
            let done = page(&self.postgres, now, self.forgotten_before(now)).await?;
            progress.add(done);
            if done < u64::from(PAGE) {
                return Ok(progress.finish());
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Days older than `retention.record` go, unless something in them is open, and messages older
    /// than `retention.messages`.
    pub async fn drop_days(&self, done: &mut Found) -> anyhow::Result<()> {
        let kept = self.kept_from(self.store.time().await?);
        let result = self.postgres.drop_partitions_before(kept).await?;
        let mut progress = Progress::new(Step::DropTables);
        progress.add(result.dropped.len() as u64);
        progress.finish();
        if !result.dropped.is_empty() {
            tracing::info!(
                tables = result.dropped.join(" "),
                "dropped daily partitions"
            );
        }
        for day in &result.kept {
            tracing::warn!(%day, "a day is past its retention but has open commands");
        }
        done.drop_tables.extend(result.dropped);
        let kept = result.kept.iter().map(ToString::to_string);
        done.kept_days.extend(kept);
        Ok(())
    }
}
