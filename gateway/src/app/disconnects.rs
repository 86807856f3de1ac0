//! Told of each socket that ends, on this node: what the events of the wire call
//! `server.system.internal_disconnect`. It goes to the log, to a metric and to whoever asked for it
//! here, never to a client.

use std::sync::Arc;

use parking_lot::RwLock;
use shared::{
    domain::{SessionId, UserId},
    metrics::{Counter, Label as _},
};
use tokio::sync::mpsc::{self, Receiver, Sender};

shared::label! {
    /// Why a socket ended, in the few words that others are told.
    pub enum DisconnectReason: "reason" {
        /// It gave no sign of life.
        HeartbeatTimeout = "heartbeat_timeout",
        /// The client ended it, with a word or without.
        ClientClose = "client_close",
        /// It was not, or is no longer, allowed.
        AuthFailed = "auth_failed",
        /// The server ended it for any other reason: a broken rule, a limit, a node that goes away.
        ServerClose = "server_close",
    }
}

shared::metrics! {
    pub static TABLE;
    /// Sockets that ended, as whoever is told of that hears it.
    pub static DISCONNECTS: Counter<DisconnectReason> = "tidegate_disconnects_total";
    /// Disconnects that somebody was not told of, being too slow.
    pub static UNTOLD: Counter = "tidegate_disconnects_untold_total";
}

impl DisconnectReason {
    /// The word on the wire, in logs and in the metric.
    pub fn as_str(self) -> &'static str {
        Self::VALUES[self as usize]
    }
}

/// A socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    /// Whose it was; nobody's if it ended before that was known.
    pub user: Option<UserId>,
    /// Which.
    pub socket: SessionId,
    /// Why.
    pub reason: DisconnectReason,
}

/// Somebody who wants to be told of each.
pub trait DisconnectSink: Send + Sync {
    /// Called while the socket ends: it must not wait.
    fn disconnected(&self, disconnect: &Disconnect);
}

/// See the module.
#[derive(Default)]
pub struct Disconnects(RwLock<Vec<Arc<dyn DisconnectSink>>>);

impl Disconnects {
    /// From now on this one is told, too.
    pub fn tell(&self, sink: Arc<dyn DisconnectSink>) {
        self.0.write().push(sink);
    }

    /// From now on they are queued, too, at most so many: what a slow reader has no room for it is
    /// not told.
    pub fn queue(&self, most: usize) -> Receiver<Disconnect> {
        let (sender, receiver) = mpsc::channel(most.max(1));
        self.tell(Arc::new(Queue(sender)));
        receiver
    }

    /// A socket ended.
    pub fn happened(&self, disconnect: &Disconnect) {
        DISCONNECTS.of(disconnect.reason).increment(1);
        for sink in self.0.read().iter() {
            sink.disconnected(disconnect);
        }
    }
}

struct Queue(Sender<Disconnect>);

impl DisconnectSink for Queue {
    fn disconnected(&self, disconnect: &Disconnect) {
        if self.0.try_send(*disconnect).is_err() {
            UNTOLD.increment(1);
        }
    }
}

impl std::fmt::Debug for Disconnects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Disconnects")
            .field(&self.0.read().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn ended(number: u128) -> Disconnect {
        Disconnect {
            user: None,
            socket: SessionId(Uuid::from_u128(number)),
            reason: DisconnectReason::ServerClose,
        }
    }

    #[test]
    fn a_slow_reader_misses_what_it_has_no_room_for_and_others_do_not() {
        let disconnects = Disconnects::default();
        let mut slow = disconnects.queue(2);
        let mut quick = disconnects.queue(2);
        for number in 0..4 {
            disconnects.happened(&ended(number));
            assert_eq!(quick.try_recv(), Ok(ended(number)));
        }
        assert_eq!(slow.try_recv(), Ok(ended(0)));
        assert_eq!(slow.try_recv(), Ok(ended(1)));
        assert!(slow.try_recv().is_err());
        drop(quick);
        disconnects.happened(&ended(5));
        assert_eq!(slow.try_recv(), Ok(ended(5)));
    }

    #[test]
    fn reasons_are_the_words_of_the_wire() {
        let words = [
            DisconnectReason::HeartbeatTimeout,
            DisconnectReason::ClientClose,
            DisconnectReason::AuthFailed,
            DisconnectReason::ServerClose,
        ]
        .map(DisconnectReason::as_str);
        let expected = [
            "heartbeat_timeout",
            "client_close",
            "auth_failed",
            "server_close",
        ];
        assert_eq!(words, expected);
    }
}
