//! The record, against a real Postgres. Each test has a database of its own.
#![allow(clippy::unwrap_used)]

mod bots;
mod broadcasts;
mod conversations;
mod expiry;
mod inbox;
mod message_order;
mod messages;
mod order;
mod partitions;
mod plans;
mod pointers;
mod preferences;
mod presence;
mod read;
mod receipts;
mod resealing;
mod schema;
mod states;
mod support;
mod users;
mod write;
