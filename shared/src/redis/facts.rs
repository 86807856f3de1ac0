//! What a Redis server says about itself, as far as it matters here.

use std::time::Duration;

use fred::{clients::Client, interfaces::ClientLike, types::Value};

use super::{client::command, error::Failure, reply};

/// What has to follow a write before it counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Barrier {
    /// Nothing: the answer came after the fsync.
    None,
    /// A replica has it.
    Replica,
    /// It is in the append-only file, fsynced.
    File,
    /// Nothing helps: the server may lose it, or does not say whether.
    Impossible,
}

/// What a server says about itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) version: (u32, u32),
    pub(super) is_master: bool,
    pub(super) is_cluster: bool,
    pub(super) replicas: u32,
    /// On a cluster: whether another node may take over from this one.
    pub(super) has_successor: bool,
    pub(super) used_memory: u64,
    pub(super) max_memory: u64,
    /// What CONFIG GET said; empty where it is not allowed.
    pub(super) config: Vec<(String, String)>,
}

/// The settings that matter.
const SETTINGS: [&str; 6] = [
    "appendonly",
    "appendfsync",
    "save",
    "maxmemory-policy",
    "stream-node-max-bytes",
    "min-replicas-to-write",
];

impl Facts {
    /// Asks the server; the settings only if `all`.
    pub(super) async fn learn(&mut self, client: &Client, all: bool) -> Result<(), Failure> {
        let ask = |name: &'static str, args: Vec<Value>| async move {
            tokio::time::timeout(
                Duration::from_secs(1),
                client.custom::<Value, _>(command(name), args),
            )
            .await
            .map_err(|_| Failure::lost("no answer to INFO"))?
            .map_err(Failure::from)
        };
        let info = ask("INFO", vec!["everything".into()]).await?;
        let info = String::from_utf8_lossy(&reply::bytes(info)).into_owned();
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let mut version = field("redis_version")
            .unwrap_or("0.0")
            .split('.')
            .map(|part| part.parse().unwrap_or(0));
        self.version = (version.next().unwrap_or(0), version.next().unwrap_or(0));
        self.is_master = field("role") == Some("master");
        self.is_cluster = field("cluster_enabled") == Some("1");
        self.replicas = (0..field("connected_slaves")
            .and_then(|n| n.parse().ok())
            .unwrap_or(0_u32))
            .filter(|n| {
                field(&format!("slave{n}")).is_some_and(|line| line.contains("state=online"))
            })
            .count() as u32;
        let is_cluster = self.is_cluster;
        let number = |name| field(name).and_then(|n| n.parse().ok()).unwrap_or(0);
        self.used_memory = number("used_memory");
        self.max_memory = number("maxmemory");
        if is_cluster {
            let nodes = ask("CLUSTER", vec!["NODES".into()]).await?;
            let nodes = String::from_utf8_lossy(&reply::bytes(nodes)).into_owned();
            self.has_successor = has_successor(&nodes);
        }
        if all {
            let mut args = vec!["GET".into()];
            args.extend(SETTINGS.map(Value::from));
            // Hosted Redis may not allow CONFIG: then nothing is known, and nothing is promised.
            if let Ok(Value::Map(map)) = ask("CONFIG", args).await {
                self.config = map
                    .inner()
                    .into_iter()
                    .filter_map(|(key, value)| Some((key.into_string()?, value.into_string()?)))
                    .collect();
            }
        }
        Ok(())
    }

    /// The value of a setting, if known.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.config
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn fsyncs_always(&self) -> bool {
        self.setting("appendonly") == Some("yes") && self.setting("appendfsync") == Some("always")
    }

    /// What has to follow a write before it counts as durable. Behind Sentinel, and on a cluster
    /// with replicas, another server may take over: only what it has survives. There a primary is
    /// asked to wait even while no replica is connected: it may be one that was replaced and does
    /// not know it yet.
    pub(super) fn barrier(&self, behind_sentinel: bool) -> Barrier {
        if behind_sentinel || self.has_successor {
            Barrier::Replica
        } else if self.fsyncs_always() {
            Barrier::None
        } else if self.replicas > 0 {
            Barrier::Replica
        } else if self.version >= (7, 2) && self.setting("appendonly") == Some("yes") {
            Barrier::File
        } else {
            Barrier::Impossible
        }
    }

    /// True if more than `share` of `maxmemory` is used.
    pub(super) fn is_beyond(&self, share: f64) -> bool {
        self.max_memory > 0 && self.used_memory as f64 > share * self.max_memory as f64
    }

    /// Weaknesses, as `setting: sentence`.
    pub(super) fn weaknesses(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut weak = |name: &str, sentence: &str| found.push(format!("{name}: {sentence}"));
        if self.config.is_empty() {
            weak(
                "config",
                "CONFIG GET is not allowed: without replicas nothing can be taken as `durable`",
            );
        } else {
            let file = self.setting("appendonly") == Some("yes");
            if !file && self.replicas == 0 {
                let saves = self.setting("save").is_some_and(|save| !save.is_empty());
                weak(
                    "appendonly",
                    if saves {
                        "snapshots only, so nothing is taken as `durable`"
                    } else {
                        "no persistence, so nothing is taken as `durable`"
                    },
                );
            } else if file && !self.fsyncs_always() && self.replicas == 0 && self.version < (7, 2) {
                weak(
                    "appendfsync",
                    "without replicas nothing but `always` is taken as `durable`",
                );
            }
            if self.max_memory > 0 && self.setting("maxmemory-policy") != Some("noeviction") {
                weak(
                    "maxmemory-policy",
                    "anything but noeviction lets Redis drop entries silently",
                );
            }
            if self.replicas > 0 && self.setting("min-replicas-to-write") == Some("0") {
                weak(
                    "min-replicas-to-write",
                    "0 lets a master that was cut off go on accepting entries",
                );
            }
        }
        if self.setting("stream-node-max-bytes") == Some("4096") {
            weak(
                "stream-node-max-bytes",
                "4096 makes a short log cost 4 kB; 512 makes it 750 B",
            );
        }
        if self.max_memory == 0 {
            weak(
                "maxmemory",
                "without a limit durable entries are not refused before memory runs out",
            );
        }
        found
    }
}

