//! One socket: what it hears, so that what it wants next can be told from that.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::domain::{ClientId, Code, Refusal};

use super::{
    decode::{Said, Trouble, decode},
    encode,
    topics::{self, Wanted},
};
use crate::dialect::{
    Dialogue, Event, Frame, Incoming, Interest, Settled, Subscribe, Subscribed, Then, Unreadable,
};

/// What a socket of this dialect keeps.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// What it hears.
    heard: Vec<Interest>,
    /// A digest of what it wanted to hear last.
    wanted: Option<u64>,
    /// The rest of what was said: what to hear besides, once the rest is heard no more. Boxed, as it
    /// is seldom there.
    next: Option<Box<Subscribe>>,
    /// What was lost while a subscription runs: its answer may still grant that, from before. Nothing
    /// while none runs.
    lost: Option<Vec<Interest>>,
    has_begun: bool,
    /// Nothing the client says counts any more.
    is_over: bool,
}

impl Events {
    /// What a client wants to hear, by the difference to what it hears. First what it hears no more:
    /// that makes room for the rest. The rest is wished for even if it is nothing, for its answer is
    /// what tells the client that all of it is in force.
    fn replace(&mut self, id: Option<ClientId>, wanted: Wanted) -> Incoming {
        let digest = wanted.digest();
        let is_repeated = self.wanted.replace(digest) == Some(digest);
        let Wanted { interests, settled } = wanted;
        let gone = self.heard.iter().filter(|it| !interests.contains(it));
        let gone: Vec<_> = gone.copied().map(topics::wish).collect();
        let new = interests.iter().filter(|it| !self.heard.contains(it));
        let new: Vec<_> = new.copied().map(topics::wish).collect();
        let subscribe = Subscribe {
            id: id.clone(),
            wishes: new,
            settled,
            is_repeated,
        };
        if gone.is_empty() {
            return self.begin(subscribe);
        }
        self.next = Some(Box::new(subscribe));
        Incoming::Unsubscribe(Subscribe {
            id,
            wishes: gone,
            settled: Settled::default(),
            is_repeated,
        })
    }

    fn begin(&mut self, subscribe: Subscribe) -> Incoming {
        self.lost = Some(Vec::new());
        Incoming::Subscribe(subscribe)
    }

    fn forget(&mut self, interests: &[Interest]) {
        self.heard.retain(|it| !interests.contains(it));
        if self.heard.is_empty() {
            self.heard = Vec::new();
        }
    }

    fn lost(&mut self, interests: &[Interest], out: &mut VecDeque<Bytes>) {
        self.forget(interests);
        if let Some(lost) = &mut self.lost {
            lost.extend_from_slice(interests);
        }
        for interest in interests {
            let message = format!("{} is heard no more", topics::name(*interest));
            let refusal = Refusal::new(Code::Forbidden, message);
            out.push_back(encode::error(None, &refusal));
        }
    }

    fn subscribed(
        &mut self,
        to: Option<&ClientId>,
        subscribed: &Subscribed,
        out: &mut VecDeque<Bytes>,
    ) {
        let lost = self.lost.take().unwrap_or_default();
        let granted = subscribed.granted.iter().filter(|it| !lost.contains(it));
        self.heard.extend(granted);
        let interests = subscribed.refused.iter();
        let by_interest = interests.map(|(interest, code)| (topics::name(*interest), *code));
        let unknown = subscribed.settled.refused.iter();
        let unknown = unknown.map(|(name, code)| (name.to_string(), *code));
        for (name, code) in by_interest.chain(unknown) {
            let message = format!("{name} cannot be heard");
            out.push_back(encode::error(to, &Refusal::new(code, message)));
        }
        out.push_back(encode::in_force(to));
    }
}

impl Dialogue for Events {
    fn read(&mut self, frame: Frame) -> Option<Result<Incoming, Unreadable>> {
        if self.is_over {
            return None;
        }
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        Some(match decode(&frame) {
            Ok(Said::Subscribe(id, wanted)) => Ok(self.replace(id, wanted)),
            Ok(Said::Typing(request)) => Ok(Incoming::Request(request)),
            Err(Trouble::Refused(unreadable)) => Err(unreadable),
            Err(Trouble::Malformed(unreadable)) => {
                // Who begins like that speaks something else.
                self.is_over = !has_begun;
                Err(unreadable)
            }
        })
    }

    fn more(&mut self) -> Option<Result<Incoming, Unreadable>> {
        let next = self.next.take()?;
        Some(Ok(self.begin(*next)))
    }

    fn write(&mut self, event: &Event<'_>, out: &mut VecDeque<Bytes>) -> Then {
        match *event {
            Event::Subscribed { to, subscribed } => self.subscribed(to, subscribed, out),
            Event::Unsubscribed { subscribed, .. } => self.forget(&subscribed.granted),
            Event::Lost { interests } => self.lost(interests, out),
            Event::Error { to, refusal } | Event::AuthFailed { to, refusal } => {
                // A frame that is refused changes nothing more.
                self.next = None;
                self.lost = None;
                out.push_back(encode::error(to, refusal));
                if self.is_over {
                    return Then::Close;
                }
            }
            // That the socket is open, and why it closes, the transport says.
            Event::Connected(_)
            | Event::AuthSuccess { .. }
            | Event::Draining { .. }
            | Event::Reply { .. }
            | Event::Done
            | Event::Heartbeat => {}
        }
        Then::GoOn
    }
}
