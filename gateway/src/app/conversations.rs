//! Who takes part in conversations, and what they may do there: this node's copy of the record.
//!
//! A copy may be old. That does no harm where something is written: Redis takes an entry only from
//! whoever decided by the present version of the conversation, so whoever did not looks again.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use moka::future::Cache;
use shared::{
    changes,
    copies::Copies,
    domain::{
        Code, ConversationId, Entry, Kind, Member, Members, ParticipantRole, Refusal, Timestamp,
        Topic, UserId,
    },
    lifecycle::Lifecycle,
    postgres::{OpenConversation, PgError, Postgres, UntoldChange},
    redis::{Append, Appended, Author, Copier, Copying, Store},
};

use crate::fanout::{Right, Rights, postgres_refusal, store_refusal};

/// Most participants that are remembered, over all conversations; about 64 bytes each.
const CAPACITY: u64 = 2_000_000;
/// After this long without use a conversation is forgotten.
const FORGET_AFTER: Duration = Duration::from_hours(1);
/// Most conversations that a socket hears because it wants all of its user's.
const MOST_HEARD: u32 = 1_000;
/// How often somebody decides anew because the conversation changed meanwhile.
const TRIES: usize = 5;

/// See the module.
pub struct Conversations {
    store: Store,
    postgres: Postgres,
    lifecycle: Lifecycle,
    known: Cache<ConversationId, Arc<Members>>,
    /// DIRECT conversations by their users, the lesser id first.
    pairs: Cache<(UserId, UserId), ConversationId>,
    inbox_max: u32,
    copier: Copier,
}

/// How conversations are treated.
#[derive(Debug, Clone)]
pub struct ConversationSettings {
    /// Most participants of a conversation whose messages are copied to their inboxes.
    pub inbox_max_members: u32,
    /// This node, as a maker of copies.
    pub copier: Copier,
}

impl Conversations {
    pub(super) fn new(
        store: Store,
        postgres: Postgres,
        settings: ConversationSettings,
        lifecycle: Lifecycle,
    ) -> Arc<Self> {
        let known = Cache::builder()
            .max_capacity(CAPACITY)
            .weigher(|_, members: &Arc<Members>| members.all.len() as u32 + 4)
            .time_to_idle(FORGET_AFTER)
            .build();
        Arc::new(Self {
            store,
            postgres,
            lifecycle,
            known,
            pairs: Cache::builder()
                .max_capacity(CAPACITY / 20)
                .time_to_idle(FORGET_AFTER)
                .build(),
            inbox_max: settings.inbox_max_members,
            copier: settings.copier,
        })
    }

    /// Who takes part, as far as this node knows; `not_found` if there is no such conversation.
    pub async fn members(&self, id: ConversationId) -> Result<Arc<Members>, Refusal> {
        if let Some(known) = self.known.get(&id).await {
            return Ok(known);
        }
        // Rare, and large: every request would carry room for it.
        Box::pin(self.learn(id)).await
    }

    /// Reads who takes part. Many requests for the same conversation ask once.
    async fn learn(&self, id: ConversationId) -> Result<Arc<Members>, Refusal> {
        let read = async {
            // Boxed in here: of all who wait only one reads.
            match Box::pin(self.postgres.conversation_members(id)).await {
                Ok(Some(members)) => Ok(Arc::new(members)),
                Ok(None) => Err(no_such_conversation()),
                Err(error) => Err(postgres_refusal(&error)),
            }
        };
        self.known
            .try_get_with(id, read)
            .await
            .map_err(|refusal| (*refusal).clone())
    }

    /// Who takes part, as of this version or a later one.
    async fn as_of(
        &self,
        id: ConversationId,
        version: u64,
    ) -> Result<Option<Arc<Members>>, PgError> {
        let known = self.known.get(&id).await;
        if let Some(known) = known.filter(|known| known.version >= version) {
            return Ok(Some(known));
        }
        let read = Box::pin(self.postgres.conversation_members(id)).await?;
        let read = read.map(Arc::new);
        if let Some(members) = &read {
            self.remember(members.clone()).await;
        }
        Ok(read)
    }

    /// Remembers what was read or made elsewhere.
    pub async fn remember(&self, members: Arc<Members>) {
        let known = self.known.get(&members.conversation).await;
        if known.is_none_or(|known| known.version < members.version) {
            self.known.insert(members.conversation, members).await;
        }
    }

    /// Refuses whoever does not take part, also by what the record has now.
    pub async fn check_participant(&self, id: ConversationId, user: UserId) -> Result<(), Refusal> {
        let known = self.members(id).await?;
        if participant(&known, user).is_ok() {
            return Ok(());
        }
        let members = self.read_again(id).await?;
        participant(&members, user).map(drop)
    }

