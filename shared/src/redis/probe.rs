//! Does what is published arrive? Asked through the same connections that carry real bells.

use std::time::Duration;

use fred::types::Value;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{bells::Bells, error::StoreError, keys, store::Store};
use crate::domain::Partition;

/// A probe that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(3);

impl Store {
    /// Sends a probe through publish -> subscribe on each shard; latency each, `None` = lost (3 s).
    pub async fn probe(&self, bells: &Bells) -> Vec<Option<Duration>> {
        let Ok(topology) = self.topology() else {
            return Vec::new();
        };
        let partitions = self.partitions().0;
        let probes = (0..topology.nodes.len()).map(|shard| {
            let partition = (0..partitions)
                .map(Partition)
                .find(|p| topology.shard_of(*p) == Some(shard));
            async move {
                // A master that serves no partition has nothing to lose.
                let Some(partition) = partition else {
                    return Some(Duration::ZERO);
                };
                timeout(PATIENCE, self.probe_one(bells, partition))
                    .await
                    .ok()?
                    .ok()
            }
        });
        join_all(probes).await
    }

    async fn probe_one(&self, bells: &Bells, partition: Partition) -> Result<Duration, StoreError> {
        let channel = keys::probe(partition, &bells.ears.name);
        bells.ears.subscribe(channel.clone(), partition).await?;
        let sent = Instant::now();
        let (token, heard) = bells.ears.expect_probe();
        self.command("SPUBLISH", &channel, vec![Value::from(token.to_string())])
            .await?;
        heard
            .await
            .map_err(|_| StoreError::Unknown("the subscriber is closed".into()))?;
        Ok(sent.elapsed())
    }
}
