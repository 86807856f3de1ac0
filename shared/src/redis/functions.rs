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
    include_str!("../../lua/devices.lua"),
    include_str!("../../lua/conversation.lua"),
    include_str!("../../lua/append.lua"),
    include_str!("../../lua/read.lua"),
    include_str!("../../lua/heads.lua"),
    include_str!("../../lua/find.lua"),
    include_str!("../../lua/ack.lua"),
    include_str!("../../lua/receive.lua"),
    include_str!("../../lua/presence.lua"),
    include_str!("../../lua/session_open.lua"),
    include_str!("../../lua/queue.lua"),
    include_str!("../../lua/session_keep.lua"),
    include_str!("../../lua/session_close.lua"),
    include_str!("../../lua/session_hears.lua"),
    include_str!("../../lua/reap.lua"),
    include_str!("../../lua/presence_set.lua"),
    include_str!("../../lua/presence_settle.lua"),
    include_str!("../../lua/presences.lua"),
    include_str!("../../lua/trim.lua"),
    include_str!("../../lua/persist_read.lua"),
    include_str!("../../lua/settle.lua"),
    include_str!("../../lua/persist_commit.lua"),
    include_str!("../../lua/persist_floor.lua"),
    include_str!("../../lua/lease.lua"),
    include_str!("../../lua/heartbeat.lua"),
    include_str!("../../lua/limit.lua"),
    include_str!("../../lua/standing.lua"),
    include_str!("../../lua/reader.lua"),
    include_str!("../../lua/signal.lua"),
    include_str!("../../lua/copied.lua"),
    include_str!("../../lua/uncopied.lua"),
    include_str!("../../lua/connections.lua"),
    include_str!("../../lua/call.lua"),
    include_str!("../../lua/call_party.lua"),
    include_str!("../../lua/call_end.lua"),
    include_str!("../../lua/busy.lua"),
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
pub(super) const APPEND_RESERVE: Function = writes("tidegate_v1_append_reserve");
pub(super) const READ: Function = reads("tidegate_v1_read");
pub(super) const HEADS: Function = reads("tidegate_v1_heads");
pub(super) const FIND: Function = reads("tidegate_v1_find");
pub(super) const ACK: Function = writes("tidegate_v1_ack");
pub(super) const RECEIVE: Function = writes("tidegate_v1_receive");
pub(super) const SESSION_OPEN: Function = writes("tidegate_v1_session_open");
pub(super) const SESSION_KEEP: Function = writes("tidegate_v1_session_keep");
pub(super) const SESSION_HEARS: Function = writes("tidegate_v1_session_hears");
pub(super) const SESSION_CLOSE: Function = writes("tidegate_v1_session_close");
pub(super) const REAP: Function = writes("tidegate_v1_reap");
pub(super) const PRESENCE_SET: Function = writes("tidegate_v1_presence_set");
pub(super) const PRESENCE_IDLE: Function = writes("tidegate_v1_presence_idle");
pub(super) const PRESENCE_SETTLE: Function = writes("tidegate_v1_presence_settle");
pub(super) const PRESENCES: Function = reads("tidegate_v1_presences");
pub(super) const TRIM: Function = writes("tidegate_v1_trim");
pub(super) const PERSIST_READ: Function = reads("tidegate_v1_persist_read");
pub(super) const SETTLE: Function = writes("tidegate_v1_settle");
pub(super) const PERSIST_COMMIT: Function = writes("tidegate_v1_persist_commit");
pub(super) const PERSIST_FLOOR: Function = writes("tidegate_v1_persist_floor");
pub(super) const LEASE: Function = writes("tidegate_v1_lease");
pub(super) const RELEASE: Function = writes("tidegate_v1_release");
pub(super) const HEARTBEAT: Function = writes("tidegate_v1_heartbeat");
pub(super) const ANNOUNCE: Function = writes("tidegate_v1_announce");
pub(super) const INCARNATION: Function = reads("tidegate_v1_incarnation");
pub(super) const CONNECTIONS: Function = reads("tidegate_v1_connections");
pub(super) const SESSIONS_AT: Function = reads("tidegate_v1_sessions_at");
pub(super) const LEAVE: Function = writes("tidegate_v1_leave");
pub(super) const LIMIT: Function = writes("tidegate_v1_limit");
pub(super) const KEEP_VERSION: Function = writes("tidegate_v1_keep_version");
pub(super) const STANDING: Function = reads("tidegate_v1_standing");
pub(super) const READING: Function = reads("tidegate_v1_reading");
pub(super) const READ_UPTO: Function = writes("tidegate_v1_read_upto");
pub(super) const SIGNAL: Function = writes("tidegate_v1_signal");
pub(super) const COPIED: Function = writes("tidegate_v1_copied");
pub(super) const TAKE_OVER: Function = writes("tidegate_v1_take_over");
pub(super) const UNCOPIED: Function = reads("tidegate_v1_uncopied");
pub(super) const BEGIN_QUEUE: Function = writes("tidegate_v1_begin_queue");
pub(super) const NACK: Function = writes("tidegate_v1_nack");
pub(super) const CALL_OFFER: Function = writes("tidegate_v1_call_offer");
pub(super) const CALL_PLACED: Function = writes("tidegate_v1_call_placed");
pub(super) const CALL_ANSWER: Function = writes("tidegate_v1_call_answer");
pub(super) const CALL_ICE: Function = writes("tidegate_v1_call_ice");
pub(super) const CALL_HANGUP: Function = writes("tidegate_v1_call_hangup");
pub(super) const CALL_CLOSE: Function = writes("tidegate_v1_call_close");
pub(super) const CALL_LAPSE: Function = writes("tidegate_v1_call_lapse");
pub(super) const CALL_FORGET: Function = writes("tidegate_v1_call_forget");
pub(super) const CALL_SETTLED: Function = writes("tidegate_v1_call_settled");
pub(super) const CALL_KEEP: Function = writes("tidegate_v1_call_keep");
pub(super) const CALL_LOST: Function = writes("tidegate_v1_call_lost");
pub(super) const CALL_RESUME: Function = writes("tidegate_v1_call_resume");
pub(super) const CLAIM: Function = writes("tidegate_v1_claim");
pub(super) const HOLD: Function = writes("tidegate_v1_hold");
pub(super) const OFFERED: Function = writes("tidegate_v1_offered");
pub(super) const TELL: Function = writes("tidegate_v1_tell");
pub(super) const CALL_LOOK: Function = reads("tidegate_v1_call_look");
pub(super) const CALLS_DUE: Function = reads("tidegate_v1_calls_due");
pub(super) const CLAIMED: Function = reads("tidegate_v1_claimed");

/// Loads the library where it is not there: functions are lost with the data, so this runs on every
/// connect. Loading what is there would be refused by a server that is out of memory.
pub(super) async fn load(client: &Client) -> Result<(), Failure> {
    let args: Vec<Value> = ["LIST", "LIBRARYNAME", "tidegate_v1", "WITHCODE"]
        .map(Value::from)
        .into();
    let found: Value = client.custom(command("FUNCTION"), args).await?;
    if has_code(&found, &LIBRARY) {
        return Ok(());
    }
    let args: Vec<Value> = vec!["LOAD".into(), "REPLACE".into(), LIBRARY.as_str().into()];
    client.custom::<Value, _>(command("FUNCTION"), args).await?;
    Ok(())
}

/// Looks for a text in an answer of maps and lists.
fn has_code(answer: &Value, code: &str) -> bool {
    match answer {
        Value::Array(items) => items.iter().any(|item| has_code(item, code)),
        Value::Map(map) => map.values().any(|value| has_code(value, code)),
        value => value.as_bytes() == Some(code.as_bytes()),
    }
}
