//! One connection: what was said before decides what a frame means and how it is answered.
//!
//! The session brings each thing it is given to an answer before it asks for the next, so
//! there is at most one frame whose answer is awaited ([`Asked`]), and what a frame changes
//! here changes when the session says that it was done: a frame that is refused, for example
//! because there were too many, has changed nothing.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::domain::{Code, Refusal};

use super::{
    Broken, Trouble, acks,
    connect::{self, Rejected},
    cut::Parts,
    destination::Own,
    frame::{Command, Received},
    send,
    stream::Stream,
    subscriptions::{Subscription, Subscriptions},
    transactions::Transactions,
    version::Version,
    write::{Frame as Written, line_end},
};
use crate::dialect::{
    Connected, Dialogue, Event, Frame, Incoming, Interest, Json, Rhythm, Settled, Subscribe, Terms,
    Then, Unreadable,
};

/// What a socket of this dialect keeps.
pub(super) struct Stomp {
    terms: Terms,
    stream: Stream,
    /// What was agreed on; `None` before CONNECT.
    version: Option<Version>,
    rhythm: Rhythm,
    subscriptions: Subscriptions,
    transactions: Transactions,
    /// Of a transaction that was committed.
    committed: VecDeque<Committed>,
    asked: Asked,
    /// How many messages only this dialogue has made.
    made: u64,
    /// Nothing the client says counts any more.
    is_over: bool,
}

/// The frame whose answer is awaited, as far as the answer needs it.
#[derive(Default)]
struct Asked {
    receipt: Option<Box<str>>,
    /// The client's name for it, in acknowledgements and refusals.
    client_id: Option<Box<str>>,
    purpose: Purpose,
    /// It is no frame of the protocol: refused, it ends the connection in any case.
    is_broken: bool,
}

/// What an answered frame changes here.
#[derive(Default)]
enum Purpose {
    #[default]
    Nothing,
    Connect {
        /// No version is spoken by both.
        in_vain: bool,
    },
    /// A message to a conversation.
    Chat,
    Listen(Subscription),
    Leave(Subscription),
    Begin(Box<str>),
    Keep(Box<str>, Bytes),
    Commit(Box<str>),
    Abort(Box<str>),
}

/// What follows from a COMMIT.
enum Committed {
    Frame(Bytes),
    /// The COMMIT itself, when all its frames are done.
    Done(Option<Box<str>>),
}

type Said = Result<Incoming, Unreadable>;

