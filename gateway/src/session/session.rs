//! The loop of an open socket: one task, which reads, runs one request at a time, delivers,
//! keeps time and closes.
//!
//! It is a future written by hand because most sockets are idle most of the time: what it
//! keeps is what is listed in the struct, and a socket has no channel and no second task.
//! Nothing here waits for Redis; what does is a request, polled beside the socket.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use shared::domain::{ClientId, Code, Refusal, Timestamp};
use tokio::time::{Instant, Sleep};

use super::{
    AckMode, CloseReason, Host, Listener, Peer, Pending, Settings,
    beats::Beats,
    confirm::Confirmations,
    handshake::another_user,
    metrics::{CLOSED, FRAMES_REFUSED},
    opening::Permit,
    rate::{FrameLimiter, Verdict},
    socket::{Received, Socket},
};
use crate::{
    app::{Disconnect, DisconnectReason},
    dialect::{self, Answer, Authenticate, Dialogue, Event, Extent, Incoming, Then, Unreadable},
    fanout::{self, Notice, Outbox, Taken},
};

/// Frames a session reads before others have their turn.
const FRAMES_PER_TURN: u32 = 128;

pub(super) struct Session<H: Host> {
    pub(super) socket: Socket,
    pub(super) outbox: Arc<Outbox>,
    pub(super) host: Arc<H>,
    pub(super) peer: Arc<Peer>,
    /// Ends with the session, however that comes about.
    pub(super) attachment: H::Attachment,
    pub(super) times: Times,
    pub(super) confirmations: Confirmations,
    pub(super) acks: AckMode,
    pub(super) limiter: FrameLimiter,
    /// The request that runs. While there is one, no further data frame is read.
    pub(super) request: Option<Pending<Answer>>,
    pub(super) dialogue: Box<dyn Dialogue>,
    /// What the limit says of the message that is read, until something it says has taken that.
    pub(super) verdict: Option<Verdict>,
    pub(super) beats: Option<Box<Beats>>,
    /// Reading stopped because too much waits to be written.
    pub(super) paused: bool,
    pub(super) ending: Option<CloseReason>,
    pub(super) timer: Pin<Box<Sleep>>,
    pub(super) _permit: Permit,
}

/// The moments a session acts on.
pub(super) struct Times {
    opened: Instant,
    expires: Instant,
    /// Pings that were sent since the last sign of life. Counted, not timed, so that a node that is slow
    /// itself does not hold it against its clients.
    missed: u32,
    next_ping: Instant,
    /// When something was last written, or nothing waited.
    progress: Instant,
    /// When the client last said something.
    said: Instant,
    /// That is long ago.
    is_idle: bool,
}

impl Times {
    /// `stagger` from 0 to 1 spreads the pings of sockets that came together.
    pub(super) fn new(now: Instant, expires: Instant, settings: &Settings, stagger: f64) -> Self {
        let first = settings
            .ping_interval
            .mul_f64(0.5 + stagger.clamp(0.0, 1.0) / 2.0);
        Self {
            opened: now,
            expires,
            missed: 0,
            next_ping: now + first,
            progress: now,
            said: now,
            is_idle: false,
        }
    }
}

/// The moment `at` of the day, on the clock that waits are measured by.
pub(super) fn instant_of(at: Timestamp, today: Timestamp, now: Instant) -> Instant {
    let left = u64::try_from(at.0.saturating_sub(today.0)).unwrap_or(0);
    now + std::time::Duration::from_millis(left)
}

impl<H: Host> Future for Session<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        if me.ending.is_none() {
            let reason = ready!(me.poll_open(cx));
            me.end(reason);
        }
        let (confirmations, outbox) = (&mut me.confirmations, &me.outbox);
        let closed = me.socket.poll_closed(cx, |payload| {
            if let Some(reach) = confirmations.pong(payload) {
                outbox.confirmed(&reach);
            }
        });
        if closed.is_ready() {
            Poll::Ready(())
        } else {
            me.timer.as_mut().poll(cx)
        }
    }
}

