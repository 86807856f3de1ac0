//! Who types, as this node has told it: what was begun and is not renewed lapses, and so does what a
//! socket leaves behind. Nothing of it is kept anywhere else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use shared::domain::{ConversationId, Refusal, SessionId, Signal, SignalKind, UserId};
use tokio::time::Instant;

use super::{Fanout, refusal::store_refusal};

/// How long somebody types who does not say so again.
const LAPSE: Duration = Duration::from_secs(6);
/// How often it is looked for what has lapsed.
const TICK: Duration = Duration::from_millis(500);
/// Most conversations in which a socket types at a time.
const PER_SOCKET: usize = 16;
/// Most sockets that type at a time; of others it is not told.
const MAX_SOCKETS: usize = 100_000;
/// Signals on their way at a time.
const IN_FLIGHT: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Typing(Mutex<HashMap<SessionId, Vec<Typist>>>);

/// Somebody types.
#[derive(Debug, Clone, Copy)]
struct Typist {
    conversation: ConversationId,
    user: UserId,
    /// By which version of the conversation they might.
    version: u64,
    until: Instant,
}

impl Typing {
    /// Remembers it. False if there is no room for more.
    fn begin(&self, session: SessionId, typist: Typist) -> bool {
        let mut sockets = self.0.lock();
        if sockets.len() >= MAX_SOCKETS && !sockets.contains_key(&session) {
            return false;
        }
        let typists = sockets.entry(session).or_default();
        typists.retain(|it| it.conversation != typist.conversation);
        let has_room = typists.len() < PER_SOCKET;
        if has_room {
            typists.push(typist);
        }
        has_room
    }

    fn end(&self, session: SessionId, conversation: ConversationId) {
        let mut sockets = self.0.lock();
        if let Some(typists) = sockets.get_mut(&session) {
            typists.retain(|it| it.conversation != conversation);
            if typists.is_empty() {
                sockets.remove(&session);
            }
        }
    }

    fn take(&self, session: SessionId) -> Vec<Typist> {
        self.0.lock().remove(&session).unwrap_or_default()
    }

    fn take_lapsed(&self, now: Instant) -> Vec<(SessionId, Typist)> {
        let mut lapsed = Vec::new();
        self.0.lock().retain(|session, typists| {
            typists.retain(|it| {
                let goes_on = it.until > now;
                if !goes_on {
                    lapsed.push((*session, *it));
                }
                goes_on
            });
            !typists.is_empty()
        });
        lapsed
    }
}

impl Fanout {
    /// Tells a conversation's listeners that a user types there, or does no more, by a version of
    /// it. False if it has another version by now, so that the right has to be looked at again. A
    /// start that is not renewed is stopped after 6 s, or when its socket ends.
    pub async fn typing(
        &self,
        conversation: ConversationId,
        version: u64,
        signal: &Signal,
    ) -> Result<bool, Refusal> {
        if let Some(session) = signal.session {
            let is_remembered = match signal.kind {
                SignalKind::TypingStop => {
                    self.typing.end(session, conversation);
                    true
                }
                SignalKind::TypingStart => self.typing.begin(
                    session,
                    Typist {
                        conversation,
                        user: signal.user,
                        version,
                        until: Instant::now() + LAPSE,
                    },
                ),
            };
            if !is_remembered {
                // Nobody would say when it stops; signals are the first to go.
                return Ok(true);
            }
        }
        let told = self.store.signal(conversation, version, signal).await;
        let told = told.map_err(|error| store_refusal(&error))?;
        if let (false, Some(session)) = (told, signal.session) {
            self.typing.end(session, conversation);
        }
        Ok(told)
    }

    /// The task that says what has lapsed.
    pub(super) async fn lapse_typing(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.lifecycle.stopping() => return,
            }
            let lapsed = self.typing.take_lapsed(Instant::now());
            self.stop_typing(lapsed).await;
        }
    }

    /// A socket ended: it types nowhere any more.
    pub(super) fn leave_typing(self: &Arc<Self>, session: SessionId) {
        let left = self.typing.take(session);
        if left.is_empty() {
            return;
        }
        let fanout = self.clone();
        self.lifecycle.spawn("stop typing", async move {
            let left = left.into_iter().map(|it| (session, it)).collect();
            fanout.stop_typing(left).await;
        });
    }

    async fn stop_typing(&self, stopped: Vec<(SessionId, Typist)>) {
        stream::iter(stopped)
            .for_each_concurrent(IN_FLIGHT, async |(session, typist)| {
                if let Err(refusal) = self.say_stopped(session, typist).await {
                    tracing::debug!(%refusal, %session, "nobody is told that somebody stopped typing");
                }
            })
            .await;
    }

    async fn say_stopped(&self, session: SessionId, typist: Typist) -> Result<(), Refusal> {
        let Typist {
            conversation,
            user,
            version,
            ..
        } = typist;
        let signal = Signal {
            kind: SignalKind::TypingStop,
            user,
            session: Some(session),
        };
        let told = self.store.signal(conversation, version, &signal).await;
        if told.map_err(|error| store_refusal(&error))? {
            return Ok(());
        }
        // It changed meanwhile, but perhaps not for this user.
        let Some(rights) = self.rights.get() else {
            return Ok(());
        };
        let right = rights.right(user, conversation, version + 1).await?;
        let told = self.store.signal(conversation, right.version, &signal);
        let told = told.await;
        told.map_err(|error| store_refusal(&error)).map(|_| ())
    }
}
