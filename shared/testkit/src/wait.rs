//! Waiting for conditions, with deadlines.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

/// How long a test waits for what should be a matter of milliseconds: long enough for a crowded
/// machine, short enough to see a hang.
pub const PATIENCE: Duration = Duration::from_secs(20);

const STEP: Duration = Duration::from_millis(20);

/// Waits until the condition gives something, asking again and again.
///
/// # Panics
/// When the deadline passes; the caller's line is named.
#[track_caller]
pub fn eventually<T, F>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> F,
) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let end = Instant::now() + deadline;
        loop {
            match tokio::time::timeout_at(end, condition()).await {
                Ok(Some(value)) => return value,
                Ok(None) if Instant::now() < end => tokio::time::sleep(STEP).await,
                _ => panic!("{what}: not within {deadline:?} ({caller})"),
            }
        }
    }
}

/// The future's output, or a panic that says what was waited for.
#[track_caller]
pub fn within<T>(
    what: &str,
    deadline: Duration,
    future: impl Future<Output = T>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let value = tokio::time::timeout(deadline, future).await;
        value.unwrap_or_else(|_| panic!("{what}: not within {deadline:?} ({caller})"))
    }
}