impl<H: Host> Session<H> {
    /// Ready with the reason when the socket has to close.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let mut budget = FRAMES_PER_TURN;
        loop {
            let now = Instant::now();
            if !self.socket.is_backed_up() {
                // Others may have written meanwhile.
                self.times.progress = now;
            }
            if let Err(reason) = self.receive(cx, now, &mut budget) {
                return Poll::Ready(reason);
            }
            if let Err(reason) = self.keep_time(now) {
                return Poll::Ready(reason);
            }
            if let Err(reason) = self.deliver(cx, now) {
                return Poll::Ready(reason);
            }
            if budget == 0 {
                // Other sockets of this thread have their turn.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.paused && self.socket.has_room() {
                continue;
            }
            let next = self.next_moment(now);
            if next < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(next);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// Reads and runs requests, until one has to be waited for or nothing more came.
    fn receive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        budget: &mut u32,
    ) -> Result<(), CloseReason> {
        let result = loop {
            if let Some(request) = &mut self.request {
                let Poll::Ready(answer) = request.as_mut().poll(cx) else {
                    break Ok(());
                };
                self.request = None;
                if let Err(reason) = self.tell(&answer.event()) {
                    break Err(reason);
                }
            }
            self.paused = !self.socket.has_room();
            if self.paused || *budget == 0 {
                break Ok(());
            }
            *budget -= 1;
            if let Some(said) = self.dialogue.more() {
                match self.heed(said, now) {
                    Ok(()) => continue,
                    Err(reason) => break Err(reason),
                }
            }
            match self.socket.poll_next(cx) {
                Poll::Pending => break Ok(()),
                Poll::Ready(Received::End(reason)) => break Err(reason),
                Poll::Ready(received) => {
                    if let Err(reason) = self.take(received, now) {
                        break Err(reason);
                    }
                }
            }
        };
        if self.socket.take_heard() {
            self.times.missed = 0;
        }
        result
    }

    fn take(&mut self, received: Received, now: Instant) -> Result<(), CloseReason> {
        // What we ask for ourselves is not held against the peer.
        let asked_for =
            matches!(&received, Received::Pong(pong) if self.confirmations.asked_for(pong));
        let verdict = if asked_for {
            Verdict::Pass
        } else {
            self.limiter.check(self.settings().frame_rate, now)
        };
        if verdict == Verdict::Close {
            return Err(CloseReason::RateLimited);
        }
        match received {
            Received::Data(frame) => {
                if let Some(beats) = &mut self.beats {
                    beats.heard(now);
                }
                let said = self.dialogue.read(frame);
                self.verdict = said.is_some().then_some(verdict);
                return said.map_or(Ok(()), |said| self.heed(said, now));
            }
            Received::Pong(payload) => {
                if let Some(reach) = self.confirmations.pong(&payload) {
                    self.outbox.confirmed(&reach);
                }
            }
            Received::Ping | Received::End(_) => {}
        }
        Ok(())
    }

    /// Sees to one thing that the client said. A message counts against the limit as what it
    /// says, or as one if that is nothing.
    fn heed(
        &mut self,
        said: Result<Incoming, Unreadable>,
        now: Instant,
    ) -> Result<(), CloseReason> {
        if !said.as_ref().is_ok_and(Incoming::only_asks) {
            self.times.said = now;
            if std::mem::take(&mut self.times.is_idle) {
                self.host.note_activity(&self.attachment, false);
            }
        }
        let verdict = match self.verdict.take() {
            Some(verdict) => verdict,
            None => self.limiter.check(self.settings().frame_rate, now),
        };
        let incoming = match said {
            Ok(incoming) => incoming,
            Err(unreadable) => return self.not_understood(&unreadable),
        };
        match verdict {
            Verdict::Pass => self.obey(incoming, now),
            // Whoever goes is not asked to come again for it; its dialogue has ended by that.
            Verdict::Refuse(_) if matches!(incoming, Incoming::Leave) => self.obey(incoming, now),
            Verdict::Close => Err(CloseReason::RateLimited),
            Verdict::Refuse(wait) => {
                FRAMES_REFUSED.of(()).increment(1);
                let refusal = Refusal::new(Code::RateLimited, "too many frames").retry_after(wait);
                self.refuse(incoming.id(), &refusal)
            }
        }
    }

