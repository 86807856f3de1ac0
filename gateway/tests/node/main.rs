//! The fan-out and the commands of one or more nodes, in this process, on real Redis and
//! Postgres; without sockets and without workers.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no product: it may fail and need not be stopped"
)]

mod broadcasts;
mod commands;
mod desk;
mod fanout;
mod listening;
mod presence;
mod queues;
mod reach;
mod support;
mod users;
