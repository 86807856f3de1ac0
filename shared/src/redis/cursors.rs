//! How far devices have confirmed.

use fred::types::Value;
use futures_util::future::try_join_all;

use super::{
    error::StoreError,
    functions::{self, Function},
    keys, reply,
    store::{Store, texts},
};
use crate::domain::{Device, MessageId, Position, Queue, Topic, UserId};

/// Most confirmations in one call.
const ACKS_PER_CALL: usize = 100;

/// A device confirmed everything of its user's log up to a position, or of a queue in it.
#[derive(Debug, Clone)]
pub struct Ack {
    /// Whose log.
    pub user: UserId,
    /// Which device.
    pub device: Device,
    /// The queue, for devices that take the log apart; the whole log without.
    pub queue: Option<Queue>,
    /// The last position it has.
    pub position: Position,
    /// Entries up to there that the user's preferences kept from it, if any.
    pub skipped: Vec<Position>,
}

/// A device confirmed broadcasts up to a position.
#[derive(Debug, Clone)]
pub struct Receive {
    /// Whose device.
    pub user: UserId,
    /// Which device.
    pub device: Device,
    /// The last position of the log of broadcasts that it is done with.
    pub position: Position,
    /// The commands it has received since it last said so.
    pub commands: Vec<MessageId>,
}

impl Store {
    /// The furthest position of the user's log up to which any device has confirmed commands,
    /// with the whole log or as a queue.
    pub async fn furthest_cursor(&self, user: UserId) -> Result<Position, StoreError> {
        let furthest = self.cursors(user, &["*", "commands:*"]).await?;
        Ok(furthest
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(Position::START))
    }

    /// The furthest that any device of the user has come in the log of broadcasts; `None` if
    /// none was ever there.
    pub async fn furthest_broadcast(&self, user: UserId) -> Result<Option<Position>, StoreError> {
        Ok(self.cursors(user, &["b:*"]).await?.pop().flatten())
    }

    async fn cursors(
        &self,
        user: UserId,
        fields: &[&'static str],
    ) -> Result<Vec<Option<Position>>, StoreError> {
        let key = keys::user(self.partition_of(Topic::User(user)), &user.to_string());
        let fields = fields.iter().copied().map(Value::from_static_str);
        let answer = self.command("HMGET", &key, fields.collect()).await?;
        reply::list(answer)?
            .iter()
            .map(|value| match value {
                Value::Null => Ok(None),
                value => reply::parse(value).map(Some),
            })
            .collect()
    }

    /// Records confirmations, many in one call. Where a user's furthest moves, of the whole log or
    /// of its commands, the stretch becomes a `Delivered` record in the persist stream. A position
    /// ahead of the log, or behind what the device confirmed before, is ignored.
    pub async fn ack(&self, acks: &[Ack]) -> Result<(), StoreError> {
        let said = acks.iter().map(|ack| Said {
            user: ack.user,
            device: &ack.device,
            position: ack.position,
            more: words(&ack.skipped),
            queue: Some(ack.queue.map_or("", Queue::as_str)),
        });
        self.confirm(functions::ACK, said.collect()).await
    }

    /// Records confirmations of broadcasts, many in one call. What is new to the devices becomes
    /// one `Received` record per partition. A position behind what the device confirmed before
    /// moves nothing.
    pub async fn receive(&self, received: &[Receive]) -> Result<(), StoreError> {
        let said = received.iter().map(|it| Said {
            user: it.user,
            device: &it.device,
            position: it.position,
            more: words(&it.commands),
            queue: None,
        });
        self.confirm(functions::RECEIVE, said.collect()).await
    }

    async fn confirm(&self, function: Function, said: Vec<Said<'_>>) -> Result<(), StoreError> {
        let groups = self.groups(said.iter().map(|it| Topic::User(it.user)))?;
        let calls = groups
            .iter()
            .flat_map(|group| group.chunks(ACKS_PER_CALL))
            .map(|group| {
                let args = group
                    .iter()
                    .flat_map(|(partition, index)| {
                        let it = &said[*index];
                        let mut args = texts([
                            &keys::tag(*partition),
                            &it.user.to_string(),
                            it.device.as_str(),
                            &it.position.to_string(),
                            &it.more,
                        ]);
                        args.extend(it.queue.map(Value::from_static_str));
                        args
                    })
                    .collect();
                self.call(group[0].0, function, args)
            });
        try_join_all(calls).await?;
        Ok(())
    }
}

/// What a device said, as the functions take it.
struct Said<'a> {
    user: UserId,
    device: &'a Device,
    position: Position,
    more: String,
    /// Only of the user's log: which queue of it, or nothing for all.
    queue: Option<&'static str>,
}

/// With blanks in between.
fn words<T: std::fmt::Display>(items: &[T]) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&item.to_string());
    }
    text
}
