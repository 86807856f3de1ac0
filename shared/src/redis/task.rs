//! Background tasks of the store. All end when their token is cancelled.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// Runs `work` until it ends or `stop` is cancelled.
#[allow(
    clippy::disallowed_methods,
    reason = "these tasks live and end with the store, not with the process"
)]
pub(super) fn spawn(stop: CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    });
}

/// Runs `last` when `stop` is cancelled.
#[allow(
    clippy::disallowed_methods,
    reason = "it has to outlive what it closes; it has a deadline of its own"
)]
pub(super) fn at_stop(stop: CancellationToken, last: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        stop.cancelled().await;
        last.await;
    });
}
