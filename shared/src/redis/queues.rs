//! The queues that a user's log consists of, for devices that take it apart: where a device begins in
//! one, and what it refused. What it confirmed is an [`super::Ack`].

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

    /// A device of the user refused an entry. Answers how often that happened by now, on any device.
    /// Of a user, 256 entries are remembered, and none for longer than two weeks.
    pub async fn nack(
        &self,
        user: UserId,
        queue: Queue,
        position: Position,
    ) -> Result<u32, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let args = texts([
            &keys::tag(partition),
            &user.to_string(),
            &refused(queue, position),
        ]);
        let answer = self.call(partition, functions::NACK, args).await?;
        Ok(reply::number(&answer)?.try_into().unwrap_or(u32::MAX))
    }

    /// The entry was accepted, or given up.
    pub async fn forget_nack(
        &self,
        user: UserId,
        queue: Queue,
        position: Position,
    ) -> Result<(), StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let key = keys::nacks(partition, &user.to_string());
        self.command("HDEL", &key, texts([&refused(queue, position)]))
            .await?;
        Ok(())
    }
}

/// The field of an entry.
fn refused(queue: Queue, position: Position) -> String {
    format!("{queue}:{position}")
}
