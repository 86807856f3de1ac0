//! The names of everything in Redis. Built here and, because the server functions build their
//! own, in `shared/lua/prelude.lua`; a test compares the two.
//!
//! | key | type | content |
//! | --- | --- | --- |
//! | `{pN}:meta` | hash | `server`, `epoch`: the fence; `complete`: Postgres has nothing that Redis never had |
//! | `{pN}:log:<topic>` | stream | ids `<epoch>-<offset>`; id, k(ind), t(ime), p(ersist id), v(ersion of the conversation, if it is copied), d(ata) |
//! | `{pN}:head:<topic>` | hash | e(poch), n, t of the last entry; f(irst position here), b(orn with it); of a conversation also the last i(d), w(ho copies) `<copier> <until ms>`, up to where it is c(opied), the last message that is u(ncopied) |
//! | `{pN}:idem:<key>` | string, TTL | `<digest> <id> <epoch> <offset> <ms> <persist id>` |
//! | `{pN}:persist` | stream | everything Postgres must learn |
//! | `{pN}:stored` | string | the id of `persist` that Postgres has; also a channel |
//! | `{pN}:user:<user>` | hash | what is known of a user: cursors by device, preferences; see `ack.lua` |
//! | `{pN}:nack:<user>` | hash, TTL | `<queue, or b>:<device>:<epoch>:<offset>` → how often that was refused |
//! | `{pN}:version:<conversation>` | string, TTL | `<version> <epoch>`: who takes part in it, as was told in this epoch |
//! | `{pN}:reader:<conversation>:<user>` | hash, TTL | how far a user's devices have read what is not copied; see `reader.lua` |
//! | `{pN}:fanout` | zset | conversations in which something is not copied yet, by the ms of the oldest |
//! | `{pN}:sess:<user>` | hash | session → `<node> <incarnation> <device> <since ms> <dialect> <active or idle>` |
//! | `{pN}:presence:<user>` | hash | s(tatus told), w(anted), x (text), t (last seen), l(eft), v(ersion); see `presence.lua` |
//! | `{pN}:offline` | zset | users without a session, by the ms from which on they are gone |
//! | `{pN}:at:<node>` | set | `<incarnation> <user> <session>` |
//! | `{pN}:limit:<what>:<whom>` | string, TTL | when the bucket is full again, in µs |
//! | `{pN}:call:<call>` | hash, TTL | how far a call has come, see `call.lua` |
//! | `{pN}:ice:<call>:<a or b>` | list, TTL | candidates of the caller, or of the callee, from before the answer |
//! | `{pN}:calls` | zset | calls, by the ms at which somebody has to look at them |
//! | `{pN}:busy:<user>` | string, TTL | `<call> <other party>`: the call that the user is in |
//! | `{pN}:offered:<user>:<request>` | string, TTL | `<digest> <call>`: what a request made |
//! | `{pN}:ch:<topic>` | channel | `1 <epoch> <offset> <id> <ms> <kind>\n<body>`, `1 displaced <session>`, `1 signal <kind> <user> <session or ->`, `1 presence <version> <status> <devices> <seen ms or ->\n<text>`, `1 call <event> <call> <audience>\n<body>` |
//! | `{pN}:probe:<name>` | channel | a process's own probes |
//! | `node:<id>` | string, PX | `<incarnation> <ms of its TTL>` of a living process |
//! | `sockets:<id>` | string, PX | `<dialect>=<sockets>` for each, of a living gateway |
//! | `nodes` | hash | node → incarnation of all that were not forgotten |
//! | `lease:<name>` | hash | owner, token, until, ttl |
//! | `tidegate` | hash | `partitions`: fixed when the deployment is born |

use crate::domain::{NodeId, Partition, Topic, UserId};

/// Facts of the deployment.
pub(super) const DEPLOYMENT: &str = "tidegate";
/// Node → incarnation.
pub(super) const NODES: &str = "nodes";

/// The hash tag of a partition, `{pN}`.
pub(super) fn tag(partition: Partition) -> String {
    format!("{{{partition}}}")
}

/// The fence of a partition; names the partition in KEYS.
pub(super) fn meta(partition: Partition) -> String {
    format!("{{{partition}}}:meta")
}

/// What workers have to write to Postgres.
pub(super) fn persist(partition: Partition) -> String {
    format!("{{{partition}}}:persist")
}

/// What Postgres has; key and channel.
pub(super) fn stored(partition: Partition) -> String {
    format!("{{{partition}}}:stored")
}

/// What was accepted under an idempotency key.
pub(super) fn idempotency(partition: Partition, key: &str) -> String {
    format!("{{{partition}}}:idem:{key}")
}

