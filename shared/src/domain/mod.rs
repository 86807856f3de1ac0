//! Plain types and rules. No I/O, no wire format, no clock.

mod command;
mod entry;
mod error;
mod ids;
mod persist;
mod position;
mod time;
mod topic;

pub use command::{
    Broadcast, CommandBody, CommandState, CommandStatus, CommandType, FileRef, MAX_CATEGORIES,
    MAX_CONTENT_BYTES, MAX_FILES,
};
pub use entry::{Durability, Entry, Kind, Revocation};
pub use error::{Code, Refusal};
pub use ids::{ClientId, Device, Digest, InvalidId, MessageId, NodeId, SessionId, UserId};
pub use persist::{Persist, PersistRecord};
pub use position::{InvalidPosition, Position};
pub use time::Timestamp;
pub use topic::{InvalidTopic, Partition, PartitionCount, Topic};
