//! How far users' devices have read conversations of which nothing is copied to inboxes.

use fred::types::Value;
use futures_util::future::try_join_all;

use super::{
    error::StoreError,
    functions, keys, reply,
    store::{Store, texts},
};
use crate::domain::{ConversationId, Device, Partition, Position, Topic, UserId};

/// Most confirmations in one call.
const PER_CALL: usize = 100;

/// A device that reads a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConversationReader {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Whose device.
    pub user: UserId,
    /// Which device.
    pub device: Device,
    /// The version of the conversation by which the user joined. Cursors of an earlier time there
    /// count no more.
    pub joined: u64,
}

/// How a conversation stands, and how far a device has read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The version that Redis knows.
    pub version: Option<u64>,
    /// The last position of the log.
    pub head: Position,
    /// Where the last message stands that is in no inbox; [`Position::START`] if none is known.
    pub uncopied: Position,
    /// How far the device has come; `None` if it has no cursor.
    pub own: Option<Position>,
    /// How far the user's furthest device has come.
    pub furthest: Option<Position>,
}

impl Store {
    /// How a conversation stands and how far a device has read it, of one instant.
    pub async fn reading(&self, reader: &ConversationReader) -> Result<Reading, StoreError> {
        let partition = self.partition_of(Topic::Conversation(reader.conversation));
        let args = texts([
            &keys::tag(partition),
            &reader.conversation.to_string(),
            &reader.user.to_string(),
            reader.device.as_str(),
            &reader.joined.to_string(),
        ]);
        let answer = self.call(partition, functions::READING, args).await?;
        let parts = reply::list(answer)?;
        let [version, head, uncopied, own, furthest] = parts.as_slice() else {
            return Err(StoreError::unexpected("half an answer to reading"));
        };
        Ok(Reading {
            version: parse_or_none(version)?,
            head: reply::parse(head)?,
            uncopied: reply::parse(uncopied)?,
            own: parse_or_none(own)?,
            furthest: parse_or_none(furthest)?,
        })
    }

    /// Records how far devices have read, many in one call. What is behind what a device confirmed
    /// before, or of an earlier time of the user in the conversation, is ignored. A reader of which
    /// nothing is heard for two weeks is forgotten.
    pub async fn read_upto(
        &self,
        read: &[(ConversationReader, Position)],
    ) -> Result<(), StoreError> {
        let topics = read
            .iter()
            .map(|(it, _)| Topic::Conversation(it.conversation));
        let groups = self.groups(topics)?;
        let calls = groups
            .iter()
            .flat_map(|group| group.chunks(PER_CALL))
            .map(|group| {
                let of_reader = |(partition, index): &(Partition, usize)| {
                    let (it, position) = &read[*index];
                    texts([
                        &keys::tag(*partition),
                        &it.conversation.to_string(),
                        &it.user.to_string(),
                        it.device.as_str(),
                        &it.joined.to_string(),
                        &position.to_string(),
                    ])
                };
                let args = group.iter().flat_map(of_reader).collect();
                self.call(group[0].0, functions::READ_UPTO, args)
            });
        try_join_all(calls).await?;
        Ok(())
    }
}

fn parse_or_none<T: std::str::FromStr>(value: &Value) -> Result<Option<T>, StoreError> {
    match reply::text(value)? {
        "" => Ok(None),
        text => reply::parse_text(text).map(Some),
    }
}