    fn not_understood(&mut self, unreadable: &Unreadable) -> Result<(), CloseReason> {
        let Unreadable {
            id,
            refusal,
            is_fatal,
        } = unreadable;
        let told = self.refuse(id.as_ref(), refusal);
        match refusal.code {
            _ if !is_fatal => told,
            Code::TooLarge => Err(CloseReason::TooLarge),
            _ => Err(CloseReason::Malformed),
        }
    }

    fn obey(&mut self, incoming: Incoming, now: Instant) -> Result<(), CloseReason> {
        match incoming {
            Incoming::Request(request) => {
                self.request = Some(self.host.run(&self.peer, request));
                Ok(())
            }
            Incoming::Subscribe(wanted) => {
                self.request = Some(self.host.subscribe(self.listener(), wanted));
                Ok(())
            }
            Incoming::Unsubscribe(wanted) => {
                self.request = Some(self.host.unsubscribe(self.listener(), wanted));
                Ok(())
            }
            Incoming::Ack {
                id,
                feed,
                position,
                extent,
            } => {
                let acknowledged = match extent {
                    Extent::UpTo => self.outbox.acknowledged(feed, position),
                    Extent::Only => self.outbox.acknowledged_one(feed, position),
                };
                self.confirm(id.as_ref(), acknowledged)
            }
            Incoming::Nack {
                feed,
                position,
                extent,
            } => {
                let refused = match extent {
                    Extent::UpTo => self.outbox.nacked_up_to(feed, position),
                    Extent::Only => self.outbox.nacked(feed, position),
                };
                self.confirm(None, refused)
            }
            Incoming::Authenticate(authenticate) => self.refresh(&authenticate, now),
            Incoming::Settled => self.tell(&Event::Done),
            Incoming::Leave => {
                // Before the answer: who has that may go without another word.
                self.ask_a_last_time();
                self.tell(&Event::Done)?;
                Err(CloseReason::Left)
            }
        }
    }

    /// What came of a word about entries that were received.
    fn confirm(
        &mut self,
        to: Option<&ClientId>,
        result: Result<(), Refusal>,
    ) -> Result<(), CloseReason> {
        match result {
            Ok(()) => self.tell(&Event::Done),
            Err(refusal) => self.refuse(to, &refusal),
        }
    }

    fn listener(&self) -> Listener {
        Listener {
            peer: self.peer.clone(),
            outbox: self.outbox.clone(),
        }
    }

    /// Another token of the same user: the session lives as long as that one. With any other
    /// it goes on as it was.
    fn refresh(&mut self, authenticate: &Authenticate, now: Instant) -> Result<(), CloseReason> {
        let to = authenticate.id.as_ref();
        let ids = self.peer.caller.ids();
        let identified = ids.within(|| match &authenticate.token {
            Some(token) => self.host.identify(&token.0),
            None => Err(Refusal::new(Code::Unauthorized, "no token")),
        });
        let identity = identified.and_then(|identity| {
            if identity.user != self.peer.caller.user {
                return Err(another_user());
            }
            self.host.refreshed(&self.attachment, &identity)?;
            Ok(identity)
        });
        match identity {
            Ok(identity) => {
                self.times.expires = instant_of(identity.expires_at, self.host.now(), now);
                self.tell(&Event::AuthSuccess {
                    to,
                    user: identity.user,
                    expires_at: identity.expires_at,
                })
            }
            Err(refusal) => self.tell(&Event::AuthFailed {
                to,
                refusal: &refusal,
            }),
        }
    }

