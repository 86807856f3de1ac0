//! Sockets, from the upgrade to the end: the only code that touches a WebSocket.
//!
//! [`open`] takes an upgraded connection through identification (`handshake`) to an open
//! session (`session`), whose task then reads, delivers, keeps time and closes. Nothing in
//! here knows a dialect's form or what a request does, and nothing waits for Redis.

mod beats;
mod close;
mod confirm;
mod handshake;
mod host;
mod metrics;
mod opening;
mod rate;
#[expect(
    clippy::module_inception,
    reason = "the session is what this folder is about"
)]
mod session;
mod settings;
mod socket;
#[cfg(test)]
pub(crate) mod tests;

pub use crate::dialect::AckMode;
pub use close::CloseReason;
pub use host::{Attached, Host, Listener, Peer, Pending};
pub use metrics::TABLE as METRICS;
pub use opening::{Arrival, Permit, Sockets, open};
pub use rate::FrameRate;
pub use settings::Settings;
pub use shared::auth::Identity;
