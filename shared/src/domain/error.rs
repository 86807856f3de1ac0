//! What a client may be told when it is refused.

use std::{borrow::Cow, fmt, time::Duration};

use serde::Serialize;

/// Stable codes, the same in every dialect and over REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is malformed or breaks a rule.
    BadRequest,
    /// No request has this name.
    UnknownType,
    /// Not, or no longer, authenticated.
    Unauthorized,
    /// Authenticated, but not allowed.
    Forbidden,
    /// What the request names does not exist for the caller.
    NotFound,
    /// It contradicts what has happened already.
    Conflict,
    /// Too many bytes.
    TooLarge,
    /// Too many requests; `retry_after` says when to come back.
    RateLimited,
    /// A part of the system is away; the same request may be tried again.
    Unavailable,
    /// A defect of the server.
    Internal,
}

impl Code {
    /// The code as clients see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownType => "unknown_type",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: a code, a sentence for people, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// What programs look at.
    pub code: Code,
    /// What people read; lower case, names the thing, holds no secret.
    pub message: Cow<'static, str>,
    /// For [`Code::RateLimited`] and [`Code::Unavailable`].
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with a message for people.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}
