//! How users appear, told to the sockets that watch them.
//!
//! A presence is absolute: what was missed is made good by whatever comes next, so nothing is kept
//! for it, no socket falls behind in it, and where there is too much only the newest is told. For
//! each user who is watched here the node hears a channel and asks once it does; it asks again
//! when bells may have been missed, and slowly in any case.
//!
//! What sessions bring about happens with them in Redis; this node adds when a client does nothing,
//! and looks after the time that users have to come back.

mod activity;
mod departures;
mod heard;
mod link;
mod looks;
mod news;
mod sight;
mod socket;
mod watches;
mod watching;

#[cfg(test)]
mod tests;

pub(super) use news::SharedPresence;
pub use sight::Sight;
pub(super) use socket::Watching;
pub(super) use watching::unseen;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::shards::Shards;

/// How presence is treated on this node.
#[derive(Debug, Clone)]
pub struct PresenceSettings {
    /// How long a user whose last socket ended is not taken for gone.
    pub grace: Duration,
    /// How often every user who is watched is asked for again, whatever was heard.
    pub ask_interval: Duration,
    /// How often it is looked whether watchers may still watch whom they watch. What is heard of
    /// conversations is looked at besides.
    pub sight_interval: Duration,
}

impl Default for PresenceSettings {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(5),
            ask_interval: Duration::from_secs(60),
            sight_interval: Duration::from_secs(300),
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Presences {
    heard: heard::Heard,
    watches: watches::Watches,
    activities: activity::Activities,
    departures: departures::Departures,
    sight: OnceLock<Arc<dyn Sight>>,
    looks: looks::Looks,
    gaps: Shards,
}
