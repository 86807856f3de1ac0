//! How a socket is opened.

use std::sync::Arc;

use serde_json::Value;

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
    pub(super) listener: Option<Listener>,
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
