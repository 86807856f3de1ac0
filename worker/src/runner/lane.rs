//! A lane writes the partitions it was given, one transaction after the other.
//!
//! It never decides whose a partition is: the keeper gives and takes them. What a lane believes is
//! checked by every commit, so it may be wrong for a while without doing harm.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use shared::{
    domain::{Partition, Timestamp},
    postgres::{PartitionBatch, PgError, WriteError},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    backoff::Backoff,
    each::each,
    pack::{self, Limits},
};
use crate::{
    context::Context,
    jobs::persist::{self, PersistError},
    metrics::{BATCH_FAILURES, BATCH_SIZE, BATCH_TIME, Cause, PERSISTED, TIME_TO_POSTGRES},
};

/// Most records read of a partition that had few the last time.
const SIP: usize = 32;
/// Most records a round holds in memory.
const ROUND: usize = 8192;

/// What the keeper says.
pub enum Order {
    /// This partition is ours by a lease with this token.
    Take(Partition, u64),
    /// It is not any more, or shall not be. Answered when nothing of it is under way.
    Give(Partition, oneshot::Sender<()>),
}

/// A partition in the lane's hands.
struct Held {
    token: u64,
    /// The last record that is committed.
    position: String,
    /// The last read found as much as it asked for.
    full: bool,
    /// Redis has not heard of the last commit.
    unreported: bool,
}

enum Round {
    /// There may be more at once.
    Busy,
    /// Nothing was there.
    Idle,
    /// Try again, later.
    Failed,
}

struct Lane {
    context: Arc<Context>,
    /// Leased but not yet claimed in Postgres.
    leased: BTreeMap<Partition, u64>,
    held: BTreeMap<Partition, Held>,
    /// Partitions somebody else has written: the keeper looks who owns them.
    lost: mpsc::Sender<Partition>,
}

/// Starts a lane.
pub fn start(context: &Arc<Context>, lost: mpsc::Sender<Partition>) -> mpsc::Sender<Order> {
    let (orders_in, orders) = mpsc::channel(usize::from(context.store.partitions().0));
    let lane = Lane {
        context: context.clone(),
        leased: BTreeMap::new(),
        held: BTreeMap::new(),
        lost,
    };
    context.lifecycle.spawn_essential("lane", lane.run(orders));
    orders_in
}

