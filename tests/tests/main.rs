//! End to end: real gateways and a worker as processes, on a real Redis and a real Postgres, seen
//! through sockets and REST as any client sees them.
#![allow(clippy::disallowed_methods)] // No product: the bans of clippy.toml are not for tests.
#![allow(clippy::unwrap_used)]

mod admin;
mod allcast;
mod bad_input;
mod bad_stomp;
mod broadcasts;
mod bugs;
mod calls;
mod chaos;
mod classic;
mod client;
mod conversations;
mod crowd;
mod dev;
mod dialects;
mod faults;
mod filter;
mod floods;
mod import_rule;
mod limits;
mod live;
mod logs;
mod mixed;
mod openapi;
mod persistent;
mod preferences;
mod presence;
mod readiness;
mod recipients;
mod refresh;
mod resume;
mod sessions;
mod signals;
mod staff;
mod startup;
mod states;
mod stomp;
mod stomp_clients;
mod support;
mod tokens;
