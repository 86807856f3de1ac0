//! Why a call to Redis failed, and what the caller should make of it.

use std::sync::Arc;

use fred::error::{Error, ErrorKind};

/// Why a call to Redis failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Redis did not take the call; nothing happened.
    #[error("redis is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// No answer in time: it may have happened or not. Retry with the same idempotency key.
    #[error("redis did not answer in time: {0}")]
    Unknown(Arc<str>),
    /// Redis is near its memory limit and takes no durable entries.
    #[error("redis is out of memory")]
    OutOfMemory,
    /// The deployment in Redis does not fit the settings, or Redis is too old: nothing that
    /// trying again would heal.
    #[error("redis does not fit the settings: {0}")]
    Misconfigured(Arc<str>),
    /// An answer that does not follow the contract: a defect.
    #[error("unexpected answer from redis: {0}")]
    Unexpected(Arc<str>),
}

impl StoreError {
    pub(super) fn unexpected(what: impl Into<Arc<str>>) -> Self {
        Self::Unexpected(what.into())
    }
}

/// What to do about a failed call; finer than [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// This node does not serve the key (any more), or was perhaps replaced: look at the
    /// topology, try there.
    Elsewhere,
    /// The functions are not loaded.
    NoFunction,
    /// `maxmemory` is reached.
    OutOfMemory,
    /// Redis answered that it does not take the call now.
    Refused,
    /// No answer: it may have happened.
    Lost,
    /// Anything else.
    Defect,
}

/// A failed call: what to do about it, and the sentence for the log.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) trouble: Trouble,
    pub(super) text: Arc<str>,
}

impl Failure {
    pub(super) fn lost(text: &str) -> Self {
        Self {
            trouble: Trouble::Lost,
            text: text.into(),
        }
    }

    pub(super) fn refused(text: &str) -> Self {
        Self {
            trouble: Trouble::Refused,
            text: text.into(),
        }
    }

    /// Sorts an error reply by its first word, as Redis means it.
    pub(super) fn of_reply(text: &str) -> Self {
        let trouble = match text.split_whitespace().next().unwrap_or("") {
            "MOVED" | "ASK" | "READONLY" | "CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN"
            | "UNBLOCKED" | "NOREPLICAS" => Trouble::Elsewhere,
            "OOM" => Trouble::OutOfMemory,
            "LOADING" | "BUSY" | "MISCONF" | "NOAUTH" | "WRONGPASS" | "NOPERM" => Trouble::Refused,
            // A slot that is being moved: some of its keys are gone already.
            _ if text.contains("non local key")
                || text.contains("do not hash to the same slot") =>
            {
                Trouble::Elsewhere
            }
            _ if text.contains("Function not found") => Trouble::NoFunction,
            _ => Trouble::Defect,
        };
        Self {
            trouble,
            text: text.into(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Timeout | ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Protocol => {
                Self {
                    trouble: Trouble::Lost,
                    text: error.to_string().into(),
                }
            }
            ErrorKind::Routing | ErrorKind::Backpressure | ErrorKind::Auth | ErrorKind::Tls => {
                Self {
                    trouble: Trouble::Refused,
                    text: error.to_string().into(),
                }
            }
            _ if error.details() == "Failed to route command." => Self {
                trouble: Trouble::Refused,
                text: "not connected".into(),
            },
            _ => Self::of_reply(error.details()),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.trouble {
            Trouble::Elsewhere | Trouble::NoFunction | Trouble::Refused => {
                Self::Unavailable(failure.text)
            }
            Trouble::OutOfMemory => Self::OutOfMemory,
            Trouble::Lost => Self::Unknown(failure.text),
            Trouble::Defect => Self::Unexpected(failure.text),
        }
    }
}
