//! How many sockets there are, as nodes say themselves, and which of them are a user's: what can be
//! asked as often as one likes, however many there are.

use std::time::Duration;

use fred::types::Value;
use futures_util::future::try_join_all;

use super::{
    connections::Connection,
    error::StoreError,
    keys, reply,
    store::{Store, texts},
};
use crate::domain::{NodeId, Timestamp, Topic, UserId};

/// How many sockets speak what, by the names of dialects.
pub type Speaking = Vec<(Box<str>, u64)>;

impl Store {
    /// Says how many sockets a node has; that counts for `ttl`.
    pub async fn show_sockets(
        &self,
        node: &NodeId,
        speaking: &[(&str, u64)],
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let counts = speaking
            .iter()
            .map(|(name, count)| format!("{name}={count}"));
        let counts: Vec<_> = counts.collect();
        let mut args = texts([counts.join(" ").as_str(), "PX"]);
        args.push((ttl.as_millis() as i64).into());
        self.command("SET", &keys::sockets(node), args).await?;
        Ok(())
    }

    /// What these nodes said last; nothing of one that has not said anything lately.
    pub async fn sockets_at(&self, nodes: &[NodeId]) -> Result<Vec<Speaking>, StoreError> {
        let ask = nodes.iter().map(|node| async move {
            let said = self
                .command("GET", &keys::sockets(node), Vec::new())
                .await?;
            if said.is_null() {
                return Ok(Speaking::new());
            }
            reply::text(&said)?
                .split_whitespace()
                .map(|word| {
                    let (name, count) = word
                        .split_once('=')
                        .ok_or_else(|| StoreError::unexpected("a count of sockets"))?;
                    Ok((name.into(), reply::parse_text(count)?))
                })
                .collect()
        });
        try_join_all(ask).await
    }

    /// The sessions of a user, oldest first. Those of a dead node are among them until they are
    /// cleared away.
    pub async fn sessions_of(&self, user: UserId) -> Result<Vec<Connection>, StoreError> {
        let key = keys::sessions(self.partition_of(Topic::User(user)), user);
        let Value::Map(found) = self.command("HGETALL", &key, Vec::new()).await? else {
            return Err(StoreError::unexpected("HGETALL answered no map"));
        };
        let mut sessions = Vec::new();
        for (session, owner) in found.inner() {
            let mut words = reply::text(&owner)?.split(' ');
            let mut word = || words.next().unwrap_or_default();
            let (node, _incarnation, device, since) = (word(), word(), word(), word());
            sessions.push(Connection {
                session: reply::parse(&Value::from(session))?,
                user,
                node: reply::parse_text(node)?,
                device: reply::parse_text(device)?,
                since: Timestamp(reply::parse_text(since)?),
                dialect: word().into(),
                is_idle: words.next_back() == Some("idle"),
            });
        }
        sessions.sort_unstable_by_key(|it| (it.since, it.session));
        Ok(sessions)
    }
}
