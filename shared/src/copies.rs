//! Copies of what was said, for the queues of participants.
//!
//! Made by one copier of a conversation at a time and in the order of its log, so nobody's queue is
//! reordered. Whatever stops a copier, nothing is lost: Redis remembers how far it came, and whoever
//! takes over begins there. A copy that is made twice is recognised by its key.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    domain::{
        ConversationChange, ConversationId, CopyReference, Digest, Durability, Entry, Kind,
        Members, MessageBody, MessageDeleted, MessageEdited, Position, Topic, UserId,
    },
    postgres::PgError,
    redis::{Append, Copier, Copying, IdempotencyKey, Store, StoreError},
};

/// Users who get copies at the same time; the store's lanes make batches of them.
const AT_ONCE: usize = 256;
/// Copies between two reports of how far they have come.
const STEP: usize = 2048;
/// While a step lasts, the lease of 5 s is renewed this often.
const RENEW: Duration = Duration::from_secs(2);

/// Why copies were not made. What is missing is made by whoever takes over.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Redis did not take one.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Who takes part cannot be found out.
    #[error("cannot tell who takes part")]
    Members(#[from] PgError),
    /// The record knows an older version than Redis.
    #[error("the record is at version {known}, an entry at {wanted}")]
    Behind {
        /// Of the record.
        known: u64,
        /// Of the entry.
        wanted: u64,
    },
}

/// Who makes copies, and from where.
#[derive(Clone, Copy)]
pub struct Copies<'a> {
    /// The logs.
    pub store: &'a Store,
    /// This process.
    pub copier: &'a Copier,
    /// Of which conversation.
    pub conversation: ConversationId,
}