    /// What the clock alone brings about.
    fn keep_time(&mut self, now: Instant) -> Result<(), CloseReason> {
        let settings = self.host.settings();
        if now >= self.times.expires {
            return Err(CloseReason::Expired);
        }
        if !self.times.is_idle && now >= self.times.said + settings.away_after {
            self.times.is_idle = true;
            self.host.note_activity(&self.attachment, true);
        }
        // As with pings, while reading rests silence is no sign.
        let listens = !self.paused && self.request.is_none();
        if let Some(beats) = &mut self.beats {
            if listens && beats.is_missed(settings.max_missed, now) {
                return Err(CloseReason::HeartbeatMissed);
            }
            if !self.socket.is_backed_up() && beats.take_due(now) {
                let _ = self.dialogue.write(&Event::Heartbeat, self.socket.queue());
            }
        }
        if now >= self.times.next_ping {
            self.times.next_ping = now + settings.ping_interval;
            // While writing rests, nothing is asked that could be answered; the stall timeout
            // counts then.
            if listens && self.times.missed >= settings.max_missed {
                return Err(CloseReason::HeartbeatMissed);
            }
            if !self.socket.is_backed_up() {
                self.times.missed += u32::from(listens);
                self.ping(now);
            }
        }
        Ok(())
    }

    /// Takes what the outbox has and writes it, as long as the peer takes it.
    fn deliver(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), CloseReason> {
        loop {
            let mut dry = false;
            if self.socket.has_room() {
                match self.outbox.poll_batch(cx, self.socket.queue()) {
                    Poll::Ready(Taken::Frames(_)) => {}
                    Poll::Ready(Taken::Notice(notice)) => self.notify(notice)?,
                    Poll::Ready(Taken::Close(reason)) => return Err(self.asked_to_close(reason)),
                    Poll::Pending => dry = true,
                }
                self.ask_for_confirmation(now);
            } else if let Poll::Ready(reason) =
                self.outbox.poll_close_requested(cx, self.socket.queue())
                && !matches!(reason, fanout::CloseReason::Draining { .. })
            {
                return Err(self.asked_to_close(reason));
            }
            let written = self.socket.poll_write(cx);
            if self.socket.take_progress() || written.is_ready() {
                self.times.progress = now;
            }
            match written {
                Poll::Pending if now >= self.times.progress + self.settings().stall_timeout => {
                    return Err(CloseReason::SlowConsumer);
                }
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(CloseReason::Lost),
                Poll::Ready(Ok(())) if !dry => {}
                Poll::Ready(Ok(())) => {
                    self.outbox.drained(match self.acks {
                        AckMode::Auto => self.confirmations.covered(),
                        AckMode::Client => u32::MAX,
                    });
                    return Ok(());
                }
            }
        }
    }

    /// A right was lost, and with it what the client heard by it.
    fn notify(&mut self, notice: Notice) -> Result<(), CloseReason> {
        let interests = &notice.interests();
        self.tell(&Event::Lost { interests })
    }

    fn ask_for_confirmation(&mut self, now: Instant) {
        if self.acks == AckMode::Client {
            return;
        }
        if let Some(reach) = self.outbox.written() {
            self.confirmations.handed(&reach);
        }
        if self.confirmation_due(now).is_some_and(|at| at <= now) {
            self.ping(now);
        }
    }

    /// The client leaves: whether it has what was written so far it can be asked only now.
    fn ask_a_last_time(&mut self) {
        if self.acks == AckMode::Client {
            return;
        }
        if let Some(reach) = self.outbox.written() {
            self.confirmations.handed(&reach);
        }
        if let Some(mark) = self.confirmations.last_ping() {
            self.socket.push(dialect::ping(mark));
        }
    }

