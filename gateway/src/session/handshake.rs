//! A socket whose user is not known yet. It can do nothing but say who it is: it has no
//! outbox, no caller, and nothing in here reaches a command.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use shared::{
    auth::{Identity, MAX_TOKEN_BYTES},
    domain::{ClientId, Code, Refusal},
};
use tokio::time::{Instant, timeout_at};

use super::{
    CloseReason, Host,
    socket::{Received, Socket},
};
use crate::dialect::{self, DialectId, Event, Incoming};

/// Longest frame before identification, in bytes: the longest token with its envelope.
pub(super) const FRAME_LIMIT: usize = MAX_TOKEN_BYTES + 1024;
/// Data frames that are not `authenticate` before the socket is closed.
const MAX_STRAY: u32 = 8;
/// Pings and pongs before the socket is closed.
const MAX_CONTROLS: u32 = 64;

pub(super) struct Handshake<'a, H> {
    pub(super) host: &'a H,
    pub(super) socket: &'a mut Socket,
    pub(super) dialect: DialectId,
}

impl<H: Host> Handshake<'_, H> {
    /// Waits for a good token until `deadline`.
    pub(super) async fn identify(mut self, deadline: Instant) -> Result<Identity, CloseReason> {
        let closing = self.host.closing();
        tokio::select! {
            identified = timeout_at(deadline, self.authenticate()) => {
                identified.unwrap_or(Err(CloseReason::AuthTimeout))
            }
            () = closing.cancelled() => Err(CloseReason::Draining),
        }
    }

    async fn authenticate(&mut self) -> Result<Identity, CloseReason> {
        let (mut stray, mut controls) = (0, 0);
        loop {
            let frame = match poll_fn(|cx| self.poll(cx)).await {
                Received::Data(frame) => frame,
                Received::Ping | Received::Pong(_) if controls < MAX_CONTROLS => {
                    controls += 1;
                    continue;
                }
                Received::Ping | Received::Pong(_) => return Err(CloseReason::Policy),
                Received::End(reason) => return Err(reason),
            };
            let incoming = dialect::decode(self.dialect, &frame);
            // The token is in there; gone before anything else happens.
            drop(frame);
            match incoming {
                Ok(Incoming::Authenticate { id, token }) => {
                    return self.check(id.as_ref(), &token.0);
                }
                Ok(Incoming::Ack { id, .. }) => self.refuse(id.as_ref()),
                Ok(Incoming::Request(request)) => self.refuse(request.id.as_ref()),
                Err(unreadable) => {
                    let event = Event::Error {
                        to: unreadable.id.as_ref(),
                        refusal: &unreadable.refusal,
                    };
                    self.socket.push(dialect::encode(self.dialect, &event));
                    return Err(CloseReason::Policy);
                }
            }
            stray += 1;
            if stray == MAX_STRAY {
                return Err(CloseReason::Policy);
            }
        }
    }

    /// Writes what is queued while waiting for the next frame.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        if let Poll::Ready(Err(_)) = self.socket.poll_write(cx) {
            return Poll::Ready(Received::End(CloseReason::Lost));
        }
        if !self.socket.has_room() {
            return Poll::Pending;
        }
        let received = self.socket.poll_next(cx);
        // A ping has queued its pong; the caller comes back for more.
        if received.is_pending() && self.socket.is_backed_up() {
            return match self.socket.poll_write(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(Received::End(CloseReason::Lost)),
                _ => Poll::Pending,
            };
        }
        received
    }

    fn check(&mut self, id: Option<&ClientId>, token: &str) -> Result<Identity, CloseReason> {
        match self.host.identify(token) {
            Ok(identity) => {
                let event = Event::AuthSuccess {
                    to: id,
                    user: identity.user,
                    expires_at: identity.expires_at,
                };
                self.socket.push(dialect::encode(self.dialect, &event));
                Ok(identity)
            }
            Err(refusal) => {
                let event = Event::AuthFailed {
                    to: id,
                    refusal: &refusal,
                };
                self.socket.push(dialect::encode(self.dialect, &event));
                Err(match refusal.code {
                    Code::Unavailable => CloseReason::Unavailable,
                    _ => CloseReason::AuthFailed,
                })
            }
        }
    }

    fn refuse(&mut self, id: Option<&ClientId>) {
        let refusal = Refusal::new(Code::Unauthorized, "authenticate first");
        let event = Event::Error {
            to: id,
            refusal: &refusal,
        };
        self.socket.push(dialect::encode(self.dialect, &event));
    }
}
