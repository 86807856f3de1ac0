//! From an upgraded connection to an open session: identification if it is still due, then
//! the user's topic, then the first frame. A short-lived task; the session gets one of its
//! own, so that an idle socket keeps nothing of this.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use shared::{
    auth::Identity,
    domain::{Code, Device, Position, Refusal, SessionId, UserId},
    logging::Ids,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    AckMode, Attached, CloseReason, Host, Peer,
    beats::Beats,
    confirm::Confirmations,
    handshake::{self, Handshake},
    metrics::{CLOSED, OPENED, SOCKETS},
    rate::FrameLimiter,
    session::{Session, Times, instant_of},
    socket::Socket,
};
use crate::{
    app::Disconnect,
    commands::Caller,
    dialect::{Connected, DialectId, Dialogue, Event, Heartbeat, Resumed, Terms},
    fanout::{self, Outbox, Reach},
};

/// Counts the sockets of this node, from their upgrade to their end.
#[derive(Debug, Clone, Default)]
pub struct Sockets(Arc<AtomicUsize>);

/// One socket's place among those the node may have.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Sockets {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the gauge; called before a scrape.
    pub fn measure(&self) {
        SOCKETS.set(self.count() as f64);
    }

    /// One more, unless there are `max` already.
    pub fn admit(&self, max: usize) -> Option<Permit> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(self.0.clone());
        (before < max).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the upgrade request said.
#[derive(Debug)]
pub struct Arrival {
    /// The id of the connection, also that of the session.
    pub session: SessionId,
    /// What the client speaks.
    pub dialect: DialectId,
    /// Which of its user's devices it is.
    pub device: Device,
    /// Where it wants its topic taken up, if not where its device stands.
    pub after: Option<Position>,
    /// Who confirms what was received.
    pub acks: AckMode,
    /// Who it is, if the request had a token, and a good one where the dialect
    /// [refuses by closing](DialectId::refuses_by_closing).
    pub identity: Option<Identity>,
    /// Its place among the node's sockets.
    pub permit: Permit,
}

/// Opens the session and spawns it. `early` are bytes that followed the upgrade request.
pub async fn open<H: Host>(host: Arc<H>, arrival: Arrival, tcp: TcpStream, early: Bytes) {
    let began = Instant::now();
    let session = arrival.session;
    let limit = match arrival.identity {
        Some(_) => host.settings().frame_bytes,
        None => handshake::FRAME_LIMIT,
    };
    let mut socket = Socket::new(tcp, &early, limit);
    // It holds the buffer that the request was read into.
    drop(early);
    let mut user = None;
    match establish(&host, arrival, &mut socket, &mut user).await {
        Ok(opened) => {
            host.spawn(Box::pin(into_session(opened, socket)));
        }
        Err(reason) => {
            close(&host, socket, reason).await;
            CLOSED.of(reason).increment(1);
            let disconnect = Disconnect {
                user,
                socket: session,
                reason: reason.disconnect(),
            };
            host.disconnected(&disconnect);
            tracing::info!(
                event = "disconnect",
                %session,
                user = user.map(tracing::field::display),
                node = %host.node(),
                reason = reason.name(),
                told = disconnect.reason.as_str(),
                code = reason.code(),
                seconds = began.elapsed().as_secs_f64(),
                "socket ended before its session was open",
            );
        }
    }
}

struct Opened<H: Host> {
    host: Arc<H>,
    peer: Arc<Peer>,
    attachment: H::Attachment,
    outbox: Arc<Outbox>,
    identity: Identity,
    dialogue: Box<dyn Dialogue>,
    start: Position,
    acks: AckMode,
    permit: Permit,
}

