//! The sockets of this node that listen to a conversation, and how much of it they want.

use std::sync::Arc;

use shared::domain::{ConversationId, SessionId, UserId};

use super::{
    chosen::{Begun, Wants},
    outbox::Outbox,
    shared_entry::SharedEntry,
};
use crate::dialect::{Feed, Messages};

/// See the module. A socket knows its own seat, so that whoever leaves need not be looked for.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    outbox: Arc<Outbox>,
    wants: Wants,
}

impl Listeners {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Outbox>> {
        self.0.iter().map(|it| &it.outbox)
    }

    /// Takes in a socket, or what it wants now. True if it is news.
    pub(super) fn seat(&mut self, outbox: &Arc<Outbox>, conversation: ConversationId) -> bool {
        let Some((seat, wants, is_new)) = outbox.listen(conversation, self.0.len()) else {
            return false;
        };
        if is_new {
            self.0.push(Listener {
                outbox: outbox.clone(),
                wants,
            });
        } else if let Some(listener) = self.0.get_mut(seat) {
            listener.wants = wants;
        }
        is_new
    }

    /// Removes a socket. True if it was here.
    pub(super) fn leave(&mut self, outbox: &Arc<Outbox>, conversation: ConversationId) -> bool {
        let Some(seat) = self.seat_of(outbox, conversation) else {
            return false;
        };
        self.0.swap_remove(seat);
        if let Some(moved) = self.0.get(seat) {
            moved.outbox.set_seat(conversation, seat);
        }
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        true
    }

    /// The sockets that want an entry.
    pub(super) fn who_want(&self, entry: &SharedEntry) -> impl Iterator<Item = &Arc<Outbox>> {
        let is_copied = entry.is_copied();
        let wanting = self.0.iter().filter(move |it| takes(it.wants, is_copied));
        wanting.map(|it| &it.outbox)
    }

    /// Whether a socket wants an entry that was read for it.
    pub(super) fn wants(&self, outbox: &Outbox, entry: &SharedEntry) -> bool {
        let Feed::Conversation(conversation) = entry.feed() else {
            return false;
        };
        self.seat_of(outbox, conversation)
            .and_then(|seat| self.0.get(seat))
            .is_some_and(|it| takes(it.wants, entry.is_copied()))
            && is_due(outbox, conversation, entry)
    }

    /// The sockets that want to know who types, but for that where somebody does.
    pub(super) fn who_watch_typing(
        &self,
        typing: Option<SessionId>,
    ) -> impl Iterator<Item = &Arc<Outbox>> {
        let watching = self.0.iter().filter(|it| it.wants.typing);
        watching
            .map(|it| &it.outbox)
            .filter(move |it| typing.is_none() || it.member().map(|it| it.session) != typing)
    }

    fn seat_of(&self, outbox: &Outbox, conversation: ConversationId) -> Option<usize> {
        let seat = outbox.seat_in(conversation)?;
        let listener = self.0.get(seat)?;
        std::ptr::eq(&raw const *listener.outbox, outbox).then_some(seat)
    }
}

/// Of what stood there when it began to listen, a socket is due only what came to it in no other way.
fn is_due(outbox: &Outbox, conversation: ConversationId, entry: &SharedEntry) -> bool {
    let user = outbox.member().map(|member| member.user);
    let begun = outbox.begun(conversation);
    begun.is_some_and(|begun| owes(begun, user, entry))
}

/// The same of a user's socket that began so.
pub(super) fn owes(begun: Begun, user: Option<UserId>, entry: &SharedEntry) -> bool {
    if entry.position() > begun.judged_at {
        return true;
    }
    let is_told = user.is_some_and(|user| entry.is_told_to(user));
    entry.is_uncopied() && entry.entry().id > begun.after && !is_told
}

fn takes(wants: Wants, is_copied: bool) -> bool {
    match wants.entries {
        None => false,
        Some(Messages::All) => true,
        Some(Messages::Uncopied) => !is_copied,
    }
}
