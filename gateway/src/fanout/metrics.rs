//! What the fan-out counts.

use shared::metrics::{Counter, Gauge, Histogram, LATENCY};

shared::label! {
    /// Which way.
    pub enum Direction: "direction" { In = "in", Out = "out" }
}

shared::metrics! {
    pub static TABLE;
    /// Frames read (data, pings and pongs) and written.
    pub static FRAMES: Counter<Direction> = "tidegate_frames_total";
    /// Bytes read from sockets and written to them.
    pub static BYTES: Counter<Direction> = "tidegate_bytes_total";
    /// Topics this node follows, with or without sockets.
    pub static TOPICS: Gauge = "tidegate_fanout_topics";
    /// Sockets attached to their user's topic.
    pub static ATTACHED: Gauge = "tidegate_fanout_sockets";
    /// Devices whose confirmed position is not written to Redis yet.
    pub static ACKS_WAITING: Gauge = "tidegate_fanout_acks_waiting";
    /// Devices of which it is not written yet which broadcasts they have.
    pub static RECEIPTS_WAITING: Gauge = "tidegate_fanout_receipts_waiting";
    /// Devices of which it is not written yet how far they have read a large conversation, each conversation
    /// by itself.
    pub static READERS_WAITING: Gauge = "tidegate_fanout_readers_waiting";
    /// Topics that wait for a re-read.
    pub static REPAIRS_WAITING: Gauge = "tidegate_fanout_rereads_waiting";
    /// Re-reads of topics of which a bell was missed.
    pub static REPAIRS: Counter = "tidegate_fanout_rereads_total";
    /// Topics whose head in Redis was found beyond what the bells told.
    pub static BEHIND: Counter = "tidegate_fanout_topics_behind_total";
    /// Entries that cannot be read, or do not belong where they stand, and so reach nobody. Somebody should
    /// look at them.
    pub static UNREADABLE: Counter = "tidegate_fanout_unreadable_entries_total";
    /// Times the bells of a shard may have been missed: reconnects, overflows, lost probes.
    pub static GAPS: Counter = "tidegate_fanout_gaps_total";
    /// Sockets that began to read for themselves, because their queue was longer than a page or they were slow.
    pub static CATCH_UPS: Counter = "tidegate_fanout_catch_ups_total";
    /// Entries that a client refused so often that they do not come again.
    pub static PARKED: Counter = "tidegate_fanout_parked_total";
    /// What parties of calls were not told, because too much waits for their sockets.
    pub static CALLS_DROPPED: Counter = "tidegate_fanout_call_events_dropped_total";
    /// Confirmations that were dropped because too many devices wait; they cost duplicates later.
    pub static ACKS_DROPPED: Counter = "tidegate_fanout_acks_dropped_total";
    /// Ended sessions that were not closed in Redis because too many wait.
    pub static CLOSES_DROPPED: Counter = "tidegate_fanout_closes_dropped_total";
    /// Sockets of sessions that were displaced without this node hearing of it.
    pub static DISPLACED_UNHEARD: Counter = "tidegate_fanout_displaced_unheard_total";
    /// Users whose presence is watched by sockets of this node.
    pub static WATCHED: Gauge = "tidegate_presence_watched_users";
    /// Changes of presences of watched users, heard or found by asking.
    pub static PRESENCE_HEARD: Counter = "tidegate_presence_changes_total";
    /// Presences told to sockets.
    pub static PRESENCE_TOLD: Counter = "tidegate_presence_told_total";
    /// Times a watcher was not told at once, for having been told of the same user a moment before.
    pub static PRESENCE_COALESCED: Counter = "tidegate_presence_coalesced_total";
    /// Presences that a socket had no room for; it is told the newest when it has.
    pub static PRESENCE_LATE: Counter = "tidegate_presence_late_total";
    /// Users whose last session ended here and who may still come back.
    pub static DEPARTURES_WAITING: Gauge = "tidegate_presence_departures_waiting";
    /// Users who did not come back in time, as this node settled it.
    pub static PRESENCE_GONE: Counter = "tidegate_presence_gone_total";
    /// Time from publish to heard, by probes through every shard.
    pub static PROBES: Histogram = "tidegate_probe_seconds", LATENCY;
    /// Probes that were not heard within their time.
    pub static PROBES_LOST: Counter = "tidegate_probes_lost_total";
}