impl Stomp {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            stream: Stream::new(terms.frame_bytes),
            terms,
            version: None,
            rhythm: Rhythm::default(),
            subscriptions: Subscriptions::default(),
            transactions: Transactions::default(),
            committed: VecDeque::new(),
            asked: Asked::default(),
            made: 0,
            is_over: false,
        }
    }

    /// Until one is agreed on, headers are written as in the first.
    fn version(&self) -> Version {
        self.version.unwrap_or(Version::V10)
    }

    fn next(&mut self) -> Option<Said> {
        if self.is_over {
            return None;
        }
        self.asked = Asked::default();
        match self.committed.pop_front() {
            Some(Committed::Done(receipt)) => {
                self.asked.receipt = receipt;
                Some(Ok(Incoming::Settled))
            }
            Some(Committed::Frame(frame)) => {
                let parts = Parts::of_kept(&frame);
                Some(self.take(&frame, parts, Part::Committed))
            }
            None => match self.stream.next() {
                Ok(None) => None,
                Ok(Some((frame, parts))) => Some(self.take(&frame, parts, Part::Sent)),
                Err(broken) => Some(Err(self.trouble(broken.into()))),
            },
        }
    }

    fn take(&mut self, frame: &Bytes, parts: Parts, part: Part) -> Said {
        let said = self.understand(frame, parts, part);
        said.map_err(|trouble| self.trouble(trouble))
    }

    fn understand(&mut self, bytes: &Bytes, parts: Parts, part: Part) -> Result<Incoming, Trouble> {
        let frame = Received::read(bytes, parts, self.version)?;
        if frame.command == Command::Connect {
            return self.connect(&frame);
        }
        let Some(version) = self.version else {
            return Err(Broken::malformed("the first frame has to be CONNECT").into());
        };
        self.asked.receipt = frame.header("receipt").map(Into::into);
        if part == Part::Sent
            && matches!(frame.command, Command::Send | Command::Ack | Command::Nack)
            && let Some(transaction) = frame.header("transaction")
        {
            self.transactions.check_open(transaction)?;
            self.transactions
                .check_room(bytes, self.terms.frame_bytes)?;
            // Its receipt comes when it is run.
            self.asked = Asked {
                purpose: Purpose::Keep(transaction.into(), bytes.clone()),
                ..Asked::default()
            };
            return Ok(Incoming::Settled);
        }
        match frame.command {
            Command::Connect => Err(Broken::malformed("CONNECT comes once").into()),
            Command::Send => self.send(&frame),
            Command::Ack | Command::Nack => acks::read(&frame, version, &self.subscriptions),
            Command::Subscribe => self.subscribe(&frame, version),
            Command::Unsubscribe => self.unsubscribe(&frame, version),
            Command::Begin => {
                let id = frame.required("transaction")?;
                self.transactions.check_new(id)?;
                self.asked.purpose = Purpose::Begin(id.into());
                Ok(Incoming::Settled)
            }
            Command::Commit | Command::Abort => {
                let id = frame.required("transaction")?;
                self.transactions.check_open(id)?;
                self.asked.purpose = match frame.command {
                    Command::Commit => Purpose::Commit(id.into()),
                    _ => Purpose::Abort(id.into()),
                };
                Ok(Incoming::Settled)
            }
            Command::Disconnect => {
                self.is_over = true;
                Ok(Incoming::Leave)
            }
        }
    }

    fn connect(&mut self, frame: &Received<'_>) -> Result<Incoming, Trouble> {
        if self.version.is_some() {
            return Err(Broken::malformed("CONNECT comes once").into());
        }
        self.asked.purpose = Purpose::Connect { in_vain: false };
        match connect::read(frame, &self.terms) {
            Ok(connect) => {
                self.version = Some(connect.version);
                self.rhythm = connect.rhythm;
                Ok(Incoming::Authenticate(connect.authenticate))
            }
            Err(Rejected::Broken(broken)) => Err(broken.into()),
            Err(Rejected::Version) => {
                self.asked.purpose = Purpose::Connect { in_vain: true };
                let message = format!("the versions spoken here are {}", Version::LIST);
                Err(Broken::malformed(message).into())
            }
        }
    }

    fn send(&mut self, frame: &Received<'_>) -> Result<Incoming, Trouble> {
        let name = frame.header("client-id").or(frame.header("receipt"));
        self.asked.client_id = name.map(Into::into);
        if frame.header("destination") == Some(send::CHAT_DESTINATION) {
            self.asked.purpose = Purpose::Chat;
        }
        send::read(frame)
    }

    fn subscribe(&mut self, frame: &Received<'_>, version: Version) -> Result<Incoming, Trouble> {
        let new = Subscription::read(frame, version)?;
        self.subscriptions.check(&new)?;
        let wish = new.wish(version);
        self.asked.purpose = Purpose::Listen(new);
        Ok(wish.map_or(Incoming::Settled, |wish| {
            Incoming::Subscribe(Subscribe {
                id: None,
                wishes: vec![wish],
                settled: Settled::default(),
                is_repeated: false,
            })
        }))
    }

    fn unsubscribe(&mut self, frame: &Received<'_>, version: Version) -> Result<Incoming, Trouble> {
        let gone = self.subscriptions.named(frame, version)?.clone();
        let wish = gone.wish(version);
        self.asked.purpose = Purpose::Leave(gone);
        Ok(wish.map_or(Incoming::Settled, |wish| {
            Incoming::Unsubscribe(Subscribe {
                id: None,
                wishes: vec![wish],
                settled: Settled::default(),
                is_repeated: false,
            })
        }))
    }

    fn trouble(&mut self, trouble: Trouble) -> Unreadable {
        let (refusal, is_fatal) = match trouble {
            Trouble::Broken(Broken(refusal)) => (refusal, true),
            Trouble::Refused(refusal) => (refusal, false),
        };
        self.asked.is_broken = is_fatal;
        Unreadable {
            id: None,
            refusal,
            is_fatal,
        }
    }
}

