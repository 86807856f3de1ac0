//! Keeps Redis' register of sessions true. A node that was taken for dead, a Redis that lost
//! something, a displacement nobody heard: afterwards the sockets that are open here are told
//! again, and those for which there is no room any more are closed.

use std::sync::Arc;

use super::{
    Fanout, metrics,
    outbox::{CloseReason, Outbox},
};
use shared::{
    domain::Topic,
    redis::{OpenHere, StoreError},
};

/// Sessions per call.
const CHUNK: usize = 128;

impl Fanout {
    /// The task that tells.
    pub(super) async fn keep_registered(self: Arc<Self>) {
        while let Some(shard) = self.unregistered.next(&self.lifecycle).await {
            if let Err(error) = self.register_again(shard).await {
                tracing::debug!(%error, shard, "sessions cannot be told again yet");
                self.unregistered.put_back(shard, &self.lifecycle).await;
            }
        }
    }

    /// This node was taken for dead, or Redis has forgotten it.
    pub(super) fn register_all_again(&self) {
        for outbox in self.hub.all_members() {
            if let Some(member) = outbox.member() {
                self.unregistered.push(self.store.shard_of(member.topic()));
            }
        }
    }

    async fn register_again(&self, shard: usize) -> Result<(), StoreError> {
        let here = |topic: Topic| self.store.shard_of(topic) == shard;
        let mut open = self.hub.all_members();
        // One that is not open yet registers itself.
        open.retain(|outbox| {
            outbox.is_open() && outbox.member().is_some_and(|member| here(member.topic()))
        });
        for chunk in open.chunks(CHUNK) {
            self.register_chunk(chunk).await?;
        }
        Ok(())
    }

    async fn register_chunk(&self, outboxes: &[Arc<Outbox>]) -> Result<(), StoreError> {
        let members = outboxes
            .iter()
            .filter_map(|it| it.member().map(|member| (it, member)));
        let sessions: Vec<OpenHere> = members
            .map(|(outbox, member)| OpenHere {
                user: member.user,
                session: member.session,
                device: member.device.clone(),
                dialect: outbox.dialect.name(),
                is_idle: outbox.is_idle(),
                hears_calls: outbox.hears_calls(),
            })
            .collect();
        let settings = &self.settings;
        let kept = self
            .store
            .session_keep(
                &settings.node,
                settings.incarnation,
                settings.max_sessions,
                &sessions,
            )
            .await;
        for outbox in outboxes.iter().filter(|it| it.is_ended()) {
            // It ended meanwhile, and may have been taken off before it was told again; whatever the
            // answer is.
            if let Some(member) = outbox.member() {
                self.closer.close(member.user, member.session);
            }
        }
        let kept = kept?;
        for (outbox, told) in outboxes.iter().zip(&sessions) {
            if outbox.hears_calls() != told.hears_calls {
                // It was told meanwhile that this has changed, and this may have come behind.
                self.say_what_it_hears(outbox).await?;
            }
        }
        for (outbox, kept) in outboxes.iter().zip(kept) {
            if !kept && !outbox.is_ended() {
                metrics::DISPLACED_UNHEARD.increment(1);
                outbox.request_close(CloseReason::Displaced);
            }
        }
        Ok(())
    }
}
