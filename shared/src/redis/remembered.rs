//! What was accepted under a key before.

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
    ) -> Result<Vec<MessageId>, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let mut keys = broadcasts.iter().map(|id| {
            let key = IdempotencyKey::end_of(*id, Some(user));
            keys::idempotency(partition, &key.0)
        });
        let Some(first) = keys.next() else {
            return Ok(Vec::new());
        };
        let more = keys.map(Value::from).collect();
        let ends = reply::list(self.command("MGET", &first, more).await?)?;
        let completed = broadcasts.iter().zip(&ends);
        let completed = completed.filter(|(_, end)| !end.is_null());
        Ok(completed.map(|(id, _)| *id).collect())
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