/// Whether a request is answered, apart from its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// It was a question.
    Always,
    /// Only with a name the answer would mean something.
    IfNamed,
}

/// How a frame came to be understood now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Sent,
    /// It waited for its transaction.
    Committed,
}

impl Dialogue for Stomp {
    fn read(&mut self, frame: Frame) -> Option<Said> {
        if self.is_over {
            return None;
        }
        let (Frame::Text(bytes) | Frame::Binary(bytes)) = frame;
        self.stream.push(bytes);
        self.next()
    }

    fn more(&mut self) -> Option<Said> {
        self.next()
    }

    fn write(&mut self, event: &Event<'_>, out: &mut VecDeque<Bytes>) -> Then {
        match *event {
            Event::Connected(connected) => out.push_back(self.connected(connected)),
            Event::AuthSuccess {
                user, expires_at, ..
            } => {
                // A CONNECT is answered when the session is open.
                if !matches!(self.asked.purpose, Purpose::Connect { .. }) {
                    let payload = Json::of(&serde_json::json!({
                        "userId": user,
                        "expiresAt": expires_at,
                    }));
                    self.answer("auth.success", &payload, Telling::IfNamed, out);
                }
            }
            Event::Reply {
                name,
                payload,
                always,
                ..
            } => {
                let telling = if always {
                    Telling::Always
                } else {
                    Telling::IfNamed
                };
                self.answer(name, payload, telling, out);
            }
            Event::Done | Event::Unsubscribed { .. } => self.done(out),
            Event::Subscribed { subscribed, .. } => {
                if let Some((_, code)) = subscribed.refused.first() {
                    let refusal = Refusal::new(*code, "this cannot be subscribed to");
                    return self.refuse(&refusal, out);
                }
                self.done(out);
            }
            Event::Error { refusal, .. } | Event::AuthFailed { refusal, .. } => {
                return self.refuse(refusal, out);
            }
            Event::Lost { interests } => self.lost(interests, out),
            Event::Draining { reconnect_after } => {
                let refusal = Refusal::new(Code::Unavailable, "the node is going away")
                    .retry_after(reconnect_after);
                out.push_back(self.error(&refusal, &Asked::default()));
                self.is_over = true;
                return Then::Close;
            }
            Event::Heartbeat => out.push_back(line_end()),
        }
        Then::GoOn
    }

    fn rhythm(&self) -> Rhythm {
        self.rhythm
    }
}

/// What a client is told in messages of its own.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    message_id: &'a str,
    client_id: Option<&'a str>,
    status: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Accepted<'a> {
    message_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
}

