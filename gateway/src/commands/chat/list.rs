//! Conversations as a participant sees them: as the record has them, and over that whatever stands
//! in their logs behind the place up to which it has them.

use std::sync::Arc;

use serde::Serialize;
use shared::{
    domain::{
        Code, ConversationId, ConversationType, Entry, Kind, MessageBody, MessageId,
        MessageReceipt, ParticipantRole, Refusal, SenderType, Timestamp, Topic, UserId,
    },
    postgres::{ConversationCursor, ConversationRecord, LowestPointers, Participant},
};

use super::history::{self, MessageView};
use crate::{
    app::{App, conversations::participant},
    fanout::{postgres_refusal, store_refusal},
};

/// Most participants that are told of each conversation in a list, and of one.
const IN_LIST: u32 = 20;
const OF_ONE: u32 = 1_000;

/// A conversation for one of its participants.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConversationView {
    /// Which.
    pub id: ConversationId,
    /// What sort.
    #[serde(rename = "type")]
    pub kind: ConversationType,
    /// What people call it.
    pub title: Option<String>,
    /// Who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// Whether it can be read only.
    pub is_archived: bool,
    /// Who takes part; not all where they are many.
    pub participants: Vec<ParticipantView>,
    /// How many take part.
    pub participant_count: u32,
    /// Messages of others that the participant has not read; 1000 stands for more, too.
    pub unread_count: u32,
    /// What was said last.
    pub last_message: Option<MessageView>,
}

/// Who takes part.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantView {
    /// Who.
    pub user_id: UserId,
    /// The name they log in with.
    pub username: String,
    /// What they may do.
    pub role: ParticipantRole,
    /// Since when.
    pub joined_at: Timestamp,
    /// The last message they have read.
    pub last_read_message_id: Option<MessageId>,
}

impl From<Participant> for ParticipantView {
    fn from(participant: Participant) -> Self {
        Self {
            user_id: participant.user,
            username: participant.username,
            role: participant.role,
            joined_at: participant.joined_at,
            last_read_message_id: participant.last_read,
        }
    }
}

/// A conversation, for somebody who takes part in it.
pub async fn one(
    app: &Arc<App>,
    user: UserId,
    id: ConversationId,
) -> Result<ConversationView, Refusal> {
    let members = app.conversations.read_again(id).await?;
    participant(&members, user)?;
    let record = app.postgres.conversation(id, user, OF_ONE).await;
    let record = record.map_err(|error| postgres_refusal(&error))?;
    let record =
        record.ok_or_else(|| Refusal::new(Code::NotFound, "there is no such conversation"))?;
    let mut views = present(app, user, vec![record]).await?;
    views
        .pop()
        .ok_or_else(|| Refusal::new(Code::Internal, "internal error"))
}

/// Some of the conversations that a user takes part in, those first in which something was said last;
/// and where the list goes on.
pub async fn page(
    app: &Arc<App>,
    user: UserId,
    after: Option<ConversationCursor>,
    limit: u32,
) -> Result<(Vec<ConversationView>, Option<ConversationCursor>), Refusal> {
    let records = app
        .postgres
        .conversations_of(user, after, limit + 1, IN_LIST)
        .await;
    let mut records = records.map_err(|error| postgres_refusal(&error))?;
    let has_more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let next = records
        .last()
        .filter(|_| has_more)
        .map(ConversationRecord::cursor);
    Ok((present(app, user, records).await?, next))
}

async fn present(
    app: &Arc<App>,
    user: UserId,
    records: Vec<ConversationRecord>,
) -> Result<Vec<ConversationView>, Refusal> {
    let topics: Vec<Topic> = records
        .iter()
        .map(|record| Topic::Conversation(record.id))
        .collect();
    // One question for all of them; the record is hardly ever behind.
    let heads = app.store.heads(&topics).await;
    let heads = heads.map_err(|error| store_refusal(&error))?;
    let mut views = Vec::with_capacity(records.len());
    for (record, head) in records.into_iter().zip(heads) {
        let mut news = Vec::new();
        if head > record.written {
            let read = history::behind(app, record.id, record.written, true).await?;
            news = read.unwrap_or_default();
        }
        views.push(view(app, user, record, &news));
    }
    Ok(views)
}

