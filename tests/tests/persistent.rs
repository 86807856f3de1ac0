//! Clients that keep coming back: one that asks until it is answered, one that is there to be told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{Deployment, History, Outcome, Socket, SocketOptions, User, history::Asking};

/// How long a client waits for a reply before it gives its socket up.
const REPLY: Duration = Duration::from_secs(4);
/// How long it waits before it connects, or asks, again.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Opens a socket on some gateway, trying them in turn until one takes it, or it is to stop.
async fn reconnect(
    deployment: &Deployment,
    first: usize,
    options: impl Fn() -> SocketOptions,
    stop: &AtomicBool,
) -> Option<Socket> {
    let count = deployment.gateways.len();
    for turn in first.. {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(address) = deployment.gateways[turn % count].try_address()
            && let Ok(Ok(socket)) = Socket::try_open(address, options()).await
            && socket
                .try_take(REPLY, |frame| frame["type"] == "connected")
                .await
                .is_some()
        {
            return Some(socket);
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

/// Asks under the same id until there is an answer: that is what makes a retry safe.
pub struct Sender {
    deployment: Arc<Deployment>,
    token: String,
    socket: Option<Socket>,
    turn: usize,
}

impl Sender {
    /// One that begins with this gateway.
    pub fn new(deployment: Arc<Deployment>, user: &User, first: usize) -> Self {
        Self {
            deployment,
            token: user.token.clone(),
            socket: None,
            turn: first,
        }
    }

    /// Returns when it is accepted, or refused for good.
    pub async fn ask(&mut self, asking: &Asking, name: &str, payload: &Value) {
        let never = AtomicBool::new(false);
        let options = || SocketOptions::bearer(&self.token).device("sending");
        loop {
            let open = match self.socket.take() {
                Some(open) => open,
                None => reconnect(&self.deployment, self.turn, options, &never)
                    .await
                    .expect("never stopped"),
            };
            let frame = json!({"type": name, "id": asking.mark(), "payload": payload});
            open.send(&frame).await;
            let reply = open
                .try_take(REPLY, |frame| frame["replyTo"] == asking.mark())
                .await;
            match reply {
                Some(reply) => {
                    self.socket = Some(open);
                    if asking.answered(&reply) != Outcome::Info {
                        return;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                None => self.turn += 1,
            }
        }
    }
}

/// A device that is connected as much as it can be.
pub struct Receiver {
    pub deployment: Arc<Deployment>,
    pub history: History,
    pub user: User,
    pub device: String,
    pub stop: Arc<AtomicBool>,
}

impl Receiver {
    /// For one more connection, whose frames go into the history.
    pub fn options(&self) -> SocketOptions {
        SocketOptions::bearer(&self.user.token)
            .device(&self.device)
            .listener(self.history.listen(&self.user.name, &self.device))
    }

    /// Goes on with this socket if there is one, and then connects to gateways in turn, until told to
    /// stop.
    pub async fn run(self, mut socket: Option<Socket>, first: usize) {
        for turn in first.. {
            let open = match socket.take() {
                Some(open) => open,
                None => {
                    match reconnect(&self.deployment, turn, || self.options(), &self.stop).await {
                        Some(open) => open,
                        None => return,
                    }
                }
            };
            while !open.is_closed() && !self.stop.load(Ordering::Relaxed) {
                // Frames are seen by the listener; this only keeps the inbox small.
                open.try_take(Duration::from_millis(200), |_| true).await;
            }
        }
    }
}
