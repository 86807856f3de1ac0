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
    pub(super) dialect: Dialect,
}

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    #[default]
    Json,
    /// Frames go and come in the envelope of the JSON dialect all the same; see
    /// [`super::stomp`].
    Stomp,
}

/// Sees every JSON frame as it arrives.
pub type Listener = Arc<dyn Fn(&Value) + Send + Sync>;

impl Dialect {
    /// That of `TESTKIT_DIALECT`: a run of scenarios for another dialect than the one they were
    /// written in.
    fn of_this_run() -> Self {
        match std::env::var("TESTKIT_DIALECT").as_deref() {
            Ok("stomp") => Self::Stomp,
            _ => Self::Json,
        }
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            path: "/api/ws".to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            auto_pong: true,
            receive_buffer: None,
            listener: None,
            dialect: Dialect::of_this_run(),
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

    /// Speaks STOMP, connected and subscribed to all queues of the user. The token stands in the
    /// upgrade request.
    #[must_use]
    pub fn stomp(mut self) -> Self {
        self.dialect = Dialect::Stomp;
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
