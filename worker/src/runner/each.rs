//! The same call for many things, some at once.

use std::future::Future;

use futures_util::{StreamExt as _, stream};

/// Calls on their way to Redis at once; the store makes pipelines of them.
const AT_ONCE: usize = 64;

/// Everything's answer, in the order in which they came. Things are owned and not borrowed, so
/// that tasks that wait here can be sent between threads.
pub async fn each<T, F: Future>(things: Vec<T>, call: impl Fn(T) -> F) -> Vec<F::Output> {
    stream::iter(things)
        .map(call)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}
