//! A running gateway: what its sockets and its REST interface stand on once Redis and
//! Postgres have answered.

use std::{sync::Arc, time::Duration};

use shared::{
    domain::{Code, MAX_CONTENT_BYTES, NodeId, Position, Refusal, SessionId, Timestamp, UserId},
    lifecycle::Lifecycle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Disconnect},
    commands,
    config::Settings,
    dialect::{Answer, Interest, Limits, Outcome, Request, Subscribe, Subscribed},
    fanout::{Attach, Attachment, Fanout, Outbox, OutboxLimits, TokenRef},
    http::Api,
    session::{self, Attached, FrameRate, Host, Identity, Listener, Peer, Pending},
};

/// The host of this process's sockets.
pub struct Node {
    id: NodeId,
    api: Arc<Api>,
    app: Arc<App>,
    lifecycle: Lifecycle,
    closing: CancellationToken,
    sessions: session::Settings,
    limits: Limits,
}

impl Node {
    /// A node named `id`. `closing` is cancelled when it begins to send its sockets away.
    pub fn new(
        id: NodeId,
        settings: &Settings,
        api: Arc<Api>,
        app: Arc<App>,
        lifecycle: Lifecycle,
        closing: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            api,
            app,
            closing,
            lifecycle,
            sessions: sessions(settings),
            limits: limits(settings),
        })
    }
}

fn sessions(settings: &Settings) -> session::Settings {
    let session = &settings.session;
    session::Settings {
        ping_interval: session.ping_interval,
        max_missed: session.max_missed,
        away_after: settings.presence.away_after,
        handshake_timeout: session.auth_timeout,
        frame_bytes: session.max_frame.bytes(),
        frame_rate: FrameRate {
            per_second: session.frames_per_second,
            burst: session.frames_burst,
        },
        outbox: OutboxLimits {
            frames: session.outgoing_frames,
            bytes: session.outgoing_bytes.bytes() as u32,
            window: settings.delivery.window,
        },
        stall_timeout: session.slow_close,
        ..session::Settings::default()
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        frame_bytes: settings.session.max_frame.bytes(),
        content_bytes: MAX_CONTENT_BYTES,
        frames_per_second: settings.session.frames_per_second,
        frames_burst: settings.session.frames_burst,
        messages_per_second: settings.delivery.requests_per_second,
        messages_burst: settings.delivery.requests_burst,
        sessions_per_user: settings.session.max_per_user,
    }
}

/// Refuses a token that was withdrawn, and all while it is not known which those are, or while no
/// session could get its broadcasts.
pub fn admit(fanout: &Fanout, identity: &Identity) -> Result<(), Refusal> {
    if !fanout.knows_revocations() || !fanout.follows_broadcasts() {
        let refusal = Refusal::new(Code::Unavailable, "the node is starting");
        return Err(refusal.retry_after(Duration::from_secs(1)));
    }
    if fanout.is_revoked(identity.user, &token_ref(identity)) {
        return Err(Refusal::new(Code::Unauthorized, "the token was revoked"));
    }
    Ok(())
}

fn ids_of(socket: &Listener) -> (SessionId, UserId) {
    let caller = &socket.peer.caller;
    (caller.session, caller.user)
}

/// The lines that say so of these topics: a line each, but of several users who are watched one with
/// their number.
fn lines(topics: &[Interest]) -> Vec<(String, Option<usize>)> {
    let is_user = |it: &&Interest| matches!(it, Interest::Presence(Some(_)));
    let (users, others): (Vec<_>, Vec<_>) = topics.iter().partition(is_user);
    let alone = |it: &Interest| (it.to_string(), None);
    let mut lines: Vec<_> = others.into_iter().map(alone).collect();
    match users[..] {
        [] => {}
        [user] => lines.push(alone(user)),
        _ => lines.push(("presence".to_owned(), Some(users.len()))),
    }
    lines
}

fn token_ref(identity: &Identity) -> TokenRef {
    TokenRef {
        id: identity.token_id.as_deref().unwrap_or_default().into(),
        issued_at: identity.issued_at,
    }
}

impl Host for Node {
    type Attachment = Attachment;

    fn settings(&self) -> &session::Settings {
        &self.sessions
    }

    fn node(&self) -> &NodeId {
        &self.id
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn now(&self) -> Timestamp {
        self.app.store.clock().now()
    }

    fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        self.api.identify(token)
    }

