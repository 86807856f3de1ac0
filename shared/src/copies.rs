//! Copies of what was said in a conversation, for the inboxes of its participants; and how a change
//! of who takes part is told.
//!
//! One copier at a time works for a conversation, in the order of its log, so no inbox has
//! anything in another order. A copier that dies leaves what is not copied to the next: copies are
//! recognised by their key, so what it had done comes about once all the same.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    domain::{
        ConversationChange, ConversationId, CopyReference, Digest, Durability, Entry, Kind,
        Members, MessageBody, MessageDeleted, MessageEdited, MessageId, Topic, UserId,
    },
    postgres::UntoldChange,
    redis::{Append, Author, Copier, IdempotencyKey, Store, StoreError},
};

/// Inboxes that are written to side by side. The store's lanes make calls of many of them.
const SIDE_BY_SIDE: usize = 256;

/// Why copying stopped. What is left is done by whoever takes over.
#[derive(Debug, thiserror::Error)]
pub enum CopyError<E> {
    /// Redis did not take a copy.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody could say who takes part.
    #[error("the participants are not known: {0}")]
    Members(E),
}

/// Copies what is due and whatever comes meanwhile, until nothing is left or somebody else has
/// taken over. `members_of` answers who takes part, as of the version it is given or a later one.
pub async fn copy_all<M, F, E>(
    store: &Store,
    conversation: ConversationId,
    copier: &Copier,
    mut due: Vec<(Entry, u64)>,
    members_of: M,
) -> Result<(), CopyError<E>>
where
    M: Fn(u64) -> F,
    F: Future<Output = Result<Arc<Members>, E>>,
{
    while let (Some((last, _)), Some(newest)) = (due.last(), due.iter().map(|(_, v)| *v).max()) {
        let upto = last.position;
        let members = members_of(newest).await.map_err(CopyError::Members)?;
        copy(store, &members, &due).await?;
        match store.copied(conversation, copier, upto).await? {
            Some(next) => due = next,
            None => break,
        }
    }
    Ok(())
}

/// The entry by which Redis learns of a change: its system message, and with it the version that
/// counts from there on. Said again, it is recognised. `None` if it cannot be read.
pub fn announcement(untold: &UntoldChange, copier: &Copier) -> Option<Append> {
    #[derive(serde::Deserialize)]
    struct Told {
        #[serde(default)]
        uncopied: bool,
    }
    let told: Told = serde_json::from_str(&untold.body).ok()?;
    let UntoldChange {
        conversation,
        version,
        body,
    } = untold;
    let key = format!("change:{conversation}:{version}");
    let author = Author::Change {
        version: *version,
        copier: (!told.uncopied).then(|| copier.clone()),
    };
    Some(Append {
        author: Some(author),
        ..Append::new(
            Topic::Conversation(*conversation),
            Kind::MessageNew,
            body.clone(),
            IdempotencyKey(key.clone()),
            Digest::of(key.as_bytes()),
            Durability::Durable,
        )
    })
}

/// Each inbox gets its copies one after the other, all inboxes side by side.
async fn copy(store: &Store, members: &Members, due: &[(Entry, u64)]) -> Result<(), StoreError> {
    let mut inboxes: BTreeMap<UserId, Vec<Arc<Copy>>> = BTreeMap::new();
    let copies: Vec<(Arc<Copy>, u64)> = due
        .iter()
        .filter_map(|(entry, version)| Some((Arc::new(Copy::of(entry)?), *version)))
        .collect();
    for (copy, version) in &copies {
        let present = members.at(*version).map(|member| member.user);
        for user in present.chain(copy.gone) {
            inboxes.entry(user).or_default().push(copy.clone());
        }
    }
    stream::iter(inboxes)
        .map(|(user, copies)| {
            let store = store.clone();
            async move {
                for copy in copies {
                    store.append_from_reserve(copy.for_inbox(user)).await?;
                }
                Ok(())
            }
        })
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect()
        .await
}

/// What is the same in every inbox.
struct Copy {
    id: MessageId,
    kind: Kind,
    body: Bytes,
    reference: Bytes,
    /// Who is told, too, though they take part no more: it says so.
    gone: Option<UserId>,
}

impl Copy {
    /// `None` for what is not copied, or cannot be read: the record has it in quarantine.
    fn of(entry: &Entry) -> Option<Self> {
        let mut gone = None;
        let (reference, body) = match entry.kind {
            Kind::MessageNew => {
                let mut body: MessageBody = serde_json::from_slice(&entry.body).ok()?;
                (body.message_id, body.created_at) = (Some(entry.id), Some(entry.at));
                gone = match body.change {
                    Some(
                        ConversationChange::Left { user_id }
                        | ConversationChange::Removed { user_id },
                    ) => Some(user_id),
                    _ => None,
                };
                (reference(entry.id, body.conversation_id), to_json(&body)?)
            }
            Kind::MessageEdited => {
                let mut body: MessageEdited = serde_json::from_slice(&entry.body).ok()?;
                body.edited_at = Some(entry.at);
                (
                    reference(body.message_id, body.conversation_id),
                    to_json(&body)?,
                )
            }
            Kind::MessageDeleted => {
                let mut body: MessageDeleted = serde_json::from_slice(&entry.body).ok()?;
                body.deleted_at = Some(entry.at);
                (
                    reference(body.message_id, body.conversation_id),
                    to_json(&body)?,
                )
            }
            _ => return None,
        };
        Some(Self {
            id: entry.id,
            kind: entry.kind,
            body,
            reference: to_json(&reference)?,
            gone,
        })
    }

    fn for_inbox(&self, user: UserId) -> Append {
        let key = IdempotencyKey(format!("copy:{}:{user}", self.id));
        let digest = Digest::of(self.kind.as_str().as_bytes());
        Append {
            id: Some(self.id),
            persisted: Some(self.reference.clone()),
            ..Append::new(
                Topic::User(user),
                self.kind,
                self.body.clone(),
                key,
                digest,
                Durability::Durable,
            )
        }
    }
}

fn reference(message_id: MessageId, conversation_id: ConversationId) -> CopyReference {
    CopyReference {
        message_id,
        conversation_id,
    }
}

fn to_json(value: &impl serde::Serialize) -> Option<Bytes> {
    serde_json::to_vec(value).ok().map(Bytes::from)
}
