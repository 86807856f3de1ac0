//! What the gateway and the worker have in common: the domain, the only code that
//! speaks to Redis and Postgres, and the frame every process runs in (settings, logs,
//! metrics, life cycle).
//!
//! Imports go one way: `calls | changes | copies > redis | postgres > domain`. Nothing in here knows a wire
//! dialect or a socket.

#![warn(missing_docs)]

pub mod auth;
pub mod calls;
pub mod changes;
pub mod clock;
pub mod config;
pub mod contents;
pub mod copies;
pub mod domain;
pub mod health;
pub mod lifecycle;
pub mod logging;
pub mod metrics;
pub mod ops;
pub mod postgres;
pub mod process;
pub mod redis;