impl Lane {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let context = self.context.clone();
        let life = &context.lifecycle;
        let mut backoff = Backoff::default();
        while !life.is_stopping() {
            while let Ok(order) = orders.try_recv() {
                self.obey(order);
            }
            let pause = match self.round().await {
                Round::Busy => {
                    backoff.worked();
                    Duration::ZERO
                }
                Round::Idle => {
                    backoff.worked();
                    context.settings.persist.poll_interval
                }
                Round::Failed => backoff.failed(&mut rand::rng()),
            };
            if pause > Duration::ZERO {
                tokio::select! {
                    order = orders.recv() => match order {
                        Some(order) => self.obey(order),
                        None => return,
                    },
                    () = tokio::time::sleep(pause) => {}
                    () = life.stopping() => {}
                }
            }
        }
        // The keeper asks for every partition before it gives back the leases.
        while let Some(order) = orders.recv().await {
            self.obey(order);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Take(partition, token) => {
                self.held.remove(&partition);
                self.leased.insert(partition, token);
            }
            Order::Give(partition, done) => {
                self.leased.remove(&partition);
                self.held.remove(&partition);
                let _ = done.send(());
            }
        }
    }

    async fn round(&mut self) -> Round {
        if let Err(error) = self.claim().await {
            BATCH_FAILURES.of(Cause::Postgres).increment(1);
            self.context.outage.begins(&error);
            return Round::Failed;
        }
        self.report().await;
        let read = match self.read().await {
            Ok(read) => read,
            Err(error) => {
                BATCH_FAILURES.of(Cause::Redis).increment(1);
                tracing::debug!(%error, "cannot read persist streams");
                return Round::Failed;
            }
        };
        if read.is_empty() {
            return Round::Idle;
        }
        let settings = &self.context.settings.persist;
        let limits = Limits {
            records: settings.batch_rows as usize,
            bytes: settings.batch_bytes.bytes(),
        };
        for batches in pack::pack(read, limits) {
            if let Err(error) = self.write(&batches).await {
                return self.failed(error);
            }
            self.report().await;
        }
        Round::Busy
    }

    /// Takes leased partitions over in Postgres, and learns where they stand.
    async fn claim(&mut self) -> Result<(), PgError> {
        if self.leased.is_empty() {
            return Ok(());
        }
        let leases: Vec<_> = self
            .leased
            .iter()
            .map(|(partition, token)| (*partition, *token))
            .collect();
        let claimed = self.context.postgres.claim_partitions(&leases).await?;
        let claimed = leases
            .into_iter()
            .map(|(partition, _)| partition)
            .zip(claimed)
            .collect();
        // Redis may have lost its data and would give out ids that count as written.
        let store = &self.context.store;
        let raised = each(
            claimed,
            |(partition, (token, position)): (Partition, (u64, String))| {
                let store = store.clone();
                async move {
                    let raised = store.persist_floor(partition, &position).await;
                    (partition, token, position, raised)
                }
            },
        )
        .await;
        for (partition, token, position, raised) in raised {
            match raised {
                Ok(()) => {
                    self.leased.remove(&partition);
                    let unreported = position != "0-0";
                    self.held.insert(
                        partition,
                        Held {
                            token,
                            position,
                            full: false,
                            unreported,
                        },
                    );
                }
                // Stays leased and is claimed again in the next round.
                Err(error) => tracing::debug!(%partition, %error, "cannot raise the floor"),
            }
        }
        Ok(())
    }

    /// Tells Redis what is committed: it makes room and rings for who waits. What fails here is
    /// told in the next round.
    async fn report(&mut self) {
        let unreported: Vec<(Partition, String)> = self
            .held
            .iter()
            .filter(|(_, held)| held.unreported)
            .map(|(partition, held)| (*partition, held.position.clone()))
            .collect();
        let store = &self.context.store;
        let reported = each(unreported, |(partition, position)| {
            let store = store.clone();
            async move { (partition, store.persist_commit(partition, &position).await) }
        })
        .await;
        for (partition, result) in reported {
            match (result, self.held.get_mut(&partition)) {
                (Ok(()), Some(held)) => held.unreported = false,
                (Ok(()), None) => {}
                (Err(error), _) => tracing::debug!(%partition, %error, "cannot report a commit"),
            }
        }
    }

    /// Reads what follows. Those that were full the last time get what room there is, the others a
    /// sip each: one busy partition is read in large pieces, all busy ones in small.
    async fn read(&mut self) -> Result<Vec<PartitionBatch>, shared::redis::StoreError> {
        let full = self.held.values().filter(|held| held.full).count();
        let gulp = (ROUND / full.max(1)).clamp(
            SIP,
            self.context.settings.persist.batch_rows.max(SIP as u32) as usize,
        );
        let (mut more, mut less) = (Vec::new(), Vec::new());
        for (partition, held) in &self.held {
            let wanted = if held.full { &mut more } else { &mut less };
            wanted.push((*partition, held.position.clone()));
        }
        let mut batches = Vec::new();
        for (wanted, count) in [(more, gulp), (less, SIP)] {
            if wanted.is_empty() {
                continue;
            }
            let read = self
                .context
                .store
                .persist_read_many(&wanted, count as u32)
                .await?;
            for ((partition, after), records) in wanted.into_iter().zip(read) {
                let Some(held) = self.held.get_mut(&partition) else {
                    continue;
                };
                held.full = records.len() >= count;
                if !records.is_empty() {
                    batches.push(PartitionBatch {
                        partition,
                        token: held.token,
                        after,
                        records,
                    });
                }
            }
        }
        Ok(batches)
    }

    async fn write(&mut self, batches: &[PartitionBatch]) -> Result<(), PersistError> {
        let began = Instant::now();
        persist::write(&self.context, batches).await?;
        self.context.outage.ends();
        BATCH_TIME.record(began.elapsed().as_secs_f64());
        let records: usize = batches.iter().map(|batch| batch.records.len()).sum();
        PERSISTED.increment(records as u64);
        BATCH_SIZE.record(records as f64);
        let oldest = batches
            .iter()
            .filter_map(|batch| appended_at(&batch.records.first()?.id))
            .min();
        if let Some(oldest) = oldest {
            TIME_TO_POSTGRES.record(self.context.age(oldest).as_secs_f64());
        }
        for batch in batches {
            if let (Some(held), Some(last)) =
                (self.held.get_mut(&batch.partition), batch.records.last())
            {
                held.position.clone_from(&last.id);
                held.unreported = true;
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: PersistError) -> Round {
        match error {
            PersistError::Postgres(WriteError::Fenced(partitions)) => {
                BATCH_FAILURES.of(Cause::Fenced).increment(1);
                tracing::warn!(
                    partitions = partitions.len(),
                    "fenced: somebody else wrote these partitions"
                );
                for partition in partitions {
                    self.held.remove(&partition);
                    // Has room for every partition, see where it is made.
                    let _ = self.lost.try_send(partition);
                }
                Round::Busy
            }
            PersistError::Postgres(error) => {
                BATCH_FAILURES.of(Cause::Postgres).increment(1);
                self.context.outage.begins(&error);
                Round::Failed
            }
            PersistError::Redis(error) => {
                BATCH_FAILURES.of(Cause::Redis).increment(1);
                tracing::debug!(%error, "cannot tell senders");
                Round::Failed
            }
        }
    }
}

/// When a record was appended, by the clock of Redis: the first half of its id.
fn appended_at(record_id: &str) -> Option<Timestamp> {
    record_id.split('-').next()?.parse().ok().map(Timestamp)
}
