//! The write-behind: batches of persist records become rows.
//!
//! One transaction carries many partitions; each moves its own position, guarded by its own
//! token. So a crash anywhere leaves neither gap nor duplicate, and the transaction of a worker
//! that lost its lease fails as a whole. Positions are locked first and in order: two holders
//! of a partition never write at the same time, and rows are sorted by id within a statement.
//! They move last, and not at all where a record stands for more deliveries than a step may mark:
//! the step is committed, and the same batch begun again does the next one.
//!
//! Written in two steps, because what senders are told about state changes is appended to their
//! logs before the commit: [`Postgres::begin_batch`] writes and returns the changes,
//! [`PendingBatch::commit`] makes it last. Dropping a pending batch undoes it.

mod broadcasts;
mod fact;
mod inbox;
mod messages;
mod progress;
mod quarantine;
mod said;
mod seen;
mod statements;
mod states;

use sqlx::{Acquire as _, Postgres as Db, Transaction};

use super::{PgError, Postgres, WriteError};
use crate::domain::{CommandState, MessageId, Partition, PersistRecord, Timestamp, UserId};
use fact::{Fact, What};
use statements::Written;

/// Records of one partition, in the order of its persist stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionBatch {
    /// Which partition.
    pub partition: Partition,
    /// The token [`Postgres::claim_partitions`] gave.
    pub token: u64,
    /// The position the records follow.
    pub after: String,
    /// At least one.
    pub records: Vec<PersistRecord>,
}

impl PartitionBatch {
    /// The position once it is written.
    pub fn upto(&self) -> &str {
        self.records.last().map_or(&self.after, |record| &record.id)
    }
}

/// A command reached a state; its sender has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    /// Which command.
    pub command: MessageId,
    /// Who sent it.
    pub sender: UserId,
    /// Whose state of it.
    pub recipient: UserId,
    /// The state reached; never [`CommandState::Pending`].
    pub state: CommandState,
    /// When.
    pub at: Timestamp,
}

/// A record that could not be written and stands in `quarantine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    /// Of which partition.
    pub partition: Partition,
    /// Its id in the persist stream.
    pub record_id: String,
    /// Why; holds no content.
    pub reason: String,
}

/// A batch that is written but not committed.
#[must_use = "a pending batch is undone when it is dropped"]
#[derive(Debug)]
pub struct PendingBatch {
    transaction: Transaction<'static, Db>,
    /// State changes, delivered ones first. A change is told again if an earlier try got this
    /// far and was not committed; it may name a `delivered` that was told already.
    pub changes: Vec<StateChange>,
    /// What went to quarantine.
    pub buried: Vec<Buried>,
    /// The positions have moved. Otherwise the same batch has to be begun again after the commit.
    pub is_complete: bool,
}

impl PendingBatch {
    /// Makes it last.
    pub async fn commit(self) -> Result<(), WriteError> {
        Ok(self.transaction.commit().await?)
    }
}

impl Postgres {
    /// Writes the batches, or a step of them, and moves their positions, in a transaction left
    /// open.
    ///
    /// A row Postgres refuses is found by bisection and goes to `quarantine`; the rest is
    /// written. A day without a partition gets one. [`WriteError::Fenced`] names the partitions
    /// that are in other hands; nothing of the others is written then either.
    pub async fn begin_batch(
        &self,
        batches: &[PartitionBatch],
    ) -> Result<PendingBatch, WriteError> {
        let facts: Vec<Fact<'_>> = batches
            .iter()
            .flat_map(|batch| batch.records.iter().map(|record| (batch.partition, record)))
            .flat_map(|(partition, record)| fact::read(partition, record))
            .collect();
        let (bad, good): (Vec<_>, Vec<_>) = facts
            .into_iter()
            .partition(|fact| matches!(fact.what, What::Bad(_)));

        let mut transaction = self.pool.begin().await?;
        lock_positions(&mut transaction, batches).await?;
        let mut changes = Changes::default();
        let written = match statements::write(&mut transaction, &good, &mut changes).await {
            Ok(written) => written,
            // The failure ended the transaction. Once more, carefully.
            Err(error) if error.is_missing_day() || matches!(error, PgError::Rejected(_)) => {
                drop(transaction.rollback().await);
                return self.begin_carefully(batches, bad, good).await;
            }
            Err(error) => return Err(error.into()),
        };
        finish(transaction, batches, written, changes, &bad).await
    }

