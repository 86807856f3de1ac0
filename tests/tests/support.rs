//! What several scenarios need: commands, and clients that keep coming back.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{
    Deployment, History, Plan, Socket, SocketOptions, User, Verdict, checker::Senders, eventually,
    wait::PATIENCE,
};
use tokio::task::JoinHandle;

use crate::persistent::{PAUSE, Receiver, Sender};

/// Makes two tests of each scenario, a function of the dialect that its sockets speak:
/// `<its name>::json` and `<its name>::stomp`.
macro_rules! in_each_dialect {
    ($($scenario:ident),+) => {
        $(mod $scenario {
            #[tokio::test]
            async fn json() {
                super::$scenario(testkit::Dialect::Json).await;
            }

            #[tokio::test]
            async fn stomp() {
                super::$scenario(testkit::Dialect::Stomp).await;
            }
        })+
    };
}
pub(crate) use in_each_dialect;

/// The payload of a `command.create` for one user.
pub fn message(to: &User, content: &str) -> Value {
    json!({"commandType": "message", "content": content, "broadcast": "user", "targetUser": to.id, "categories": []})
}

/// Sends a command and returns its id.
pub async fn send(socket: &Socket, to: &User, content: &str) -> String {
    let reply = socket.request("command.create", message(to, content)).await;
    assert_eq!(reply["type"], "command.accepted", "{reply}");
    assert_eq!(reply["payload"]["status"], "pending", "{reply}");
    id_of(&reply)
}

/// `payload.commandId` of a frame.
pub fn id_of(frame: &Value) -> String {
    frame["payload"]["commandId"]
        .as_str()
        .unwrap_or_else(|| panic!("no commandId in {frame}"))
        .to_owned()
}

/// `e:n` of a durable frame.
pub fn position_of(frame: &Value) -> String {
    let number = |field: &str| {
        frame[field]
            .as_u64()
            .unwrap_or_else(|| panic!("no {field} in {frame}"))
    };
    format!("{}:{}", number("epoch"), number("offset"))
}

/// The next `command.new` has this content.
pub async fn expect_content(socket: &Socket, content: &str) -> Value {
    let frame = socket.expect("command.new").await;
    assert_eq!(frame["payload"]["content"], content, "{frame}");
    frame
}

/// The sender's `command.status` about a command.
pub async fn expect_status(socket: &Socket, command: &str, status: &str) -> Value {
    socket
        .take(
            &format!("status {status} of {command}"),
            PATIENCE,
            |frame| {
                frame["type"] == "command.status"
                    && frame["replyTo"].is_null()
                    && frame["payload"]["commandId"] == command
                    && frame["payload"]["status"] == status
            },
        )
        .await
}

