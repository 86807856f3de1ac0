//! Who is connected where, over all nodes: for administrators, not for any hot path.

use fred::types::Value;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    error::StoreError,
    functions, keys, reply,
    store::{Store, texts},
};
use crate::domain::{Device, NodeId, Partition, SessionId, Timestamp, UserId};

/// Partitions asked at a time.
const AT_ONCE: usize = 32;

/// A session, as Redis knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its name.
    pub session: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// Where its socket is.
    pub node: NodeId,
    /// From which device.
    pub device: Device,
    /// When it was opened.
    pub since: Timestamp,
    /// What its client speaks; empty if an earlier release opened it.
    pub dialect: Box<str>,
    /// Its client did nothing for long.
    pub is_idle: bool,
}

/// A place in the list of sessions. They are listed by partition, and in a partition by id: a
/// place stays what it is whoever comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionsAfter {
    /// Which partition.
    pub partition: Partition,
    /// Behind which session in it; without, from its beginning.
    pub session: Option<SessionId>,
}

impl ConnectionsAfter {
    /// Before the first session.
    pub const START: Self = Self {
        partition: Partition(0),
        session: None,
    };
}

impl Store {
    /// At most `limit` sessions on these nodes, behind `after`; and where the list goes on, if it does.
    pub async fn connections(
        &self,
        nodes: &[NodeId],
        after: ConnectionsAfter,
        limit: u32,
    ) -> Result<(Vec<Connection>, Option<ConnectionsAfter>), StoreError> {
        let limit = limit.max(1) as usize;
        let mut found: Vec<Connection> = Vec::new();
        // One more than asked for tells whether there are more.
        let pages = stream::iter(after.partition.0..self.partitions().0)
            .map(|number| {
                let partition = Partition(number);
                let session = after.session.filter(|_| partition == after.partition);
                async move {
                    let page = self.connections_of(partition, nodes, session, limit + 1);
                    Ok::<_, StoreError>((partition, page.await?))
                }
            })
            .buffered(AT_ONCE);
        let mut pages = std::pin::pin!(pages);
        let mut last = after;
        while let Some((partition, page)) = pages.try_next().await? {
            for connection in page {
                if found.len() == limit {
                    return Ok((found, Some(last)));
                }
                last = ConnectionsAfter {
                    partition,
                    session: Some(connection.session),
                };
                found.push(connection);
            }
        }
        Ok((found, None))
    }

    async fn connections_of(
        &self,
        partition: Partition,
        nodes: &[NodeId],
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Connection>, StoreError> {
        let after = after.map(|session| session.to_string()).unwrap_or_default();
        let mut args: Vec<Value> = texts([&keys::tag(partition), &after, &limit.to_string()]);
        args.extend(nodes.iter().map(|node| Value::from(node.as_str())));
        let answer = self.call(partition, functions::CONNECTIONS, args).await?;
        let values = reply::list(answer)?;
        values
            .chunks_exact(8)
            .map(|it| {
                Ok(Connection {
                    session: reply::parse(&it[0])?,
                    user: reply::parse(&it[1])?,
                    node: reply::parse(&it[2])?,
                    device: reply::parse(&it[4])?,
                    since: Timestamp(reply::parse(&it[5])?),
                    dialect: reply::text(&it[6])?.into(),
                    is_idle: reply::text(&it[7])? == "idle",
                })
            })
            .collect()
    }

    /// How many sessions each of these nodes has.
    pub async fn sessions_at(&self, nodes: &[NodeId]) -> Result<Vec<u64>, StoreError> {
        let all: Vec<_> = (0..self.partitions().0).map(Partition).collect();
        let mut answers = stream::iter(self.groups_of(&all)?)
            .map(|partitions| async move {
                let mut args = texts([&nodes.len().to_string()]);
                args.extend(nodes.iter().map(|node| Value::from(node.as_str())));
                let tags = partitions.iter().map(|it| Value::from(keys::tag(*it)));
                args.extend(tags);
                self.call(partitions[0], functions::SESSIONS_AT, args).await
            })
            .buffered(AT_ONCE);
        let mut counts = vec![0; nodes.len()];
        while let Some(answer) = answers.try_next().await? {
            for (count, more) in counts.iter_mut().zip(reply::list(answer)?) {
                *count += reply::number(&more)?;
            }
        }
        Ok(counts)
    }
}
