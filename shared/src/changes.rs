//! Telling Redis what changed in a conversation.
//!
//! A change is in Postgres first, with a note of what is still to be told. Telling is one append: the
//! system message, and the version by which everybody is judged from then on. Then the note goes.
//! Whoever made the change tells it at once, workers tell what was left; the second time is recognised
//! by its key.

use serde::Deserialize;

use crate::{
    copies::{self, CopyError},
    domain::{Digest, Durability, Entry, Kind, Topic},
    postgres::{PgError, Postgres, UntoldChange},
    redis::{Append, Appended, Author, Copier, Copying, IdempotencyKey, Store, StoreError},
};

/// Why a change was not told. A worker tells it later.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// Redis did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis did not take it as a change.
    #[error("redis refuses a change")]
    Refused,
    /// It was told, but the note of it is still there.
    #[error("cannot remove the note of a change")]
    Note(#[from] PgError),
    /// Those it concerns were not told.
    #[error("cannot tell those whom a change concerns")]
    Concerned(#[from] CopyError),
}

/// What of a system message decides how it is told.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    uncopied: bool,
}

/// Tells a change. Answers its entry, unless it was told before, and who makes copies of it: what
/// follows is for [`crate::copies::Copies::of_appended`].
pub async fn tell(
    store: &Store,
    postgres: &Postgres,
    change: &UntoldChange,
    copier: &Copier,
) -> Result<Option<(Entry, Copying)>, TellError> {
    let UntoldChange {
        conversation,
        version,
        body,
    } = change;
    let (conversation, version) = (*conversation, *version);
    let topic = Topic::Conversation(conversation);
    let head = serde_json::from_str(body).unwrap_or(Head { uncopied: true });
    let append = Append {
        author: Some(Author::Change {
            version,
            copier: (!head.uncopied).then(|| copier.clone()),
        }),
        ..Append::new(
            topic,
            Kind::MessageNew,
            body.clone(),
            IdempotencyKey(format!("change:{conversation}:{version}")),
            Digest::of(body.as_bytes()),
            Durability::Durable,
        )
    };
    let body = append.body.clone();
    // A right that was lost counts also when memory is short.
    let appended = store.append_from_reserve(append).await?;
    let entry_at = |id, position, at| Entry {
        topic,
        position,
        id,
        kind: Kind::MessageNew,
        at,
        body,
    };
    let (entry, copying) = match appended {
        Appended::New {
            id,
            position,
            at,
            copying,
            ..
        } => (Some(entry_at(id, position, at)), Some(copying)),
        Appended::Duplicate { id, position, at } => (Some(entry_at(id, position, at)), None),
        // Under another digest, too: no other change has this key.
        Appended::Conflict { .. } => (None, None),
        Appended::Delivered | Appended::Outdated => return Err(TellError::Refused),
    };
    if let Some(entry) = entry.as_ref().filter(|_| head.uncopied) {
        let members_of = || postgres.conversation_members(conversation);
        copies::of_uncopied_change(store, entry, members_of).await?;
    }
    postgres
        .conversation_change_told(conversation, version)
        .await?;
    Ok(entry.zip(copying))
}