/// What is known of a user: cursors and preferences.
pub(super) fn user(partition: Partition, user: &str) -> String {
    format!("{{{partition}}}:user:{user}")
}

/// How often a user's devices refused what.
pub(super) fn nacks(partition: Partition, user: &str) -> String {
    format!("{{{partition}}}:nack:{user}")
}

/// The channel of a topic.
fn channel(partition: Partition, topic: Topic) -> String {
    format!("{{{partition}}}:ch:{topic}")
}

/// The channel on which a process hears its own probes.
fn probe(partition: Partition, name: &str) -> String {
    format!("{{{partition}}}:probe:{name}")
}

/// Pattern of all logs, for SCAN.
pub(super) const ALL_LOGS: &str = "{p*}:log:*";

/// Splits the key of a log.
pub(super) fn parse_log(key: &str) -> Option<(Partition, Topic)> {
    let (partition, rest) = split(key)?;
    Some((partition, rest.strip_prefix("log:")?.parse().ok()?))
}

/// What is published on and subscribed to. A node keeps one for each topic it hears, so this is smaller
/// than the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    /// Of a topic.
    Topic(Partition, Topic),
    /// Commits of a partition.
    Stored(Partition),
    /// A process's own probes.
    Probe(Partition),
}

impl Channel {
    pub(super) fn partition(self) -> Partition {
        match self {
            Self::Topic(partition, _) | Self::Stored(partition) | Self::Probe(partition) => {
                partition
            }
        }
    }

    /// Its name; `process` is whose probes.
    pub(super) fn name(self, process: &str) -> String {
        match self {
            Self::Topic(partition, topic) => channel(partition, topic),
            Self::Stored(partition) => stored(partition),
            Self::Probe(partition) => probe(partition, process),
        }
    }
}

/// Reads the name of a channel.
pub(super) fn parse_channel(name: &str) -> Option<Channel> {
    let (partition, rest) = split(name)?;
    if let Some(topic) = rest.strip_prefix("ch:") {
        return Some(Channel::Topic(partition, topic.parse().ok()?));
    }
    match rest {
        "stored" => Some(Channel::Stored(partition)),
        _ if rest.starts_with("probe:") => Some(Channel::Probe(partition)),
        _ => None,
    }
}

/// `{p12}:rest` -> 12, `rest`.
fn split(key: &str) -> Option<(Partition, &str)> {
    let (number, rest) = key.strip_prefix("{p")?.split_once("}:")?;
    Some((Partition(number.parse().ok()?), rest))
}

/// The sign of life of a process.
pub(super) fn node(node: &NodeId) -> String {
    format!("node:{node}")
}

/// How many sockets a gateway has.
pub(super) fn sockets(node: &NodeId) -> String {
    format!("sockets:{node}")
}

/// A user's sessions.
pub(super) fn sessions(partition: Partition, user: UserId) -> String {
    format!("{}:sess:{user}", tag(partition))
}

/// The lease of a named thing.
pub(super) fn lease(name: &str) -> String {
    format!("lease:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_channels_read_back() {
        let partition = Partition(17);
        let topic: Topic = "user:0190c1d2-0000-7000-8000-000000000001".parse().unwrap();
        for channel in [
            Channel::Topic(partition, topic),
            Channel::Stored(partition),
            Channel::Probe(partition),
        ] {
            assert_eq!(parse_channel(&channel.name("x")), Some(channel));
        }
        assert_eq!(
            parse_log(&format!("{{p17}}:log:{topic}")),
            Some((partition, topic))
        );
        assert_eq!(parse_channel("{p1}:other"), None);
        assert_eq!(parse_channel("nonsense"), None);
    }

    #[test]
    fn the_library_builds_the_same_names() {
        let prelude = include_str!("../../lua/prelude.lua");
        assert!(prelude.contains("return tag .. ':' .. kind .. ':' .. name"));
        assert!(prelude.contains("return tag .. ':persist'"));
        assert!(prelude.contains("local meta = tag .. ':meta'"));
        assert_eq!(tag(Partition(3)), "{p3}");
        assert_eq!(meta(Partition(3)), tag(Partition(3)) + ":meta");
        assert_eq!(persist(Partition(3)), tag(Partition(3)) + ":persist");
        assert_eq!(stored(Partition(3)), tag(Partition(3)) + ":stored");
        assert_eq!(user(Partition(3), "u"), tag(Partition(3)) + ":user:u");
        assert_eq!(nacks(Partition(3), "u"), tag(Partition(3)) + ":nack:u");
    }
}
