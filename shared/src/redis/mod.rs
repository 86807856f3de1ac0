//! The only code that speaks to Redis. fred stays in here, behind [`Store`] and [`Bells`].
//!
//! A topic is a log (a stream whose ids are `<epoch>-<offset>`) with a bell (a sharded
//! channel). Everything of a topic lives in one partition, so one server function does each
//! step atomically, on Redis Cluster too.
//!
//! Absent on purpose: retries that are not idempotent, queues without a bound, clocks other than
//! that of Redis.

mod append;
mod bells;
mod calls;
mod client;
mod connections;
mod conversations;
mod cursors;
mod error;
mod facts;
mod functions;
mod keys;
mod lane;
mod leases;
mod limits;
mod mint;
mod node;
mod persist;
mod preferences;
mod presence;
mod probe;
mod queues;
mod read;
mod readers;
mod remembered;
mod reply;
mod sessions;
mod settings;
mod settle;
mod sockets;
mod store;
mod stored;
mod task;
mod topology;

pub use append::{Append, Appended, Author, Copying, IdempotencyKey};
pub use bells::{BellEvent, Bells};
pub use calls::{CallStep, CallVerdict, Claim, Claimed, Offer, Party};
pub use connections::{Connection, ConnectionsAfter};
pub use conversations::Copier;
pub use cursors::{Ack, Receive};
pub use error::StoreError;
pub use limits::{Limit, LimitOwner, LimitStep, Tokens};
pub use persist::{PersistPage, TrimStep};
pub use preferences::Known;
pub use presence::{Activity, Settled};
pub use probe::Echo;
pub use queues::Refused;
pub use read::Page;
pub use readers::{ConversationReader, Reading};
pub use sessions::{Closed, NODE_LIFETIME, OpenHere, OpenSession, OpenedSession};
pub use settings::StoreSettings;
pub use sockets::Speaking;
pub use store::Store;
