//! The socket's side of what it asked to hear.

use std::sync::Arc;

use bytes::Bytes;
use shared::domain::{ConversationId, Position, Queue, Refusal};

use super::{
    backlog::Stage,
    chosen::{Begun, Chosen, Listening, Notice, Wants},
    outbox::Outbox,
    place::{Ended, Mode},
    track::Track,
};
use crate::dialect::{AckMode, Feed, Interest};

impl Outbox {
    /// Remembers a wish, as far as there is room for more.
    pub(super) fn wish(&self, interest: Interest, address: Option<Bytes>) -> Result<(), Refusal> {
        self.state.lock().chosen_mut().wish(interest, address)
    }

    /// Forgets a wish, and what is queued of conversations of which only typing is wanted now: it was
    /// not given, and comes when it is wanted again.
    pub(super) fn forget(&self, interest: Interest, address: Option<&Bytes>) {
        let mut state = self.state.lock();
        state.chosen_mut().forget(interest, address);
        for conversation in state.only_watched() {
            state.drop_conversation(self.dialect, conversation);
        }
    }

    /// Whether every conversation of the user is wanted, also those to come.
    pub(super) fn wants_all(&self) -> bool {
        let state = self.state.lock();
        state.chosen().is_some_and(Chosen::wants_all)
    }

    /// What is wanted of a conversation.
    pub(super) fn wants(&self, conversation: ConversationId) -> Wants {
        let state = self.state.lock();
        let wants = state.chosen().map(|chosen| chosen.wants(conversation));
        wants.unwrap_or_default()
    }

    /// The conversations that the socket listens to.
    pub(super) fn conversations(&self) -> Vec<ConversationId> {
        let state = self.state.lock();
        let ids = state.chosen().map(|it| it.conversations.ids());
        ids.into_iter().flatten().collect()
    }

    /// Takes the first seat that is free among a conversation's listeners, or stays where it is.
    /// Answers its seat, what it wants, and whether it is new there. Under the topic's lock.
    pub(super) fn listen(
        &self,
        conversation: ConversationId,
        free: usize,
    ) -> Option<(usize, Wants, bool)> {
        let mut state = self.state.lock();
        if state.stage == Stage::Ended {
            return None;
        }
        let feed = Feed::Conversation(conversation);
        let is_new = state.mode(feed) == Mode::Gone;
        let chosen = state.chosen_mut();
        if is_new {
            let listening = Listening::new(free as u32);
            chosen.conversations.insert(conversation, listening);
            chosen.withdraw(conversation);
        }
        chosen.address(conversation);
        let listening = chosen.conversations.get(conversation)?;
        Some((listening.seat as usize, listening.wants, is_new))
    }

    /// Where it sits. Under the topic's lock.
    pub(super) fn seat_in(&self, conversation: ConversationId) -> Option<usize> {
        let state = self.state.lock();
        let listening = state.chosen()?.conversations.get(conversation)?;
        (listening.place.mode != Mode::Gone).then_some(listening.seat as usize)
    }

    /// Somebody left, and it takes their seat. Under the topic's lock.
    pub(super) fn set_seat(&self, conversation: ConversationId, seat: usize) {
        let mut state = self.state.lock();
        if let Some(listening) = state.chosen_mut().conversations.get_mut(conversation) {
            listening.seat = seat as u32;
        }
    }

    /// Whether entries of a feed come to the socket, and it was not given everything up to here.
    pub(super) fn stands_before(&self, feed: Feed, position: Position) -> bool {
        let state = self.state.lock();
        state.place(feed).is_some_and(|place| {
            !matches!(place.mode, Mode::Opening | Mode::Gone) && place.sent < position
        })
    }

    /// How it began to listen to a conversation.
    pub(super) fn begun(&self, conversation: ConversationId) -> Option<Begun> {
        self.state.lock().begun(Feed::Conversation(conversation))
    }

    /// It begins to listen to a conversation like this.
    pub(super) fn set_begun(&self, conversation: ConversationId, begun: Begun) {
        let mut state = self.state.lock();
        if let Some(listening) = state.chosen_mut().conversations.get_mut(conversation) {
            listening.begun = begun;
        }
    }

    /// The conversations of whose logs it wants nothing, though it listens to them.
    pub(super) fn only_watched(&self) -> Vec<ConversationId> {
        self.state.lock().only_watched()
    }

