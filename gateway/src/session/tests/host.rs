//! A gateway that is nothing but sockets.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use shared::{auth::Identity, domain::*};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    app::Disconnect,
    dialect::{Answer, Interest, Json, Limits, Outcome, Request, Subscribe, Subscribed},
    fanout::Outbox,
    session::{Attached, Host, Listener, Peer, Pending, Settings},
};

/// What a test sees of a session.
pub(crate) struct Seen {
    pub(crate) peer: Arc<Peer>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) after: Option<Position>,
}

pub(crate) struct FakeHost {
    pub(crate) settings: Settings,
    pub(crate) closing: CancellationToken,
    node: NodeId,
    pub(crate) seen: Mutex<Vec<Seen>>,
    /// Sessions that hold their topic.
    pub(crate) held: Arc<AtomicUsize>,
    /// Lets one request named `wait` end.
    pub(crate) gate: Arc<Notify>,
    /// Refuses to open sessions.
    pub(crate) refuse: Mutex<Option<Refusal>>,
    pub(crate) refreshed: AtomicUsize,
    /// Sockets that ended.
    pub(crate) ended: Mutex<Vec<Disconnect>>,
    /// Whether clients did nothing, as it was told.
    pub(crate) activities: Mutex<Vec<bool>>,
}

pub(crate) struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) const NOW: Timestamp = Timestamp(1_763_706_688_000);
pub(crate) const START: Position = Position {
    epoch: 7,
    offset: 100,
};

impl FakeHost {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            closing: CancellationToken::new(),
            node: "test-1".parse().unwrap(),
            seen: Mutex::default(),
            held: Arc::default(),
            gate: Arc::default(),
            refuse: Mutex::default(),
            refreshed: AtomicUsize::new(0),
            ended: Mutex::default(),
            activities: Mutex::default(),
        })
    }
}

/// Tokens are `<user id>` or `<user id>/<milliseconds to live>`.
pub(crate) fn token(user: UserId, lives: Duration) -> String {
    format!("{user}/{}", lives.as_millis())
}

impl Host for FakeHost {
    type Attachment = Held;

    fn note_activity(&self, _: &Held, is_idle: bool) {
        self.activities.lock().push(is_idle);
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn node(&self) -> &NodeId {
        &self.node
    }

    fn limits(&self) -> Limits {
        Limits {
            frame_bytes: self.settings.frame_bytes,
            content_bytes: 16_384,
            frames_per_second: 50,
            frames_burst: 150,
            messages_per_second: 20,
            messages_burst: 60,
            sessions_per_user: 10,
        }
    }

    fn now(&self) -> Timestamp {
        NOW
    }

    fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        let (user, lives) = token.split_once('/').unwrap_or((token, "3600000"));
        let user = user
            .parse()
            .map_err(|_| Refusal::new(Code::Unauthorized, "the token is malformed"))?;
        Ok(Identity {
            user,
            token_id: Some("jti".to_owned()),
            issued_at: 0,
            ours: true,
            expires_at: Timestamp(NOW.0 + lives.parse::<i64>().unwrap()),
        })
    }

    fn attach(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        _: Identity,
        after: Option<Position>,
        outbox: Arc<Outbox>,
    ) -> Pending<Result<Attached<Held>, Refusal>> {
        let host = self.clone();
        Box::pin(async move {
            if let Some(refusal) = host.refuse.lock().clone() {
                return Err(refusal);
            }
            let cursor = after.unwrap_or(START);
            host.held.fetch_add(1, Ordering::SeqCst);
            let held = Held(host.held.clone());
            Ok(Attached {
                cursor,
                replayed: 0,
                complete: true,
                start: Box::new(move || {
                    outbox.go_live(cursor);
                    host.seen.lock().push(Seen {
                        peer,
                        outbox,
                        after,
                    });
                    held
                }),
            })
        })
    }

    fn refreshed(&self, _: &Held, _: &Identity) -> Result<(), Refusal> {
        self.refreshed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// `wait` answers when the gate opens, everything else at once with its own name.
    fn run(self: &Arc<Self>, _: &Arc<Peer>, request: Request) -> Pending<Answer> {
        let gate = self.gate.clone();
        Box::pin(async move {
            if &*request.name == "wait" {
                gate.notified().await;
            }
            let payload = Json::of(&serde_json::json!({ "bytes": request.body.as_bytes().len() }));
            let outcome = match &*request.name {
                "refused" => Err(Refusal::new(Code::Forbidden, "not for you")),
                name => Ok(Outcome::Reply {
                    name: Cow::Owned(name.to_owned()),
                    payload,
                    always: false,
                }),
            };
            Answer {
                to: request.id,
                outcome,
            }
        })
    }

    /// Everything is granted but the conversation [`FOREIGN`].
    fn subscribe(self: &Arc<Self>, socket: Listener, wanted: Subscribe) -> Pending<Answer> {
        drop(socket);
        let answer = answer(wanted, Outcome::Subscribed);
        Box::pin(async { answer })
    }

    fn unsubscribe(self: &Arc<Self>, socket: Listener, wanted: Subscribe) -> Pending<Answer> {
        drop(socket);
        let answer = answer(wanted, Outcome::Unsubscribed);
        Box::pin(async { answer })
    }

    fn disconnected(&self, disconnect: &Disconnect) {
        self.ended.lock().push(*disconnect);
    }

    fn spawn(&self, task: Pending<()>) {
        tokio::spawn(task);
    }
}

/// A conversation that nobody may listen to.
pub(crate) const FOREIGN: ConversationId = ConversationId(Uuid::from_u128(13));

fn answer(wanted: Subscribe, outcome: fn(Subscribed) -> Outcome) -> Answer {
    let interests = wanted.wishes.iter().map(|wish| wish.interest);
    let (foreign, granted): (Vec<_>, Vec<_>) = interests.partition(|interest| match interest {
        Interest::Conversation { id, .. } | Interest::Typing(id) => *id == Some(FOREIGN),
        Interest::Queue(_) | Interest::Calls | Interest::Presence(_) => false,
    });
    let refused = foreign
        .into_iter()
        .map(|it| (it, Code::Forbidden))
        .collect();
    Answer {
        to: wanted.id,
        outcome: Ok(outcome(Subscribed {
            granted,
            refused,
            settled: wanted.settled,
        })),
    }
}
