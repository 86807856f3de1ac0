//! What can be set about sockets.

use std::time::Duration;

use super::rate::FrameRate;
use crate::fanout::OutboxLimits;

/// How sockets are treated. The values of a running process come from its settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time between two pings of the server.
    pub ping_interval: Duration,
    /// Silent intervals in a row after which a socket is closed.
    pub max_missed: u32,
    /// How often the server gives a sign of life of the dialect, where those have some of their
    /// own, and wants to see one.
    pub heartbeat: Duration,
    /// A client that sends nothing for this long does nothing.
    pub away_after: Duration,
    /// How long a socket may take to identify itself, and then to be opened.
    pub handshake_timeout: Duration,
    /// Longest frame from a client, in bytes.
    pub frame_bytes: usize,
    /// How many frames a client may send.
    pub frame_rate: FrameRate,
    /// How much may wait for a client.
    pub outbox: OutboxLimits,
    /// How long a client may take nothing while something waits.
    pub stall_timeout: Duration,
    /// How long the closing of a socket may take: flush, Close frame and the peer's answer.
    pub close_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            max_missed: 3,
            heartbeat: Duration::from_secs(10),
            away_after: Duration::from_secs(300),
            handshake_timeout: Duration::from_secs(10),
            frame_bytes: 64 * 1024,
            frame_rate: FrameRate {
                per_second: 50,
                burst: 150,
            },
            outbox: OutboxLimits::default(),
            stall_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
        }
    }
}
