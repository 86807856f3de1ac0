//! Whether something was accepted under a key before.

use super::{append::IdempotencyKey, error::StoreError, keys, reply, store::Store};
use crate::domain::Topic;

impl Store {
    /// True if an append to the topic was accepted under this key and is still remembered. What
    /// was accepted, and how, only [`Store::append`] tells.
    pub async fn remembers(&self, topic: Topic, key: &IdempotencyKey) -> Result<bool, StoreError> {
        let key = keys::idempotency(self.partition_of(topic), &key.0);
        let found = self.command("EXISTS", &key, Vec::new()).await?;
        Ok(reply::number(&found)? > 0)
    }
}
