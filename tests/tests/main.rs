//! End to end: real gateways and a worker as processes, on a real Redis and a real Postgres, seen
//! through sockets and REST as any client sees them.
#![allow(clippy::disallowed_methods)] // No product: the bans of clippy.toml are not for tests.
#![allow(clippy::unwrap_used)]

mod admin;
mod bad_input;
mod bugs;
mod chaos;
mod dev;
mod faults;
mod import_rule;
mod live;
mod logs;
mod openapi;
mod readiness;
mod resume;
mod sessions;
mod startup;
mod states;
mod support;
mod tokens;
