//! A broadcast, and whether it is somebody's.

use std::time::Duration;

use shared::{
    domain::{
        Broadcast, Category, CommandBody, CommandState, Entry, Kind, MessageId, Position, Refusal,
        Timestamp, Topic, UserId,
    },
    postgres::StoredCommand,
    redis::IdempotencyKey,
};

use super::{create::LIFETIME, find};
use crate::{app::App, fanout::store_refusal};

/// What requests need to know of a broadcast.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) id: MessageId,
    pub(super) audience: Broadcast,
    pub(super) sender: UserId,
    pub(super) categories: Vec<Category>,
    pub(super) created_at: Timestamp,
    /// Its place in the log of broadcasts.
    pub(super) position: Position,
    /// It was seen there. What has ended is not.
    pub(super) is_in_log: bool,
    /// How it ended for everybody, as far as the record knows.
    pub(super) ended: Option<CommandState>,
}

impl Sent {
    /// As it stands in the log: from there it is taken in the step that ends it.
    fn open(entry: &Entry) -> Option<Self> {
        let body: CommandBody = serde_json::from_slice(&entry.body).ok()?;
        Some(Self {
            id: entry.id,
            audience: body.broadcast,
            sender: body.sender_id,
            categories: body.categories,
            created_at: entry.at,
            position: entry.position,
            is_in_log: true,
            ended: None,
        })
    }

    /// As the record knows it.
    pub(super) fn stored(command: StoredCommand) -> Self {
        Self {
            id: command.id,
            audience: command.body.broadcast,
            sender: command.body.sender_id,
            categories: command.body.categories,
            created_at: command.created_at,
            position: command.position,
            is_in_log: false,
            ended: command.state.is_final().then_some(command.state),
        }
    }

    /// Whether all that was ever said of it is still remembered in Redis.
    pub(super) fn is_young(&self, app: &App) -> bool {
        let age = app.store.clock().now().0 - self.created_at.0;
        Duration::from_millis(age.max(0) as u64) < app.store.idempotency_ttl()
    }

    /// Whether it reaches the user as they have it now. What was sent before they registered
    /// does not.
    pub(super) async fn reaches(&self, app: &App, user: UserId) -> Result<bool, Refusal> {
        Ok(user.registered_at() <= self.created_at
            && app.fanout.preferences(user).await?.admit(&self.categories))
    }
}

/// The broadcast, if it is among the newest that Redis holds. An id that no open command can have
/// is not looked for: it costs Redis most to find nothing.
pub(super) async fn recent(app: &App, id: MessageId) -> Result<Option<Sent>, Refusal> {
    if !may_be_open(id, app.store.clock().now()) {
        return Ok(None);
    }
    let found = app.store.find(Topic::Broadcast, id).await;
    let entry = found.map_err(|error| store_refusal(&error))?;
    Ok(entry
        .filter(|entry| entry.kind == Kind::CommandNew)
        .and_then(|entry| Sent::open(&entry)))
}

/// Whether a command of this id may be in a log: ids have the time they were minted, by the clock of
/// Redis, and no command outlives [`LIFETIME`].
fn may_be_open(id: MessageId, now: Timestamp) -> bool {
    /// That of Redis, before and after it was replaced; as in `find.lua`.
    const CLOCKS_DIFFER_MS: i64 = 120_000;
    let oldest = now.0 - LIFETIME.as_millis() as i64 - CLOCKS_DIFFER_MS;
    find::minted_at(id.0).is_some_and(|at| (oldest..=now.0 + CLOCKS_DIFFER_MS).contains(&at.0))
}

/// Whether an end of the command was accepted in this log a short while ago, which the record may
/// not know yet.
pub(super) async fn remembers(
    app: &App,
    topic: Topic,
    key: &IdempotencyKey,
) -> Result<bool, Refusal> {
    let remembered = app.store.remembers(topic, key).await;
    remembered.map_err(|error| store_refusal(&error))
}

#[cfg(test)]
mod tests {
    use uuid::{Uuid, uuid};

    use super::*;

    #[test]
    fn only_ids_that_an_open_command_may_have_are_looked_for() {
        const DAY: i64 = 24 * 3_600_000;
        let now = 1_700_000_000_000;
        let v7 = |ms: i64| MessageId(Uuid::from_u128((ms as u128) << 80 | 7 << 76 | 2 << 62));
        let v4 = MessageId(uuid!("9b2d4c3e-7f01-4e57-9c1e-0d8f6d5b4a39"));
        for (id, expected) in [
            (v7(now), true),
            (v7(now - 14 * DAY), true),
            (v7(now + 60_000), true),
            (v7(now - 15 * DAY), false),
            (v7(now + DAY), false),
            (v7(0), false),
            (v4, false),
        ] {
            assert_eq!(may_be_open(id, Timestamp(now)), expected, "{id}");
        }
    }
}