    fn confirmation_due(&self, now: Instant) -> Option<Instant> {
        // Asked twice so that the outbox is only locked when there is something to confirm.
        self.confirmations.due_at(0, now)?;
        self.confirmations.due_at(self.outbox.unconfirmed(), now)
    }

    fn ping(&mut self, now: Instant) {
        let mark = self.confirmations.ping(now);
        self.socket.push(dialect::ping(mark));
    }

    /// The rest of the gateway wants the socket closed; everything for it was taken out.
    fn asked_to_close(&mut self, reason: fanout::CloseReason) -> CloseReason {
        match reason {
            fanout::CloseReason::Draining { reconnect_after } => {
                // It closes either way.
                let _ = self.tell(&Event::Draining { reconnect_after });
            }
            // Whoever lost the right gets nothing more.
            fanout::CloseReason::Unauthorized
            | fanout::CloseReason::Banned
            | fanout::CloseReason::SlowConsumer => {
                self.socket.forget_queued();
            }
            fanout::CloseReason::Displaced | fanout::CloseReason::Disconnected => {}
        }
        reason.into()
    }

    /// When there is something to do although nobody wakes the session.
    fn next_moment(&self, now: Instant) -> Instant {
        let mut next = self.times.expires.min(self.times.next_ping);
        if !self.times.is_idle {
            next = next.min(self.times.said + self.settings().away_after);
        }
        if let Some(beats) = &self.beats
            && let Some(at) = beats.next_moment(self.settings().max_missed)
        {
            // What is past due waits for something else that wakes the session.
            next = if at > now { next.min(at) } else { next };
        }
        if self.socket.is_backed_up() {
            next = next.min(self.times.progress + self.settings().stall_timeout);
        } else if let Some(at) = self.confirmation_due(now) {
            next = next.min(at);
        }
        next
    }

    /// Begins to close. What waits is still written, within the time for closing.
    fn end(&mut self, reason: CloseReason) {
        self.ending = Some(reason);
        self.request = None;
        self.outbox.disconnect(self.socket.queue());
        if reason == CloseReason::SlowConsumer {
            self.socket.forget_queued();
        }
        self.socket.close(reason);
        let deadline = Instant::now() + self.settings().close_timeout;
        self.timer.as_mut().reset(deadline);
    }

    fn settings(&self) -> &Settings {
        self.host.settings()
    }

    fn refuse(&mut self, to: Option<&ClientId>, refusal: &Refusal) -> Result<(), CloseReason> {
        self.tell(&Event::Error { to, refusal })
    }

    /// Writes an event; an error if the dialect cannot go on behind it.
    fn tell(&mut self, event: &Event<'_>) -> Result<(), CloseReason> {
        match self.dialogue.write(event, self.socket.queue()) {
            Then::GoOn => Ok(()),
            Then::Close => Err(CloseReason::Refused),
        }
    }
}

impl<H: Host> Drop for Session<H> {
    fn drop(&mut self) {
        // The outbox may outlive the session for a moment; the connection must not.
        self.outbox.disconnect(self.socket.queue());
        let peer = &self.peer;
        // Without a reason the task was dropped: a hard stop, or a defect.
        let reason = self.ending.map_or("dropped", CloseReason::name);
        if let Some(reason) = self.ending {
            CLOSED.of(reason).increment(1);
        }
        let told = self.ending.map(CloseReason::disconnect);
        let disconnect = Disconnect {
            user: Some(peer.caller.user),
            socket: peer.caller.session,
            reason: told.unwrap_or(DisconnectReason::ServerClose),
        };
        self.host.disconnected(&disconnect);
        tracing::info!(
            event = "disconnect",
            session = %peer.caller.session,
            user = %peer.caller.user,
            device = %peer.caller.device,
            dialect = peer.dialect.name(),
            node = %self.host.node(),
            reason,
            told = disconnect.reason.as_str(),
            code = self.ending.and_then(CloseReason::code),
            seconds = self.times.opened.elapsed().as_secs_f64(),
            "session ended",
        );
    }
}
