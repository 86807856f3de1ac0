//! How a socket is opened.

use std::sync::Arc;

use serde_json::Value;

use super::stomp;

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
    /// Without one, that of the deployment or of this run.
    pub(super) dialect: Option<Dialect>,
    greets: bool,
    connect_headers: Vec<(String, String)>,
    queues: &'static [&'static str],
    confirms_queues: bool,
}

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    #[default]
    Json,
    /// Frames go and come in the envelope of the JSON dialect all the same; see [`stomp`].
    Stomp,
    /// Frames go and come as they are.
    Events,
}

impl Dialect {
    /// That of `TESTKIT_DIALECT`: a run of scenarios for another dialect than the one they were
    /// written in.
    pub(crate) fn of_this_run() -> Self {
        match std::env::var("TESTKIT_DIALECT").as_deref() {
            Ok("stomp") => Self::Stomp,
            _ => Self::Json,
        }
    }
}

/// Sees every frame as it arrives, in the envelope of the JSON dialect.
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
            dialect: None,
            greets: true,
            connect_headers: Vec::new(),
            queues: stomp::QUEUES,
            confirms_queues: false,
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
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    /// Speaks STOMP, connected and subscribed to all queues of the user. The token stands in the
    /// upgrade request.
    #[must_use]
    pub fn stomp(self) -> Self {
        self.dialect(Dialect::Stomp)
    }

    /// Speaks the events dialect, whose frames are JSON but none of the JSON dialect.
    #[must_use]
    pub fn events(self) -> Self {
        self.dialect(Dialect::Events)
    }

    /// This dialect, unless one was chosen.
    #[must_use]
    pub fn or_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect.get_or_insert(dialect);
        self
    }

    /// A header of the CONNECT frame that a STOMP socket begins with.
    #[must_use]
    pub fn connect_header(mut self, name: &str, value: &str) -> Self {
        self.connect_headers
            .push((name.to_owned(), value.to_owned()));
        self
    }

    /// The `/user/queue/`s that a STOMP socket subscribes to, by their names, instead of all.
    #[must_use]
    pub fn queues(mut self, queues: &'static [&'static str]) -> Self {
        self.queues = queues;
        self
    }

    /// A STOMP socket asks for a receipt of its last queue: [`stomp::is_subscribed`].
    #[must_use]
    pub(crate) fn confirmed(mut self) -> Self {
        self.confirms_queues = true;
        self
    }

    /// Whether it asks for that receipt.
    pub(crate) fn awaits_queues(&self) -> bool {
        self.confirms_queues && !self.queues.is_empty() && self.greeting().is_some()
    }

    /// A STOMP socket says nothing by itself, not even CONNECT.
    #[must_use]
    pub fn without_greeting(mut self) -> Self {
        self.greets = false;
        self
    }

    /// What a socket of this dialect says first.
    pub(super) fn greeting(&self) -> Option<Vec<u8>> {
        (self.dialect == Some(Dialect::Stomp) && self.greets)
            .then(|| stomp::greeting(&self.connect_headers, self.queues, self.confirms_queues))
    }

    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listener = Some(listener);
        self
    }
}