    /// Sees to it that every day has its partition, then writes with a savepoint around each
    /// part; halves what is refused until single records are left, which are buried.
    async fn begin_carefully(
        &self,
        batches: &[PartitionBatch],
        mut bad: Vec<Fact<'_>>,
        mut good: Vec<Fact<'_>>,
    ) -> Result<PendingBatch, WriteError> {
        let days = good.iter().filter_map(Fact::day).collect();
        let absurd = self.make_days(&days).await?;
        let told_of = good.iter().flat_map(Fact::days_told_of).collect();
        let there = self
            .make_days_still_kept("command_assignments", &told_of)
            .await?;
        let told_of = good.iter().filter_map(Fact::message_day_told_of).collect();
        let messages_there = self.make_days_still_kept("messages", &told_of).await?;
        for fact in &mut good {
            fact.keep_days(|day| there.contains(&day));
            fact.keep_message_days(|day| messages_there.contains(&day));
        }
        for mut fact in good.extract_if(.., |fact| {
            fact.day().is_some_and(|day| absurd.contains(&day))
        }) {
            fact.what = What::Bad("the id was minted more than a year from now".to_owned());
            bad.push(fact);
        }
        let mut transaction = self.pool.begin().await?;
        lock_positions(&mut transaction, batches).await?;
        let mut changes = Changes::default();
        let mut reasons = Vec::new();
        let mut parts = vec![(0, good.len())];
        while let Some((from, to)) = parts.pop() {
            let mut savepoint = transaction.begin().await?;
            let mut found = Changes::default();
            match statements::write(&mut savepoint, &good[from..to], &mut found).await {
                Ok(written) => {
                    savepoint.commit().await?;
                    changes.extend(found);
                    if written == Written::Step {
                        return finish(transaction, batches, written, changes, &bad).await;
                    }
                }
                Err(PgError::Rejected(error)) => {
                    savepoint.rollback().await?;
                    if to - from == 1 {
                        reasons.push((from, reason_of(&error)));
                    } else {
                        let middle = from.midpoint(to);
                        // The first half is popped first: the order of the stream is kept.
                        parts.push((middle, to));
                        parts.push((from, middle));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        for (index, reason) in reasons.into_iter().rev() {
            let mut fact = good.remove(index);
            fact.what = What::Bad(reason);
            bad.push(fact);
        }
        finish(transaction, batches, Written::All, changes, &bad).await
    }
}

/// What a batch changed, by the order in which senders are told.
#[derive(Debug, Default)]
struct Changes {
    delivered: Vec<StateChange>,
    ended: Vec<StateChange>,
}

impl Changes {
    fn extend(&mut self, other: Self) {
        self.delivered.extend(other.delivered);
        self.ended.extend(other.ended);
    }
}

/// Moves the positions and buries what is bad, unless there is more to do before.
async fn finish(
    mut transaction: Transaction<'static, Db>,
    batches: &[PartitionBatch],
    written: Written,
    mut changes: Changes,
    bad: &[Fact<'_>],
) -> Result<PendingBatch, WriteError> {
    let is_complete = written == Written::All;
    let mut buried = Vec::new();
    if is_complete {
        buried = quarantine::bury(&mut transaction, bad).await?;
        move_positions(&mut transaction, batches).await?;
    }
    changes.delivered.append(&mut changes.ended);
    Ok(PendingBatch {
        transaction,
        changes: changes.delivered,
        buried,
        is_complete,
    })
}

/// Locks the positions in order; fails if not all are ours.
async fn lock_positions(
    transaction: &mut Transaction<'static, Db>,
    batches: &[PartitionBatch],
) -> Result<(), WriteError> {
    let mut sorted: Vec<&PartitionBatch> = batches.iter().collect();
    sorted.sort_unstable_by_key(|batch| batch.partition);
    let ours: Vec<i32> = sqlx::query_scalar(
        r"SELECT ours.partition
           FROM unnest($1::int[], $2::text[], $3::bigint[]) AS batch(partition, after, token),
           LATERAL (
               SELECT held.partition FROM persist_positions held
               WHERE held.partition = batch.partition AND held.position = batch.after AND held.token <= batch.token
               FOR UPDATE
           ) AS ours",
    )
    .bind(numbers(&sorted))
    .bind(sorted.iter().map(|batch| batch.after.as_str()).collect::<Vec<_>>())
    .bind(sorted.iter().map(|batch| batch.token as i64).collect::<Vec<_>>())
    .fetch_all(&mut **transaction)
    .await?;
    if ours.len() == sorted.len() {
        return Ok(());
    }
    Err(WriteError::Fenced(
        sorted
            .iter()
            .map(|batch| batch.partition)
            .filter(|partition| !ours.contains(&i32::from(partition.0)))
            .collect(),
    ))
}

/// Moves positions that are locked.
async fn move_positions(
    transaction: &mut Transaction<'static, Db>,
    batches: &[PartitionBatch],
) -> Result<(), WriteError> {
    let batches: Vec<&PartitionBatch> = batches.iter().collect();
    sqlx::query(
        "UPDATE persist_positions AS held SET position = batch.upto, updated_at = now() \
         FROM unnest($1::int[], $2::text[]) AS batch(partition, upto) \
         WHERE held.partition = batch.partition",
    )
    .bind(numbers(&batches))
    .bind(batches.iter().map(|batch| batch.upto()).collect::<Vec<_>>())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn numbers(batches: &[&PartitionBatch]) -> Vec<i32> {
    batches
        .iter()
        .map(|batch| i32::from(batch.partition.0))
        .collect()
}

/// Code and message of a refusal. The detail, which quotes the row, stays out.
fn reason_of(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(refusal) => format!(
            "{}: {}",
            refusal.code().unwrap_or_default(),
            refusal.message()
        ),
        None => error.to_string(),
    }
}
