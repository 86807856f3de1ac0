//! What a failure of a store means to a client.

use std::time::Duration;

use shared::{
    domain::{Code, Refusal},
    postgres::PgError,
    redis::StoreError,
};

/// What a client is told when Redis did not do its part.
pub fn store_refusal(error: &StoreError) -> Refusal {
    let unavailable = |message: &'static str, seconds| {
        Refusal::new(Code::Unavailable, message).retry_after(Duration::from_secs(seconds))
    };
    match error {
        StoreError::Unavailable(_) => unavailable("the store is away", 1),
        StoreError::Unknown(_) => {
            unavailable("the outcome is unknown; try again with the same id", 1)
        }
        StoreError::OutOfMemory => unavailable("the store is full", 5),
        StoreError::Misconfigured(_) | StoreError::Unexpected(_) => {
            tracing::error!(%error, "the store broke its contract");
            Refusal::new(Code::Internal, "internal error")
        }
    }
}

/// What a client is told when Postgres did not do its part.
pub fn postgres_refusal(error: &PgError) -> Refusal {
    match error {
        PgError::Unavailable(_) => Refusal::new(Code::Unavailable, "the record is away")
            .retry_after(Duration::from_secs(1)),
        PgError::Rejected(_) | PgError::Unexpected(_) => {
            tracing::error!(%error, "postgres refused a question");
            Refusal::new(Code::Internal, "internal error")
        }
    }
}
