//! What calls count.

use shared::{
    domain::CallEnd,
    metrics::{Counter, Histogram},
};

/// From a second to the longest that a phone rings.
const RINGING: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 45.0, 60.0, 120.0,
];

shared::label! {
    /// Why a call ended.
    pub enum Reason: "reason" {
        Hangup = "hangup",
        Declined = "declined",
        Busy = "busy",
        Offline = "offline",
        Timeout = "timeout",
        AnsweredElsewhere = "answered_elsewhere",
        Glare = "glare",
        Disconnected = "disconnected",
    }
}

shared::metrics! {
    pub static TABLE;
    /// Calls that were placed on this node.
    pub static OFFERED: Counter = "tidegate_calls_offered_total";
    /// Calls that a socket of this node answered.
    pub static ANSWERED: Counter = "tidegate_calls_answered_total";
    /// Calls that this node ended, or saw end.
    pub static ENDED: Counter<Reason> = "tidegate_calls_ended_total";
    /// Time from an offer to its answer.
    pub static ANSWER_TIME: Histogram = "tidegate_call_answer_seconds", RINGING;
}

pub(super) fn count(reason: CallEnd) {
    let reason = match reason {
        CallEnd::Hangup => Reason::Hangup,
        CallEnd::Declined => Reason::Declined,
        CallEnd::Busy => Reason::Busy,
        CallEnd::Offline => Reason::Offline,
        CallEnd::Timeout => Reason::Timeout,
        CallEnd::AnsweredElsewhere => Reason::AnsweredElsewhere,
        CallEnd::Glare => Reason::Glare,
        CallEnd::Disconnected => Reason::Disconnected,
    };
    ENDED.of(reason).increment(1);
}