impl Stomp {
    fn connected(&mut self, connected: &Connected) -> Bytes {
        self.asked = Asked::default();
        let every = self.terms.heartbeat.as_millis();
        let beats = (self.version() > Version::V10).then(|| format!("{every},{every}"));
        // A CONNECTED frame is not escaped.
        Written::new("CONNECTED", Version::V10)
            .header("version", self.version())
            .header_if("heart-beat", beats)
            .header("session", connected.session_id)
            .header("server", concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .header("user-name", connected.user_id)
            .header("device", &connected.device)
            .end()
    }

    /// A frame was obeyed: what it changes, changes, and a receipt tells.
    fn done(&mut self, out: &mut VecDeque<Bytes>) {
        let Asked {
            receipt, purpose, ..
        } = std::mem::take(&mut self.asked);
        match purpose {
            Purpose::Nothing | Purpose::Connect { .. } | Purpose::Chat => {}
            Purpose::Listen(new) => self.subscriptions.add(new),
            Purpose::Leave(gone) => self.subscriptions.remove(&gone),
            Purpose::Begin(id) => self.transactions.begin(id),
            Purpose::Keep(id, frame) => self.transactions.keep(&id, &frame),
            Purpose::Abort(id) => drop(self.transactions.take(&id)),
            Purpose::Commit(id) => {
                let frames = self.transactions.take(&id).into_iter();
                self.committed.extend(frames.map(Committed::Frame));
                self.committed.push_back(Committed::Done(receipt));
                return;
            }
        }
        self.receipt(receipt.as_deref(), out);
    }

    fn receipt(&self, receipt: Option<&str>, out: &mut VecDeque<Bytes>) {
        if let Some(receipt) = receipt {
            let frame = Written::new("RECEIPT", self.version());
            out.push_back(frame.header("receipt-id", receipt).end());
        }
    }

    /// A request was run: the receipt tells so, and who listens hears the answer.
    fn answer(&mut self, name: &str, payload: &Json, telling: Telling, out: &mut VecDeque<Bytes>) {
        let asked = std::mem::take(&mut self.asked);
        self.receipt(asked.receipt.as_deref(), out);
        let accepted = match asked.purpose {
            Purpose::Chat => serde_json::from_str::<Accepted<'_>>(payload.as_str()).ok(),
            _ => None,
        };
        if accepted.is_none() && asked.client_id.is_none() && telling == Telling::IfNamed {
            return;
        }
        let body = match &accepted {
            None => payload.clone(),
            Some(Accepted { message_id }) => Json::of(&Sent {
                message_id,
                client_id: asked.client_id.as_deref(),
                status: "SENT",
            }),
        };
        let name = if accepted.is_some() { "chat.ack" } else { name };
        self.tell(Own::Acks, out, |frame| {
            frame
                .header("type", name)
                .header_if("reply-to", asked.client_id.as_deref())
                .body(JSON, body.as_str().as_bytes())
        });
    }

    /// A frame is not obeyed. A refusal goes where refusals are heard, if that is somewhere;
    /// otherwise, and for what is no frame at all, the protocol knows only the end.
    fn refuse(&mut self, refusal: &Refusal, out: &mut VecDeque<Bytes>) -> Then {
        let asked = std::mem::take(&mut self.asked);
        let is_heard = self.subscriptions.of_own(Own::Errors).next().is_some();
        if asked.is_broken || !is_heard {
            out.push_back(self.error(refusal, &asked));
            self.is_over = true;
            return Then::Close;
        }
        let body = Json::of(&Refused {
            code: refusal.code.as_str(),
            message: &refusal.message,
            retry_after_ms: refusal.retry_after.map(|wait| wait.as_millis() as u64),
            client_id: asked.client_id.as_deref(),
        });
        self.tell(Own::Errors, out, |frame| {
            frame
                .header("type", "error")
                .header("code", refusal.code)
                .header_if("receipt-id", asked.receipt.as_deref())
                .header_if("reply-to", asked.client_id.as_deref())
                .body(JSON, body.as_str().as_bytes())
        });
        Then::GoOn
    }

    fn error(&self, refusal: &Refusal, asked: &Asked) -> Bytes {
        let in_vain = matches!(asked.purpose, Purpose::Connect { in_vain: true });
        Written::new("ERROR", self.version())
            .header("message", &refusal.message)
            .header("code", refusal.code)
            .header_if("receipt-id", asked.receipt.as_deref())
            .header_if("version", in_vain.then_some(Version::LIST))
            .header_if(
                "retry-after-ms",
                refusal.retry_after.map(|wait| wait.as_millis()),
            )
            .body("text/plain", refusal.message.as_bytes())
    }

    /// The right to hear something is lost. The protocol has no word for that: who listens to
    /// refusals is told.
    fn lost(&mut self, interests: &[Interest], out: &mut VecDeque<Bytes>) {
        let code = Code::Forbidden;
        let body = Json::of(&Refused {
            code: code.as_str(),
            message: "the subscription has ended",
            retry_after_ms: None,
            client_id: None,
        });
        for gone in self.subscriptions.take_lost(interests) {
            self.tell(Own::Errors, out, |frame| {
                frame
                    .header("type", "unsubscribed")
                    .header("code", code)
                    .header_if("unsubscribed", gone.id.as_deref())
                    .header("from", gone.destination())
                    .body(JSON, body.as_str().as_bytes())
            });
        }
    }

    /// A message for every subscription to one of the dialogue's own queues.
    fn tell(&mut self, own: Own, out: &mut VecDeque<Bytes>, write: impl Fn(Written) -> Bytes) {
        let version = self.version();
        let destination = own.destination();
        for subscription in self.subscriptions.of_own(own) {
            self.made += 1;
            let id = format!("own@{}", self.made);
            let frame = Written::to(&subscription.address(version), version)
                .header("message-id", &id)
                .header("destination", destination)
                .header("ack", &id);
            out.push_back(write(frame));
        }
    }
}

const JSON: &str = "application/json";
