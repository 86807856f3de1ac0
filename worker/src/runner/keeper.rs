//! Holds this worker's fair share of the partitions by leases, and hands them to the lanes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use shared::{
    domain::{Partition, Timestamp},
    redis::StoreError,
};
use tokio::sync::{mpsc, oneshot};

use super::{each::each, lane::Order, share};
use crate::{
    context::{Context, WORKER_PREFIX},
    metrics::{BACKLOG, BACKLOG_AGE, OUTAGE, OWNED},
};

struct Keeper {
    context: Arc<Context>,
    lanes: Vec<mpsc::Sender<Order>>,
    /// Partitions that are ours, with the tokens of their leases.
    owned: BTreeMap<Partition, u64>,
    /// Workers alive at the last look, this one included.
    alive: usize,
    /// Partitions whose leases could not be asked for the last time.
    unreachable: BTreeSet<Partition>,
}

/// Starts the keeper.
pub fn start(
    context: &Arc<Context>,
    lanes: Vec<mpsc::Sender<Order>>,
    lost: mpsc::Receiver<Partition>,
) {
    let keeper = Keeper {
        context: context.clone(),
        lanes,
        owned: BTreeMap::new(),
        alive: 1,
        unreachable: BTreeSet::new(),
    };
    context
        .lifecycle
        .spawn_essential("keeper", keeper.run(lost));
}

