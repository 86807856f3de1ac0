//! In whatever order, and however often, what is told of a message is written: the rows are the same.

use std::collections::HashMap;

use shared::domain::*;

use crate::{order::orders, support::*};

/// A message, what became of it, and who has read it.
struct Story {
    group: ConversationId,
    ann: UserId,
    bob: UserId,
    id: MessageId,
    start: Timestamp,
}

impl Story {
    async fn begin(record: &Record, ann: UserId, bob: UserId, start: Timestamp) -> Self {
        Self {
            group: record.group(&[ann, bob]).await,
            ann,
            bob,
            id: id_at(start),
            start,
        }
    }

    fn later(&self, ms: i64) -> MessageId {
        id_at(Timestamp(self.start.0 + ms))
    }

    fn new_at(&self, offset: u64) -> PersistRecord {
        let mut body = words(self.group, self.ann, "one");
        body.files.push(FileRef {
            hash: "ab".into(),
            filename: "x.png".into(),
        });
        message(self.id, offset, &body)
    }

    fn edit(&self, offset: u64, text: &str) -> PersistRecord {
        let body = words(self.group, self.ann, text);
        edited(self.id, self.later(offset as i64), offset, &body)
    }

    fn delete(&self, offset: u64, by: UserId) -> PersistRecord {
        gone(self.group, self.id, by, self.later(offset as i64), offset)
    }

    fn read(&self, kind: Kind, offset: u64) -> PersistRecord {
        upto(self.group, kind, self.bob, self.id, offset)
    }
}

/// Everything about each conversation with a message, with times as distances from the start.
async fn rows(record: &Record, story: &Story) -> HashMap<ConversationId, String> {
    let since = |column| {
        let start = story.start.0;
        format!("coalesce(round(extract(epoch FROM {column}) * 1000 - {start})::text, '-')")
    };
    let sql = format!(
        "SELECT c.id, content, files <> '[]', m.\"offset\", changed_offset, changed_by = '{}', {}, {}, {}, \
             last_message = m.id, c.\"offset\", {}, \
             (SELECT count(*) FROM conversation_days d WHERE d.conversation_id = c.id), \
             coalesce(last_read = m.id, false), coalesce(last_delivered = m.id, false) \
         FROM conversations c JOIN messages m ON m.conversation_id = c.id \
         JOIN conversation_participants p ON p.conversation_id = c.id AND p.user_id = '{}'",
        story.ann,
        since("m.created_at"),
        since("edited_at"),
        since("deleted_at"),
        since("active_at"),
        story.bob,
    );
    let rows = record.database.query(&sql).await;
    rows.into_iter()
        .map(|mut row| (row.remove(0).parse().unwrap(), row.join(" ")))
        .collect()
}

/// Writes each story's records in every order, all stories side by side; then all of it once more in
/// one transaction, the other way round.
async fn in_any_order<const N: usize>(
    record: &Record,
    start: Timestamp,
    tell: impl Fn(&Story) -> [PersistRecord; N],
    expected: &str,
) {
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let mut stories = Vec::new();
    let places: Vec<usize> = (0..N).collect();
    for order in orders(&places) {
        let story = Story::begin(record, ann, bob, start).await;
        let all = tell(&story);
        let records: Vec<_> = order.iter().map(|it| all[*it].clone()).collect();
        stories.push((story, order, records));
    }
    for step in 0..N {
        let records = stories.iter().map(|(.., records)| records[step].clone());
        record.write(records.collect()).await;
    }
    for again in ["", "once more"] {
        let found = rows(record, &stories[0].0).await;
        for (story, order, _) in &stories {
            assert_eq!(found[&story.group], expected, "{order:?} {again}");
        }
        let records = stories
            .iter()
            .flat_map(|(.., records)| records.iter().rev());
        record.write(records.cloned().collect()).await;
    }
}

#[tokio::test]
async fn a_message_its_edits_and_receipts_may_come_in_any_order() {
    let record = Record::new().await;
    let tell = |story: &Story| {
        [
            story.new_at(1),
            story.edit(2, "two"),
            story.edit(3, "three"),
            story.read(Kind::MessageDelivered, 4),
            story.read(Kind::MessageRead, 5),
        ]
    };
    let start = Timestamp(now().0 - 60_000);
    let expected = "three t 1 3 t 0 3 - t 5 0 1 t t";
    in_any_order(&record, start, tell, expected).await;
}

#[tokio::test]
async fn what_was_deleted_stays_deleted_and_nothing_of_it_is_left() {
    let record = Record::new().await;
    let tell = |story: &Story| {
        [
            story.new_at(1),
            story.edit(2, "two"),
            story.delete(3, story.ann),
            // By somebody who did not know it yet.
            story.delete(4, story.bob),
            story.edit(5, "five"),
        ]
    };
    let start = Timestamp(now().0 - 60_000);
    let expected = " f 1 3 t 0 - 3 t 5 0 1 f f";
    in_any_order(&record, start, tell, expected).await;
    let left = "SELECT count(*) FROM messages WHERE content <> '' OR files <> '[]'";
    assert_eq!(record.database.count(left).await, 0);
}

#[tokio::test]
async fn a_message_that_redis_lost_and_took_again_keeps_its_edit() {
    let record = Record::new().await;
    let tell = |story: &Story| {
        [
            story.new_at(1),
            story.edit(2, "two"),
            story.new_at(1_000_001),
        ]
    };
    let expected = "two t 1000001 2 t 0 2 - t 1000001 0 1 f f";
    in_any_order(&record, now(), tell, expected).await;
}

#[tokio::test]
async fn nothing_is_written_into_a_message_of_another_conversation() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let story = Story::begin(&record, ann, bob, now()).await;
    record.write(vec![story.new_at(1)]).await;
    let before = rows(&record, &story).await;
    let other = record.group(&[bob]).await;
    let (said, id) = (words(other, bob, "mine"), story.later(9));
    record
        .write(vec![
            edited(story.id, id, 1, &said),
            gone(other, story.id, bob, story.later(10), 2),
            message(story.id, 3, &said),
        ])
        .await;
    assert_eq!(rows(&record, &story).await, before);
}
