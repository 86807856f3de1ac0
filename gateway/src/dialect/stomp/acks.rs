//! ACK and NACK: which entry of which log a client names.

use shared::domain::{Code, Position, Queue};

use super::{
    Trouble, destination,
    frame::{Command, Received},
    subscriptions::{Acks, Subscriptions},
    version::Version,
};
use crate::dialect::{Extent, Feed, Incoming};

/// What an ACK or NACK frame asks for. Where the subscription needs no confirmation, and for
/// what is not durable, there is nothing to do.
pub(super) fn read(
    frame: &Received<'_>,
    version: Version,
    subscriptions: &Subscriptions,
) -> Result<Incoming, Trouble> {
    let id = match version {
        Version::V12 => frame.required("id")?,
        Version::V11 => {
            frame.required("subscription")?;
            frame.required("message-id")?
        }
        Version::V10 => frame.required("message-id")?,
    };
    let unknown = || Trouble::refused(Code::BadRequest, "no message has this id");
    let (place, position) = id.rsplit_once('@').ok_or_else(unknown)?;
    let (queue, feed) = if place == destination::BROADCAST {
        (Queue::Commands, Feed::Broadcast)
    } else if let Some(queue) = Queue::ALL.into_iter().find(|it| it.as_str() == place) {
        (queue, Feed::Queue(queue))
    } else {
        return Ok(Incoming::Settled);
    };
    let position: Position = position
        .replacen('-', ":", 1)
        .parse()
        .map_err(|_| unknown())?;
    let extent = match subscriptions.of_queue(queue).map(|it| it.acks) {
        None | Some(Acks::Auto) => return Ok(Incoming::Settled),
        Some(Acks::Client) => Extent::UpTo,
        Some(Acks::Individual) => Extent::Only,
    };
    Ok(if frame.command == Command::Nack {
        Incoming::Nack {
            feed,
            position,
            extent,
        }
    } else {
        Incoming::Ack {
            id: None,
            feed,
            position,
            extent,
        }
    })
}
