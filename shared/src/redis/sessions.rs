//! Sessions of users on nodes, and the nodes themselves.

use std::time::Duration;

use fred::types::Value;
use futures_util::future::try_join_all;

use super::{
    error::StoreError,
    functions, keys,
    preferences::{self, Known},
    read::{PAGE_BYTES, Page, page},
    reply,
    store::{Store, flag, texts},
};
use crate::domain::{Device, NodeId, Partition, Position, SessionId, Topic, UserId};

/// Pause before Redis is asked again at the start.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long a gateway counts as alive after its last sign of life.
pub const NODE_LIFETIME: Duration = Duration::from_secs(15);

/// Opening a session: everything the connect path needs from Redis in one call.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// Whose session.
    pub user: UserId,
    /// Its name.
    pub session: SessionId,
    /// From which device.
    pub device: Device,
    /// What the client speaks, for administrators: a word without blanks.
    pub dialect: &'static str,
    /// It is told of calls from the start, so it rings. See [`Store::session_hears`].
    pub hears_calls: bool,
    /// On which node.
    pub node: NodeId,
    /// Of which life of the node; a later life has a higher number, below 2^53.
    pub incarnation: u64,
    /// How many sessions the user may have; the oldest beyond it are displaced. At least 1.
    pub max_sessions: u32,
    /// Replay from here instead of from the device's cursor.
    pub after: Option<Position>,
    /// It takes the log apart and asks for queues by themselves: no cursor in the whole log is
    /// written for the device. `page` is 0 then.
    pub by_queue: bool,
    /// At most this many entries come with the answer.
    pub page: u32,
}

/// A session that is open on a node.
#[derive(Debug, Clone)]
pub struct OpenHere {
    /// Whose session.
    pub user: UserId,
    /// Its name.
    pub session: SessionId,
    /// From which device.
    pub device: Device,
    /// As in [`OpenSession`].
    pub dialect: &'static str,
    /// Its client did nothing for long.
    pub is_idle: bool,
    /// It is told of calls.
    pub hears_calls: bool,
}

/// What ended with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Nothing: it was not there.
    Nothing,
    /// The session; the user has others.
    Session,
    /// The user's last session. Unless they come back in time they are gone, as
    /// [`Store::settle_presences`] finds out.
    Last,
}

/// What the connect path needs to know.
#[derive(Debug, Clone)]
pub struct OpenedSession {
    /// Where the device stands (its cursor, the user's furthest, or `after`).
    pub cursor: Position,
    /// The first page after `cursor`. Without entries if none were asked for, whether there are any or
    /// not.
    pub page: Page,
    /// Where the device stands in each queue, by [`crate::domain::Queue::index`]: its cursor there, its cursor in the
    /// whole log, or the user's furthest. [`Store::begin_queue`] writes it down.
    pub queues: [Position; 3],
    /// What the user chose, if Redis knows.
    pub preferences: Known,
    /// Where the device stands in the log of broadcasts (its cursor, or the user's furthest);
    /// `None` if no device of the user has a cursor there.
    pub broadcasts: Option<Position>,
    /// The furthest that any device of the user has confirmed there, as far as it was written.
    pub furthest_broadcast: Option<Position>,
    /// The sessions that had to go (the oldest beyond the limit); their nodes hear it by
    /// [`super::BellEvent::Displaced`].
    pub displaced: Vec<SessionId>,
}