fn view(app: &App, user: UserId, record: ConversationRecord, news: &[Entry]) -> ConversationView {
    let (unread, read_upto) = (record.unread, record.read_upto);
    // Of the last message it is told what was said; how far it has come, history tells.
    let pointers = LowestPointers::default();
    let last = record
        .last_message
        .map(|message| history::of_record(app, message, &pointers));
    let newest = last.as_ref().map(|message| message.id);
    let mut found = last.into_iter().map(|last| (last.id, last)).collect();
    for entry in news {
        history::lay_over(
            app,
            &mut found,
            entry,
            shared::postgres::HistoryFrom::Newest,
            &pointers,
        );
    }
    ConversationView {
        id: record.id,
        kind: record.kind,
        title: record.title,
        created_by: record.created_by,
        created_at: record.created_at,
        is_archived: record.is_archived,
        participants: record.participants.into_iter().map(Into::into).collect(),
        participant_count: record.participant_count,
        unread_count: count(user, unread, read_upto, newest, news),
        last_message: found.pop_last().map(|(_, message)| message),
    }
}

/// Unread messages: those that the record counts, unless the user has read past all of them since,
/// and those that came since.
fn count(
    user: UserId,
    unread: u32,
    read_upto: MessageId,
    newest: Option<MessageId>,
    news: &[Entry],
) -> u32 {
    let receipts = news.iter().filter(|entry| entry.kind == Kind::MessageRead);
    let receipts = receipts.filter_map(|entry| {
        let receipt: MessageReceipt = serde_json::from_slice(&entry.body).ok()?;
        receipt.furthest().filter(|_| receipt.user_id == user)
    });
    let upto = receipts.max().map_or(read_upto, |it| it.max(read_upto));
    let of_record = if Some(upto) >= newest { 0 } else { unread };
    let since = news.iter().filter(|entry| {
        entry.kind == Kind::MessageNew
            && entry.id > upto
            && serde_json::from_slice::<MessageBody>(&entry.body)
                .is_ok_and(|body| body.sender_id != user && body.sender_type != SenderType::System)
    });
    of_record + since.count() as u32
}

#[cfg(test)]
mod tests {
    use shared::domain::{MessageType, Position};
    use uuid::Uuid;

    use super::*;

    const CONVERSATION: ConversationId = ConversationId(Uuid::nil());

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn id(n: u128) -> MessageId {
        MessageId(Uuid::from_u128(n))
    }

    fn entry(n: u128, kind: Kind, body: &impl Serialize) -> Entry {
        Entry {
            topic: Topic::Conversation(CONVERSATION),
            position: Position {
                epoch: 1,
                offset: n as u64,
            },
            id: id(n),
            kind,
            at: Timestamp(0),
            body: serde_json::to_vec(body).unwrap().into(),
        }
    }

    fn said(n: u128, sender: UserId) -> Entry {
        let body = MessageBody {
            message_id: None,
            created_at: None,
            conversation_id: CONVERSATION,
            sender_id: sender,
            sender_name: String::new(),
            sender_type: SenderType::User,
            content: String::new(),
            sealed: None,
            message_type: MessageType::Text,
            files: Vec::new(),
            uncopied: false,
            change: None,
        };
        entry(n, Kind::MessageNew, &body)
    }

    fn read(n: u128, upto: u128, reader: UserId) -> Entry {
        let body = MessageReceipt {
            conversation_id: CONVERSATION,
            message_ids: None,
            up_to: Some(id(upto)),
            user_id: reader,
        };
        entry(n, Kind::MessageRead, &body)
    }

    #[test]
    fn what_the_record_does_not_have_yet_counts() {
        let (me, other) = (user(1), user(2));
        let unread = |news: &[Entry]| count(me, 3, id(10), Some(id(20)), news);
        assert_eq!(unread(&[]), 3);
        assert_eq!(unread(&[said(21, other), said(22, me), said(23, other)]), 5);
        assert_eq!(unread(&[read(21, 20, other)]), 3, "somebody else's");
        assert_eq!(unread(&[read(21, 20, me)]), 0);
        assert_eq!(
            unread(&[said(21, other), read(22, 21, me), said(23, other)]),
            1
        );
    }
}
