//! What every part of the worker may reach.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use shared::{
    domain::{ConversationId, Members, NodeId, Timestamp},
    lifecycle::Lifecycle,
    postgres::{PgError, Postgres},
    redis::{Copier, Store},
};

use crate::{config::Settings, reaper::Reaper};

/// Handed to everything; one per worker.
pub struct Context {
    /// The deployment's Redis.
    pub store: Store,
    /// The record.
    pub postgres: Postgres,
    /// As they were read at the start.
    pub settings: Settings,
    /// The owner of this worker's leases.
    pub me: NodeId,
    /// Tells this process from an earlier one of the same name.
    pub incarnation: u64,
    /// How this process stops.
    pub lifecycle: Lifecycle,
    /// What the reaper remembers between two looks.
    pub reaper: tokio::sync::Mutex<Reaper>,
    /// Whether the last batch could be written.
    pub outage: Outage,
}

/// Who takes part in a conversation, on its way.
pub type Asked = BoxFuture<'static, Result<Option<Arc<Members>>, PgError>>;

/// What names of workers begin with among the nodes; gateways' do not.
pub const WORKER_PREFIX: &str = "worker.";

impl Context {
    /// Everything together.
    pub async fn new(
        store: Store,
        postgres: Postgres,
        settings: Settings,
        lifecycle: Lifecycle,
    ) -> Self {
        let me = worker_name(&settings.node.name());
        Self {
            incarnation: store.next_incarnation(&me).await,
            me,
            store,
            postgres,
            settings,
            lifecycle,
            reaper: tokio::sync::Mutex::default(),
            outage: Outage::default(),
        }
    }

    /// This process among those that make copies of messages.
    pub fn copier(&self) -> Copier {
        Copier::new(&self.me, self.incarnation)
    }

    /// Who takes part in a conversation: for copies, asked anew for each page of them.
    pub fn members_of(&self) -> impl Fn(ConversationId, u64) -> Asked + use<> {
        let postgres = self.postgres.clone();
        move |conversation, _| {
            let postgres = postgres.clone();
            Box::pin(async move {
                let members = postgres.conversation_members(conversation).await?;
                Ok(members.map(Arc::new))
            })
        }
    }

    /// How long ago this was; nothing for the future.
    pub fn age(&self, at: Timestamp) -> Duration {
        Duration::from_millis((self.store.clock().now().0 - at.0).max(0) as u64)
    }
}

/// The name of a worker among all nodes. Of a name that is too long its end stays: it differs.
fn worker_name(name: &NodeId) -> NodeId {
    let name = name.as_str();
    let tail = &name[name.len().saturating_sub(64 - WORKER_PREFIX.len())..];
    format!("{WORKER_PREFIX}{tail}")
        .parse()
        .expect("at most 64 of the allowed characters, which are ascii")
}

/// Says once that writing does not work, and once that it works again.
#[derive(Debug, Default)]
pub struct Outage(AtomicBool);

impl Outage {
    /// A batch failed and will be tried again.
    pub fn begins(&self, error: &dyn std::error::Error) {
        if !self.0.swap(true, Ordering::Relaxed) {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%error, cause, "cannot write to postgres for now, trying on");
        }
    }

    /// A batch was written.
    pub fn ends(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            tracing::info!("writing to postgres again");
        }
    }

    /// True between the two.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_what_tells_it_from_others() {
        let name: NodeId = format!("{}-1a2b", "h".repeat(59)).parse().unwrap();
        let worker = worker_name(&name);
        assert!(worker.as_str().starts_with("worker.hhh") && worker.as_str().ends_with("-1a2b"));
        assert_eq!(worker_name(&"a".parse().unwrap()).as_str(), "worker.a");
    }
}
