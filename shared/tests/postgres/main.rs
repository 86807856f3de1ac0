//! The record, against a real Postgres. Each test has a database of its own.
#![allow(clippy::unwrap_used)]

mod broadcasts;
mod expiry;
mod order;
mod partitions;
mod plans;
mod preferences;
mod read;
mod receipts;
mod schema;
mod states;
mod support;
mod users;
mod write;