impl Copies<'_> {
    /// What follows from an append that answered `copying`: makes copies of this entry, with the
    /// version it was appended by, and of what comes after it. `members_of` answers who takes part
    /// and did, at this version or a later one; nothing if there is no such conversation. Answers how
    /// many copies were made.
    pub async fn of_appended<F>(
        self,
        entry: Entry,
        version: u64,
        copying: Copying,
        members_of: impl Fn(ConversationId, u64) -> F,
    ) -> Result<u64, CopyError>
    where
        F: Future<Output = Result<Option<Arc<Members>>, PgError>>,
    {
        match copying {
            Copying::NotMine => Ok(0),
            Copying::Mine => self.of_all(vec![(entry, version)], members_of).await,
            Copying::Abandoned => self.take_over(members_of).await,
        }
    }

    /// Goes on where somebody has stopped; nothing is done where somebody is at it.
    pub async fn take_over<F>(
        self,
        members_of: impl Fn(ConversationId, u64) -> F,
    ) -> Result<u64, CopyError>
    where
        F: Future<Output = Result<Option<Arc<Members>>, PgError>>,
    {
        let left = self
            .store
            .take_over_copies(self.conversation, self.copier)
            .await?;
        match left {
            Some(left) => self.of_all(left, members_of).await,
            None => Ok(0),
        }
    }

    /// Copies of these, and of what comes next, until nothing does or somebody else is the copier.
    async fn of_all<F>(
        self,
        mut next: Vec<(Entry, u64)>,
        members_of: impl Fn(ConversationId, u64) -> F,
    ) -> Result<u64, CopyError>
    where
        F: Future<Output = Result<Option<Arc<Members>>, PgError>>,
    {
        let mut made = 0;
        while let Some(wanted) = next.iter().map(|(_, version)| *version).max() {
            let members = members_of(self.conversation, wanted).await?;
            if let Some(members) = &members
                && members.version < wanted
            {
                let known = members.version;
                return Err(CopyError::Behind { known, wanted });
            }
            let mut upto = Position::START;
            for step in steps(&next, members.as_deref()) {
                if upto > Position::START && !self.go_on(upto).await? {
                    return Ok(made);
                }
                let last = step.upto;
                match self.make(step, upto).await? {
                    Some(count) => made += count,
                    None => return Ok(made),
                }
                upto = last;
            }
            let told = self.store.copied(self.conversation, self.copier, upto);
            match told.await? {
                Some(more) => next = more,
                None => return Ok(made),
            }
        }
        Ok(made)
    }

    async fn go_on(self, upto: Position) -> Result<bool, StoreError> {
        self.store
            .still_copying(self.conversation, self.copier, upto)
            .await
    }

    /// Makes the copies of a step, users side by side, of each in order. `None`: it took so long that
    /// somebody else has taken over.
    async fn make(self, step: Step, before: Position) -> Result<Option<u64>, CopyError> {
        let making = stream::iter(step.of_users)
            .map(|(user, copies)| async move {
                for copy in &copies {
                    self.store.append(copy.for_user(user)).await?;
                }
                Ok::<_, StoreError>(copies.len() as u64)
            })
            .buffer_unordered(AT_ONCE)
            .try_fold(0, |sum, made| async move { Ok(sum + made) });
        tokio::pin!(making);
        loop {
            tokio::select! {
                made = &mut making => return Ok(Some(made?)),
                () = tokio::time::sleep(RENEW) => {
                    if !self.go_on(before).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// As many entries as make not too many copies at once, but at least one.
struct Step {
    /// The last of them.
    upto: Position,
    of_users: BTreeMap<UserId, Vec<Arc<Copy>>>,
}

/// Entries in steps, in their order.
fn steps(entries: &[(Entry, u64)], members: Option<&Members>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut room = 0;
    for (entry, version) in entries {
        let present = members
            .into_iter()
            .flat_map(|members| members.at(*version))
            .map(|member| member.user);
        let users: Vec<UserId> = present.chain(gone(entry)).collect();
        if users.len() > room || steps.is_empty() {
            room = STEP.max(users.len());
            let (upto, of_users) = (entry.position, BTreeMap::new());
            steps.push(Step { upto, of_users });
        }
        room -= users.len();
        let Some(step) = steps.last_mut() else {
            continue;
        };
        step.upto = entry.position;
        let copy = match Copy::new(entry) {
            Ok(copy) => Arc::new(copy),
            // Whatever it is, it must not hold up what comes after it.
            Err(error) => {
                tracing::error!(topic = %entry.topic, position = %entry.position, %error, "an entry cannot be copied");
                continue;
            }
        };
        for user in users {
            step.of_users.entry(user).or_default().push(copy.clone());
        }
    }
    steps
}

/// Who is told, too, though they take part no more: the entry says so.
fn gone(entry: &Entry) -> Option<UserId> {
    match change_in(entry)? {
        ConversationChange::Left { user_id } | ConversationChange::Removed { user_id } => {
            Some(user_id)
        }
        _ => None,
    }
}

/// Whom a system message concerns so much that they get a copy also where nobody else does: they
/// would not know that they take part, or that they do no more.
fn concerned(entry: &Entry, members: Option<&Members>) -> Vec<UserId> {
    match change_in(entry) {
        Some(ConversationChange::Created | ConversationChange::Unarchived) => {
            let present = members.into_iter().flat_map(Members::present);
            present.map(|member| member.user).collect()
        }
        Some(ConversationChange::Joined { user_ids }) => user_ids,
        Some(ConversationChange::Left { user_id } | ConversationChange::Removed { user_id }) => {
            vec![user_id]
        }
        _ => Vec::new(),
    }
}

fn change_in(entry: &Entry) -> Option<ConversationChange> {
    #[derive(serde::Deserialize)]
    struct Told {
        change: Option<ConversationChange>,
    }
    if entry.kind != Kind::MessageNew {
        return None;
    }
    serde_json::from_slice::<Told>(&entry.body).ok()?.change
}

/// Copies of a change of a conversation that is too large for copies, for those it concerns.
/// `members_of` is asked only for a conversation that was just made.
pub(crate) async fn of_uncopied_change<F>(
    store: &Store,
    entry: &Entry,
    members_of: impl FnOnce() -> F,
) -> Result<(), CopyError>
where
    F: Future<Output = Result<Option<Members>, PgError>>,
{
    let members = match change_in(entry) {
        Some(ConversationChange::Created | ConversationChange::Unarchived) => members_of().await?,
        _ => None,
    };
    let users = concerned(entry, members.as_ref());
    let Ok(copy) = Copy::new(entry) else {
        return Ok(());
    };
    stream::iter(users)
        .map(|user| {
            let (store, copy) = (store.clone(), copy.for_user(user));
            async move { store.append_from_reserve(copy).await.map(drop) }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(())
}

/// What stands in everybody's queue.
#[derive(Debug)]
struct Copy {
    entry: Entry,
    body: Bytes,
    persisted: Bytes,
    digest: Digest,
}

impl Copy {
    /// Fills in what the entry itself says of a message elsewhere: its id and time.
    fn new(entry: &Entry) -> Result<Self, serde_json::Error> {
        let (message_id, conversation_id, body) = match entry.kind {
            Kind::MessageEdited => {
                let mut body: MessageEdited = serde_json::from_slice(&entry.body)?;
                body.edited_at = Some(entry.at);
                let of = (body.message_id, body.conversation_id);
                (of.0, of.1, serde_json::to_vec(&body)?)
            }
            Kind::MessageDeleted => {
                let mut body: MessageDeleted = serde_json::from_slice(&entry.body)?;
                body.deleted_at = Some(entry.at);
                let of = (body.message_id, body.conversation_id);
                (of.0, of.1, serde_json::to_vec(&body)?)
            }
            _ => {
                let mut body: MessageBody = serde_json::from_slice(&entry.body)?;
                body.message_id = Some(entry.id);
                body.created_at = Some(entry.at);
                let of = (entry.id, body.conversation_id);
                (of.0, of.1, serde_json::to_vec(&body)?)
            }
        };
        let reference = CopyReference {
            message_id,
            conversation_id,
        };
        Ok(Self {
            digest: Digest::of(&body),
            body: body.into(),
            persisted: serde_json::to_vec(&reference)?.into(),
            entry: entry.clone(),
        })
    }

    fn for_user(&self, user: UserId) -> Append {
        let id = self.entry.id;
        Append {
            id: Some(id),
            persisted: Some(self.persisted.clone()),
            ..Append::new(
                Topic::User(user),
                self.entry.kind,
                self.body.clone(),
                IdempotencyKey(format!("copy:{id}:{user}")),
                self.digest,
                // What is reported as copied is not copied again.
                Durability::Durable,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        ConversationType, Member, MessageId, MessageType, ParticipantRole, SenderType, Timestamp,
    };

    fn entry(offset: u64) -> Entry {
        let conversation_id = ConversationId(Uuid::nil());
        let body = MessageBody {
            message_id: None,
            created_at: None,
            conversation_id,
            sender_id: UserId(Uuid::nil()),
            sender_name: "ann".into(),
            sender_type: SenderType::User,
            content: "hello".into(),
            sealed: None,
            message_type: MessageType::Text,
            files: vec![],
            uncopied: false,
            change: None,
        };
        Entry {
            topic: Topic::Conversation(conversation_id),
            position: Position { epoch: 1, offset },
            id: MessageId(Uuid::from_u128(offset.into())),
            kind: Kind::MessageNew,
            at: Timestamp(7),
            body: serde_json::to_vec(&body).unwrap().into(),
        }
    }

    fn members(count: u128, joined: u64) -> Members {
        let all = (0..count).map(|n| Member {
            user: UserId(Uuid::from_u128(n)),
            role: ParticipantRole::Member,
            joined,
            left: None,
            muted_until: None,
        });
        Members {
            conversation: ConversationId(Uuid::nil()),
            kind: ConversationType::Group,
            version: 9,
            is_archived: false,
            all: all.collect(),
        }
    }

    #[test]
    fn a_step_has_at_least_one_entry_and_otherwise_not_too_many_copies() {
        let entries: Vec<_> = (1..=5).map(|n| (entry(n), 1)).collect();
        let lengths = |count| {
            let steps = steps(&entries, Some(&members(count, 1)));
            steps
                .iter()
                .map(|step| (step.upto.offset, step.of_users.values().map(Vec::len).sum()))
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(2), [(5, 10)]);
        assert_eq!(lengths(1000), [(2, 2000), (4, 2000), (5, 1000)]);
        assert_eq!(lengths(3000).len(), 5);
        assert_eq!(lengths(0), [(5, 0)]);
        assert_eq!(steps(&entries, None).len(), 1);
    }

    #[test]
    fn who_joined_later_gets_no_copy() {
        let entries = [(entry(1), 1), (entry(2), 2)];
        let steps = steps(&entries, Some(&members(1, 2)));
        let copies = &steps[0].of_users[&UserId(Uuid::nil())];
        assert_eq!(copies.len(), 1);
        assert_eq!(copies[0].entry.position.offset, 2);
        let body: MessageBody = serde_json::from_slice(&copies[0].body).unwrap();
        assert_eq!(body.message_id, Some(copies[0].entry.id));
        assert_eq!(body.created_at, Some(Timestamp(7)));
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        let mut odd = entry(1);
        odd.body = Bytes::from_static(b"{}");
        let steps = steps(&[(odd, 1), (entry(2), 1)], Some(&members(1, 1)));
        assert_eq!(steps[0].upto.offset, 2);
        assert_eq!(steps[0].of_users[&UserId(Uuid::nil())].len(), 1);
    }
}
