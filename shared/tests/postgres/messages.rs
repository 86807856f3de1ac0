use shared::{
    domain::*,
    postgres::{ConversationCursor, HistoryFrom, KeptFrom, StoredMessage},
};

use crate::support::*;

const DAY: i64 = 86_400_000;

/// So many messages of ann's over so many days until now, each a second after the other of its day.
async fn said_over_days(
    record: &Record,
    group: ConversationId,
    ann: UserId,
    days: i64,
    each: i64,
) -> Vec<MessageId> {
    let start = now().0 - 60_000;
    let mut ids = Vec::new();
    for day in (0..days).rev() {
        for n in 0..each {
            ids.push(id_at(Timestamp(start - day * DAY + n)));
        }
    }
    let records: Vec<_> = ids
        .iter()
        .zip(1..)
        .map(|(id, n)| message(*id, n, &words(group, ann, &format!("{n}"))))
        .collect();
    record.write(records).await;
    ids
}

impl Record {
    async fn page(
        &self,
        group: ConversationId,
        from: HistoryFrom,
        limit: u32,
    ) -> Vec<StoredMessage> {
        self.postgres.history(group, from, limit).await.unwrap().0
    }

    async fn ids(&self, group: ConversationId, from: HistoryFrom, limit: u32) -> Vec<MessageId> {
        let page = self.page(group, from, limit).await;
        page.into_iter().map(|it| it.id).collect()
    }
}

#[tokio::test]
async fn history_goes_both_ways_over_days_without_gap_or_repetition() {
    let record = Record::new().await;
    let ann = record.registered("ann").await;
    let (group, other) = (record.group(&[ann]).await, record.group(&[ann]).await);
    let ids = said_over_days(&record, group, ann, 5, 7).await;
    said_over_days(&record, other, ann, 6, 3).await;
    let mut back = Vec::new();
    let mut from = HistoryFrom::Newest;
    loop {
        let page = record.ids(group, from, 4).await;
        let Some(last) = page.last() else { break };
        from = HistoryFrom::Before(*last);
        back.extend(page);
    }
    back.reverse();
    assert_eq!(back, ids);
    let mut forth = vec![ids[0]];
    loop {
        let page = record
            .ids(group, HistoryFrom::After(*forth.last().unwrap()), 4)
            .await;
        if page.is_empty() {
            break;
        }
        forth.extend(page);
    }
    assert_eq!(forth, ids);
    // While others write, a page stays what it was.
    let from = HistoryFrom::Before(ids[20]);
    let before = record.ids(group, from, 10).await;
    let (new, last) = (id_at(now()), ids.len() as u64);
    record
        .write(vec![message(new, last + 1, &words(group, ann, "new"))])
        .await;
    assert_eq!(record.ids(group, from, 10).await, before);
    assert_eq!(record.ids(group, HistoryFrom::Newest, 1).await, [new]);
    let (_, written) = record.postgres.history(group, from, 1).await.unwrap();
    assert_eq!(written, at(last + 1));
    let nowhere = record
        .postgres
        .history(ConversationId(ann.0), from, 1)
        .await
        .unwrap();
    assert_eq!((nowhere.0.len(), nowhere.1), (0, Position::START));
}

