//! What was accepted under a key before.

use std::collections::HashSet;

use fred::types::Value;

use super::{append::IdempotencyKey, error::StoreError, keys, reply, store::Store};
use crate::domain::{MessageId, Topic, UserId};

impl Store {
    /// True if an append to the topic was accepted under this key and is still remembered. What
    /// was accepted, and how, only [`Store::append`] tells.
    pub async fn remembers(&self, topic: Topic, key: &IdempotencyKey) -> Result<bool, StoreError> {
        let key = keys::idempotency(self.partition_of(topic), &key.0);
        let found = self.command("EXISTS", &key, Vec::new()).await?;
        Ok(reply::number(&found)? > 0)
    }

    /// Which of these broadcasts the user has completed, as far as that is still remembered.
    pub async fn completed_by(
        &self,
        user: UserId,
        broadcasts: &[MessageId],
    ) -> Result<HashSet<MessageId>, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let mut keys = broadcasts.iter().map(|id| {
            let key = IdempotencyKey::end_of(*id, Some(user));
            keys::idempotency(partition, &key.0)
        });
        let Some(first) = keys.next() else {
            return Ok(HashSet::new());
        };
        let more = keys.map(Value::from).collect();
        let ends = reply::list(self.command("MGET", &first, more).await?)?;
        if ends.len() != broadcasts.len() {
            return Err(StoreError::unexpected(
                "MGET answered for another number of keys",
            ));
        }
        let completed = broadcasts.iter().zip(&ends);
        let completed = completed.filter(|(_, end)| !end.is_null());
        Ok(completed.map(|(id, _)| *id).collect())
    }
}