/// Reads CLUSTER NODES: is there a replica of the node that answered, connected or not, or a master
/// that failed and lost its slots? That may have been its predecessor, and will be its replica.
fn has_successor(nodes: &str) -> bool {
    let nodes: Vec<Vec<&str>> = nodes
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let flags = |node: &[&str]| node.get(2).copied().unwrap_or("").to_owned();
    let me = nodes.iter().find(|node| flags(node).contains("myself"));
    let my_id = me.and_then(|node| node.first()).copied().unwrap_or("");
    nodes.iter().any(|node| {
        let flags = flags(node);
        let follows_me = flags.contains("slave") && node.get(3) == Some(&my_id);
        let was_replaced = flags.contains("master") && flags.contains("fail") && node.len() <= 8;
        follows_me || was_replaced
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(replicas: u32, version: (u32, u32), file: &str, fsync: &str) -> Facts {
        let config = [("appendonly", file), ("appendfsync", fsync), ("save", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        Facts {
            version,
            replicas,
            config: config.to_vec(),
            ..Facts::default()
        }
    }

    #[test]
    fn the_barrier_follows_the_configuration() {
        let alone =
            |replicas, version, file, fsync| facts(replicas, version, file, fsync).barrier(false);
        assert_eq!(alone(0, (7, 0), "yes", "always"), Barrier::None);
        assert_eq!(alone(1, (7, 0), "yes", "always"), Barrier::None);
        assert_eq!(alone(1, (7, 0), "yes", "everysec"), Barrier::Replica);
        assert_eq!(alone(1, (7, 0), "no", "always"), Barrier::Replica);
        assert_eq!(alone(0, (7, 0), "yes", "everysec"), Barrier::Impossible);
        assert_eq!(alone(0, (7, 4), "no", "always"), Barrier::Impossible);
        assert_eq!(alone(0, (7, 4), "yes", "everysec"), Barrier::File);
    }

    #[test]
    fn where_another_server_may_take_over_a_replica_has_to_confirm() {
        for replicas in [0, 1] {
            let behind_sentinel = facts(replicas, (7, 0), "yes", "always").barrier(true);
            assert_eq!(behind_sentinel, Barrier::Replica);
        }
        let of_cluster = |has_successor| {
            let facts = Facts {
                is_cluster: true,
                has_successor,
                ..facts(0, (7, 0), "yes", "always")
            };
            facts.barrier(false)
        };
        assert_eq!(of_cluster(false), Barrier::None);
        assert_eq!(of_cluster(true), Barrier::Replica);
    }

    #[test]
    fn who_may_take_over_is_read_from_the_list_of_nodes() {
        let me = "aaa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460";
        let other = "bbb 127.0.0.1:2@3 master - 0 0 2 connected 5461-16383";
        let with = |line: &str| has_successor(&[me, other, line].join("\n"));
        assert!(!with(""));
        assert!(
            !with("ccc 127.0.0.1:3@4 master - 0 0 0 connected"),
            "a new, empty one"
        );
        assert!(!with("ccc 127.0.0.1:3@4 slave bbb 0 0 2 connected"));
        assert!(with("ccc 127.0.0.1:3@4 slave aaa 0 0 1 connected"));
        assert!(with("ccc 127.0.0.1:3@4 slave,fail aaa 0 0 1 disconnected"));
        assert!(with("ccc 127.0.0.1:3@4 master,fail - 0 0 1 disconnected"));
    }

    #[test]
    fn weak_settings_are_named() {
        let named = |facts: Facts, name: &str| {
            facts
                .weaknesses()
                .iter()
                .any(|weakness| weakness.starts_with(name))
        };
        assert!(named(facts(0, (7, 0), "no", "everysec"), "appendonly:"));
        assert!(named(facts(0, (7, 0), "yes", "everysec"), "appendfsync:"));
        assert!(!named(facts(0, (7, 0), "yes", "always"), "appendfsync:"));
    }
}
