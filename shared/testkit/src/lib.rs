//! What the tests and `make run` stand on: private servers of Redis and Postgres, processes of
//! the gateway and the worker, clients that can misbehave, a network that can break, and a history
//! with a checker.
//!
//! It knows the product only from outside: programs, settings, wire protocol. It must not depend
//! on `shared`, so that a defect there cannot hide itself here.
//!
//! Everything started here dies with this process, however it ends; see [`guardian`].

// Every wait and every clock of the tests lives in here; the bans of clippy.toml are for products.
#![allow(clippy::disallowed_methods)]

pub mod binaries;
pub mod checker;
pub mod cluster;
pub mod contracts;
pub mod deployment;
pub mod fuzz;
pub mod guardian;
pub mod history;
pub mod node;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod resp;
pub mod rest;
pub mod sentinel;
pub mod shims;
pub mod socket;
mod stale;
pub mod wait;

pub use checker::Verdict;
pub use deployment::{Deployment, Plan, RedisKind, User};
pub use history::{History, Outcome};
pub use node::Node;
pub use postgres::{Database, Postgres};
pub use process::Process;
pub use proxy::Proxy;
pub use redis::{Redis, RedisOptions};
pub use shims::{Disk, HostClock};
pub use socket::{Dialect, Socket, SocketOptions};
pub use wait::{eventually, within};
