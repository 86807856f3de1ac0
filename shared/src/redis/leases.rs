//! Leases: one owner at a time, with a fencing token for what it writes elsewhere.

use std::time::Duration;

use super::{
    error::StoreError,
    functions, keys, reply,
    store::{Store, texts},
};
use crate::domain::NodeId;

impl Store {
    /// Takes or renews the lease of a named job or partition. Answers the fencing token if it is
    /// ours: the same while it is renewed, a higher one for each new owner, also after Redis lost
    /// its data.
    pub async fn lease(
        &self,
        name: &str,
        owner: &NodeId,
        ttl: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let args = texts([owner.as_str(), &ttl.as_millis().to_string()]);
        let answer = self
            .call_key(&keys::lease(name), functions::LEASE, args)
            .await?;
        if answer.is_null() {
            Ok(None)
        } else {
            reply::parse(&answer).map(Some)
        }
    }

    /// Gives a lease back, if it is ours.
    pub async fn release(&self, name: &str, owner: &NodeId) -> Result<(), StoreError> {
        self.call_key(
            &keys::lease(name),
            functions::RELEASE,
            texts([owner.as_str()]),
        )
        .await?;
        Ok(())
    }
}