    /// The socket left a conversation that its user may not hear any more. What was queued of it
    /// still goes out, then the session tells the client.
    pub(super) fn lose(&self, conversation: ConversationId) {
        let mut state = self.state.lock();
        let chosen = state.chosen_mut();
        let Wants { entries, typing } = chosen.wants(conversation);
        chosen.forget_conversation(conversation);
        chosen.notify(Notice::Unsubscribed {
            conversation,
            entries,
            typing,
        });
        let wake = state.wake();
        drop(state);
        if wake {
            self.wake();
        }
    }

    /// The socket left a conversation by its own will: what was queued of it is forgotten.
    pub(super) fn unlisten(&self, conversation: ConversationId) {
        let mut state = self.state.lock();
        if state.mode(Feed::Conversation(conversation)) == Mode::Gone {
            // Should it listen again, it begins with what it has not confirmed.
            state.drop_conversation(self.dialect, conversation);
            state.chosen_mut().conversations.remove(conversation);
        }
    }

    /// Where its device stands, from which on queues are read once they are asked for.
    pub(super) fn open_queues(&self, cursors: [Position; Queue::ALL.len()]) {
        self.state.lock().chosen_mut().queues_mut().cursors = cursors;
    }

    /// The same for broadcasts.
    pub(super) fn open_broadcasts(&self, from: Position) {
        let mut state = self.state.lock();
        state.chosen_mut().queues_mut().broadcasts_from = from;
    }

    /// Begins to follow a queue. Answers where the device stands there, if that is news. Under the
    /// topic's lock.
    pub(super) fn follow_queue(&self, queue: Queue, acks: AckMode) -> Option<Position> {
        let mut state = self.state.lock();
        if state.stage == Stage::Ended {
            return None;
        }
        state.chosen_mut().follow(queue, acks)
    }

    /// Sees anew where frames about calls are addressed to. Answers whether the socket was told of
    /// calls before, and whether it is now.
    pub(super) fn address_calls(&self) -> (bool, bool) {
        let mut state = self.state.lock();
        let heard = state.hears_calls();
        state.chosen_mut().address_calls();
        let hears = state.hears_calls();
        match (heard, hears) {
            (false, true) => state.hold_calls(),
            (true, false) => state.beginning = None,
            _ => {}
        }
        (heard, hears)
    }

    /// The session is open from now on. What it is told of calls has to begin.
    pub(super) fn enter_open(&self) {
        let mut state = self.state.lock();
        if state.hears_calls() {
            state.hold_calls();
        }
        state.stage = Stage::Open;
    }

    /// Whether the socket is told of its user's calls.
    pub(super) fn hears_calls(&self) -> bool {
        self.state.lock().hears_calls()
    }

    /// Sees anew where frames of a queue are addressed to. Answers whether anybody wants it.
    pub(super) fn address_queue(&self, queue: Queue) -> bool {
        let mut state = self.state.lock();
        let chosen = state.chosen_mut();
        let to = chosen.addresses_of(queue);
        let is_wanted = !to.is_nowhere();
        if let Some(following) = chosen.following_mut(queue) {
            following.to = to;
        }
        is_wanted
    }

    /// Follows a queue no more. What was not confirmed comes again when it is followed again. Under
    /// the topic's lock.
    pub(super) fn leave_queue(&self, queue: Queue) -> Option<Ended> {
        let mut state = self.state.lock();
        let ended = state.end(Feed::Queue(queue))?;
        // One that was not begun knows nothing of where the device stands.
        state
            .chosen_mut()
            .unfollow(queue, ended.mode != Mode::Opening);
        Some(ended)
    }

    /// Puts the log of broadcasts where the device stands in it. Answers that.
    pub(super) fn reopen_broadcasts(self: &Arc<Self>, acks: AckMode) -> Position {
        let mut state = self.state.lock();
        state.reopen_broadcasts(acks);
        state.chosen_mut().queues_mut().broadcasts_from
    }

    /// Remembers where the device stands in the log of broadcasts, which it has left.
    pub(super) fn close_broadcasts(&self) {
        let mut state = self.state.lock();
        let track = state.track(Feed::Broadcast);
        let upto = track.map_or(Position::START, Track::confirmed_up_to);
        let queues = state.chosen_mut().queues_mut();
        queues.broadcasts_from = queues.broadcasts_from.max(upto);
    }
}
