//! In which order a socket is told of calls that begins to hear of them while there may be one.
//!
//! Whoever sees to calls looks up what was told before the socket came. What is heard meanwhile is
//! held back, for it belongs behind that; and what is in both is told once.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use shared::domain::{CallEvent, CallEventKind, CallId};

use super::{
    backlog::Backlog,
    item::{Happening, SharedSignal},
    metrics,
    outbox::Outbox,
};

/// Most that is held back. What is heard beyond is lost: a call is set up now or not at all.
const MAX_HELD: usize = 128;

/// One time that a socket began to hear of calls. It may end that and begin again while it is being
/// looked up what was told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival(u32);

impl Arrival {
    fn next() -> Self {
        static ARRIVALS: AtomicU32 = AtomicU32::new(0);
        Self(ARRIVALS.fetch_add(1, Ordering::Relaxed))
    }
}

/// How far a socket has come.
#[derive(Debug)]
pub(super) enum Beginning {
    /// It is being looked up what was told. This was heard meanwhile.
    Held(Arrival, Vec<Arc<SharedSignal>>),
    /// It was told of this call by itself, and so many of the caller's candidates. Forgotten with
    /// the call.
    Rang { call: CallId, upto: u32 },
}

impl Beginning {
    /// After the socket was told this.
    fn after(missed: &[Arc<SharedSignal>]) -> Option<Self> {
        let mut events = missed.iter().filter_map(|it| event_of(it));
        let call = events
            .next()
            .filter(|it| it.kind == CallEventKind::Incoming)?;
        let upto = events.map(|it| it.number).max();
        Some(Self::Rang {
            call: call.call,
            upto: upto.unwrap_or_default(),
        })
    }
}

fn event_of(signal: &SharedSignal) -> Option<&CallEvent> {
    match signal.what() {
        Happening::Call(event) => Some(event),
        Happening::Typing(..) => None,
    }
}

impl Backlog {
    /// The socket begins to hear of calls: it is told nothing before [`Outbox::begin_calls`].
    pub(super) fn hold_calls(&mut self) {
        self.beginning = Some(Box::new(Beginning::Held(Arrival::next(), Vec::new())));
    }

    /// Whether the socket is told something now that was heard.
    pub(super) fn admits(&mut self, signal: &Arc<SharedSignal>, event: &CallEvent) -> bool {
        let Some(beginning) = &mut self.beginning else {
            return true;
        };
        match &mut **beginning {
            Beginning::Held(_, held) => {
                if held.len() < MAX_HELD {
                    held.push(signal.clone());
                } else {
                    metrics::CALLS_DROPPED.increment(1);
                }
                false
            }
            Beginning::Rang { call, upto } if event.call == *call => match event.kind {
                CallEventKind::Incoming | CallEventKind::Offer => false,
                CallEventKind::Ice => event.number == 0 || event.number > *upto,
                CallEventKind::Answer => true,
                CallEventKind::Ended => {
                    self.beginning = None;
                    true
                }
            },
            Beginning::Rang { .. } => {
                if event.kind == CallEventKind::Incoming {
                    self.beginning = None;
                }
                true
            }
        }
    }
}

impl Outbox {
    /// That it begins to hear of calls, while it is told nothing of them yet.
    pub(super) fn arrival(&self) -> Option<Arrival> {
        match self.state.lock().beginning.as_deref()? {
            Beginning::Held(arrival, _) => Some(*arrival),
            Beginning::Rang { .. } => None,
        }
    }

    /// The socket is told this, and then what was held back meanwhile.
    pub(super) fn begin_calls(&self, arrival: Arrival, missed: &[Arc<SharedSignal>]) {
        let mut state = self.state.lock();
        let is_held =
            |it: &mut Box<Beginning>| matches!(**it, Beginning::Held(of, _) if of == arrival);
        let Some(Beginning::Held(_, held)) = state.beginning.take_if(is_held).map(|it| *it) else {
            // It hears no calls any more, was told already, or began anew.
            return;
        };
        for signal in missed {
            self.tell_call(&mut state, signal);
        }
        state.beginning = Beginning::after(missed).map(Box::new);
        for signal in held {
            let is_new = event_of(&signal).is_some_and(|event| state.admits(&signal, event));
            if is_new {
                self.tell_call(&mut state, &signal);
            }
        }
        drop(state);
        self.wake_if_queued();
    }
}
