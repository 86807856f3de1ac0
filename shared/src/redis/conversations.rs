//! What conversations have beside their logs: the version by which their participants are judged,
//! who makes copies for inboxes, and signals.

use std::{fmt, sync::Arc, time::Duration};

use fred::types::Value;

use super::{
    bells::write_signal,
    error::StoreError,
    functions::{self, Function},
    keys,
    read::PAGE_BYTES,
    reply,
    store::{Store, texts},
};
use crate::domain::{ConversationId, Entry, NodeId, Partition, Position, Signal, Topic};

/// Most entries that a copier is given at a time.
const ENTRIES: i64 = 64;

/// A process that makes copies: `<node>:<incarnation>`. There is one for a conversation at a time,
/// unless it takes long over a copy; so copies have keys of their own, by which a second one is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Copier(Arc<str>);

impl Copier {
    /// This life of a node.
    pub fn new(node: &NodeId, incarnation: u64) -> Self {
        Self(format!("{node}:{incarnation}").into())
    }
}

impl fmt::Display for Copier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Store {
    /// Tells Redis the version that the record has, where it knows none or an older one.
    pub async fn keep_version(
        &self,
        conversation: ConversationId,
        version: u64,
    ) -> Result<(), StoreError> {
        let (partition, mut args) = self.of_conversation(conversation);
        args.push(version.to_string().into());
        self.call(partition, functions::KEEP_VERSION, args).await?;
        Ok(())
    }

    /// The version that Redis knows and the end of the log, of one instant.
    pub async fn standing(
        &self,
        conversation: ConversationId,
    ) -> Result<(Option<u64>, Position), StoreError> {
        let (partition, args) = self.of_conversation(conversation);
        let answer = self.call(partition, functions::STANDING, args).await?;
        let parts = reply::list(answer)?;
        let [version, end] = parts.as_slice() else {
            return Err(StoreError::unexpected("half an answer to standing"));
        };
        let version = match reply::text(version)? {
            "" => None,
            version => Some(reply::parse_text(version)?),
        };
        Ok((version, reply::parse(end)?))
    }

    /// Publishes a signal, if whoever gives it was judged by the present version; false if not,
    /// or if Redis knows none.
    pub async fn signal(
        &self,
        conversation: ConversationId,
        version: u64,
        signal: &Signal,
    ) -> Result<bool, StoreError> {
        let (partition, mut args) = self.of_conversation(conversation);
        args.extend(texts([&version.to_string(), &write_signal(signal)]));
        let answer = self.call(partition, functions::SIGNAL, args).await?;
        Ok(reply::number(&answer)? == 1)
    }

    /// Everything that is to be copied was, up to here, by this copier. Answers what comes next, in
    /// the order of the log, each with the version whose participants get it: at most 64 entries and
    /// 256 KiB, which outlive the server they are read of. Empty: nothing is left, and the caller is the copier no longer. `None`: somebody
    /// else is by now.
    pub async fn copied(
        &self,
        conversation: ConversationId,
        copier: &Copier,
        upto: Position,
    ) -> Result<Option<Vec<(Entry, u64)>>, StoreError> {
        let more = texts([&copier.to_string(), &upto.to_string()]);
        self.copies(conversation, functions::COPIED, more, ENTRIES)
            .await
    }

    /// As [`Store::copied`], in the middle of what the copier was given: the 5 s begin anew after
    /// which somebody else may take over. False if somebody has.
    pub async fn still_copying(
        &self,
        conversation: ConversationId,
        copier: &Copier,
        upto: Position,
    ) -> Result<bool, StoreError> {
        let more = texts([&copier.to_string(), &upto.to_string()]);
        let answer = self.copies(conversation, functions::COPIED, more, 0).await;
        Ok(answer?.is_some())
    }

    /// Becomes the copier of a conversation in which something is left and nobody copies. Same
    /// answer.
    pub async fn take_over_copies(
        &self,
        conversation: ConversationId,
        copier: &Copier,
    ) -> Result<Option<Vec<(Entry, u64)>>, StoreError> {
        let more = texts([&copier.to_string()]);
        self.copies(conversation, functions::TAKE_OVER, more, ENTRIES)
            .await
    }

    async fn copies(
        &self,
        conversation: ConversationId,
        function: Function,
        more: Vec<Value>,
        most: i64,
    ) -> Result<Option<Vec<(Entry, u64)>>, StoreError> {
        let (partition, mut args) = self.of_conversation(conversation);
        args.extend(more);
        args.push(most.into());
        args.push(PAGE_BYTES.into());
        let answer = self
            .call_settled(partition, function, args, |answer| {
                answer.array_len().is_some_and(|length| length > 0)
            })
            .await?;
        if answer.is_null() {
            return Ok(None);
        }
        let mut values = reply::list(answer)?.into_iter();
        let mut found = Vec::new();
        while let Some(version) = values.next() {
            let entry = values.by_ref().take(5);
            let (entries, _) = reply::entries(Topic::Conversation(conversation), entry)?;
            let version = reply::parse(&version)?;
            found.extend(entries.into_iter().map(|entry| (entry, version)));
        }
        Ok(Some(found))
    }

    /// Conversations of a partition whose oldest entry that is to be copied, and is not, is older
    /// than `age`.
    pub async fn uncopied(
        &self,
        partition: Partition,
        age: Duration,
        most: u32,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let mut args = texts([&keys::tag(partition), &age.as_millis().to_string()]);
        args.push(i64::from(most).into());
        let answer = self.call(partition, functions::UNCOPIED, args).await?;
        reply::list(answer)?.iter().map(reply::parse).collect()
    }

    /// Where a conversation lives, and the arguments that every call about one begins with.
    fn of_conversation(&self, conversation: ConversationId) -> (Partition, Vec<Value>) {
        let partition = self.partition_of(Topic::Conversation(conversation));
        let args = texts([&keys::tag(partition), &conversation.to_string()]);
        (partition, args)
    }
}