#[tokio::test]
async fn a_page_touches_the_days_it_comes_from_and_an_index() {
    let record = Record::new().await;
    let ann = record.registered("ann").await;
    let group = record.group(&[ann]).await;
    let ids = said_over_days(&record, group, ann, 20, 10).await;
    let touched = async |question: &str| {
        let sql = format!(
            "BEGIN; SELECT FROM {question}; \
             SELECT relname, seq_scan, coalesce(idx_scan, 0) FROM pg_stat_xact_user_tables \
             WHERE relname LIKE 'messages_2%' AND (seq_scan > 0 OR idx_scan > 0) ORDER BY 1; \
             SELECT 'locked', count(DISTINCT c.relname) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
             WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname LIKE 'messages_2%'; COMMIT"
        );
        let rows = record.database.query(&sql).await;
        let rows = rows
            .into_iter()
            .filter(|row| !row.is_empty() && row[0].len() > 5);
        rows.map(|row| row.join(" ")).collect::<Vec<_>>()
    };
    let day = |id: MessageId| {
        let day = Timestamp((id.0.as_u128() >> 80) as i64)
            .to_datetime()
            .date();
        day.to_string().replace('-', "")
    };
    // The connection of a test may scan; what decides is which tables.
    for of in [199, 157, 18] {
        let question = format!(
            "messages_between('{group}', '{}', '{}', true, 5)",
            uuid::Uuid::nil(),
            ids[of]
        );
        let rows = touched(&format!("{question} LIMIT 5")).await;
        let name = format!("messages_{}", day(ids[of]));
        assert!(rows[0].starts_with(&name), "{rows:?}");
        assert_eq!(rows[1..], ["locked 1"], "{rows:?}");
    }
    let rows = touched(&format!("message_of('{}')", ids[3])).await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(
        rows[0].starts_with(&format!("messages_{} 0 1", day(ids[3]))),
        "{rows:?}"
    );

    // And in each of these tables the page is a stretch of an index.
    for (question, index) in [
        (
            "SELECT * FROM {} WHERE conversation_id = $1 AND id > $2 AND id < $3 AND sender_id IS NOT NULL \
             ORDER BY conversation_id DESC, id DESC LIMIT $4",
            "conversation_id_id_idx",
        ),
        (
            "SELECT * FROM {} WHERE conversation_id = $1 AND id > $2 AND sender_id <> $3 \
             AND sender_type <> 'SYSTEM' AND deleted_at IS NULL ORDER BY conversation_id, id LIMIT $4",
            "conversation_id_id_idx",
        ),
        (
            "SELECT * FROM {} WHERE conversation_id = $1 AND (epoch, \"offset\") > (1, 1) AND id > $2 AND id < $3 \
             ORDER BY conversation_id, epoch, \"offset\" LIMIT $4",
            "conversation_id_epoch_offset_idx",
        ),
    ] {
        let question = question.replace("{}", &format!("messages_{}", day(ids[0])));
        let arguments = format!("'{group}', '{}', '{}', 5", ids[0], ids[9]);
        let plan = record
            .plan(&question, "uuid, uuid, uuid, bigint", &arguments)
            .await;
        assert!(plan.contains(index) && !plan.contains("Sort"), "{plan}");
    }
}

#[tokio::test]
async fn a_message_reads_as_it_was_changed_last() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let group = record.group(&[ann, bob]).await;
    let ids: Vec<_> = (0..4).map(|_| id_at(now())).collect();
    let mut said = words(group, ann, "say \"hi\"\\\n\u{1f331}");
    said.files.push(FileRef {
        hash: "ab".into(),
        filename: "x \"y\".png".into(),
    });
    said.uncopied = true;
    said.sealed = Some("k1".into());
    let mut change = words(group, ann, "");
    change.sender_type = SenderType::System;
    change.message_type = MessageType::System;
    change.change = Some(ConversationChange::Renamed { title: "x".into() });
    record
        .write(vec![
            message(ids[0], 1, &said),
            message(ids[1], 2, &words(group, bob, "old")),
            message(ids[2], 3, &words(group, ann, "bad")),
            message(ids[3], 4, &change),
            edited(ids[1], id_at(now()), 5, &words(group, bob, "new")),
            gone(group, ids[2], bob, id_at(now()), 6),
        ])
        .await;
    let json = |body: &MessageBody| serde_json::to_string(body).unwrap();
    let found = record
        .page(group, HistoryFrom::After(MessageId(uuid::Uuid::nil())), 10)
        .await;
    assert_eq!(found.iter().map(|it| it.id).collect::<Vec<_>>(), ids);
    assert_eq!(json(&found[0].body), json(&said));
    assert_eq!(json(&found[3].body), json(&change));
    assert_eq!(found[0].position, at(1));
    assert!(found[0].edited_at.is_none() && found[0].created_at <= now());
    assert_eq!(
        (found[1].body.content.as_str(), found[1].changed_by),
        ("new", Some(bob))
    );
    assert!(found[1].edited_at.is_some());
    assert_eq!(
        (found[2].body.content.as_str(), found[2].changed_by),
        ("", Some(bob))
    );
    assert!(found[2].deleted_at.is_some() && found[2].edited_at.is_none());
    let one = record.postgres.message(ids[1]).await.unwrap().unwrap();
    assert_eq!(json(&one.body), json(&found[1].body));
    assert!(
        record
            .postgres
            .message(id_at(now()))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        record
            .postgres
            .message(id_at(Timestamp(DAY)))
            .await
            .unwrap()
            .is_none()
    );

    // As a log: what was deleted is not told.
    let log = record
        .postgres
        .messages_between(group, Position::START, Position::END, 10);
    let log = log.await.unwrap();
    let places: Vec<_> = log.iter().map(|it| (it.id, it.position)).collect();
    assert_eq!(places, [(ids[0], at(1)), (ids[1], at(2)), (ids[3], at(4))]);
    assert_eq!(log[0].body, json(&said));
    let some = record
        .postgres
        .messages_between(group, at(1), at(4), 10)
        .await
        .unwrap();
    assert_eq!(some.iter().map(|it| it.id).collect::<Vec<_>>(), [ids[1]]);
    let first = record
        .postgres
        .messages_between(group, Position::START, Position::END, 1);
    assert_eq!(first.await.unwrap().len(), 1);
}

