//! A WebSocket client that does nothing by itself: it answers no ping, it may send frames
//! byte by byte or not read at all.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    pub(crate) tcp: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Got {
    Text(serde_json::Value),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16),
    End,
}

pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=65_535 => {
            frame.push(0x80 | 0x7e);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 0x7f);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ mask[at % 4]),
    );
    frame
}

impl Client {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        timeout(DEADLINE, self.tcp.write_all(bytes))
            .await
            .expect("in time")
            .expect("written");
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.write(&masked(0x81, text.as_bytes())).await;
    }

    pub(crate) async fn pong(&mut self, payload: &[u8]) {
        self.write(&masked(0x8a, payload)).await;
    }

    /// The next frame, or the end.
    pub(crate) async fn next(&mut self) -> Got {
        loop {
            if let Some(got) = self.parse() {
                return got;
            }
            let read = timeout(DEADLINE, self.tcp.read_buf(&mut self.buffer)).await;
            match read.expect("a frame in time") {
                Ok(0) | Err(_) => return Got::End,
                Ok(_) => {}
            }
        }
    }

    fn parse(&mut self) -> Option<Got> {
        let (head, length) = match *self.buffer.get(1)? {
            126 => (
                4,
                usize::from(u16::from_be_bytes(
                    self.buffer.get(2..4)?.try_into().unwrap(),
                )),
            ),
            127 => (
                10,
                u64::from_be_bytes(self.buffer.get(2..10)?.try_into().unwrap()) as usize,
            ),
            short => (2, usize::from(short)),
        };
        let payload = self.buffer.get(head..head + length)?.to_vec();
        let first = self.buffer[0];
        self.buffer.drain(..head + length);
        Some(match first {
            0x81 => Got::Text(serde_json::from_slice(&payload).unwrap_or_else(|_| {
                serde_json::Value::String(String::from_utf8(payload).expect("UTF-8"))
            })),
            0x89 => Got::Ping(payload),
            0x8a => Got::Pong(payload),
            0x88 if payload.is_empty() => Got::Close(1005),
            0x88 => Got::Close(u16::from_be_bytes([payload[0], payload[1]])),
            other => panic!("unexpected frame {other:#x}"),
        })
    }

    /// The next text frame; pings on the way are answered.
    pub(crate) async fn text(&mut self) -> serde_json::Value {
        loop {
            match self.next().await {
                Got::Text(value) => return value,
                Got::Ping(payload) => self.pong(&payload).await,
                Got::Pong(_) => {}
                other => panic!("expected text, got {other:?}"),
            }
        }
    }

    /// The next text frame, if those are no JSON.
    pub(crate) async fn plain(&mut self) -> String {
        match self.text().await {
            serde_json::Value::String(text) => text,
            other => panic!("expected no JSON, got {other}"),
        }
    }

    /// The next text frame of this type; others are passed over.
    pub(crate) async fn text_of(&mut self, name: &str) -> serde_json::Value {
        loop {
            let value = self.text().await;
            if value["type"] == name {
                return value;
            }
        }
    }

    /// The code of the Close frame, whatever comes before it. Answers it and sees the end.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.next().await {
                Got::Close(code) => {
                    // The server may have gone already.
                    let _ = self.tcp.write_all(&masked(0x88, &code.to_be_bytes())).await;
                    assert_eq!(self.next().await, Got::End);
                    // As a client does that has seen the end.
                    let _ = self.tcp.shutdown().await;
                    return code;
                }
                Got::End => panic!("ended without a Close frame"),
                _ => {}
            }
        }
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = timeout(DEADLINE, async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    });
    assert!(holds.await.is_ok(), "never: {what}");
}
