//! The worker against a real Redis and a real Postgres, without its process.
#![allow(clippy::unwrap_used)]

mod broadcasts;
mod conversations;
mod jobs;
mod outage;
mod persist;
mod shards;
mod sharing;
mod support;
mod sweep;