#[tokio::test]
async fn unread_are_messages_of_others_behind_what_was_read() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let group = record.group(&[ann, bob]).await;
    let ids = said_over_days(&record, group, ann, 3, 2).await;
    let unread = async |user| {
        let found = record.postgres.conversation(group, user, 10).await.unwrap();
        found.unwrap().unread
    };
    // What is from before they came is not theirs to read.
    assert_eq!((unread(ann).await, unread(bob).await), (0, 2));
    record
        .database
        .query("UPDATE conversation_participants SET since = uuid_at(now() - interval '30 d')")
        .await;
    assert_eq!((unread(ann).await, unread(bob).await), (0, 6));
    assert_eq!(unread(user()).await, 0);
    let mut system = words(group, ann, "");
    system.sender_type = SenderType::System;
    record
        .write(vec![
            upto(group, Kind::MessageRead, bob, ids[1], 7),
            message(id_at(now()), 8, &system),
            gone(group, ids[5], ann, id_at(now()), 9),
            message(id_at(now()), 10, &words(group, bob, "mine")),
        ])
        .await;
    assert_eq!((unread(ann).await, unread(bob).await), (1, 3));
    record
        .write(vec![upto(group, Kind::MessageRead, bob, ids[5], 11)])
        .await;
    assert_eq!(unread(bob).await, 0);
}

#[tokio::test]
async fn unread_messages_are_counted_up_to_a_thousand() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let group = record.group(&[ann, bob]).await;
    record
        .database
        .query("UPDATE conversation_participants SET since = uuid_at(now() - interval '30 d')")
        .await;
    said_over_days(&record, group, ann, 3, 400).await;
    let found = record.postgres.conversation(group, bob, 10).await.unwrap();
    assert_eq!(found.unwrap().unread, 1000);
}

#[tokio::test]
async fn conversations_are_listed_by_what_was_said_last() {
    let record = Record::new().await;
    let (ann, bob) = (
        record.registered("ann").await,
        record.registered("bob").await,
    );
    let mut groups = Vec::new();
    for n in 0..5 {
        let group = record.group(&[ann, bob]).await;
        let id = id_at(Timestamp(now().0 - 10_000 + n * 1000));
        record
            .write(vec![message(id, 1, &words(group, ann, &format!("{n}")))])
            .await;
        groups.push(group);
    }
    record.group(&[bob]).await;
    groups.reverse();
    let list = async |after: Option<ConversationCursor>, limit| {
        record
            .postgres
            .conversations_of(ann, after, limit, 1)
            .await
            .unwrap()
    };
    let all = list(None, 10).await;
    assert_eq!(all.iter().map(|it| it.id).collect::<Vec<_>>(), groups);
    let first = &all[0];
    assert_eq!(first.last_message.as_ref().unwrap().body.content, "4");
    assert_eq!(
        (first.title.as_deref(), first.created_by),
        (Some("garden"), ann)
    );
    assert_eq!((first.participants.len(), first.participant_count), (1, 2));
    assert_eq!(
        (first.version, first.is_archived, first.written),
        (1, false, at(1))
    );
    assert_eq!(
        (
            first.participants[0].username.as_str(),
            first.participants[0].last_read
        ),
        ("ann", None)
    );
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = list(after, 2).await;
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        pages.extend(page.iter().map(|it| it.id));
        // What was seen already becomes active and does not come again.
        let again = message(
            id_at(Timestamp(now().0 + 5000)),
            2,
            &words(groups[0], bob, "again"),
        );
        record.write(vec![again]).await;
    }
    assert_eq!(pages, groups);
    let ids = record
        .postgres
        .conversation_ids_of(ann, None, 10)
        .await
        .unwrap();
    let mut sorted = groups.clone();
    sorted.sort_unstable();
    assert_eq!(ids, sorted);
    let rest = record
        .postgres
        .conversation_ids_of(ann, Some(sorted[2]), 10)
        .await;
    assert_eq!(rest.unwrap(), sorted[3..]);
}

