//! A WebSocket client of the JSON dialect that can also misbehave: it may withhold pongs, stop
//! reading, write any bytes, and vanish without a word.
//!
//! It speaks the frames itself (with tungstenite's header codec), because a well-mannered library
//! would not let a test do what a bad client does.

use std::{
    collections::VecDeque,
    io::{self, Cursor},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex as AsyncMutex, Notify, watch},
    task::JoinHandle,
    time::Instant,
};
use tungstenite::{
    handshake::{client::generate_key, derive_accept_key},
    protocol::frame::{
        FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

use crate::wait::PATIENCE;

/// How to open a socket.
#[derive(Clone)]
pub struct SocketOptions {
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    /// Answer pings, as RFC 6455 demands.
    pub auto_pong: bool,
    /// How much the kernel keeps for a client that does not read, in bytes.
    pub receive_buffer: Option<u32>,
    listener: Option<Listener>,
}

/// Sees every JSON frame as it arrives.
pub type Listener = Arc<dyn Fn(&Value) + Send + Sync>;

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            path: "/api/ws".to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            auto_pong: true,
            receive_buffer: None,
            listener: None,
        }
    }
}

impl SocketOptions {
    /// With `Authorization: Bearer`.
    pub fn bearer(token: &str) -> Self {
        Self::default().header("Authorization", &format!("Bearer {token}"))
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn device(self, device: &str) -> Self {
        self.query("device", device)
    }

    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    #[must_use]
    pub fn without_pongs(mut self) -> Self {
        self.auto_pong = false;
        self
    }

    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listener = Some(listener);
        self
    }
}

/// The HTTP answer of a server that did not upgrade.
#[derive(Debug, Clone)]
pub struct Refused {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Refused {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// How a connection came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The server's close frame: its code and reason.
    Frame(u16, String),
    /// No close frame: the connection just ended.
    Lost(String),
}

impl Closed {
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Frame(code, _) => Some(*code),
            Self::Lost(_) => None,
        }
    }
}

#[derive(Default)]
struct Inbox {
    frames: VecDeque<Value>,
    pings: u64,
    closed: Option<Closed>,
}

struct Shared {
    inbox: Mutex<Inbox>,
    bell: Notify,
    auto_pong: AtomicBool,
    writer: AsyncMutex<OwnedWriteHalf>,
    listener: Option<Listener>,
    reading: watch::Sender<bool>,
}

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
        tokio::time::timeout(PATIENCE, Self::upgrade(address, options)).await?
    }

    async fn upgrade(
        address: SocketAddr,
        options: SocketOptions,
    ) -> io::Result<Result<Self, Refused>> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(bytes) = options.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let mut stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let key = generate_key();
        stream
            .write_all(request_of(address, &options, &key).as_bytes())
            .await?;
        let mut buffer = Vec::with_capacity(1024);
        let head_end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
        let rest = buffer.split_off(head_end + 4);
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        let headers: Vec<(String, String)> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Refused {
            status,
            headers,
            body: String::new(),
        };
        if status != 101 {
            let length = answer
                .header("content-length")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            let mut body = rest;
            while body.len() < length && stream.read_buf(&mut body).await? > 0 {}
            answer.body = String::from_utf8_lossy(&body).into_owned();
            return Ok(Err(answer));
        }
        let accept = derive_accept_key(key.as_bytes());
        if answer.header("sec-websocket-accept") != Some(accept.as_str()) {
            return Err(io::Error::other("wrong Sec-WebSocket-Accept"));
        }
        Ok(Ok(Self::over(stream, rest, options)))
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
        });
        let reader = tokio::spawn(read_all(shared.clone(), read, rest));
        Self {
            shared,
            reader,
            next_id: AtomicU64::new(1),
            tag: rand::random(),
        }
    }

    // ---- sending ----

    /// Sends a text frame with this JSON.
    pub async fn send(&self, value: &Value) {
        self.send_text(&value.to_string()).await;
    }

    pub async fn send_text(&self, text: &str) {
        // The server may have closed: that is seen by whoever waits for an answer.
        let _ = self
            .try_send(OpCode::Data(Data::Text), text.as_bytes())
            .await;
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
        self.send(&json!({"type": name, "id": id, "payload": payload}))
            .await;
        self.reply_to(id).await
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

    async fn watch<T>(&self, look: &mut impl FnMut(&mut Inbox) -> Option<T>) -> T {
        loop {
            let mut rung = std::pin::pin!(self.shared.bell.notified());
            rung.as_mut().enable();
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

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn request_of(address: SocketAddr, options: &SocketOptions, key: &str) -> String {
    let query: Vec<String> = options
        .query
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)))
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let mut request = format!(
        "GET {}{mark}{} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
        options.path,
        query.join("&")
    );
    for (name, value) in &options.headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    request
}

fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    value
        .bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A frame as a client has to send it.
pub fn masked(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mask: [u8; 4] = rand::random();
    let header = FrameHeader {
        is_final,
        opcode,
        mask: Some(mask),
        ..FrameHeader::default()
    };
    let mut frame = Vec::with_capacity(payload.len() + 14);
    header
        .format(payload.len() as u64, &mut frame)
        .expect("a vector takes every byte");
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

async fn read_all(shared: Arc<Shared>, mut read: OwnedReadHalf, mut buffer: Vec<u8>) {
    let mut message = Vec::new();
    let mut reading = shared.reading.subscribe();
    let mut closed = None;
    let lost = loop {
        while let Some((header, payload)) = cut_frame(&mut buffer) {
            if let Some(end) = take_frame(&shared, &header, payload, &mut message).await {
                closed = Some(end);
            }
        }
        if reading.wait_for(|on| *on).await.is_err() {
            break "dropped".to_owned();
        }
        match read.read_buf(&mut buffer).await {
            Ok(0) => break "end of stream".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    shared
        .inbox
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .closed = Some(closed.unwrap_or(Closed::Lost(lost)));
    shared.bell.notify_waiters();
}

/// Cuts the first whole frame off the buffer.
fn cut_frame(buffer: &mut Vec<u8>) -> Option<(FrameHeader, Vec<u8>)> {
    let mut cursor = Cursor::new(&buffer[..]);
    let (header, length) = FrameHeader::parse(&mut cursor).ok().flatten()?;
    let start = cursor.position() as usize;
    let end = start + length as usize;
    if buffer.len() < end {
        return None;
    }
    let payload = buffer[start..end].to_vec();
    buffer.drain(..end);
    Some((header, payload))
}

/// Takes a frame in; a close frame gives the end.
async fn take_frame(
    shared: &Shared,
    header: &FrameHeader,
    payload: Vec<u8>,
    message: &mut Vec<u8>,
) -> Option<Closed> {
    match header.opcode {
        OpCode::Data(_) => {
            message.extend_from_slice(&payload);
            if header.is_final {
                let frame: Value = serde_json::from_slice(message).unwrap_or_else(
                    |_| json!({"type": "not json", "payload": String::from_utf8_lossy(message)}),
                );
                message.clear();
                if let Some(listener) = &shared.listener {
                    listener(&frame);
                }
                shared
                    .inbox
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .frames
                    .push_back(frame);
            }
        }
        OpCode::Control(Control::Ping) => {
            shared
                .inbox
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pings += 1;
            if shared.auto_pong.load(Ordering::Relaxed) {
                let pong = masked(OpCode::Control(Control::Pong), true, &payload);
                let _ = shared.writer.lock().await.write_all(&pong).await;
            }
        }
        OpCode::Control(Control::Close) => {
            let code = payload
                .first_chunk()
                .map_or(1005, |code| u16::from_be_bytes(*code));
            let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
            let mut writer = shared.writer.lock().await;
            let _ = writer
                .write_all(&masked(OpCode::Control(Control::Close), true, &payload))
                .await;
            let end = Closed::Frame(code, reason);
            shared
                .inbox
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .closed = Some(end.clone());
            shared.bell.notify_waiters();
            return Some(end);
        }
        OpCode::Control(_) => {}
    }
    shared.bell.notify_waiters();
    None
}
