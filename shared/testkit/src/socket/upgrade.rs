//! From a TCP connection to a WebSocket, or to the HTTP answer of a server that refuses.

use std::{io, net::SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::options::{Dialect, SocketOptions};

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

/// The connection and what came behind the answer, or the answer of a server that does not want to.
pub(super) async fn upgrade(
    address: SocketAddr,
    options: &SocketOptions,
) -> io::Result<Result<(TcpStream, Vec<u8>), Refused>> {
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
        .write_all(request_of(address, options, &key).as_bytes())
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
    Ok(Ok((stream, rest)))
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
    let subprotocol = match options.dialect {
        None | Some(Dialect::Json) => None,
        Some(Dialect::Stomp) => Some("v12.stomp"),
        Some(Dialect::Events) => Some("tidegate.events.v1"),
    };
    if let Some(name) = subprotocol {
        request.extend(["Sec-WebSocket-Protocol: ", name, "\r\n"]);
    }
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
