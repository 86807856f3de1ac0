//! Which node serves which partition: asked of the servers themselves, again every 5 s, and every
//! second while something is wrong. fred's own cluster mode is not used: with one dead master it
//! stalls the healthy ones.

use std::sync::Arc;

use fred::{interfaces::ClientLike, types::Value, util::redis_keyslot};
use futures_util::future::join_all;

use super::{
    client::{Address, Connector, Deployment, command},
    error::Failure,
    keys,
    node::{Node, NodeContext},
    reply,
};
use crate::domain::{Partition, PartitionCount};

const SLOTS: usize = 16_384;

/// Nodes and what they serve, as found at one moment. Never changed, only replaced.
pub(super) struct Topology {
    /// The masters, in the order of shard numbers.
    pub(super) nodes: Vec<Arc<Node>>,
    /// Slot → index of its node; empty without a cluster: all belongs to the one node.
    slots: Vec<Option<u16>>,
    /// The slot of each partition.
    partition_slots: Arc<[u16]>,
}

impl Topology {
    /// The node of a partition.
    pub(super) fn owner(&self, partition: Partition) -> Result<&Arc<Node>, Failure> {
        self.shard_of(partition)
            .and_then(|shard| self.nodes.get(shard))
            .ok_or_else(|| Failure::refused("no node serves the partition"))
    }

    /// The index of the node of a partition.
    pub(super) fn shard_of(&self, partition: Partition) -> Option<usize> {
        self.shard_of_slot(*self.partition_slots.get(usize::from(partition.0))?)
    }

    /// The node of a key that belongs to no partition.
    pub(super) fn owner_of_key(&self, key: &str) -> Result<&Arc<Node>, Failure> {
        self.shard_of_slot(redis_keyslot(key.as_bytes()))
            .and_then(|shard| self.nodes.get(shard))
            .ok_or_else(|| Failure::refused("no node serves the key"))
    }

    fn shard_of_slot(&self, slot: u16) -> Option<usize> {
        if self.slots.is_empty() {
            return Some(0);
        }
        self.slots
            .get(usize::from(slot))
            .copied()
            .flatten()
            .map(usize::from)
    }

    /// True if calls for different partitions have to be separate.
    pub(super) fn is_cluster(&self) -> bool {
        !self.slots.is_empty()
    }

    /// True if every partition has the same node in both.
    pub(super) fn serves_like(&self, other: &Self) -> bool {
        let serial =
            |topology: &Self, partition| topology.owner(partition).map(|node| node.serial).ok();
        self.nodes.len() == other.nodes.len()
            && (0..self.partition_slots.len())
                .map(|number| Partition(number as u16))
                .all(|partition| serial(self, partition) == serial(other, partition))
    }
}

/// The slots of all partitions.
pub(super) fn partition_slots(count: PartitionCount) -> Arc<[u16]> {
    (0..count.0)
        .map(|number| redis_keyslot(keys::tag(Partition(number)).as_bytes()))
        .collect()
}

/// Looks the topology up. Nodes that are still there are kept with their connections.
pub(super) async fn discover(
    context: &Arc<NodeContext>,
    partition_slots: &Arc<[u16]>,
    known: &[Arc<Node>],
) -> Result<Topology, Failure> {
    let (addresses, slots) = match &context.connector.deployment {
        Deployment::Standalone { server } => (vec![server.clone()], Vec::new()),
        Deployment::Sentinel {
            sentinels, service, ..
        } => (
            vec![ask_sentinels(&context.connector, sentinels, service).await?],
            Vec::new(),
        ),
        Deployment::Cluster { seeds } => ask_cluster(&context.connector, seeds, known).await?,
    };
    let nodes = addresses
        .into_iter()
        .map(
            |address| match known.iter().find(|node| node.address == address) {
                Some(node) => Ok(node.clone()),
                None => Node::start(address, context),
            },
        )
        .collect::<Result<_, _>>()?;
    Ok(Topology {
        nodes,
        slots,
        partition_slots: partition_slots.clone(),
    })
}