async fn establish<H: Host>(
    host: &Arc<H>,
    arrival: Arrival,
    socket: &mut Socket,
    user: &mut Option<UserId>,
) -> Result<Opened<H>, CloseReason> {
    let Arrival {
        session,
        dialect,
        mut device,
        after,
        acks,
        identity,
        permit,
    } = arrival;
    let limit = host.settings().handshake_timeout;
    let mut dialogue = dialect.open(Terms {
        frame_bytes: host.settings().frame_bytes,
        heartbeat: host.settings().heartbeat,
    });
    let identity = match identity {
        Some(identity) if !dialect.client_begins() => identity,
        None if !dialect.authenticates_in_band() => return Err(CloseReason::AuthFailed),
        known => {
            let handshake = Handshake {
                host: &**host,
                socket,
                dialogue: &mut *dialogue,
                known,
            };
            let identified = handshake.identify(Instant::now() + limit);
            let identified = Ids::of_session(session).during(identified).await?;
            device = identified.device.unwrap_or(device);
            identified.identity
        }
    };
    *user = Some(identity.user);
    // A dialect that asks for its feeds one by one says of each who confirms it.
    let acks = if dialect.takes_whole_log() {
        acks
    } else {
        AckMode::Auto
    };
    socket.set_frame_limit(host.settings().frame_bytes);
    let outbox = Outbox::new(host.settings().outbox, dialect);
    let caller = Caller {
        user: identity.user,
        session,
        device,
    };
    let ids = caller.ids();
    let peer = Arc::new(Peer { caller, dialect });
    let attach = host.attach(peer.clone(), identity.clone(), after, outbox.clone());
    let attached = ids
        .during(timeout_at(Instant::now() + limit, attach))
        .await
        .unwrap_or_else(|_| {
            Err(Refusal::new(
                Code::Unavailable,
                "the session could not be opened in time",
            ))
        });
    let attached = attached.map_err(|refusal| {
        let event = Event::Error {
            to: None,
            refusal: &refusal,
        };
        // It closes either way.
        let _ = dialogue.write(&event, socket.queue());
        match refusal.code {
            Code::Unauthorized => CloseReason::AuthFailed,
            Code::Forbidden => CloseReason::Banned,
            _ => CloseReason::Unavailable,
        }
    })?;
    let connected = connected(&**host, &peer, &attached);
    // Ahead of every entry: the session, which takes those, does not run yet.
    let _ = dialogue.write(&Event::Connected(&connected), socket.queue());
    tracing::info!(
        event = "connect",
        %session,
        user = %peer.caller.user,
        device = %peer.caller.device,
        node = %host.node(),
        dialect = dialect.name(),
        from = %attached.cursor,
        replayed = attached.replayed,
        "session opened",
    );
    let (host, start) = (host.clone(), attached.cursor);
    let attachment = (attached.start)();
    if host.closing().is_cancelled() {
        // It came too late to be among those that are told one after the other.
        let reconnect_after = Duration::from_secs(1);
        outbox.request_close(fanout::CloseReason::Draining { reconnect_after });
    }
    OPENED.of(()).increment(1);
    Ok(Opened {
        host,
        peer,
        attachment,
        outbox,
        identity,
        dialogue,
        start,
        acks,
        permit,
    })
}

/// What the client is told once its session is open.
fn connected<H: Host>(host: &H, peer: &Peer, attached: &Attached<H::Attachment>) -> Connected {
    let settings = host.settings();
    Connected {
        session_id: peer.caller.session,
        user_id: peer.caller.user,
        device: peer.caller.device.clone(),
        node: host.node().clone(),
        heartbeat: Heartbeat {
            interval_ms: settings.ping_interval.as_millis() as u64,
            max_missed: settings.max_missed,
        },
        limits: host.limits(),
        resumed: Resumed {
            from: attached.cursor,
            replayed: attached.replayed,
            complete: attached.complete,
        },
    }
}

fn into_session<H: Host>(opened: Opened<H>, socket: Socket) -> Session<H> {
    let Opened {
        host,
        peer,
        attachment,
        outbox,
        identity,
        dialogue,
        start,
        acks,
        permit,
    } = opened;
    outbox.connect(socket.line());
    let now = Instant::now();
    let expires = instant_of(identity.expires_at, host.now(), now);
    // The random half of a UUIDv7.
    let (_, random) = peer.caller.session.0.as_u64_pair();
    let stagger = (random & 0xffff) as f64 / 65_535.0;
    let times = Times::new(now, expires, host.settings(), stagger);
    let window = host.settings().outbox.window;
    // Where the session stands in the log of broadcasts is known once one was handed out.
    let start = Reach {
        user: start,
        ..Reach::default()
    };
    let confirmations = Confirmations::new(start, window, now);
    let alarm = Box::pin(sleep_until(now + host.settings().ping_interval));
    Session {
        socket,
        host,
        peer,
        outbox,
        attachment,
        times,
        confirmations,
        acks,
        limiter: FrameLimiter::new(now),
        verdict: None,
        beats: Beats::agreed(dialogue.rhythm(), now),
        dialogue,
        request: None,
        paused: false,
        ending: None,
        timer: alarm,
        _permit: permit,
    }
}

/// Tells the peer and sees it off.
async fn close<H: Host>(host: &Arc<H>, mut socket: Socket, reason: CloseReason) {
    socket.close(reason);
    let closed = poll_fn(|cx| socket.poll_closed(cx, |_| {}));
    // Too late or not, the connection ends with the socket.
    let _ = timeout(host.settings().close_timeout, closed).await;
}
