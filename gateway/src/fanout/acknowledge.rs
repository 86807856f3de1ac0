//! What a client itself says of the entries it was sent: that it is done with them, or that it does
//! not take them.

use std::sync::Arc;

use shared::domain::{Code, Position, Queue, Refusal};

use super::{backlog::Backlog, outbox::Outbox, track::Confirmed};
use crate::dialect::Feed;

impl Outbox {
    /// The client is done with everything of a feed up to `position`, and with all that was sent
    /// before it by the same subscription.
    pub fn acknowledged(self: &Arc<Self>, feed: Feed, position: Position) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        was_sent(&state, feed, position)?;
        let turn = state
            .track_mut(feed)
            .and_then(|track| track.acks()?.turn_of(position));
        let mut confirmed = Vec::new();
        if let Some(track) = state.track_mut(feed) {
            confirmed.extend(track.confirm(position).map(|it| (feed, it)));
        }
        if let Some(turn) = turn
            && let Some(other) = beside(feed)
            && let Some(track) = state.track_mut(other)
            && let Some(acks) = track.acks()
        {
            acks.done_by(turn);
            confirmed.extend(track.settle().map(|it| (other, it)));
        }
        self.settled(state, confirmed);
        Ok(())
    }

    /// The client is done with one entry. The device's cursor moves past it once everything before
    /// it is done with, too.
    pub fn acknowledged_one(
        self: &Arc<Self>,
        feed: Feed,
        position: Position,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        was_sent(&state, feed, position)?;
        let confirmed = match state.track_mut(feed) {
            Some(track) => match track.acks() {
                Some(acks) => {
                    acks.done(position);
                    track.settle()
                }
                None => track.confirm(position),
            },
            None => None,
        };
        let confirmed = confirmed.map(|it| (feed, it)).into_iter().collect();
        self.settled(state, confirmed);
        Ok(())
    }

    /// The client does not take one entry: the device's cursor stays before it, so that it comes
    /// again at the next connect. Refused for the third time, it is parked: it stays as it is, and
    /// does not come again.
    pub fn nacked(self: &Arc<Self>, feed: Feed, position: Position) -> Result<(), Refusal> {
        self.refuse(feed, position, false)
    }

    /// The same for everything up to `position` that was not confirmed.
    pub fn nacked_up_to(self: &Arc<Self>, feed: Feed, position: Position) -> Result<(), Refusal> {
        self.refuse(feed, position, true)
    }

    fn refuse(
        self: &Arc<Self>,
        feed: Feed,
        position: Position,
        and_all_before: bool,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        was_sent(&state, feed, position)?;
        let Some(acks) = state.track_mut(feed).and_then(|track| track.acks()) else {
            return Err(Refusal::new(
                Code::BadRequest,
                "nothing of this subscription can be refused",
            ));
        };
        let mut refused = vec![position];
        if and_all_before {
            refused = acks.open_up_to(position);
        }
        refused.retain(|at| acks.refuse(*at));
        drop(state);
        if let Some(member) = self.member()
            && let Some(fanout) = member.fanout.upgrade()
        {
            fanout.refused(self, feed, refused);
        }
        Ok(())
    }

    /// An entry was refused so often that it does not come again.
    pub(super) fn park(self: &Arc<Self>, feed: Feed, position: Position) {
        let mut state = self.state.lock();
        let mut confirmed: Option<Confirmed> = None;
        if let Some(track) = state.track_mut(feed)
            && let Some(acks) = track.acks()
        {
            acks.park(position);
            confirmed = track.settle();
        }
        let confirmed = confirmed.map(|it| (feed, it)).into_iter().collect();
        self.settled(state, confirmed);
    }
}

/// The other feed that comes by the same subscription.
fn beside(feed: Feed) -> Option<Feed> {
    match feed {
        Feed::Broadcast => Some(Feed::Queue(Queue::Commands)),
        Feed::Queue(Queue::Commands) => Some(Feed::Broadcast),
        Feed::User | Feed::Queue(_) | Feed::Conversation(_) => None,
    }
}

fn was_sent(state: &Backlog, feed: Feed, position: Position) -> Result<(), Refusal> {
    let handed = state.place(feed).map(|place| place.handed);
    if handed.is_some_and(|handed| position <= handed) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::BadRequest,
        "this position was not sent yet",
    ))
}
