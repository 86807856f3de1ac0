//! What sockets count.

use shared::{
    metrics,
    metrics::{Counter, Gauge},
};

use super::CloseReason;

metrics! {
    pub static TABLE;
    /// Sockets of this node, from their upgrade to their end.
    pub static SOCKETS: Gauge = "tidegate_sockets";
    /// Sessions that were opened.
    pub static OPENED: Counter = "tidegate_sessions_opened_total";
    /// Sockets that ended, by why.
    pub static CLOSED: Counter<CloseReason> = "tidegate_sockets_closed_total";
    /// Frames refused because their sender was above its limit.
    pub static FRAMES_REFUSED: Counter = "tidegate_frames_refused_total";
}
