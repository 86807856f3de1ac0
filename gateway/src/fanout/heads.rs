//! Compares the node's positions with Redis' heads: all of them every 20 s, those of a shard
//! whenever its bells may have been missed. That bounds how late an entry can be when a bell
//! is lost without a trace.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use shared::{domain::Topic, redis::StoreError};

use super::{Fanout, metrics, topic::Effects};

/// Topics per question.
const CHUNK: usize = 256;
/// Questions in flight after a gap.
const IN_FLIGHT: usize = 4;

impl Fanout {
    /// The bells of a shard may have been missed.
    pub(super) fn gap(&self, shard: usize) {
        metrics::GAPS.increment(1);
        self.gaps.push(shard);
        self.missed_presences(shard);
    }

    /// The task that looks at shards with a gap.
    pub(super) async fn close_gaps(self: Arc<Self>) {
        while let Some(shard) = self.gaps.next(&self.lifecycle).await {
            let mut topics = self.hub.topics();
            topics.retain(|topic| self.store.shard_of(*topic) == shard);
            tracing::info!(shard, topics = topics.len(), "bells may have been missed");
            // A displacement may be among what was missed.
            self.unregistered.push(shard);
            if let Err(error) = self.compare_all(&topics).await {
                tracing::warn!(%error, shard, "heads cannot be compared yet");
                self.gaps.put_back(shard, &self.lifecycle).await;
            }
        }
    }

    async fn compare_all(self: &Arc<Self>, topics: &[Topic]) -> Result<(), StoreError> {
        let chunks: Vec<Vec<Topic>> = topics.chunks(CHUNK).map(<[Topic]>::to_vec).collect();
        let asked = stream::iter(chunks).map(async |chunk| self.compare(&chunk).await);
        asked
            .buffer_unordered(IN_FLIGHT)
            .fold(Ok(()), async |all, one| all.and(one))
            .await
    }

    async fn compare(self: &Arc<Self>, topics: &[Topic]) -> Result<(), StoreError> {
        let heads = self.store.heads(topics).await?;
        let mut effects = Effects::default();
        for (topic, head) in topics.iter().zip(heads) {
            self.hub.compare(*topic, head, &mut effects);
        }
        if !effects.repair.is_empty() {
            let missed = effects.repair.len() as u64;
            metrics::BEHIND.increment(missed);
        }
        self.apply(effects);
        Ok(())
    }

    /// The task that compares everything, spread evenly over the interval.
    pub(super) async fn sweep_heads(self: Arc<Self>) {
        loop {
            let mut topics = self.hub.topics();
            // One shard per question, so that one that is away fails no other's.
            topics.sort_by_cached_key(|topic| self.store.shard_of(*topic));
            let chunks: Vec<_> = topics
                .chunk_by(|a, b| self.store.shard_of(*a) == self.store.shard_of(*b))
                .flat_map(|shard| shard.chunks(CHUNK))
                .collect();
            let pause = self.settings.head_interval / (chunks.len() as u32 + 1);
            for chunk in chunks.into_iter().map(Some).chain([None]) {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.lifecycle.stopping() => return,
                }
                if let Some(chunk) = chunk
                    && let Err(error) = self.compare(chunk).await
                {
                    tracing::debug!(%error, "heads cannot be compared now");
                }
            }
        }
    }
}