    /// Who takes part, as the record has it now.
    pub async fn read_again(&self, id: ConversationId) -> Result<Arc<Members>, Refusal> {
        let read = Box::pin(self.postgres.conversation_members(id)).await;
        let members = read.map_err(|error| postgres_refusal(&error))?;
        let members = Arc::new(members.ok_or_else(no_such_conversation)?);
        self.remember(members.clone()).await;
        Ok(members)
    }

    /// The same, and Redis is told of the version: it may know none, or an older one.
    pub async fn read_for_writing(&self, id: ConversationId) -> Result<Arc<Members>, Refusal> {
        let members = self.read_again(id).await?;
        let kept = self.store.keep_version(id, members.version).await;
        kept.map_err(|error| store_refusal(&error))?;
        Ok(members)
    }

    /// Appends an entry that `make` makes, if `may` does not refuse it by who takes part now. Both are
    /// asked again if the conversation changed meanwhile. What was accepted under this key before gets
    /// its first answer, whatever has come to speak against it since. Copies are made, if there are
    /// any to make, beside the request.
    pub async fn append(
        self: &Arc<Self>,
        id: ConversationId,
        may: impl Fn(&Members) -> Result<(), Refusal>,
        make: impl Fn(&Members) -> Result<Append, Refusal>,
    ) -> Result<Appended, Refusal> {
        let mut members = self.members(id).await?;
        for _ in 0..TRIES {
            let entry = make(&members)?;
            if let Err(refusal) = may(&members) {
                // What is old may be what speaks against it.
                let read = self.read_again(id).await?;
                if read.version == members.version {
                    return self.accepted_before(id, entry, refusal).await;
                }
                members = read;
                continue;
            }
            let author = Author::By {
                version: members.version,
                copier: self.copier_of(&members).filter(|_| is_copied(entry.kind)),
            };
            let entry = Append {
                author: Some(author),
                ..entry
            };
            let appended = self.append_as(id, members.version, entry).await?;
            if appended != Appended::Outdated {
                return Ok(appended);
            }
            members = self.read_for_writing(id).await?;
        }
        let refusal = Refusal::new(Code::Unavailable, "the conversation keeps changing");
        Err(refusal.retry_after(Duration::from_secs(1)))
    }

    /// What became of an entry when it was tried before; if it was not, the refusal.
    async fn accepted_before(
        self: &Arc<Self>,
        id: ConversationId,
        entry: Append,
        refusal: Refusal,
    ) -> Result<Appended, Refusal> {
        let remembered = self.store.remembers(entry.topic, &entry.key).await;
        if !remembered.map_err(|error| store_refusal(&error))? {
            return Err(refusal);
        }
        // No conversation has this version, so nothing new is taken.
        let author = Author::By {
            version: 0,
            copier: None,
        };
        let entry = Append {
            author: Some(author),
            ..entry
        };
        match self.append_as(id, 0, entry).await? {
            Appended::Outdated => Err(refusal),
            appended => Ok(appended),
        }
    }

    /// Tells Redis of changes that the record has, and the record that it was told. What fails here
    /// a worker does: the change has happened.
    pub async fn announce(self: &Arc<Self>, members: Members, untold: &[UntoldChange]) {
        let id = members.conversation;
        self.remember(Arc::new(members)).await;
        // Another node may not have told what came before: said later, it would take back this.
        let all = match self.postgres.untold_changes_of(id).await {
            Ok(all) => all,
            Err(error) => {
                tracing::debug!(conversation = %id, %error, "earlier changes may be told later");
                untold.to_vec()
            }
        };
        for change in &all {
            let told = changes::tell(&self.store, &self.postgres, change, &self.copier);
            match Box::pin(told).await {
                Ok(Some((entry, copying))) => self.copy(entry, change.version, copying),
                Ok(None) => {}
                // In their order: a worker tells of what is left.
                Err(error) => {
                    return tracing::warn!(conversation = %id, %error, "a change is told later");
                }
            }
        }
    }

    /// `version`: whose participants get copies.
    async fn append_as(
        self: &Arc<Self>,
        id: ConversationId,
        version: u64,
        entry: Append,
    ) -> Result<Appended, Refusal> {
        let (kind, body) = (entry.kind, entry.body.clone());
        let appended = self.store.append(entry).await;
        let appended = appended.map_err(|error| store_refusal(&error))?;
        if let Appended::New {
            id: message,
            position,
            at,
            copying,
            ..
        } = &appended
        {
            let entry = Entry {
                topic: Topic::Conversation(id),
                position: *position,
                id: *message,
                kind,
                at: *at,
                body,
            };
            self.copy(entry, version, *copying);
        }
        Ok(appended)
    }

