//! A WebSocket client, of the JSON dialect unless it is told otherwise, that can also misbehave: it
//! may withhold pongs, stop reading, write any bytes, and vanish without a word.
//!
//! It speaks the frames itself (with tungstenite's header codec), because a well-mannered library
//! would not let a test do what a bad client does.

mod frame;
mod options;
mod reading;
pub mod stomp;
mod upgrade;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{Mutex as AsyncMutex, Notify, watch},
    task::JoinHandle,
    time::Instant,
};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

pub use frame::masked;
pub use options::{Dialect, Listener, SocketOptions};
pub use reading::Closed;
pub use upgrade::Refused;

use reading::{Inbox, Shared};

use crate::{contracts::Contract, wait::PATIENCE};

/// An open socket. Dropping it closes the TCP connection without a close frame.
pub struct Socket {
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
    next_id: AtomicU64,
    tag: u64,
}

impl Socket {
    /// Upgrades; what comes after is read in the background.
    ///
    /// # Panics
    /// When the server cannot be reached at all or speaks no HTTP.
    pub async fn open(address: SocketAddr, options: SocketOptions) -> Result<Self, Refused> {
        Self::try_open(address, options)
            .await
            .unwrap_or_else(|error| panic!("socket to {address}: {error}"))
    }

    /// The same for servers that may be away.
    pub async fn try_open(
        address: SocketAddr,
        options: SocketOptions,
    ) -> io::Result<Result<Self, Refused>> {
        let options = options.or_dialect(Dialect::of_this_run());
        let upgraded =
            tokio::time::timeout(PATIENCE, upgrade::upgrade(address, &options)).await??;
        let greeting = options.greeting();
        let socket = upgraded.map(|(stream, rest)| Self::over(stream, rest, options));
        if let (Ok(socket), Some(greeting)) = (&socket, greeting) {
            // The server may have closed: that is seen by whoever waits for an answer.
            let _ = socket.try_send(OpCode::Data(Data::Text), &greeting).await;
        }
        Ok(socket)
    }