impl Store {
    /// Registers a session and answers where its device stands and the first page.
    pub async fn session_open(&self, open: OpenSession) -> Result<OpenedSession, StoreError> {
        let topic = Topic::User(open.user);
        let partition = self.partition_of(topic);
        let mut args = texts([
            &keys::tag(partition),
            &open.user.to_string(),
            &open.session.to_string(),
            open.device.as_str(),
            open.node.as_str(),
            &open.incarnation.to_string(),
            &open.max_sessions.max(1).to_string(),
            &open
                .after
                .map(|after| after.to_string())
                .unwrap_or_default(),
        ]);
        args.push(i64::from(open.page).into());
        args.push(PAGE_BYTES.into());
        args.push(Value::from_static_str(flag(open.by_queue)));
        args.push(Value::from_static_str(open.dialect));
        args.push(Value::from_static_str(flag(open.hears_calls)));
        let answer = self.call(partition, functions::SESSION_OPEN, args).await?;
        let mut parts = reply::list(answer)?.into_iter();
        let [
            Some(cursor),
            Some(first_page),
            Some(preferences),
            Some(broadcasts),
            Some(furthest),
            Some(queues),
        ] = std::array::from_fn(|_| parts.next())
        else {
            return Err(StoreError::unexpected("half an answer to session_open"));
        };
        Ok(OpenedSession {
            cursor: reply::parse(&cursor)?,
            page: page(topic, first_page)?,
            queues: positions(&queues)?,
            preferences: preferences::understand(reply::text(&preferences)?),
            broadcasts: position_or_none(&broadcasts)?,
            furthest_broadcast: position_or_none(&furthest)?,
            displaced: parts
                .map(|id| reply::parse(&id))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Registers open sessions again where Redis does not know them (any more). Answers for each
    /// whether it is registered now; if not, the user has as many others as are allowed.
    pub async fn session_keep(
        &self,
        node: &NodeId,
        incarnation: u64,
        max_sessions: u32,
        sessions: &[OpenHere],
    ) -> Result<Vec<bool>, StoreError> {
        let groups = self.groups(sessions.iter().map(|it| Topic::User(it.user)))?;
        let (incarnation, most) = (incarnation.to_string(), max_sessions.max(1).to_string());
        let mut kept = vec![false; sessions.len()];
        for group in &groups {
            let mut args: Vec<Value> = texts([node.as_str(), &incarnation, &most]);
            for (partition, index) in group {
                let it = &sessions[*index];
                args.extend(texts([
                    &keys::tag(*partition),
                    &it.user.to_string(),
                    &it.session.to_string(),
                    it.device.as_str(),
                    it.dialect,
                    flag(it.is_idle),
                    flag(it.hears_calls),
                ]));
            }
            let answer = self.call(group[0].0, functions::SESSION_KEEP, args).await?;
            let answers = reply::list(answer)?;
            for ((_, index), answer) in group.iter().zip(&answers) {
                kept[*index] = reply::number(answer)? == 1;
            }
        }
        Ok(kept)
    }

    /// Whether a session is told of calls, from now on: without one that is, its user cannot be called.
    /// False if it is not open.
    pub async fn session_hears(
        &self,
        user: UserId,
        session: SessionId,
        hears_calls: bool,
    ) -> Result<bool, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let args = texts([
            &keys::tag(partition),
            &user.to_string(),
            &session.to_string(),
            flag(hears_calls),
        ]);
        let answer = self.call(partition, functions::SESSION_HEARS, args).await?;
        Ok(reply::number(&answer)? == 1)
    }

    /// Forgets a session, if it still belongs to this life of the node. `grace`: how long the user
    /// is not taken for gone if it was the last.
    pub async fn session_close(
        &self,
        user: UserId,
        session: SessionId,
        node: &NodeId,
        incarnation: u64,
        grace: Duration,
    ) -> Result<Closed, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let args = texts([
            &keys::tag(partition),
            &user.to_string(),
            &session.to_string(),
            node.as_str(),
            &incarnation.to_string(),
            &grace.as_millis().to_string(),
        ]);
        let answer = self.call(partition, functions::SESSION_CLOSE, args).await?;
        Ok(match reply::number(&answer)? {
            0 => Closed::Nothing,
            1 => Closed::Session,
            _ => Closed::Last,
        })
    }

    /// A number for a life of this node that begins now, greater than those of earlier ones, also if
    /// clocks were set back meanwhile. Tries until Redis answers.
    pub async fn next_incarnation(&self, node: &NodeId) -> u64 {
        loop {
            let known = self
                .command("HGET", keys::NODES, texts([node.as_str()]))
                .await;
            let known = known.and_then(|known| match known {
                Value::Null => Ok(0),
                known => reply::parse::<u64>(&known),
            });
            match known {
                Ok(known) => return (known + 1).max(self.clock().now().0.max(0) as u64),
                Err(error) => tracing::warn!(%error, "waiting for redis"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Announces this process; it counts as alive for `ttl`. Answers whether it did so until now: if
    /// not, its sessions may have been reaped. Also works when memory is full.
    pub async fn node_heartbeat(
        &self,
        node: &NodeId,
        incarnation: u64,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let entry = texts([node.as_str(), &incarnation.to_string()]);
        self.call_key(keys::NODES, functions::ANNOUNCE, entry)
            .await?;
        // Last: what it answers is said once.
        let mut args = texts([&incarnation.to_string()]);
        args.push((ttl.as_millis() as i64).into());
        let was_alive = self
            .call_key(&keys::node(node), functions::HEARTBEAT, args)
            .await?;
        Ok(reply::number(&was_alive)? == 1)
    }

    /// Says that this process stops. Its sessions remain for the reaper if it has left any.
    pub async fn node_leave(&self, node: &NodeId, incarnation: u64) -> Result<(), StoreError> {
        let args = texts([&incarnation.to_string()]);
        self.call_key(&keys::node(node), functions::LEAVE, args)
            .await?;
        Ok(())
    }

    /// Every node that ever announced itself and was not forgotten: name, its latest incarnation,
    /// and whether that is alive.
    pub async fn nodes(&self) -> Result<Vec<(NodeId, u64, bool)>, StoreError> {
        let Value::Map(known) = self.command("HGETALL", keys::NODES, Vec::new()).await? else {
            return Err(StoreError::unexpected("HGETALL answered no map"));
        };
        let mut nodes = Vec::new();
        for (name, incarnation) in known.inner() {
            let name: NodeId = reply::parse(&Value::from(name))?;
            nodes.push((name, reply::parse::<u64>(&incarnation)?));
        }
        nodes.sort_unstable();
        let look = nodes.into_iter().map(|(name, incarnation)| async move {
            let alive = self.is_alive(&name, incarnation).await?;
            Ok((name, incarnation, alive))
        });
        try_join_all(look).await
    }

    /// Whether this life of a node goes on.
    pub async fn is_alive(&self, node: &NodeId, incarnation: u64) -> Result<bool, StoreError> {
        let key = keys::node(node);
        let answer = self
            .call_key(&key, functions::INCARNATION, Vec::new())
            .await?;
        Ok(!answer.is_null() && reply::parse::<u64>(&answer)? == incarnation)
    }

    /// Removes up to `count` sessions that a node left in a partition in this or an earlier
    /// incarnation; answers which.
    pub async fn reap(
        &self,
        partition: Partition,
        node: &NodeId,
        incarnation: u64,
        count: u32,
    ) -> Result<Vec<(UserId, SessionId)>, StoreError> {
        let mut args = texts([
            &keys::tag(partition),
            node.as_str(),
            &incarnation.to_string(),
        ]);
        args.push(i64::from(count).into());
        let answer = reply::list(self.call(partition, functions::REAP, args).await?)?;
        answer
            .chunks_exact(2)
            .map(|pair| Ok((reply::parse(&pair[0])?, reply::parse(&pair[1])?)))
            .collect()
    }

    /// Takes a node off the list, unless a later incarnation has announced itself.
    pub async fn forget_node(&self, node: &NodeId, incarnation: u64) -> Result<(), StoreError> {
        let found = self
            .command("HGET", keys::NODES, texts([node.as_str()]))
            .await?;
        if !found.is_null() && reply::parse::<u64>(&found)? <= incarnation {
            self.command("HDEL", keys::NODES, texts([node.as_str()]))
                .await?;
        }
        Ok(())
    }
}

/// Three positions, with blanks in between.
fn positions(value: &Value) -> Result<[Position; 3], StoreError> {
    let words = reply::text(value)?.split(' ').map(reply::parse_text);
    let positions = words.collect::<Result<Vec<Position>, _>>()?;
    <[Position; 3]>::try_from(positions)
        .map_err(|_| StoreError::unexpected("positions of another number of queues"))
}

/// A position, or an empty text.
fn position_or_none(value: &Value) -> Result<Option<Position>, StoreError> {
    match reply::text(value)? {
        "" => Ok(None),
        position => reply::parse_text(position).map(Some),
    }
}
