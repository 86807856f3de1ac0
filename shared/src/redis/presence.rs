//! How users appear: asked for, set, and settled when they are gone. What a session brings about
//! happens with the session itself, see [`Store::session_open`].

use std::{collections::BTreeMap, sync::OnceLock};

use fred::types::Value;
use futures_util::{StreamExt as _, future::join_all, stream};

use super::{
    bells::read_presence,
    error::StoreError,
    functions::{self, Function},
    keys, reply,
    store::{Store, flag, texts},
};
use crate::domain::{Partition, Presence, PresenceStatus, SessionId, Topic, UserId};

/// Partitions of a shard asked at a time.
const AT_ONCE: usize = 16;
/// Most users who are settled in one call; so many may have left others.
const MOST_SETTLED: usize = 256;

/// Users whom one call may be about: the partition of each, and its place in the list.
type Group = Vec<(Partition, usize)>;

/// What a client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Whose.
    pub user: UserId,
    /// On which session.
    pub session: SessionId,
    /// Nothing for long; otherwise something again.
    pub is_idle: bool,
}

/// What became of users who left.
#[derive(Debug, Default)]
pub struct Settled {
    /// Who is gone; each user once, whoever asks.
    pub gone: Vec<UserId>,
    /// Partitions where more may be left: there were very many.
    pub more: Vec<Partition>,
    /// Partitions that could not be asked.
    pub failed: Vec<Partition>,
    /// Why.
    pub error: Option<StoreError>,
}

impl Store {
    /// How each of these users appears, in their order. Of whom nothing is known looks offline, with
    /// version 0; the record may know when they were last seen. A shard that is away fails its own.
    pub async fn presences(&self, users: &[UserId]) -> Vec<Result<Presence, StoreError>> {
        let call = |group: &Group| {
            let args = group.iter().flat_map(|(partition, index)| {
                texts([&keys::tag(*partition), &users[*index].to_string()])
            });
            args.collect()
        };
        let asked = self.call_each_user(functions::PRESENCES, users, call).await;
        let mut found: Vec<_> = users.iter().map(|it| Ok(Presence::unknown(*it))).collect();
        for (group, answer) in asked {
            let answer = answer.and_then(reply::list);
            for (n, (_, index)) in group.into_iter().enumerate() {
                found[index] = match &answer {
                    Ok(words) => presence(users[index], words.get(n * 5..n * 5 + 5).unwrap_or(&[])),
                    Err(error) => Err(error.clone()),
                };
            }
        }
        found
    }

    /// A user says on a session how they want to appear; `Online` takes that back. Without a text
    /// the one there is stays, an empty one is taken away. Answers how they appear now; `None` if
    /// the session is not open any more.
    pub async fn set_presence(
        &self,
        user: UserId,
        session: SessionId,
        status: PresenceStatus,
        text: Option<&str>,
    ) -> Result<Option<Presence>, StoreError> {
        let partition = self.partition_of(Topic::User(user));
        let args = texts([
            &keys::tag(partition),
            &user.to_string(),
            &session.to_string(),
            status.as_str(),
            &text.map(|text| format!("={text}")).unwrap_or_default(),
        ]);
        let answer = self.call(partition, functions::PRESENCE_SET, args).await?;
        let answer = reply::list(answer)?;
        if answer.is_empty() {
            return Ok(None);
        }
        presence(user, &answer).map(Some)
    }

    /// Whether the clients of these sessions do something: of each whether that was told, in their order.
    /// A shard that is away fails its own.
    pub async fn note_activity(&self, activities: &[Activity]) -> Vec<Result<(), StoreError>> {
        let users: Vec<UserId> = activities.iter().map(|it| it.user).collect();
        let call = |group: &Group| {
            let args = group.iter().flat_map(|(partition, index)| {
                let it = activities[*index];
                texts([
                    &keys::tag(*partition),
                    &it.user.to_string(),
                    &it.session.to_string(),
                    flag(it.is_idle),
                ])
            });
            args.collect()
        };
        let told = self
            .call_each_user(functions::PRESENCE_IDLE, &users, call)
            .await;
        let mut all = vec![Ok(()); activities.len()];
        for (group, answer) in told {
            let told = answer.map(drop);
            for (_, index) in group {
                all[index].clone_from(&told);
            }
        }
        all
    }

