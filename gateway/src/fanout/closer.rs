//! Closes sessions in Redis after their sockets are gone, in the background and paced.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use shared::{
    domain::{SessionId, UserId},
    redis::Closed,
};
use tokio::{sync::Notify, time::Instant};

use super::{Fanout, metrics};

/// Most calls in flight.
const IN_FLIGHT: usize = 64;
/// Most sessions that wait. Beyond, the oldest stay in Redis until the node's next life reaps
/// them or the user's limit displaces them.
const MAX_WAITING: usize = 200_000;
const RETRY: Duration = Duration::from_secs(1);

/// Sessions that are over.
#[derive(Debug, Default)]
pub(super) struct Closer {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(UserId, SessionId)>,
    in_flight: usize,
}

impl Closer {
    pub(super) fn close(&self, user: UserId, session: SessionId) {
        let mut state = self.state.lock();
        if state.waiting.len() >= MAX_WAITING {
            state.waiting.pop_front();
            metrics::CLOSES_DROPPED.increment(1);
        }
        state.waiting.push_back((user, session));
        drop(state);
        self.news.notify_one();
    }

    fn take(&self) -> Option<(UserId, SessionId)> {
        let mut state = self.state.lock();
        let next = state.waiting.pop_front();
        state.in_flight += usize::from(next.is_some());
        next
    }

    fn done(&self, failed: Option<(UserId, SessionId)>) {
        let mut state = self.state.lock();
        state.in_flight -= 1;
        state.waiting.extend(failed);
    }

    fn is_settled(&self) -> bool {
        let state = self.state.lock();
        state.waiting.is_empty() && state.in_flight == 0
    }
}

impl Fanout {
    /// The task that closes; ends at the soft stop, when nothing waits.
    pub(super) async fn close_sessions(self: Arc<Self>) {
        let mut calls = FuturesUnordered::new();
        let mut pause: Option<Instant> = None;
        loop {
            while pause.is_none()
                && calls.len() < IN_FLIGHT
                && let Some((user, session)) = self.closer.take()
            {
                let (fanout, grace) = (&self, self.settings.presence.grace);
                calls.push(async move {
                    let (node, incarnation) = (&fanout.settings.node, fanout.settings.incarnation);
                    let closed = fanout
                        .store
                        .session_close(user, session, node, incarnation, grace)
                        .await;
                    match closed {
                        Ok(closed) => Ok((user, closed)),
                        Err(error) => Err((error, (user, session))),
                    }
                });
            }
            if self.lifecycle.is_stopping() && calls.is_empty() && self.closer.is_settled() {
                return;
            }
            tokio::select! {
                Some(closed) = calls.next() => match closed {
                    Ok((user, closed)) => {
                        self.closer.done(None);
                        if closed == Closed::Last {
                            self.departed(user);
                        }
                    }
                    Err((error, session)) => {
                        tracing::debug!(%error, "a session cannot be closed in redis yet");
                        self.closer.done(Some(session));
                        pause = Some(Instant::now() + RETRY);
                    }
                },
                () = self.closer.news.notified(), if pause.is_none() => {}
                () = tokio::time::sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {
                    pause = None;
                }
                () = self.lifecycle.stopping(), if !self.lifecycle.is_stopping() => {}
            }
        }
    }

    /// True once every session that ended is closed in Redis.
    pub(super) async fn sessions_closed(&self, wait: Duration) -> bool {
        let settled = async {
            while !self.closer.is_settled() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(wait, settled).await.is_ok()
    }
}