    /// Makes the copies that follow from an append, in a task of its own. What it leaves undone a
    /// worker does.
    fn copy(self: &Arc<Self>, entry: Entry, version: u64, copying: Copying) {
        let Topic::Conversation(conversation) = entry.topic else {
            return;
        };
        if copying == Copying::NotMine {
            return;
        }
        let me = self.clone();
        self.lifecycle.spawn("copy messages", async move {
            let copies = Copies {
                store: &me.store,
                copier: &me.copier,
                conversation,
            };
            let of = me.clone();
            let made = copies.of_appended(entry, version, copying, move |id, least| {
                let of = of.clone();
                async move { of.as_of(id, least).await }
            });
            if let Err(error) = made.await {
                tracing::warn!(%conversation, %error, "copies are left to a worker");
            }
        });
    }

    /// Who makes the copies of what this node appends; nobody where there are none to make.
    fn copier_of(&self, members: &Members) -> Option<Copier> {
        (!self.is_uncopied(members)).then(|| self.copier.clone())
    }

    /// Whether the conversation is too large for copies in inboxes.
    pub fn is_uncopied(&self, members: &Members) -> bool {
        members.present().count() > self.inbox_max as usize
    }

    /// The DIRECT conversation of two users, if this node knows it.
    pub async fn pair(&self, one: UserId, other: UserId) -> Option<ConversationId> {
        self.pairs.get(&(one.min(other), one.max(other))).await
    }

    /// Remembers the DIRECT conversation of two users.
    pub async fn remember_pair(&self, one: UserId, other: UserId, id: ConversationId) {
        let pair = (one.min(other), one.max(other));
        self.pairs.insert(pair, id).await;
    }
}

/// Who may hear what is said.
impl Rights for Conversations {
    fn right(
        &self,
        user: UserId,
        conversation: ConversationId,
        least: u64,
    ) -> BoxFuture<'_, Result<Right, Refusal>> {
        Box::pin(async move {
            let mut members = self.members(conversation).await?;
            let may = |members: &Members| {
                let member = participant(members, user)?;
                if members.is_archived {
                    return Err(archived());
                }
                Ok(Right {
                    version: members.version,
                    joined: member.joined,
                    is_large: self.is_uncopied(members),
                })
            };
            // What is old may be what speaks against it.
            if members.version < least || may(&members).is_err() {
                members = self.read_again(conversation).await?;
            }
            may(&members)
        })
    }

    fn conversations(
        &self,
        user: UserId,
    ) -> BoxFuture<'_, Result<Vec<(ConversationId, Right)>, Refusal>> {
        Box::pin(async move {
            let open = self.postgres.open_conversations_of(user, MOST_HEARD).await;
            let open = open.map_err(|error| postgres_refusal(&error))?;
            let right = |it: OpenConversation| {
                let right = Right {
                    version: it.version,
                    joined: it.joined,
                    // Redis knows whether something was not copied.
                    is_large: false,
                };
                (it.id, right)
            };
            Ok(open.into_iter().map(right).collect())
        })
    }
}

/// Whether an entry of this kind is copied to inboxes.
fn is_copied(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::MessageNew | Kind::MessageEdited | Kind::MessageDeleted
    )
}

/// The user as a participant, or `forbidden`.
pub fn participant(members: &Members, user: UserId) -> Result<&Member, Refusal> {
    members
        .get(user)
        .ok_or_else(|| Refusal::new(Code::Forbidden, "you do not take part in this conversation"))
}

/// The user as somebody who may write at `now`, or `forbidden`.
pub fn may_write(members: &Members, user: UserId, now: Timestamp) -> Result<&Member, Refusal> {
    let member = participant(members, user)?;
    if members.is_archived {
        return Err(archived());
    }
    if member.muted_until.is_some_and(|until| until > now) {
        return Err(Refusal::new(
            Code::Forbidden,
            "you are muted in this conversation",
        ));
    }
    Ok(member)
}

/// The user as an administrator of the conversation, or `forbidden`.
pub fn manager(members: &Members, user: UserId) -> Result<&Member, Refusal> {
    let member = participant(members, user)?;
    if member.role < ParticipantRole::Admin {
        return Err(Refusal::new(
            Code::Forbidden,
            "only administrators of the conversation may do this",
        ));
    }
    Ok(member)
}

/// What is told of a conversation that can be read only.
pub fn archived() -> Refusal {
    Refusal::new(Code::Forbidden, "the conversation is archived")
}

fn no_such_conversation() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such conversation")
}
