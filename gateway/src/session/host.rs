//! What a session needs of the rest of the gateway. Sessions are tested against a host of
//! the tests; a running gateway's host is the application.

use std::{pin::Pin, sync::Arc};

use shared::{
    auth::Identity,
    domain::{NodeId, Position, Refusal, Timestamp},
};
use tokio_util::sync::CancellationToken;

use super::Settings;
use crate::{
    app::Disconnect,
    commands::Caller,
    dialect::{Answer, DialectId, Limits, Request, Subscribe},
    fanout::Outbox,
};

/// A future that a session keeps beside its socket.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Who sits at the other end of an open socket. Never changes.
#[derive(Debug, Clone)]
pub struct Peer {
    /// User, device and session.
    pub caller: Caller,
    /// What it speaks.
    pub dialect: DialectId,
}

/// A socket that wants to hear something.
pub struct Listener {
    /// Who sits there.
    pub peer: Arc<Peer>,
    /// Where it goes.
    pub outbox: Arc<Outbox>,
}

/// Where a session takes up its user's topic.
pub struct Attached<A> {
    /// What the device has confirmed, or asked to begin after.
    pub cursor: Position,
    /// How many entries follow at once.
    pub replayed: u64,
    /// True if those are all there are, from the position that was asked for.
    pub complete: bool,
    /// Begins to deliver. What it gives holds the session open until it is dropped.
    pub start: Box<dyn FnOnce() -> A + Send>,
}

/// The rest of the gateway.
pub trait Host: Send + Sync + 'static {
    /// A session's hold on its user's topic; dropping it ends the session.
    type Attachment: Send + Unpin + 'static;

    /// How sockets are treated.
    fn settings(&self) -> &Settings;
    /// This process's name.
    fn node(&self) -> &NodeId;
    /// What clients are told about limits.
    fn limits(&self) -> Limits;
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// Cancelled when the node begins to close its sockets. Open sessions hear of it by their
    /// outbox.
    fn closing(&self) -> &CancellationToken;

    /// Checks a token: its signature, its time, and that it was not withdrawn.
    fn identify(&self, token: &str) -> Result<Identity, Refusal>;
    /// Connects an outbox with the user's topic. Dropping the future leaves nothing behind.
    fn attach(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        identity: Identity,
        after: Option<Position>,
        outbox: Arc<Outbox>,
    ) -> Pending<Result<Attached<Self::Attachment>, Refusal>>;
    /// The session goes on under another token of the same user.
    fn refreshed(&self, attachment: &Self::Attachment, identity: &Identity) -> Result<(), Refusal>;
    /// The client did nothing for long, or does something again.
    fn note_activity(&self, attachment: &Self::Attachment, is_idle: bool);
    /// Runs a request. Ends within a deadline of its own.
    fn run(self: &Arc<Self>, peer: &Arc<Peer>, request: Request) -> Pending<Answer>;
    /// Lets a socket hear what it wants to hear, as far as its user may.
    fn subscribe(self: &Arc<Self>, socket: Listener, wanted: Subscribe) -> Pending<Answer>;
    /// Lets it hear that no more.
    fn unsubscribe(self: &Arc<Self>, socket: Listener, wanted: Subscribe) -> Pending<Answer>;

    /// A socket ended. Must not wait.
    fn disconnected(&self, disconnect: &Disconnect);

    /// Runs a task that a stop of the process waits for.
    fn spawn(&self, task: Pending<()>);
}
