//! A lane writes the partitions it was given, one transaction after the other.
//!
//! It never decides whose a partition is: the keeper gives and takes them. What a lane believes is
//! checked by every commit, so it may be wrong for a while without doing harm.
//!
//! Whatever does not get through is tried again, but never in the same way for ever: a transaction
//! that takes too long is halved, so is a read that is not answered in time, and partitions that
//! need a dead shard of Redis are set aside for the others.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use shared::{
    domain::{Kind, Partition, Persist, PersistRecord},
    postgres::{PartitionBatch, PgError, WriteError},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    aside::Aside,
    backoff::Backoff,
    each::each,
    pack::{self, Limits},
};
use crate::{
    context::Context,
    jobs::persist::{self, PersistError},
    metrics::{BATCH_FAILURES, BATCH_SIZE, BATCH_TIME, Cause, PERSISTED, TIME_TO_POSTGRES, Told},
};

/// Most records read of a partition that had few the last time.
const SIP: usize = 32;
/// Most records and most bytes a round holds in memory.
const ROUND: usize = 8192;
const ROUND_BYTES: usize = 16 * 1024 * 1024;
/// Least bytes a partition is asked for.
const LEAST_BYTES: usize = 16 * 1024;
/// Transactions after which one that was halved to nothing is as large as it may be: what made it
/// too long will not be over at once.
const GROWTH: usize = 64;

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
    /// The last read left something.
    full: bool,
    /// Most bytes it is asked for.
    bytes: usize,
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
    aside: Aside,
    /// Most records of a transaction for now.
    records: usize,
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
        aside: Aside::default(),
        records: context.settings.persist.batch_rows as usize,
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
        self.aside.release(Instant::now());
        if let Err(error) = self.claim().await {
            BATCH_FAILURES.of(Cause::Postgres).increment(1);
            self.context.outage.begins(&error);
            return Round::Failed;
        }
        self.report().await;
        let read = self.read().await;
        if read.is_empty() {
            return Round::Idle;
        }
        let limits = Limits {
            records: self.records,
            bytes: self.context.settings.persist.batch_bytes.bytes(),
        };
        for mut batches in pack::pack(read, limits) {
            // What was set aside on the way has no place in what follows.
            while self.leave_out_aside(&mut batches) {
                match self.write(&batches).await {
                    Ok(()) => break,
                    Err(PersistError::Untold { partitions, source }) => {
                        tracing::debug!(error = %source, "cannot tell senders");
                        self.set_aside(partitions);
                    }
                    Err(error) => return self.failed(error),
                }
            }
            self.report().await;
        }
        Round::Busy
    }

    /// False if nothing is left.
    fn leave_out_aside(&self, batches: &mut Vec<PartitionBatch>) -> bool {
        batches.retain(|batch| !self.aside.has(batch.partition));
        !batches.is_empty()
    }

    fn set_aside(&mut self, partitions: impl IntoIterator<Item = Partition>) {
        BATCH_FAILURES.of(Cause::Redis).increment(1);
        self.aside.add(partitions, Instant::now());
    }

    /// Takes leased partitions over in Postgres, and learns where they stand.
    async fn claim(&mut self) -> Result<(), PgError> {
        let leases: Vec<_> = self
            .leased
            .iter()
            .filter(|(partition, _)| !self.aside.has(**partition))
            .map(|(partition, token)| (*partition, *token))
            .collect();
        if leases.is_empty() {
            return Ok(());
        }
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
        let mut failed = Vec::new();
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
                            bytes: ROUND_BYTES,
                            unreported,
                        },
                    );
                }
                // Stays leased and is claimed again later.
                Err(error) => {
                    tracing::debug!(%partition, %error, "cannot raise the floor");
                    failed.push(partition);
                }
            }
        }
        if !failed.is_empty() {
            self.set_aside(failed);
        }
        Ok(())
    }

    /// Tells Redis what is committed: it makes room and rings for who waits. What fails here is
    /// told in a later round.
    async fn report(&mut self) {
        let unreported: Vec<(Partition, String)> = self
            .held
            .iter()
            .filter(|(partition, held)| held.unreported && !self.aside.has(**partition))
            .map(|(partition, held)| (*partition, held.position.clone()))
            .collect();
        let store = &self.context.store;
        let reported = each(unreported, |(partition, position)| {
            let store = store.clone();
            async move { (partition, store.persist_commit(partition, &position).await) }
        })
        .await;
        let mut failed = Vec::new();
        for (partition, result) in reported {
            match (result, self.held.get_mut(&partition)) {
                (Ok(()), Some(held)) => held.unreported = false,
                (Ok(()), None) => {}
                (Err(error), _) => {
                    tracing::debug!(%partition, %error, "cannot report a commit");
                    failed.push(partition);
                }
            }
        }
        if !failed.is_empty() {
            self.set_aside(failed);
        }
    }

    /// Reads what follows. Those that were full the last time get what room there is, the others a
    /// sip each: one busy partition is read in large pieces, all busy ones in small.
    async fn read(&mut self) -> Vec<PartitionBatch> {
        let awake = || {
            self.held
                .iter()
                .filter(|(partition, _)| !self.aside.has(**partition))
        };
        let full = awake().filter(|(_, held)| held.full).count();
        let most = self.context.settings.persist.batch_rows.max(SIP as u32) as usize;
        let gulp = (ROUND / full.max(1)).clamp(SIP, most);
        // Half of the bytes for either kind.
        let share = |among: usize| (ROUND_BYTES / 2 / among.max(1)).max(LEAST_BYTES);
        let (large, small) = (share(full), share(awake().count() - full));
        let wanted: Vec<_> = awake()
            .map(|(partition, held)| {
                let (records, bytes) = if held.full {
                    (gulp, large)
                } else {
                    (SIP, small)
                };
                (
                    *partition,
                    held.position.clone(),
                    records,
                    bytes.min(held.bytes),
                )
            })
            .collect();
        let store = &self.context.store;
        let read = each(wanted, |(partition, after, records, bytes)| {
            let store = store.clone();
            async move {
                let page = store
                    .persist_read(partition, &after, records as u32, bytes as u32)
                    .await;
                (partition, after, bytes, page)
            }
        })
        .await;
        let (mut batches, mut failed) = (Vec::new(), Vec::new());
        for (partition, after, asked, page) in read {
            let Some(held) = self.held.get_mut(&partition) else {
                continue;
            };
            match page {
                Ok(page) => {
                    held.full = page.more;
                    held.bytes = (held.bytes * 2).min(ROUND_BYTES);
                    if !page.records.is_empty() {
                        batches.push(PartitionBatch {
                            partition,
                            token: held.token,
                            after,
                            records: page.records,
                        });
                    }
                }
                Err(error) => {
                    tracing::debug!(%partition, %error, "cannot read a persist stream");
                    // Perhaps the answer was too long for its time.
                    held.bytes = (asked / 2).max(LEAST_BYTES);
                    failed.push(partition);
                }
            }
        }
        if !failed.is_empty() {
            self.set_aside(failed);
        }
        batches
    }

    async fn write(&mut self, batches: &[PartitionBatch]) -> Result<(), PersistError> {
        let began = Instant::now();
        persist::write(&self.context, batches).await?;
        self.context.outage.ends();
        BATCH_TIME.record(began.elapsed().as_secs_f64());
        let records: usize = batches.iter().map(|batch| batch.records.len()).sum();
        PERSISTED.increment(records as u64);
        BATCH_SIZE.record(records as f64);
        let most = self.context.settings.persist.batch_rows as usize;
        self.records = (self.records + most.div_ceil(GROWTH)).min(most);
        for record in batches.iter().flat_map(|batch| &batch.records) {
            if let (Some(at), Some(told)) = (record.at(), told(record)) {
                TIME_TO_POSTGRES
                    .of(told)
                    .record(self.context.age(at).as_secs_f64());
            }
        }
        for batch in batches {
            if let Some(held) = self.held.get_mut(&batch.partition) {
                batch.upto().clone_into(&mut held.position);
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
            error => {
                BATCH_FAILURES.of(Cause::Postgres).increment(1);
                if error.is_timeout() {
                    self.records = (self.records / 2).max(1);
                }
                self.context.outage.begins(&error);
                Round::Failed
            }
        }
    }
}

/// For the label of a metric.
fn told(record: &PersistRecord) -> Option<Told> {
    match &record.what {
        Persist::Entry(entry) => Some(match entry.kind {
            Kind::CommandNew => Told::Command,
            Kind::CommandStatus => Told::Status,
            Kind::MessageNew | Kind::MessageEdited | Kind::MessageDeleted => Told::Message,
            Kind::MessageDelivered | Kind::MessageRead => Told::Receipt,
            Kind::Preferences => Told::Preferences,
            Kind::Notification => Told::Notification,
            Kind::DirectoryChange => Told::Directory,
            Kind::Revocation => Told::Revocation,
        }),
        Persist::Delivered { .. } => Some(Told::Delivered),
        Persist::Received { .. } => Some(Told::Received),
        Persist::Seen { .. } => Some(Told::Seen),
        Persist::Unreadable { .. } => None,
    }
}
