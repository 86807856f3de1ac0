//! A socket whose user is not known yet. It can do nothing but say who it is: it has no
//! outbox, no caller, and nothing in here reaches a command.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use shared::{
    auth::{Identity, MAX_TOKEN_BYTES},
    domain::{ClientId, Code, Device, Refusal},
};
use tokio::time::{Instant, timeout_at};

use super::{
    CloseReason, Host,
    socket::{Received, Socket},
};
use crate::dialect::{Authenticate, Dialogue, Event, Incoming, Token};

/// Longest frame before identification, in bytes: the longest token with its envelope.
pub(super) const FRAME_LIMIT: usize = MAX_TOKEN_BYTES + 1024;
/// Data frames that are not `authenticate` before the socket is closed.
const MAX_STRAY: u32 = 8;
/// Pings and pongs before the socket is closed.
const MAX_CONTROLS: u32 = 64;

pub(super) struct Handshake<'a, H> {
    pub(super) host: &'a H,
    pub(super) socket: &'a mut Socket,
    pub(super) dialogue: &'a mut dyn Dialogue,
    /// Whom the token of the upgrade was of, if it had one.
    pub(super) known: Option<Identity>,
}

/// Who somebody turned out to be.
pub(super) struct Identified {
    pub(super) identity: Identity,
    /// Which of their devices, if that was said.
    pub(super) device: Option<Device>,
}

impl<H: Host> Handshake<'_, H> {
    /// Waits for a good token until `deadline`.
    pub(super) async fn identify(mut self, deadline: Instant) -> Result<Identified, CloseReason> {
        let closing = self.host.closing();
        tokio::select! {
            identified = timeout_at(deadline, self.authenticate()) => {
                identified.unwrap_or(Err(CloseReason::AuthTimeout))
            }
            () = closing.cancelled() => Err(CloseReason::Draining),
        }
    }

    async fn authenticate(&mut self) -> Result<Identified, CloseReason> {
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
            let mut said = self.dialogue.read(frame);
            // A message without a word counts, too: there may be no end of those.
            stray += u32::from(said.is_none());
            while let Some(incoming) = said {
                match incoming {
                    Ok(Incoming::Authenticate(authenticate)) => return self.check(authenticate),
                    Ok(Incoming::Leave) => {
                        let _ = self.dialogue.write(&Event::Done, self.socket.queue());
                        return Err(CloseReason::Left);
                    }
                    Ok(incoming) => self.refuse(incoming.id()),
                    Err(unreadable) => {
                        let event = Event::Error {
                            to: unreadable.id.as_ref(),
                            refusal: &unreadable.refusal,
                        };
                        let _ = self.dialogue.write(&event, self.socket.queue());
                        return Err(match unreadable.refusal.code {
                            Code::TooLarge => CloseReason::TooLarge,
                            _ => CloseReason::Policy,
                        });
                    }
                }
                stray += 1;
                said = self.dialogue.more();
            }
            if stray >= MAX_STRAY {
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

    fn check(&mut self, authenticate: Authenticate) -> Result<Identified, CloseReason> {
        let Authenticate { id, token, device } = authenticate;
        let to = id.as_ref();
        match self.who(token) {
            Ok(identity) => {
                let event = Event::AuthSuccess {
                    to,
                    user: identity.user,
                    expires_at: identity.expires_at,
                };
                let _ = self.dialogue.write(&event, self.socket.queue());
                Ok(Identified { identity, device })
            }
            Err(refusal) => {
                let event = Event::AuthFailed {
                    to,
                    refusal: &refusal,
                };
                let _ = self.dialogue.write(&event, self.socket.queue());
                Err(match refusal.code {
                    Code::Unavailable => CloseReason::Unavailable,
                    _ => CloseReason::AuthFailed,
                })
            }
        }
    }

    /// Whom the token is of, which has to be the user of the token that the upgrade had.
    fn who(&mut self, token: Option<Token>) -> Result<Identity, Refusal> {
        match (token, self.known.take()) {
            (None, None) => Err(Refusal::new(Code::Unauthorized, "no token")),
            (None, Some(known)) => Ok(known),
            (Some(token), known) => {
                let identity = self.host.identify(&token.0)?;
                if known.is_some_and(|known| known.user != identity.user) {
                    return Err(another_user());
                }
                Ok(identity)
            }
        }
    }

    fn refuse(&mut self, id: Option<&ClientId>) {
        let refusal = Refusal::new(Code::Unauthorized, "authenticate first");
        let event = Event::Error {
            to: id,
            refusal: &refusal,
        };
        let _ = self.dialogue.write(&event, self.socket.queue());
    }
}

/// Nobody becomes somebody else.
pub(super) fn another_user() -> Refusal {
    Refusal::new(Code::Forbidden, "the token is of another user")
}
