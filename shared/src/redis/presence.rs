//! How users appear: asked for, set, and settled when they are gone. What a session brings about
//! happens with the session itself, see [`Store::session_open`].

use fred::types::Value;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    bells::read_presence,
    error::StoreError,
    functions, keys, reply,
    store::{Store, texts},
};
use crate::domain::{Partition, Presence, PresenceStatus, SessionId, Topic, UserId};

/// Partitions of a cluster asked at a time.
const AT_ONCE: usize = 32;
/// Most users who are settled in one call; so many may have left others.
pub const MOST_SETTLED: usize = 256;

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

impl Store {
    /// How these users appear, in their order. Of whom nothing is known looks offline, with
    /// version 0; the record may know when they were last seen.
    pub async fn presences(&self, users: &[UserId]) -> Result<Vec<Presence>, StoreError> {
        let groups = self.groups(users.iter().map(|user| Topic::User(*user)))?;
        let mut found: Vec<Presence> = users.iter().copied().map(Presence::unknown).collect();
        let answers = stream::iter(groups).map(|group| async move {
            let mut args = Vec::with_capacity(group.len() * 2);
            for (partition, index) in &group {
                args.extend(texts([&keys::tag(*partition), &users[*index].to_string()]));
            }
            let answer = self.call(group[0].0, functions::PRESENCES, args).await?;
            Ok::<_, StoreError>((group, reply::list(answer)?))
        });
        let mut answers = answers.buffer_unordered(AT_ONCE);
        while let Some((group, answer)) = answers.try_next().await? {
            for ((_, index), one) in group.iter().zip(answer.chunks_exact(5)) {
                found[*index] = presence(users[*index], one)?;
            }
        }
        Ok(found)
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

    /// Whether the clients of these sessions do something.
    pub async fn note_activity(&self, activities: &[Activity]) -> Result<(), StoreError> {
        let groups = self.groups(activities.iter().map(|it| Topic::User(it.user)))?;
        for group in groups {
            let mut args = Vec::with_capacity(group.len() * 4);
            for (partition, index) in &group {
                let it = activities[*index];
                args.extend(texts([
                    &keys::tag(*partition),
                    &it.user.to_string(),
                    &it.session.to_string(),
                    if it.is_idle { "1" } else { "" },
                ]));
            }
            self.call(group[0].0, functions::PRESENCE_IDLE, args)
                .await?;
        }
        Ok(())
    }

    /// Users of these partitions whose last session ended and whose time to come back is over are
    /// gone: who watches them is told. Answers who that is, each user once whoever asks. If there
    /// are very many of them, some are left for the next call.
    pub async fn settle_presences(
        &self,
        partitions: &[Partition],
    ) -> Result<Vec<UserId>, StoreError> {
        let calls = self.groups_of(partitions)?;
        let answers = stream::iter(calls).map(|partitions| async move {
            let mut args: Vec<Value> = vec![(MOST_SETTLED as i64).into()];
            args.extend(partitions.iter().map(|it| Value::from(keys::tag(*it))));
            let answer = self.call(partitions[0], functions::PRESENCE_SETTLE, args);
            reply::list(answer.await?)?
                .iter()
                .map(reply::parse)
                .collect::<Result<Vec<UserId>, _>>()
        });
        // One that is away is no reason not to hear of the others.
        let (mut gone, mut failed) = (Vec::new(), None);
        let mut answers = answers.buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(users) => gone.extend(users),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if gone.is_empty() => Err(error),
            _ => Ok(gone),
        }
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