#[tokio::test]
async fn messages_have_a_retention_of_their_own() {
    let record = Record::new().await;
    let ann = record.registered("ann").await;
    let group = record.group(&[ann]).await;
    let ids = said_over_days(&record, group, ann, 4, 1).await;
    let today = now().to_datetime().date();
    let (yesterday, before) = (today - time::Duration::DAY, today - 2 * time::Duration::DAY);
    let kept = |messages| KeptFrom {
        record: yesterday,
        messages,
    };
    let all = async || record.ids(group, HistoryFrom::Newest, 10).await.len();
    let look = record
        .postgres
        .droppable_partitions(kept(None))
        .await
        .unwrap();
    let done = record
        .postgres
        .drop_partitions_before(kept(None))
        .await
        .unwrap();
    assert_eq!(look, done);
    assert!(!done.dropped.is_empty() && done.dropped.iter().all(|it| !it.starts_with("messages")));
    assert_eq!(all().await, 4);
    let done = record
        .postgres
        .drop_partitions_before(kept(Some(before)))
        .await
        .unwrap();
    assert!(!done.dropped.is_empty() && done.dropped.iter().all(|it| it.starts_with("messages")));
    assert_eq!(all().await, 3);
    assert_eq!(
        record
            .database
            .count("SELECT count(*) FROM conversation_days")
            .await,
        3
    );
    // What is told of one that is gone is nothing, and nobody is in the way of others.
    let left = record
        .begin(vec![
            edited(ids[0], id_at(now()), 5, &words(group, ann, "late")),
            gone(group, ids[0], ann, id_at(now()), 6),
            message(id_at(now()), 7, &words(group, ann, "new")),
        ])
        .await
        .unwrap();
    assert_eq!(left.buried, []);
    left.commit().await.unwrap();
    assert_eq!(all().await, 4);
    assert!(record.postgres.message(ids[0]).await.unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_goes_to_quarantine_and_the_rest_is_written() {
    let record = Record::new().await;
    let ann = record.registered("ann").await;
    let (group, other) = (record.group(&[ann]).await, record.group(&[ann]).await);
    let fine = id_at(now());
    let nowhere = MessageReceipt {
        conversation_id: group,
        message_ids: None,
        up_to: None,
        user_id: ann,
    };
    let future = id_at(Timestamp(now().0 + 2 * DAY));
    let pending = record
        .begin(vec![
            said(
                other,
                Kind::MessageNew,
                id_at(now()),
                1,
                &words(group, ann, "astray"),
            ),
            said(group, Kind::MessageRead, id_at(now()), 1, &nowhere),
            said(
                group,
                Kind::CommandNew,
                id_at(now()),
                2,
                &words(group, ann, "odd"),
            ),
            edited(future, id_at(now()), 3, &words(group, ann, "odd")),
            message(id_at(now()), 4, &words(group, ann, "nul \0")),
            message(fine, 5, &words(group, ann, "fine")),
        ])
        .await
        .unwrap();
    assert_eq!(pending.buried.len(), 5, "{:?}", pending.buried);
    pending.commit().await.unwrap();
    assert_eq!(record.ids(group, HistoryFrom::Newest, 10).await, [fine]);
}
