//! The gateway: holds sockets, turns frames into domain requests and domain events into
//! frames. Stateless; everything durable is in Redis and Postgres.
//!
//! Imports go one way: `main > http > session > commands > app > fanout > dialect > shared`.

pub mod app;
pub mod commands;
pub mod config;
pub mod create_admin;
pub mod dialect;
pub mod fanout;
pub mod http;
pub mod metrics;
pub mod node;
pub mod session;