impl Keeper {
    async fn run(mut self, mut lost: mpsc::Receiver<Partition>) {
        let context = self.context.clone();
        let ttl = context.settings.persist.lease_ttl;
        // Three tries within the life of a lease.
        let mut tick = tokio::time::interval(ttl / 3);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    self.look().await;
                    self.measure().await;
                }
                Some(partition) = lost.recv() => self.look_after(partition).await,
                () = context.lifecycle.stopping() => break,
            }
        }
        self.leave().await;
    }

    /// Renews what we own, gives up what is too much, takes what is missing. A shard that is away
    /// keeps us from what it has, not from the rest.
    async fn look(&mut self) {
        let context = self.context.clone();
        let ttl = context.settings.persist.lease_ttl;
        let shown = context
            .store
            .node_heartbeat(&context.me, context.incarnation, ttl)
            .await;
        if let Err(error) = shown {
            tracing::debug!(%error, "cannot show that this worker lives");
        }
        let owned: Vec<Partition> = self.owned.keys().copied().collect();
        for (partition, answer) in self.lease(owned).await {
            match answer {
                Ok(token) => self.settle(partition, token).await,
                // Still ours as far as anybody knows; the lease ends by itself.
                Err(error) => tracing::debug!(%partition, %error, "cannot renew a lease"),
            }
        }
        match self.workers_alive().await {
            Ok(alive) => self.alive = alive,
            Err(error) => tracing::debug!(%error, "cannot count the workers, as many as before"),
        }
        let fair = share::fair(context.store.partitions(), self.alive);
        let surplus: Vec<Partition> = self
            .owned
            .keys()
            .rev()
            .take(self.owned.len().saturating_sub(fair))
            .copied()
            .collect();
        if !surplus.is_empty() {
            tracing::info!(
                given = surplus.len(),
                fair,
                "giving partitions to other workers"
            );
        }
        self.give_back(surplus).await;
        self.take_up_to(fair).await;
        OWNED.set(self.owned.len() as f64);
    }

    /// Workers that are alive, this one included.
    async fn workers_alive(&self) -> Result<usize, StoreError> {
        let nodes = self.context.store.nodes().await?;
        let others = nodes.iter().filter(|(node, _, alive)| {
            *alive && *node != self.context.me && node.as_str().starts_with(WORKER_PREFIX)
        });
        Ok(1 + others.count())
    }

    async fn take_up_to(&mut self, fair: usize) {
        let before = self.owned.len();
        let context = self.context.clone();
        let mut missing: Vec<Partition> = share::order(context.store.partitions(), &context.me)
            .filter(|partition| !self.owned.contains_key(partition))
            .collect();
        // Asking a shard that is away takes a while: last, and not until our leases end.
        missing.sort_by_key(|partition| self.unreachable.contains(partition));
        let deadline = Instant::now() + context.settings.persist.lease_ttl / 3;
        while self.owned.len() < fair && !missing.is_empty() && Instant::now() < deadline {
            let tried = missing
                .drain(..missing.len().min(fair - self.owned.len()))
                .collect();
            for (partition, answer) in self.lease(tried).await {
                match answer {
                    Ok(token) => {
                        self.unreachable.remove(&partition);
                        if token.is_some() {
                            self.settle(partition, token).await;
                        }
                    }
                    Err(_) => {
                        self.unreachable.insert(partition);
                    }
                }
            }
        }
        if self.owned.len() > before {
            tracing::info!(
                taken = self.owned.len() - before,
                owned = self.owned.len(),
                fair,
                "took partitions"
            );
        }
    }

    async fn lease(
        &self,
        partitions: Vec<Partition>,
    ) -> Vec<(Partition, Result<Option<u64>, StoreError>)> {
        let context = &self.context;
        each(partitions, |partition| {
            let context = context.clone();
            async move {
                let ttl = context.settings.persist.lease_ttl;
                (
                    partition,
                    context
                        .store
                        .lease(&lease_name(partition), &context.me, ttl)
                        .await,
                )
            }
        })
        .await
    }

    /// Follows what Redis says about a lease.
    async fn settle(&mut self, partition: Partition, token: Option<u64>) {
        match token {
            Some(token) if self.owned.get(&partition) == Some(&token) => {}
            // New, or it was somebody else's in between.
            Some(token) => {
                self.owned.insert(partition, token);
                self.order(partition, Order::Take(partition, token)).await;
            }
            None => {
                self.owned.remove(&partition);
                tracing::warn!(%partition, "lost a lease");
                // Nobody waits for the answer: fencing keeps the lane from doing harm.
                self.order(partition, Order::Give(partition, oneshot::channel().0))
                    .await;
            }
        }
    }

    /// A lane was fenced: is the partition still ours?
    async fn look_after(&mut self, partition: Partition) {
        if self.owned.remove(&partition).is_none() {
            return;
        }
        for (partition, answer) in self.lease(vec![partition]).await {
            // On an error it is forgotten here; the next look takes it if it is free.
            if let Ok(Some(token)) = answer {
                self.settle(partition, Some(token)).await;
            }
        }
    }

    async fn give_back(&mut self, partitions: Vec<Partition>) {
        if partitions.is_empty() {
            return;
        }
        for partition in &partitions {
            self.owned.remove(partition);
        }
        self.take_from_lanes(&partitions).await;
        let context = &self.context;
        // A lease that cannot be released ends by itself.
        each(partitions, |partition| {
            let context = context.clone();
            async move {
                context
                    .store
                    .release(&lease_name(partition), &context.me)
                    .await
            }
        })
        .await;
    }

    /// Waits until lanes have finished what they were doing with them; not so long that our other
    /// leases end.
    async fn take_from_lanes(&self, partitions: &[Partition]) {
        let mut answers = Vec::new();
        for partition in partitions {
            let (done, gone) = oneshot::channel();
            self.order(*partition, Order::Give(*partition, done)).await;
            answers.push(gone);
        }
        let all = futures_util::future::join_all(answers);
        if tokio::time::timeout(self.context.settings.persist.lease_ttl / 3, all)
            .await
            .is_err()
        {
            tracing::warn!("a lane does not let go of a partition in time; fencing will");
        }
    }

    async fn order(&self, partition: Partition, order: Order) {
        let lane = &self.lanes[usize::from(partition.0) % self.lanes.len()];
        // A lane that has ended ends the process.
        let _ = lane.send(order).await;
    }

    /// How much waits in our partitions.
    async fn measure(&self) {
        let store = &self.context.store;
        let backlogs = each(self.owned.keys().copied().collect(), |partition| {
            let store = store.clone();
            async move { store.persist_backlog(partition).await.ok() }
        })
        .await;
        let backlogs: Vec<(u64, Option<Timestamp>)> = backlogs.into_iter().flatten().collect();
        let oldest = backlogs.iter().filter_map(|(_, oldest)| *oldest).min();
        BACKLOG.set(backlogs.iter().map(|(count, _)| *count).sum::<u64>() as f64);
        BACKLOG_AGE.set(oldest.map_or(0.0, |oldest| self.context.age(oldest).as_secs_f64()));
        OUTAGE.set(f64::from(u8::from(self.context.outage.is_on())));
    }

    /// Lanes finish what they are at, then everything may be taken by others at once.
    async fn leave(mut self) {
        let owned: Vec<Partition> = self.owned.keys().copied().collect();
        let count = owned.len();
        self.give_back(owned).await;
        // It would lapse by itself, and then be reaped; a worker leaves nothing to reap.
        let Context {
            store,
            me,
            incarnation,
            ..
        } = &*self.context;
        let _ = store.node_leave(me, *incarnation).await;
        let _ = store.forget_node(me, *incarnation).await;
        tracing::info!(partitions = count, "gave all partitions back");
    }
}

fn lease_name(partition: Partition) -> String {
    format!("partition:{}", partition.0)
}
