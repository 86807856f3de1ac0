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

    /// The same of several keys at once, in their order.
    pub async fn remembers_each(
        &self,
        topic: Topic,
        wanted: &[IdempotencyKey],
    ) -> Result<Vec<bool>, StoreError> {
        let partition = self.partition_of(topic);
        let mut names = wanted
            .iter()
            .map(|key| keys::idempotency(partition, &key.0));
        let Some(first) = names.next() else {
            return Ok(Vec::new());
        };
        let found = self
            .command("MGET", &first, names.map(Into::into).collect())
            .await?;
        let found: Vec<bool> = reply::list(found)?
            .iter()
            .map(|value| !value.is_null())
            .collect();
        if found.len() == wanted.len() {
            Ok(found)
        } else {
            Err(StoreError::unexpected(
                "MGET answered for another number of keys",
            ))
        }
    }
}
