//! The store against real Redis servers, started for each test.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no product: it may fail and need not be stopped"
)]

#[path = "redis/mod.rs"]
mod redis;
