//! Three masters with the slots dealt evenly, with or without replicas; slots that move between
//! live masters, and replicas that take over from dead ones.

use crate::{
    redis::{Redis, RedisOptions},
    resp::Connection,
    wait::{PATIENCE, eventually},
};

const SLOTS: u32 = 16_384;

/// A running Redis Cluster.
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    /// Three masters, no replicas.
    pub async fn start() -> Self {
        Self::start_with(3, 0).await
    }

    /// Three masters, each with a replica.
    pub async fn start_replicated() -> Self {
        Self::start_with(3, 1).await
    }

    /// # Panics
    /// When the cluster does not come together.
    async fn start_with(masters: u32, replicas_each: u32) -> Self {
        let options = RedisOptions {
            cluster: true,
            ..RedisOptions::default()
        };
        let mut nodes = Vec::new();
        for n in 0..masters {
            let node = Redis::start_with(options.clone()).await;
            let (first, last) = (SLOTS * n / masters, SLOTS * (n + 1) / masters - 1);
            node.call(&[
                "CLUSTER",
                "ADDSLOTSRANGE",
                &first.to_string(),
                &last.to_string(),
            ])
            .await;
            node.call(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()])
                .await;
            nodes.push(node);
        }
        for _ in 0..masters * replicas_each {
            nodes.push(Redis::start_with(options.clone()).await);
        }
        let first = nodes[0].port().to_string();
        for node in &nodes[1..] {
            node.call(&["CLUSTER", "MEET", "127.0.0.1", &first]).await;
        }
        let cluster = Self { nodes };
        cluster.until_agreed().await;
        let (masters, replicas) = cluster.nodes.split_at(masters as usize);
        for (replica, master) in replicas.iter().zip(masters.iter().cycle()) {
            follow(replica, master).await;
        }
        for master in masters {
            let id = id_of(master).await;
            for node in &cluster.nodes {
                eventually("all know the replicas", PATIENCE, || async {
                    let known = node.call(&["CLUSTER", "REPLICAS", &id]).await;
                    (known.list().len() == replicas_each as usize).then_some(())
                })
                .await;
            }
        }
        cluster
    }

    /// `redis-cluster://127.0.0.1:a?node=127.0.0.1:b&node=…`
    pub fn url(&self) -> String {
        let mut hosts = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        let first = hosts.next().expect("a cluster has nodes");
        let rest: Vec<String> = hosts.map(|host| format!("node={host}")).collect();
        format!("redis-cluster://{first}?{}", rest.join("&"))
    }

    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The slot of a key (or of a hash tag, given as `{tag}`).
    pub async fn slot_of(&self, key: &str) -> u16 {
        let slot = self.nodes[0].call(&["CLUSTER", "KEYSLOT", key]).await;
        slot.text()
            .and_then(|text| text.parse().ok())
            .expect("KEYSLOT answers a number")
    }

    /// The master that serves a slot now, by the word of the first node that is alive.
    ///
    /// # Panics
    /// When nobody does.
    pub async fn owner_of(&self, slot: u16) -> usize {
        let mut map = Err(std::io::ErrorKind::NotConnected.into());
        for node in &self.nodes {
            map = node.try_call(&["CLUSTER", "SLOTS"]).await;
            if map.is_ok() {
                break;
            }
        }
        let map = map.expect("some node of the cluster is alive");
        let number =
            |reply: &crate::resp::Reply| reply.text().and_then(|text| text.parse::<u16>().ok());
        let port = map.list().iter().find_map(|range| {
            let [from, to, master, ..] = range.list() else {
                return None;
            };
            let inside = (number(from)?..=number(to)?).contains(&slot);
            inside.then(|| number(&master.list()[1])).flatten()
        });
        self.nodes
            .iter()
            .position(|node| Some(node.port()) == port)
            .expect("every slot has a master of ours")
    }

    /// A replica of a master.
    ///
    /// # Panics
    /// When it has none.
    pub async fn replica_of(&self, master: usize) -> &Redis {
        let port = self.nodes[master].port().to_string();
        for node in &self.nodes {
            if node.info("master_port").await.as_ref() == Some(&port) {
                return node;
            }
        }
        panic!("the master on port {port} has no replica");
    }

    /// Kills the master that serves a slot and waits until its replica has taken over. Answers the
    /// one that was killed.
    ///
    /// # Panics
    /// When nobody takes over.
    pub async fn fail_over(&self, slot: u16) -> &Redis {
        let old = self.owner_of(slot).await;
        self.nodes[old].kill9();
        eventually("a replica takes over", PATIENCE, || async {
            (self.owner_of(slot).await != old).then_some(())
        })
        .await;
        &self.nodes[old]
    }

    /// Moves a slot with its keys to another master while both serve, as redis-cli does it.
    pub async fn move_slot(&self, slot: u16, to: usize) {
        // Only then the target knows which epoch to go beyond. With one below the source's, what the
        // source said of the slot before can arrive late and win, and in the end nobody claims it.
        self.until_of_one_mind().await;
        let from = self.owner_of(slot).await;
        if from == to {
            return;
        }
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let (source_id, target_id) = (id_of(source).await, id_of(target).await);
        let number = slot.to_string();
        target
            .call(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &source_id])
            .await;
        source
            .call(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &target_id])
            .await;
        let port = target.port().to_string();
        let mut connection = Connection::open(source.port())
            .await
            .expect("the source is alive");
        loop {
            let keys = connection
                .call(&["CLUSTER", "GETKEYSINSLOT", &number, "64"])
                .await
                .expect("a slot can be listed");
            let keys: Vec<String> = keys
                .list()
                .iter()
                .filter_map(crate::resp::Reply::text)
                .collect();
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            connection.call(&migrate).await.expect("keys can be moved");
        }
        target
            .call(&["CLUSTER", "SETSLOT", &number, "NODE", &target_id])
            .await;
        source
            .call(&["CLUSTER", "SETSLOT", &number, "NODE", &target_id])
            .await;
        for node in &self.nodes {
            if node.port() != source.port() && node.port() != target.port() {
                node.call(&["CLUSTER", "SETSLOT", &number, "NODE", &target_id])
                    .await;
            }
        }
    }

    /// Waits until all say the same of every master: its epoch, which no other has, and its slots.
    async fn until_of_one_mind(&self) {
        eventually("the cluster is of one mind", PATIENCE, || async {
            let mut common = None;
            for node in &self.nodes {
                let view = masters_by(node).await?;
                if *common.get_or_insert_with(|| view.clone()) != view {
                    return None;
                }
            }
            let epochs = common?.into_iter().map(|(epoch, _)| epoch);
            epochs.is_sorted_by(|one, next| one < next).then_some(())
        })
        .await;
    }

    async fn until_agreed(&self) {
        for node in &self.nodes {
            eventually("the cluster comes together", PATIENCE, || async {
                let info = node.try_call(&["CLUSTER", "INFO"]).await.ok()?.text()?;
                let known = format!("cluster_known_nodes:{}", self.nodes.len());
                let ready = [known.as_str(), "cluster_state:ok", "cluster_slots_ok:16384"];
                ready.iter().all(|line| info.contains(line)).then_some(())
            })
            .await;
        }
    }
}