/// The master's address by the first Sentinel whose answer the master confirms.
async fn ask_sentinels(
    connector: &Connector,
    sentinels: &[Address],
    service: &str,
) -> Result<Address, Failure> {
    let mut last = Failure::refused("no sentinel configured");
    for sentinel in sentinels {
        let answer = connector
            .ask_sentinel(sentinel, &["get-master-addr-by-name", service])
            .await;
        let parts = match answer {
            Ok(Value::Array(parts)) => parts,
            Ok(_) => {
                last = Failure::refused("sentinel does not know the service");
                continue;
            }
            Err(failure) => {
                last = failure;
                continue;
            }
        };
        let [host, port] = parts.as_slice() else {
            continue;
        };
        let (Some(host), Some(port)) = (
            host.as_string(),
            port.as_string().and_then(|port| port.parse().ok()),
        ) else {
            continue;
        };
        let address = Address { host, port };
        // A Sentinel may be behind: believe only a server that says it is the master.
        match connector.ask(&address, "ROLE", &[]).await {
            Ok(Value::Array(role))
                if role
                    .first()
                    .is_some_and(|role| role.as_bytes() == Some(b"master")) =>
            {
                return Ok(address);
            }
            Ok(_) => last = Failure::refused("the server named by sentinel is no master"),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

async fn ask_cluster(
    connector: &Connector,
    seeds: &[Address],
    known: &[Arc<Node>],
) -> Result<(Vec<Address>, Vec<Option<u16>>), Failure> {
    let mut last = Failure::refused("no cluster node configured");
    let connected = known.iter().filter(|node| node.calls.is_connected());
    let mut views = Vec::new();
    for view in join_all(connected.map(|node| slots_by(node))).await {
        match view {
            Ok(Some(view)) => views.push(view),
            Ok(None) => last = Failure::refused("the cluster is down"),
            Err(failure) => last = failure,
        }
    }
    if let Some(found) = agree(views) {
        return Ok(found);
    }
    let known = known.iter().map(|node| &node.address);
    for address in seeds.iter().chain(known) {
        match connector.ask(address, "CLUSTER", &["SLOTS"]).await {
            Ok(answer) => {
                let view = read_slots(address, answer)?;
                return Ok((view.addresses, view.slots));
            }
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// The slots by the word of one node, unless it says that the cluster is down: one that is cut off
/// from the others knows nothing of their failovers.
async fn slots_by(node: &Node) -> Result<Option<View>, Failure> {
    let ask = |what: &'static str| {
        node.calls
            .custom::<Value, _>(command("CLUSTER"), vec![what])
    };
    let info = reply::bytes(ask("INFO").await?);
    if !String::from_utf8_lossy(&info).contains("cluster_state:ok") {
        return Ok(None);
    }
    read_slots(&node.address, ask("SLOTS").await?).map(Some)
}

/// What one node says of who serves which slot.
struct View {
    asked: Address,
    addresses: Vec<Address>,
    slots: Vec<Option<u16>>,
}

/// One map of many. After slots were moved, some nodes may go on naming the old owner for minutes;
/// what a node says of itself counts more than what others say of it.
fn agree(views: Vec<View>) -> Option<(Vec<Address>, Vec<Option<u16>>)> {
    let mut views = views.into_iter();
    let View {
        mut addresses,
        mut slots,
        ..
    } = views.next()?;
    for view in views {
        let Some(own) = view.addresses.iter().position(|it| *it == view.asked) else {
            continue;
        };
        let known = addresses.iter().position(|it| *it == view.asked);
        let index = known.unwrap_or_else(|| {
            addresses.push(view.asked);
            addresses.len() - 1
        });
        for (slot, owner) in slots.iter_mut().zip(view.slots) {
            if owner == Some(own as u16) {
                *slot = Some(index as u16);
            }
        }
    }
    Some((addresses, slots))
}

/// Reads `[[from, to, [host, port, ...], ...], ...]`.
fn read_slots(asked: &Address, answer: Value) -> Result<View, Failure> {
    let mut addresses: Vec<Address> = Vec::new();
    let mut slots = vec![None; SLOTS];
    for range in answer.into_array() {
        let range = range.into_array();
        let [from, to, master, ..] = range.as_slice() else {
            continue;
        };
        let (Some(from), Some(to)) = (from.as_usize(), to.as_usize()) else {
            continue;
        };
        let master = master.clone().into_array();
        let [host, port, ..] = master.as_slice() else {
            continue;
        };
        let host = match host.as_string() {
            Some(host) if !host.is_empty() && host != "?" => host,
            // A node that does not know its own address: the one it was asked under.
            _ => asked.host.clone(),
        };
        let address = Address {
            host,
            port: port.as_u64().unwrap_or(0) as u16,
        };
        let index = addresses
            .iter()
            .position(|known| *known == address)
            .unwrap_or_else(|| {
                addresses.push(address);
                addresses.len() - 1
            });
        for slot in slots.iter_mut().take(to + 1).skip(from) {
            *slot = Some(index as u16);
        }
    }
    if addresses.is_empty() {
        return Err(Failure::refused("the cluster serves no slots"));
    }
    Ok(View {
        asked: asked.clone(),
        addresses,
        slots,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(asked: u16, owners: [u16; 3]) -> View {
        let address = |port| Address {
            host: "h".to_owned(),
            port,
        };
        View {
            asked: address(asked),
            addresses: [1, 2, 3].map(address).into(),
            slots: owners.map(|port| Some(port - 1)).into(),
        }
    }

    #[test]
    fn what_a_node_says_of_itself_counts_more() {
        let owners = |views| {
            let (addresses, slots) = agree(views).unwrap();
            let owner = |slot: &Option<u16>| addresses[usize::from(slot.unwrap())].port;
            slots.iter().map(owner).collect::<Vec<_>>()
        };
        // The second slot went from 1 to 2; 3 has not heard of it, and 1 is asked first.
        let stale = [1, 1, 3];
        let news = [1, 2, 3];
        assert_eq!(
            owners(vec![view(3, stale), view(1, news), view(2, news)]),
            news
        );
        assert_eq!(
            owners(vec![view(1, news), view(2, news), view(3, stale)]),
            news
        );
        assert_eq!(owners(vec![view(1, news), view(3, stale)]), news);
        assert!(agree(Vec::new()).is_none());
    }
}
