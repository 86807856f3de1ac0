//! How far devices have confirmed.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use super::{
    error::StoreError,
    functions, keys, reply,
    store::{Store, texts},
};
use crate::domain::{Device, Partition, Position, Topic, UserId};

/// Most confirmations in one call.
const ACKS_PER_CALL: usize = 100;

/// A device confirmed everything of its user's log up to a position.
#[derive(Debug, Clone)]
pub struct Ack {
    /// Whose log.
    pub user: UserId,
    /// Which device.
    pub device: Device,
    /// The last position it has.
    pub position: Position,
}

impl Store {
    /// The furthest confirmed position of any device of the user.
    pub async fn furthest_cursor(&self, user: UserId) -> Result<Position, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let key = keys::cursor(partition, &user.to_string());
        let answer = self.command("HGET", &key, vec!["*".into()]).await?;
        if answer.is_null() {
            Ok(Position::START)
        } else {
            reply::parse(&answer)
        }
    }

    /// Records confirmations, many in one call. Where a user's furthest moves, the stretch becomes
    /// a `Delivered` record in the persist stream. A position ahead of the log, or behind what the
    /// device confirmed before, is ignored.
    pub async fn ack(&self, acks: Vec<Ack>) -> Result<(), StoreError> {
        let is_cluster = self.topology()?.is_cluster();
        let mut groups: BTreeMap<Option<Partition>, Vec<(Partition, Ack)>> = BTreeMap::new();
        for ack in acks {
            let partition = self.partition_of(Topic::User(ack.user));
            groups
                .entry(is_cluster.then_some(partition))
                .or_default()
                .push((partition, ack));
        }
        let calls = groups
            .values()
            .flat_map(|group| group.chunks(ACKS_PER_CALL))
            .map(|group| {
                let args = group
                    .iter()
                    .flat_map(|(partition, ack)| {
                        texts([
                            &keys::tag(*partition),
                            &ack.user.to_string(),
                            ack.device.as_str(),
                            &ack.position.to_string(),
                        ])
                    })
                    .collect();
                self.call(group[0].0, functions::ACK, args)
            });
        try_join_all(calls).await?;
        Ok(())
    }
}