/// The code of an error reply.
#[track_caller]
pub fn assert_error(reply: &Value, code: &str) {
    assert_eq!(reply["type"], "error", "{reply}");
    assert_eq!(reply["payload"]["code"], code, "{reply}");
    assert!(
        reply["payload"]["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{reply}"
    );
}

/// A plan whose rate limits are out of the way of a load.
pub fn unlimited() -> Plan {
    let mut plan = Plan::default();
    for name in [
        "TIDEGATE_SESSION__FRAMES_PER_SECOND",
        "TIDEGATE_SESSION__FRAMES_BURST",
        "TIDEGATE_DELIVERY__REQUESTS_PER_SECOND",
        "TIDEGATE_DELIVERY__REQUESTS_BURST",
        "TIDEGATE_DELIVERY__COMMANDS_PER_SECOND",
        "TIDEGATE_DELIVERY__COMMANDS_BURST",
        "TIDEGATE_DELIVERY__BROADCASTS_PER_MINUTE",
        "TIDEGATE_DELIVERY__BROADCASTS_BURST",
        "TIDEGATE_SESSION__HANDSHAKES_PER_SECOND",
    ] {
        plan = plan.with(name, "1000000");
    }
    plan
}

/// Senders that retry until they are answered, and devices that always come back.
pub struct Load {
    deployment: Arc<Deployment>,
    history: History,
    recipients: Arc<Vec<User>>,
    senders: Vec<JoinHandle<()>>,
    receivers: Vec<JoinHandle<()>>,
    kept: Mutex<Vec<Socket>>,
    /// Each sender has a number of commands of its own and ends by itself.
    bounded: bool,
    stop_sending: Arc<AtomicBool>,
    stop_receiving: Arc<AtomicBool>,
}

/// How much of it.
pub struct LoadSize {
    pub senders: usize,
    pub recipients: usize,
    pub devices: usize,
    /// Pause of a sender between two commands.
    pub pause: Duration,
    /// Commands of each sender; without: until told to stop.
    pub each: Option<usize>,
    /// Bytes that each command carries beside its content.
    pub padding: usize,
}

impl Load {
    /// Registers everybody and starts.
    pub async fn start(deployment: Arc<Deployment>, size: LoadSize) -> Self {
        let mut load = Self {
            deployment,
            history: History::new(),
            recipients: Arc::default(),
            senders: Vec::new(),
            receivers: Vec::new(),
            kept: Mutex::default(),
            bounded: size.each.is_some(),
            stop_sending: Arc::default(),
            stop_receiving: Arc::default(),
        };
        let mut recipients = Vec::new();
        for n in 0..size.recipients {
            let user = load.deployment.user(&format!("recipient{n}")).await;
            for device in 0..size.devices {
                load.receive(n + device, &user, &format!("device{device}"));
            }
            recipients.push(user);
        }
        load.recipients = Arc::new(recipients);
        for n in 0..size.senders {
            let user = load.deployment.user(&format!("sender{n}")).await;
            load.send(n, user, &size);
        }
        load
    }

    fn receive(&mut self, first: usize, user: &User, device: &str) {
        let receiver = Receiver {
            deployment: self.deployment.clone(),
            history: self.history.clone(),
            stop: self.stop_receiving.clone(),
            user: user.clone(),
            device: device.to_owned(),
        };
        // Entitled from now on, connected or not.
        drop(receiver.options());
        self.receivers.push(tokio::spawn(receiver.run(None, first)));
    }

    fn send(&mut self, first: usize, user: User, size: &LoadSize) {
        let (history, stop) = (self.history.clone(), self.stop_sending.clone());
        let (recipients, pause, each) = (self.recipients.clone(), size.pause, size.each);
        let padding = "x".repeat(size.padding);
        let mut sender = Sender::new(self.deployment.clone(), &user, first);
        self.senders.push(tokio::spawn(async move {
            for number in 0..each.unwrap_or(usize::MAX) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let recipient = &recipients[(first + number) % recipients.len()];
                let asking = history.ask(&user.name, &recipient.name);
                let mut payload = message(recipient, asking.mark());
                if !padding.is_empty() {
                    payload["data"] = json!({ "padding": padding });
                }
                sender.ask(&asking, "command.create", &payload).await;
                tokio::time::sleep(pause).await;
            }
        }));
    }

    /// For one more device of a recipient, which the verdict then covers.
    pub fn device(&self, recipient: usize, device: &str) -> SocketOptions {
        let user = &self.recipients[recipient];
        SocketOptions::bearer(&user.token)
            .device(device)
            .listener(self.history.listen(&user.name, device))
    }

    /// These stay open until the verdict.
    pub fn keep(&self, sockets: Vec<Socket>) {
        self.kept.lock().unwrap().extend(sockets);
    }

    /// Waits until this many more commands are promised: the load flows.
    pub async fn flows(&self, more: usize) {
        let before = self.history.promised();
        eventually("the load flows", Duration::from_mins(1), || async {
            (self.history.promised() >= before + more).then_some(())
        })
        .await;
    }

    /// Ends sending, waits until everything has arrived everywhere, and judges.
    pub async fn finish(self) -> (usize, Verdict) {
        self.finish_within(Duration::from_secs(30)).await
    }

    /// The same, for a run that is known to be at rest sooner than another.
    pub async fn finish_within(mut self, patience: Duration) -> (usize, Verdict) {
        self.stop_sending.store(!self.bounded, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            testkit::within(
                "every sender has its answers",
                Duration::from_secs(90),
                sender,
            )
            .await
            .expect("senders do not panic");
        }
        let promised = self.history.promised();
        // Not `eventually`: what is missing then is for the verdict to say.
        let end = Instant::now() + patience;
        let rows = loop {
            let rows = self.rows().await;
            let verdict = self.history.verdict(Senders::OneAtATime, Some(&rows));
            if verdict.lost.is_empty() && rows.len() >= promised || Instant::now() >= end {
                break rows;
            }
            tokio::time::sleep(PAUSE).await;
        };
        self.stop_receiving.store(true, Ordering::Relaxed);
        for receiver in self.receivers.drain(..) {
            receiver.await.expect("receivers do not panic");
        }
        (
            promised,
            self.history.verdict(Senders::OneAtATime, Some(&rows)),
        )
    }

    /// Id and content of every command of our senders in Postgres.
    async fn rows(&self) -> Vec<(String, String)> {
        let rows = self
            .deployment
            .database
            .try_query(
                "SELECT c.id, body::json->>'content' FROM commands c JOIN users u ON u.id = sender_id \
                 WHERE username LIKE 'sender%'",
            )
            .await;
        rows.unwrap_or_default()
            .into_iter()
            .map(|mut row| (row.remove(0), row.remove(0)))
            .collect()
    }
}