/// Makes a server without slots the replica of another, and waits until it is.
async fn follow(replica: &Redis, master: &Redis) {
    let id = id_of(master).await;
    eventually("the replica follows", PATIENCE, || async {
        // Refused while it has not shaken hands with its master.
        replica
            .try_call(&["CLUSTER", "REPLICATE", &id])
            .await
            .ok()?;
        (replica.info("master_link_status").await? == "up").then_some(())
    })
    .await;
}

/// Every master by the word of one node, in the order of their epochs: its epoch, and its id and slots.
async fn masters_by(node: &Redis) -> Option<Vec<(u64, Vec<String>)>> {
    let nodes = node.try_call(&["CLUSTER", "NODES"]).await.ok()?.text()?;
    let mut masters = Vec::new();
    for line in nodes.lines().filter(|line| line.contains("master")) {
        // id, address, flags, master, ping, pong, epoch, link, slots …
        let mut words = line.split_whitespace().map(str::to_owned);
        let (id, epoch) = (words.next()?, words.nth(5)?.parse().ok()?);
        masters.push((epoch, std::iter::once(id).chain(words.skip(1)).collect()));
    }
    masters.sort();
    Some(masters)
}

async fn id_of(node: &Redis) -> String {
    node.call(&["CLUSTER", "MYID"])
        .await
        .text()
        .expect("a node has an id")
}