    fn attach(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        identity: Identity,
        after: Option<Position>,
        outbox: Arc<Outbox>,
    ) -> Pending<Result<Attached<Attachment>, Refusal>> {
        let (app, user) = (self.app.clone(), peer.caller.user);
        let attach = Attach {
            user,
            session: peer.caller.session,
            device: peer.caller.device.clone(),
            token: token_ref(&identity),
            after,
            outbox,
        };
        Box::pin(async move {
            let banned = || Refusal::new(Code::Forbidden, "the user is banned");
            if app.users.is_banned(user) {
                return Err(banned());
            }
            let attached = app.fanout.attach(attach).await?;
            // A ban closes what is attached: one that came before that is found only here.
            if app.users.is_banned(user) {
                return Err(banned());
            }
            Ok(Attached {
                cursor: attached.cursor,
                replayed: u64::from(attached.replayed),
                complete: attached.complete,
                start: Box::new(|| attached.start()),
            })
        })
    }

    fn refreshed(&self, attachment: &Attachment, identity: &Identity) -> Result<(), Refusal> {
        attachment.refresh(token_ref(identity))
    }

    fn note_activity(&self, attachment: &Attachment, is_idle: bool) {
        attachment.note_activity(is_idle);
    }

    fn run(self: &Arc<Self>, peer: &Arc<Peer>, request: Request) -> Pending<Answer> {
        let (app, peer) = (self.app.clone(), peer.clone());
        Box::pin(async move {
            let result = commands::run(&app, &peer.caller, &request).await;
            Answer {
                to: request.id,
                outcome: result.map(|reply| Outcome::Reply {
                    name: reply.name.into(),
                    payload: reply.payload,
                    always: reply.always,
                }),
            }
        })
    }

    fn subscribe(self: &Arc<Self>, socket: Listener, wanted: Subscribe) -> Pending<Answer> {
        let app = self.app.clone();
        Box::pin(async move {
            let Subscribe {
                id,
                wishes,
                settled,
                is_repeated,
            } = wanted;
            let (mut granted, mut refused) = (Vec::new(), Vec::new());
            let answers = app.fanout.subscribe(&socket.outbox, wishes).await;
            for (interest, begun) in answers {
                match begun {
                    Ok(()) => granted.push(interest),
                    Err(refusal) => refused.push((interest, refusal.code)),
                }
            }
            let (session, user) = ids_of(&socket);
            for (topic, users) in lines(&granted) {
                tracing::info!(event = "subscribe", %session, %user, topic, users, "subscribed");
            }
            // Of a repeated wish it stands there already.
            let news = if is_repeated { &[] } else { &refused[..] };
            for of_code in news.chunk_by(|(_, one), (_, other)| one == other) {
                let (topics, code): (Vec<_>, _) =
                    (of_code.iter().map(|it| it.0).collect(), of_code[0].1);
                for (topic, users) in lines(&topics) {
                    tracing::info!(event = "denied", %session, %user, asked = "subscribe", topic, users, %code, "subscription refused");
                }
            }
            // Behind the answer: nothing is written for the session before this returns.
            app.fanout.show_presences(&socket.outbox, &granted);
            Answer {
                to: id,
                outcome: Ok(Outcome::Subscribed(Subscribed {
                    granted,
                    refused,
                    settled,
                })),
            }
        })
    }

    fn unsubscribe(self: &Arc<Self>, socket: Listener, wanted: Subscribe) -> Pending<Answer> {
        let app = self.app.clone();
        Box::pin(async move {
            for wish in &wanted.wishes {
                app.fanout.unsubscribe(&socket.outbox, wish);
            }
            let granted = wanted.wishes.into_iter().map(|wish| wish.interest);
            let granted: Vec<Interest> = granted.collect();
            let (session, user) = ids_of(&socket);
            for (topic, users) in lines(&granted) {
                tracing::info!(event = "unsubscribe", %session, %user, topic, users, "unsubscribed");
            }
            Answer {
                to: wanted.id,
                outcome: Ok(Outcome::Unsubscribed(Subscribed {
                    granted,
                    refused: Vec::new(),
                    settled: wanted.settled,
                })),
            }
        })
    }

    fn disconnected(&self, disconnect: &Disconnect) {
        self.app.disconnects.happened(disconnect);
    }

    fn spawn(&self, task: Pending<()>) {
        self.lifecycle.spawn("socket", task);
    }
}
