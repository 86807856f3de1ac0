//! Broadcasts that a user has completed are not given to their other devices any more. Asked for
//! when a session opens that has missed some: of what ended lately Redis knows, of what another
//! device had long before, the record.

use std::collections::HashSet;

use shared::{
    domain::{CommandState, MessageId, Position, Timestamp, UserId},
    redis::OpenedSession,
};

use super::Fanout;

/// Most missed broadcasts that are asked about, the newest.
const MOST: usize = 1000;

/// A broadcast that a session has missed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missed {
    pub(super) id: MessageId,
    pub(super) position: Position,
    pub(super) at: Timestamp,
}

impl Fanout {
    /// What of the missed broadcasts the user has completed. As much as can be told now: who gets
    /// one again recognises it.
    pub(super) async fn completed_since(
        &self,
        user: UserId,
        opened: &OpenedSession,
        after: Position,
    ) -> HashSet<MessageId> {
        let missed = self.hub.missed_broadcasts(after, MOST);
        if missed.is_empty() {
            return HashSet::new();
        }
        let ids: Vec<MessageId> = missed.iter().map(|it| it.id).collect();
        let mut completed = match self.store.completed_by(user, &ids).await {
            Ok(completed) => completed,
            Err(error) => {
                tracing::debug!(%error, "what was completed cannot be told now");
                return HashSet::new();
            }
        };
        let remembered = self.store.idempotency_ttl().as_millis() as i64;
        let long_ago = Timestamp(self.store.clock().now().0 - remembered);
        let old: Vec<MessageId> = missed
            .iter()
            .filter(|it| it.at < long_ago && Some(it.position) <= opened.furthest_broadcast)
            .map(|it| it.id)
            .collect();
        if old.is_empty() {
            return completed;
        }
        match self.postgres.states_of(user, &old).await {
            Ok(states) => completed.extend(
                states
                    .into_iter()
                    .filter(|(_, state)| *state == CommandState::Completed)
                    .map(|(id, _)| id),
            ),
            Err(error) => tracing::debug!(%error, "what was completed cannot be told now"),
        }
        completed
    }
}
