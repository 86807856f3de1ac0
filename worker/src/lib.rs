//! The worker: takes what gateways left in Redis to Postgres, and does what has to be done
//! at a time of its own.
//!
//! Imports go one way: `main > runner > jobs > sweep > context > shared`. Nothing in here knows a socket
//! or a wire dialect.

pub mod config;
pub mod context;
pub mod jobs;
pub mod metrics;
pub mod reaper;
pub mod rotate;
pub mod runner;
pub mod sweep;
