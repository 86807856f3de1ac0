//! Does what is published arrive? Asked through the same connections that carry real bells; and
//! where it does not, whether the shard answers at all, so that a deaf subscriber is told from a
//! dead server.

use std::time::Duration;

use fred::types::Value;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{
    bells::Bells,
    error::StoreError,
    keys::{self, Channel},
    store::Store,
};
use crate::domain::Partition;

/// A probe that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// What became of the probe of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// The bell rang, so long after it was asked for.
    Heard(Duration),
    /// The shard takes what is published, but the bell did not ring: the fault is likely this
    /// process's own.
    Deaf,
    /// The shard takes nothing (it is away, or the Cluster is down): for everybody, as far as can be
    /// told.
    Silent,
}

impl Echo {
    /// True if the bell rang.
    pub fn is_heard(self) -> bool {
        matches!(self, Self::Heard(_))
    }
}

impl Store {
    /// Sends a probe through publish -> subscribe on each shard; one is lost after 3 s.
    pub async fn probe(&self, bells: &Bells) -> Vec<Echo> {
        let probes = self.served().into_iter().map(|partition| async move {
            // A master that serves no partition has nothing to lose.
            let Some(partition) = partition else {
                return Echo::Heard(Duration::ZERO);
            };
            match timeout(PATIENCE, self.probe_one(bells, partition)).await {
                Ok(Ok(latency)) => Echo::Heard(latency),
                // Asked only now: what counts is whether it publishes while bells are missing.
                _ if self.publishes(bells, partition).await => Echo::Deaf,
                _ => Echo::Silent,
            }
        });
        join_all(probes).await
    }

    /// Asks each shard for a key: for processes that hear no bells. Only [`Echo::Heard`], here how
    /// long the answer took, and [`Echo::Silent`].
    pub async fn ask_shards(&self) -> Vec<Echo> {
        let asked = self.served().into_iter().map(|partition| async move {
            let Some(partition) = partition else {
                return Echo::Heard(Duration::ZERO);
            };
            let (asked, key) = (Instant::now(), keys::meta(partition));
            match timeout(PATIENCE, self.command("EXISTS", &key, Vec::new())).await {
                Ok(Ok(_)) => Echo::Heard(asked.elapsed()),
                _ => Echo::Silent,
            }
        });
        join_all(asked).await
    }

    /// A partition of each shard; a master may serve none.
    fn served(&self) -> Vec<Option<Partition>> {
        let Ok(topology) = self.topology() else {
            return Vec::new();
        };
        let served_by = |shard| {
            (0..self.partitions().0)
                .map(Partition)
                .find(|partition| topology.shard_of(*partition) == Some(shard))
        };
        (0..topology.nodes.len()).map(served_by).collect()
    }

    /// Whether the shard takes a publication that nobody waits for.
    async fn publishes(&self, bells: &Bells, partition: Partition) -> bool {
        let channel = Channel::Probe(partition).name(&bells.ears.name);
        let published = self.command("SPUBLISH", &channel, vec![Value::from("0")]);
        timeout(PATIENCE, published)
            .await
            .is_ok_and(|answer| answer.is_ok())
    }

    async fn probe_one(&self, bells: &Bells, partition: Partition) -> Result<Duration, StoreError> {
        let channel = Channel::Probe(partition);
        bells.ears.subscribe(channel).await?;
        let sent = Instant::now();
        let (token, heard) = bells.ears.expect_probe();
        let channel = channel.name(&bells.ears.name);
        self.command("SPUBLISH", &channel, vec![Value::from(token.to_string())])
            .await?;
        heard
            .await
            .map_err(|_| StoreError::Unknown("the subscriber is closed".into()))?;
        Ok(sent.elapsed())
    }
}
