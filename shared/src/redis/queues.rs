//! The queues that a user's log consists of, for devices that take it apart: where a device begins in
//! one, and what it refused. What it confirmed is an [`super::Ack`].

use std::fmt;

use super::{
    error::StoreError,
    functions, keys, reply,
    store::{Store, texts},
};
use crate::domain::{Device, Position, Queue, Topic, UserId};

impl Store {
    /// Writes down where a device begins in a queue, unless it has a cursor there. Otherwise what
    /// other devices confirm would move it ahead of what it has seen.
    pub async fn begin_queue(
        &self,
        user: UserId,
        device: &Device,
        queue: Queue,
        position: Position,
    ) -> Result<(), StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let args = texts([
            &keys::tag(partition),
            &user.to_string(),
            device.as_str(),
            queue.as_str(),
            &position.to_string(),
        ]);
        self.call(partition, functions::BEGIN_QUEUE, args).await?;
        Ok(())
    }

    /// A device of the user refused an entry. Answers how often it did so by now. Of a user, 256
    /// entries are remembered, and none for longer than two weeks.
    pub async fn nack(&self, user: UserId, refused: &Refused) -> Result<u32, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let args = texts([
            &keys::tag(partition),
            &user.to_string(),
            &refused.to_string(),
        ]);
        let answer = self.call(partition, functions::NACK, args).await?;
        Ok(reply::number(&answer)?.try_into().unwrap_or(u32::MAX))
    }

    /// The entry was accepted, or given up.
    pub async fn forget_nack(&self, user: UserId, refused: &Refused) -> Result<(), StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let key = keys::nacks(partition, &user.to_string());
        self.command("HDEL", &key, texts([&refused.to_string()]))
            .await?;
        Ok(())
    }
}

/// An entry that a device did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The device: each has what it did not take again, and counts for itself.
    pub device: Device,
    /// The queue of the user's log; without one it stands in the log of broadcasts.
    pub queue: Option<Queue>,
    /// Where.
    pub position: Position,
}

/// As the field is named.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.queue.map_or("b", Queue::as_str);
        write!(f, "{log}:{}:{}", self.device, self.position)
    }
}