    /// Users of these partitions whose last session ended and whose time to come back is over are
    /// gone: who watches them is told.
    pub async fn settle_presences(&self, partitions: &[Partition]) -> Settled {
        let mut settled = Settled::default();
        let calls = match self.groups_of(partitions) {
            Ok(calls) => calls,
            Err(error) => {
                settled.failed = partitions.to_vec();
                settled.error = Some(error);
                return settled;
            }
        };
        let calls = calls.into_iter().map(|partitions| {
            let mut args: Vec<Value> = vec![(MOST_SETTLED as i64).into()];
            args.extend(partitions.iter().map(|it| Value::from(keys::tag(*it))));
            (partitions[0], args, partitions)
        });
        let answers = self.call_each(functions::PRESENCE_SETTLE, calls.collect());
        for (partitions, answer) in answers.await {
            let gone = answer.and_then(reply::list).and_then(|gone| {
                let gone = gone.iter().map(reply::parse);
                gone.collect::<Result<Vec<UserId>, _>>()
            });
            match gone {
                Ok(gone) => {
                    if gone.len() >= MOST_SETTLED {
                        settled.more.extend(partitions);
                    }
                    settled.gone.extend(gone);
                }
                Err(error) => {
                    settled.failed.extend(partitions);
                    settled.error = Some(error);
                }
            }
        }
        settled
    }

    async fn call_each_user(
        &self,
        function: Function,
        users: &[UserId],
        args: impl Fn(&Group) -> Vec<Value>,
    ) -> Vec<(Group, Result<Value, StoreError>)> {
        let groups = match self.groups(users.iter().map(|user| Topic::User(*user))) {
            Ok(groups) => groups,
            Err(error) => {
                let all = users.iter().enumerate();
                let all = all.map(|(index, _)| (Partition(0), index)).collect();
                return vec![(all, Err(error))];
            }
        };
        let calls = groups.into_iter().map(|group| {
            let args = args(&group);
            (group[0].0, args, group)
        });
        self.call_each(function, calls.collect()).await
    }

    /// Several calls of a function, shards side by side. Once one finds its shard away, those that were
    /// not begun there fail with it: each of them would wait as long.
    async fn call_each<G>(
        &self,
        function: Function,
        calls: Vec<(Partition, Vec<Value>, G)>,
    ) -> Vec<(G, Result<Value, StoreError>)> {
        let topology = self.topology().ok();
        let mut by_shard: BTreeMap<Option<usize>, Vec<_>> = BTreeMap::new();
        for call in calls {
            let shard = topology.as_ref().and_then(|it| it.shard_of(call.0));
            by_shard.entry(shard).or_default().push(call);
        }
        let shards = by_shard.into_values().map(|calls| async move {
            let away = OnceLock::new();
            let away = &away;
            let answers = stream::iter(calls).map(|(partition, args, group)| async move {
                if let Some(error) = away.get() {
                    return (group, Err(StoreError::clone(error)));
                }
                let answer = self.call(partition, function, args).await;
                if let Err(error @ (StoreError::Unavailable(_) | StoreError::Unknown(_))) = &answer
                {
                    let _ = away.set(error.clone());
                }
                (group, answer)
            });
            answers.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await
        });
        join_all(shards).await.into_iter().flatten().collect()
    }
}

/// Reads version, status, devices, when last seen, text.
fn presence(user: UserId, words: &[Value]) -> Result<Presence, StoreError> {
    let wrong = || StoreError::unexpected("a presence of another shape");
    let [version, status, devices, seen, text] = words else {
        return Err(wrong());
    };
    let [version, status, devices, seen] = [version, status, devices, seen].map(reply::text);
    let header = [version?, status?, devices?, seen?].join(" ");
    read_presence(user, &header, reply::text(text)?.as_bytes()).ok_or_else(wrong)
}
