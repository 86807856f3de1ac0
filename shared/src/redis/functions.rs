//! The server functions: one library made of `shared/lua`, loaded into every node.
//!
//! Function names carry the library's version, so that two versions can live side by side while
//! a new release rolls out. A change of what a function takes or answers needs a new version.

use std::sync::LazyLock;

use fred::{clients::Client, interfaces::ClientLike, types::Value};

use super::{client::command, error::Failure};

/// The pieces in the order in which their local names build on each other.
const PIECES: &[&str] = &[
    include_str!("../../lua/prelude.lua"),
    include_str!("../../lua/append.lua"),
    include_str!("../../lua/read.lua"),
    include_str!("../../lua/heads.lua"),
    include_str!("../../lua/find.lua"),
    include_str!("../../lua/ack.lua"),
    include_str!("../../lua/session_open.lua"),
    include_str!("../../lua/session_close.lua"),
    include_str!("../../lua/reap.lua"),
    include_str!("../../lua/trim.lua"),
    include_str!("../../lua/persist_read.lua"),
    include_str!("../../lua/persist_commit.lua"),
    include_str!("../../lua/persist_floor.lua"),
    include_str!("../../lua/lease.lua"),
    include_str!("../../lua/heartbeat.lua"),
];

static LIBRARY: LazyLock<String> =
    LazyLock::new(|| ["#!lua name=tidegate_v1\n", &PIECES.concat()].concat());

/// A function of the library.
#[derive(Debug, Clone, Copy)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// `FCALL_RO` works on replicas and under memory pressure.
    pub(super) read_only: bool,
}

const fn writes(name: &'static str) -> Function {
    Function {
        name,
        read_only: false,
    }
}

const fn reads(name: &'static str) -> Function {
    Function {
        name,
        read_only: true,
    }
}

pub(super) const APPEND: Function = writes("tidegate_v1_append");
pub(super) const READ: Function = reads("tidegate_v1_read");
pub(super) const HEADS: Function = reads("tidegate_v1_heads");
pub(super) const FIND: Function = reads("tidegate_v1_find");
pub(super) const ACK: Function = writes("tidegate_v1_ack");
pub(super) const SESSION_OPEN: Function = writes("tidegate_v1_session_open");
pub(super) const SESSION_CLOSE: Function = writes("tidegate_v1_session_close");
pub(super) const REAP: Function = writes("tidegate_v1_reap");
pub(super) const TRIM: Function = writes("tidegate_v1_trim");
pub(super) const PERSIST_READ: Function = reads("tidegate_v1_persist_read");
pub(super) const PERSIST_COMMIT: Function = writes("tidegate_v1_persist_commit");
pub(super) const PERSIST_FLOOR: Function = writes("tidegate_v1_persist_floor");
pub(super) const LEASE: Function = writes("tidegate_v1_lease");
pub(super) const RELEASE: Function = writes("tidegate_v1_release");
pub(super) const HEARTBEAT: Function = writes("tidegate_v1_heartbeat");
pub(super) const ANNOUNCE: Function = writes("tidegate_v1_announce");

/// Loads the library; functions are lost with the data, so this runs on every connect.
pub(super) async fn load(client: &Client) -> Result<(), Failure> {
    let args: Vec<Value> = vec!["LOAD".into(), "REPLACE".into(), LIBRARY.as_str().into()];
    client.custom::<Value, _>(command("FUNCTION"), args).await?;
    Ok(())
}
