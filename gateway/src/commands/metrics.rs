//! What requests count.

use shared::{
    domain::Code,
    metrics::{Counter, Histogram, LATENCY},
};

shared::label! {
    /// What was asked for.
    pub enum Name: "request" {
        Ping = "ping",
        Heartbeat = "heartbeat",
        CommandCreate = "command.create",
        CommandQueue = "command.queue",
        CommandComplete = "command.complete",
        CommandCancel = "command.cancel",
        PreferencesGet = "preferences.get",
        PreferencesUpdate = "preferences.update",
        ChatMessage = "chat.message",
        MessageEdit = "message.edit",
        MessageDelete = "message.delete",
        MarkDelivered = "mark.delivered",
        MarkRead = "mark.read",
        UserStatus = "user.status",
        PresenceUpdate = "presence.update",
        PresenceQuery = "presence.query",
        TypingStart = "typing.start",
        TypingStop = "typing.stop",
        CallOffer = "call.offer",
        CallAnswer = "call.answer",
        CallIce = "call.ice",
        CallHangup = "call.hangup",
        Unknown = "unknown",
    }
}

shared::label! {
    /// How it ended: well, or with which code.
    pub enum Outcome: "outcome" {
        Ok = "ok",
        BadRequest = "bad_request",
        UnknownType = "unknown_type",
        Unauthorized = "unauthorized",
        Forbidden = "forbidden",
        NotFound = "not_found",
        Conflict = "conflict",
        TooLarge = "too_large",
        RateLimited = "rate_limited",
        Unavailable = "unavailable",
        Internal = "internal",
    }
}

impl From<Code> for Outcome {
    fn from(code: Code) -> Self {
        match code {
            Code::BadRequest => Self::BadRequest,
            Code::UnknownType => Self::UnknownType,
            Code::Unauthorized => Self::Unauthorized,
            Code::Forbidden => Self::Forbidden,
            Code::NotFound => Self::NotFound,
            Code::Conflict => Self::Conflict,
            Code::TooLarge => Self::TooLarge,
            Code::RateLimited => Self::RateLimited,
            Code::Unavailable => Self::Unavailable,
            Code::Internal => Self::Internal,
        }
    }
}

shared::metrics! {
    pub static TABLE;
    /// Requests of clients, by how they ended.
    pub static REQUESTS: Counter<(Name, Outcome)> = "tidegate_requests_total";
    /// Time from a request to its answer.
    pub static DURATION: Histogram<Name> = "tidegate_request_seconds", LATENCY;
}
