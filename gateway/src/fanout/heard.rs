//! Messages of conversations' own logs that a socket is given, of those that no inbox has, until
//! the transport confirms them.

use std::collections::{HashMap, VecDeque};

use shared::domain::{ConversationId, Position};

/// See the module. Most sockets hear nothing of the kind, and keep nothing.
#[derive(Debug, Default)]
pub(super) struct Heard(Option<Box<Given>>);

/// In the order in which they are given, over all conversations: so they are handed out, and confirmed.
#[derive(Debug, Default)]
struct Given {
    /// How many were handed out in all.
    handed: u64,
    /// And confirmed.
    confirmed: u64,
    /// What was handed out and is not confirmed, and behind it what is queued.
    waiting: VecDeque<(Reads, Position)>,
}

/// A conversation, as a time of its user there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Reads {
    pub(super) conversation: ConversationId,
    /// The version by which the user joined.
    pub(super) joined: u64,
}

impl Heard {
    /// How many were handed out in all.
    pub(super) fn handed(&self) -> u64 {
        self.0.as_ref().map_or(0, |given| given.handed)
    }

    /// How many are not confirmed.
    pub(super) fn unconfirmed(&self) -> u32 {
        self.0
            .as_ref()
            .map_or(0, |given| given.waiting.len() as u32)
    }

    /// One more is queued.
    pub(super) fn push(&mut self, reads: Reads, at: Position) {
        let given = self.0.get_or_insert_default();
        given.waiting.push_back((reads, at));
    }

    /// The first that is queued is handed out.
    pub(super) fn hand_out(&mut self) {
        if let Some(given) = &mut self.0 {
            given.handed += 1;
        }
    }

    /// What is queued of a conversation is not handed out.
    pub(super) fn forget_queued(&mut self, conversation: ConversationId) {
        let Some(given) = &mut self.0 else {
            return;
        };
        let mut handed = given.handed - given.confirmed;
        given.waiting.retain(|(reads, _)| {
            let is_handed = handed > 0;
            handed = handed.saturating_sub(1);
            is_handed || reads.conversation != conversation
        });
    }

    /// The client has the first `count` of all. Answers how far it has come by that, and where.
    pub(super) fn confirm(&mut self, count: u64) -> HashMap<Reads, Position> {
        let Some(given) = &mut self.0 else {
            return HashMap::new();
        };
        let news = count.min(given.handed).saturating_sub(given.confirmed);
        let news = (news as usize).min(given.waiting.len());
        given.confirmed += news as u64;
        let upto = given.waiting.drain(..news).collect();
        if given.waiting.is_empty() {
            // Idle sockets keep nothing that is long.
            given.waiting = VecDeque::new();
        }
        upto
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn reads(n: u128) -> Reads {
        Reads {
            conversation: ConversationId(Uuid::from_u128(n)),
            joined: 1,
        }
    }

    fn at(offset: u64) -> Position {
        Position { epoch: 1, offset }
    }

    #[test]
    fn what_was_handed_out_is_confirmed_in_that_order_wherever_it_was_said() {
        let mut heard = Heard::default();
        assert!(heard.confirm(3).is_empty());
        for (conversation, offset) in [(1, 5), (2, 2), (1, 6), (2, 3)] {
            heard.push(reads(conversation), at(offset));
        }
        assert!(heard.confirm(3).is_empty(), "nothing was handed out");
        (0..4).for_each(|_| heard.hand_out());
        let upto = heard.confirm(3);
        assert_eq!(upto, HashMap::from([(reads(1), at(6)), (reads(2), at(2))]));
        assert_eq!((heard.handed(), heard.unconfirmed()), (4, 1));
        assert!(heard.confirm(2).is_empty(), "confirmed already");
        heard.push(reads(1), at(9));
        heard.hand_out();
        let upto = heard.confirm(u64::MAX);
        assert_eq!(upto, HashMap::from([(reads(1), at(9)), (reads(2), at(3))]));
        assert_eq!((heard.handed(), heard.unconfirmed()), (5, 0));
    }

    #[test]
    fn what_is_queued_of_a_conversation_may_be_forgotten() {
        let mut heard = Heard::default();
        for (conversation, offset) in [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)] {
            heard.push(reads(conversation), at(offset));
        }
        heard.hand_out();
        heard.hand_out();
        heard.forget_queued(reads(1).conversation);
        assert_eq!(heard.unconfirmed(), 3, "what was handed out stays");
        heard.hand_out();
        let upto = heard.confirm(3);
        assert_eq!(upto, HashMap::from([(reads(1), at(1)), (reads(2), at(2))]));
    }
}
