//! The task that reads, and the inbox it fills.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{Mutex as AsyncMutex, Notify, watch},
};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, OpCode},
};

use super::{
    Contract,
    frame::{cut_frame, masked},
    options::{Dialect, Listener},
    stomp,
};

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
pub(super) struct Inbox {
    pub(super) frames: VecDeque<Value>,
    pub(super) pings: u64,
    pub(super) closed: Option<Closed>,
    /// The first frame that broke the contract, and how.
    pub(super) broken: Option<String>,
}

/// What the socket and its reading task have in common.
pub(super) struct Shared {
    pub(super) inbox: Mutex<Inbox>,
    pub(super) bell: Notify,
    pub(super) auto_pong: AtomicBool,
    pub(super) writer: AsyncMutex<OwnedWriteHalf>,
    pub(super) listener: Option<Listener>,
    pub(super) reading: watch::Sender<bool>,
    pub(super) dialect: Dialect,
}

/// The task that reads until the end.
pub(super) async fn read_all(shared: Arc<Shared>, mut read: OwnedReadHalf, mut buffer: Vec<u8>) {
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

/// What is wrong with a frame, by its contract.
fn broken(dialect: Dialect, frame: &Value) -> Option<String> {
    match dialect {
        // Of another dialect, which the test speaks by itself.
        Dialect::Json if frame["type"] == "not json" => None,
        Dialect::Json => {
            let name = frame["type"].as_str().unwrap_or_default();
            // The events dialect has another envelope around the same sort of text.
            let contract = match frame.get("data") {
                Some(_) => Contract::EventsToClient,
                None => Contract::JsonToClient,
            };
            contract.check(name, frame).err()
        }
        Dialect::Events => {
            let name = frame["type"].as_str().unwrap_or_default();
            Contract::EventsToClient.check(name, frame).err()
        }
        Dialect::Stomp => {
            let told = &frame["stomp"];
            let name = told["headers"]["type"].as_str().unwrap_or_default();
            let is_message = told["command"] == "MESSAGE";
            is_message.then(|| Contract::StompToClient.check(name, &told["body"]).err())?
        }
    }
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
                let frames = match shared.dialect {
                    Dialect::Json | Dialect::Events => vec![serde_json::from_slice(message).unwrap_or_else(
                        |_| json!({"type": "not json", "payload": String::from_utf8_lossy(message)}),
                    )],
                    Dialect::Stomp => stomp::heard(message),
                };
                message.clear();
                let broken = frames
                    .iter()
                    .find_map(|frame| broken(shared.dialect, frame));
                if let Some(listener) = &shared.listener {
                    for frame in &frames {
                        listener(frame);
                    }
                }
                let mut inbox = shared.inbox.lock().unwrap_or_else(PoisonError::into_inner);
                inbox.frames.extend(frames);
                inbox.broken = inbox.broken.take().or(broken);
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