    fn over(stream: TcpStream, rest: Vec<u8>, options: SocketOptions) -> Self {
        let (read, write) = stream.into_split();
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            bell: Notify::new(),
            auto_pong: AtomicBool::new(options.auto_pong),
            writer: AsyncMutex::new(write),
            listener: options.listener,
            reading: watch::Sender::new(true),
            dialect: options.dialect.unwrap_or_default(),
        });
        let reader = tokio::spawn(reading::read_all(shared.clone(), read, rest));
        Self {
            shared,
            reader,
            next_id: AtomicU64::new(1),
            tag: rand::random(),
        }
    }

    // ---- sending ----

    /// Sends this frame of the JSON dialect, or what it is in the socket's own.
    pub async fn send(&self, value: &Value) {
        let bytes = match self.shared.dialect {
            Dialect::Json | Dialect::Events => value.to_string().into_bytes(),
            Dialect::Stomp => stomp::said(value),
        };
        let _ = self.try_send(OpCode::Data(Data::Text), &bytes).await;
    }

    pub async fn send_text(&self, text: &str) {
        // The server may have closed: that is seen by whoever waits for an answer.
        let _ = self
            .try_send(OpCode::Data(Data::Text), text.as_bytes())
            .await;
    }

    /// A text frame with these bytes, be they text or not.
    pub async fn send_bytes(&self, bytes: &[u8]) {
        let _ = self.try_send(OpCode::Data(Data::Text), bytes).await;
    }

    pub async fn send_binary(&self, bytes: &[u8]) {
        let _ = self.try_send(OpCode::Data(Data::Binary), bytes).await;
    }

    /// One final frame, masked as a client's must be.
    pub async fn try_send(&self, opcode: OpCode, payload: &[u8]) -> io::Result<()> {
        self.send_raw(&masked(opcode, true, payload)).await
    }

    /// A message in fragments.
    pub async fn send_fragments(&self, parts: &[&str]) {
        for (n, part) in parts.iter().enumerate() {
            let opcode = OpCode::Data(if n == 0 { Data::Text } else { Data::Continue });
            let _ = self
                .send_raw(&masked(opcode, n + 1 == parts.len(), part.as_bytes()))
                .await;
        }
    }

    /// Any bytes.
    pub async fn send_raw(&self, bytes: &[u8]) -> io::Result<()> {
        self.shared.writer.lock().await.write_all(bytes).await
    }

    /// Sends a request with a fresh id and waits for its one reply, be it an `error`.
    pub async fn request(&self, name: &str, payload: Value) -> Value {
        // Ids are a user's, not a socket's: two sockets must not use the same by accident.
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}-{number}", self.tag);
        self.request_as(&id, name, payload).await
    }

    /// The same with an id of one's own: a retry.
    pub async fn request_as(&self, id: &str, name: &str, payload: Value) -> Value {
        let frame = json!({"type": name, "id": id, "payload": payload});
        self.send(&frame).await;
        let reply = self.reply_to(id).await;
        let is_refused = ["error", "auth.failed"]
            .iter()
            .any(|it| reply["type"] == *it);
        if !is_refused && !has_null(&frame["payload"]) {
            // What the server takes, its contract has to allow.
            let kept = Contract::JsonToServer.check(name, &frame);
            kept.unwrap_or_else(|broken| panic!("accepted, and against the contract: {broken}"));
        }
        reply
    }

    // ---- receiving ----

    /// Takes the oldest frame of this type out of the inbox, waiting for it.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`] or the socket closes first.
    pub async fn expect(&self, name: &str) -> Value {
        self.take(&format!("a frame `{name}`"), PATIENCE, |frame| {
            frame["type"] == name
        })
        .await
    }

    /// Takes the reply to a request.
    pub async fn reply_to(&self, id: &str) -> Value {
        self.take(&format!("the reply to `{id}`"), PATIENCE, |frame| {
            frame["replyTo"] == id
        })
        .await
    }

    /// Takes the oldest frame the filter likes.
    ///
    /// # Panics
    /// When none comes in time or the socket closes first.
    pub async fn take(
        &self,
        what: &str,
        deadline: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Value {
        self.until(what, deadline, |inbox| {
            let found = inbox
                .frames
                .iter()
                .position(&mut wanted)
                .and_then(|at| inbox.frames.remove(at));
            match (found, &inbox.closed) {
                (None, Some(closed)) => Some(Err(closed.clone())),
                (found, _) => found.map(Ok),
            }
        })
        .await
        .unwrap_or_else(|closed| panic!("socket closed ({closed:?}) before {what}"))
    }

    /// Like [`Self::take`], but a closed socket or a passed deadline gives `None`.
    pub async fn try_take(
        &self,
        deadline: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Option<Value> {
        let mut look = |inbox: &mut Inbox| {
            let found = inbox
                .frames
                .iter()
                .position(&mut wanted)
                .and_then(|at| inbox.frames.remove(at));
            if found.is_none() && inbox.closed.is_some() {
                Some(None)
            } else {
                found.map(Some)
            }
        };
        tokio::time::timeout(deadline, self.watch(&mut look))
            .await
            .ok()
            .flatten()
    }

    /// Waits for the end and tells how it came.
    pub async fn closed(&self) -> Closed {
        self.closed_within(PATIENCE).await
    }

    pub async fn closed_within(&self, deadline: Duration) -> Closed {
        self.until("the end of the socket", deadline, |inbox| {
            inbox.closed.clone()
        })
        .await
    }

    /// The end, if it comes within this time.
    pub async fn closed_by(&self, deadline: Duration) -> Option<Closed> {
        let mut look = |inbox: &mut Inbox| inbox.closed.clone();
        tokio::time::timeout(deadline, self.watch(&mut look))
            .await
            .ok()
    }

    pub fn is_closed(&self) -> bool {
        self.inbox().closed.is_some()
    }

    /// Frames that were received and not taken.
    pub fn waiting(&self) -> Vec<Value> {
        self.inbox().frames.iter().cloned().collect()
    }

    /// How many waiting frames have this type.
    pub fn count(&self, name: &str) -> usize {
        self.inbox()
            .frames
            .iter()
            .filter(|frame| frame["type"] == name)
            .count()
    }

    pub fn pings(&self) -> u64 {
        self.inbox().pings
    }

    // ---- misbehaving ----

    pub fn set_auto_pong(&self, on: bool) {
        self.shared.auto_pong.store(on, Ordering::Relaxed);
    }

    /// Stops (or goes on) reading from TCP.
    pub fn set_reading(&self, on: bool) {
        self.shared.reading.send_replace(on);
    }

    /// Closes with a close frame, as one should, and waits for the server's.
    pub async fn close(self) {
        let _ = self
            .try_send(OpCode::Control(Control::Close), &1000_u16.to_be_bytes())
            .await;
        self.closed().await;
    }

    /// Vanishes: the peer gets a TCP reset.
    pub async fn abort(self) {
        let _ = self.shared.writer.lock().await.as_ref().set_zero_linger();
        self.reader.abort();
    }

    // ---- inside ----

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.shared
            .inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// # Panics
    /// When a frame came that the contract does not allow.
    fn check_contract(&self) {
        let broken = self.inbox().broken.take();
        if let Some(broken) = broken {
            panic!("a frame broke the contract: {broken}");
        }
    }

    async fn watch<T>(&self, look: &mut impl FnMut(&mut Inbox) -> Option<T>) -> T {
        loop {
            let mut rung = std::pin::pin!(self.shared.bell.notified());
            rung.as_mut().enable();
            self.check_contract();
            if let Some(found) = look(&mut self.inbox()) {
                return found;
            }
            rung.await;
        }
    }

    async fn until<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut(&mut Inbox) -> Option<T>,
    ) -> T {
        let end = Instant::now() + deadline;
        let found = tokio::time::timeout_at(end, self.watch(&mut look)).await;
        found.unwrap_or_else(|_| {
            panic!(
                "{what}: not within {deadline:?}; the inbox holds {:?}",
                self.waiting()
            )
        })
    }
}

/// Servers take null for what is absent; the contract does not promise that.
fn has_null(payload: &Value) -> bool {
    let fields = payload.as_object().into_iter().flatten();
    fields.into_iter().any(|(_, value)| value.is_null())
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
        // Also of frames that nobody waited for.
        if !std::thread::panicking() {
            self.check_contract();
        }
    }
}
