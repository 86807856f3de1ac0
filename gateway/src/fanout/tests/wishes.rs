//! Sockets that follow queues and listen to conversations, without servers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use shared::{
    domain::{
        ConversationId, Entry, Kind, MessageId, Position, Queue, SessionId, Signal, SignalKind,
        Timestamp, Topic, UserId,
    },
    redis::BellEvent,
};
use uuid::Uuid;

use super::{Pipe, entry};
use crate::{
    dialect::{AckMode, DialectId, Feed, Interest, Messages},
    fanout::{
        Batch, Notice, Outbox, OutboxLimits, Reveal, SharedEntry, Taken,
        chosen::Begun,
        hub::Hub,
        item::{Happening, SharedSignal},
        line::Written,
        outbox::{Offered, Then},
        place::Mode,
        testing::member_of,
        topic::{Advance, Effects},
    },
};

const LIMITS: OutboxLimits = OutboxLimits {
    frames: 4,
    bytes: 10_000,
    window: 6,
};
const GROUP: ConversationId = ConversationId(Uuid::from_u128(77));
const ALL: Interest = Interest::Conversation {
    id: Some(GROUP),
    messages: Messages::All,
};
const RECEIPTS: Interest = Interest::Conversation {
    id: Some(GROUP),
    messages: Messages::Uncopied,
};

fn at(offset: u64) -> Position {
    Position { epoch: 1, offset }
}

fn user(number: u128) -> UserId {
    UserId(Uuid::from_u128(number))
}

fn socket_of(number: u128, by_queue: bool) -> Arc<Outbox> {
    socket_in(DialectId::Json, number, by_queue)
}

fn socket_in(dialect: DialectId, number: u128, by_queue: bool) -> Arc<Outbox> {
    let outbox = Outbox::of(LIMITS, dialect, by_queue);
    let member = member_of(user(number), SessionId(Uuid::from_u128(number)));
    outbox.set_member(member).unwrap();
    outbox
}

fn said(offset: u64, fields: &str) -> Entry {
    Entry {
        topic: Topic::Conversation(GROUP),
        kind: Kind::MessageNew,
        body: format!(r#"{{"content":"{}"{fields}}}"#, at(offset)).into(),
        ..entry(at(offset))
    }
}

fn removed(offset: u64, who: UserId) -> Entry {
    said(
        offset,
        &format!(r#","change":{{"what":"removed","userId":"{who}"}}"#),
    )
}

/// Takes everything queued: the texts of frames, and what else there was.
fn take_all(outbox: &Outbox) -> (Vec<String>, Vec<Notice>) {
    let (mut texts, mut notices) = (Vec::new(), Vec::new());
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let mut batch = Batch::new();
        let taken = outbox.poll_batch(&mut cx, &mut batch);
        let pipe = Pipe::default();
        pipe.write_all(batch);
        texts.extend(pipe.texts());
        match taken {
            Poll::Ready(Taken::Notice(notice)) => notices.push(notice),
            Poll::Ready(Taken::Frames(_)) => {}
            Poll::Ready(Taken::Close(_)) | Poll::Pending => return (texts, notices),
        }
    }
}

/// The positions that frames of entries name in their contents.
fn offsets(texts: &[String]) -> Vec<u64> {
    let offset = |text: &String| {
        let content = text.split(r#""content":"1:"#).nth(1)?;
        content.split('"').next()?.parse().ok()
    };
    texts.iter().filter_map(offset).collect()
}

/// A conversation on a node, whose log is at 1:0.
struct Group {
    hub: Hub,
}

impl Group {
    fn new() -> Self {
        let hub = Hub::new();
        hub.pin(Topic::Conversation(GROUP));
        Self { hub }
    }

    /// A socket that hears everything from here on.
    fn listener(
        &self,
        number: u128,
        wishes: &[(Interest, &'static str)],
        head: u64,
    ) -> Arc<Outbox> {
        let outbox = socket_of(number, false);
        outbox.go_live(at(0));
        for (interest, address) in wishes {
            let address = (!address.is_empty()).then(|| Bytes::from_static(address.as_bytes()));
            outbox.wish(*interest, address).unwrap();
        }
        self.begin(&outbox, head);
        outbox
    }

    /// A socket that reads from here on, whose right was judged at `head`.
    fn reader(&self, number: u128, interest: Interest, from: u64, head: u64) -> Arc<Outbox> {
        let outbox = socket_of(number, false);
        outbox.go_live(at(0));
        outbox.wish(interest, None).unwrap();
        let topic = Topic::Conversation(GROUP);
        assert!(self.hub.listen(GROUP, &outbox));
        self.hub
            .learn_head(topic, at(head), None, &mut Effects::default());
        outbox.set_begun(GROUP, Begun::at(at(head), 1));
        outbox.begin(Feed::Conversation(GROUP), at(from));
        self.hub.advance(topic, &outbox, Feed::Conversation(GROUP));
        outbox
    }

    fn begin(&self, outbox: &Arc<Outbox>, head: u64) {
        let topic = Topic::Conversation(GROUP);
        assert!(self.hub.listen(GROUP, outbox));
        self.hub
            .learn_head(topic, at(head), None, &mut Effects::default());
        outbox.begin(Feed::Conversation(GROUP), at(head));
        let advance = self.hub.advance(topic, outbox, Feed::Conversation(GROUP));
        assert_eq!(advance, Advance::Done);
    }

    fn hear(&self, entries: impl IntoIterator<Item = Entry>) {
        let events = entries.into_iter().map(BellEvent::Entry);
        self.hub.hear(events, &mut Effects::default());
    }
}

fn lost(entries: Option<Messages>, typing: bool) -> Vec<Notice> {
    vec![Notice::Unsubscribed {
        conversation: GROUP,
        entries,
        typing,
    }]
}

#[test]
fn who_is_removed_hears_that_and_nothing_after_it() {
    let group = Group::new();
    let anna = group.listener(1, &[(ALL, "")], 0);
    let ben = group.listener(2, &[(ALL, "")], 0);
    let all = [said(1, ""), removed(2, user(1)), said(3, "")];
    group.hear(all);
    let (texts, notices) = take_all(&anna);
    assert_eq!(offsets(&texts), [1, 2]);
    assert_eq!(notices, lost(Some(Messages::All), true));
    let (texts, notices) = take_all(&ben);
    assert_eq!(offsets(&texts), [1, 2, 3]);
    assert_eq!(notices, []);
    assert!(anna.conversations().is_empty());
}

#[test]
fn an_archived_conversation_has_no_listeners_any_more() {
    let group = Group::new();
    let anna = group.listener(1, &[(ALL, "")], 0);
    let mut effects = Effects::default();
    let archived = said(1, r#","change":{"what":"archived"}"#);
    let events = [archived, said(2, "")].map(BellEvent::Entry);
    group.hub.hear(events, &mut effects);
    let (texts, notices) = take_all(&anna);
    assert_eq!(offsets(&texts), [1]);
    assert_eq!(notices.len(), 1);
    assert_eq!(effects.unused, [Topic::Conversation(GROUP)]);
}

#[test]
fn whoever_is_behind_when_the_right_is_lost_is_not_brought_what_follows() {
    let group = Group::new();
    let anna = group.listener(1, &[(ALL, "")], 0);
    group.hear((1..=4).map(|offset| said(offset, "")));
    group.hear([said(5, "")]);
    assert_eq!(anna.mode(Feed::Conversation(GROUP)), Mode::Behind);
    group.hear([removed(6, user(1)), said(7, "")]);
    let (texts, notices) = take_all(&anna);
    assert_eq!(offsets(&texts), [1, 2, 3, 4]);
    assert_eq!(notices, lost(Some(Messages::All), true));
    anna.drained(0);
    assert_eq!(take_all(&anna), (vec![], vec![]));
}

#[test]
fn whoever_wants_all_is_looked_at_again_when_a_right_is_lost() {
    let group = Group::new();
    let all = Interest::Conversation {
        id: None,
        messages: Messages::All,
    };
    let _anna = group.listener(1, &[(all, "")], 0);
    let _ben = group.listener(2, &[(ALL, "")], 0);
    let mut effects = Effects::default();
    let events = [removed(1, user(1)), removed(2, user(2))].map(BellEvent::Entry);
    group.hub.hear(events, &mut effects);
    // Brought in again meanwhile, anna's log has told so already; ben has to ask.
    assert_eq!(effects.admitted, [(user(1), GROUP)]);
}

#[test]
fn what_is_read_ends_where_the_right_does() {
    let group = Group::new();
    let anna = group.listener(1, &[(ALL, "")], 0);
    let topic = Topic::Conversation(GROUP);
    group.hear((1..=5).map(|offset| said(offset, "")));
    take_all(&anna);
    anna.drained(0);
    // What this node has not heard of yet stands in the log.
    let page = vec![said(5, ""), removed(6, user(1)), said(7, "")];
    let feed = Feed::Conversation(GROUP);
    let advance = group.hub.feed(topic, &anna, feed, page, at(7));
    assert_eq!(advance, Advance::Done);
    let (texts, notices) = take_all(&anna);
    assert_eq!(offsets(&texts), [5, 6]);
    assert_eq!(notices.len(), 1);
}

#[test]
fn who_comes_back_is_not_sent_away_by_what_was_before() {
    let group = Group::new();
    let ben = group.listener(2, &[(ALL, "")], 0);
    group.hear([said(1, "")]);
    // Removed by the second entry, and brought in again by the third, before this node heard of it.
    let anna = socket_of(1, false);
    anna.go_live(at(0));
    anna.wish(ALL, None).unwrap();
    group.begin(&anna, 3);
    group.hear([removed(2, user(1)), said(3, ""), said(4, "")]);
    let (texts, notices) = take_all(&anna);
    assert_eq!(offsets(&texts), [4]);
    assert_eq!(notices, []);
    assert_eq!(offsets(&take_all(&ben).0), [1, 2, 3, 4]);
}

#[test]
fn who_is_removed_on_the_way_in_hears_that_and_nothing_after_it() {
    let group = Group::new();
    let ben = group.listener(2, &[(ALL, "")], 0);
    let anna = socket_of(1, false);
    anna.go_live(at(0));
    anna.wish(ALL, None).unwrap();
    assert!(group.hub.listen(GROUP, &anna));
    // The end of the log was 1:1 when it was asked for; until the answer came, bells rang.
    group.hear([said(1, ""), removed(2, user(1)), said(3, "")]);
    let feed = Feed::Conversation(GROUP);
    anna.begin(feed, at(1));
    let topic = Topic::Conversation(GROUP);
    assert_eq!(group.hub.advance(topic, &anna, feed), Advance::Done);
    let (texts, notices) = take_all(&anna);
    assert_eq!(offsets(&texts), [2]);
    assert_eq!(notices.len(), 1);
    group.hear([said(4, "")]);
    assert_eq!(take_all(&anna), (vec![], vec![]));
    assert_eq!(offsets(&take_all(&ben).0), [1, 2, 3, 4]);
}

#[test]
fn a_gap_is_read_again_before_anybody_gets_what_follows() {
    let group = Group::new();
    let anna = group.listener(1, &[(ALL, "")], 0);
    let topic = Topic::Conversation(GROUP);
    group.hear([said(1, "")]);
    let mut effects = Effects::default();
    let late = [said(3, "")].map(BellEvent::Entry);
    group.hub.hear(late, &mut effects);
    assert_eq!(effects.repair, [topic]);
    assert_eq!(offsets(&take_all(&anna).0), [1]);
    let read = vec![removed(2, user(1)), said(3, "")];
    let whole = group
        .hub
        .repaired(topic, read, Some(at(3)), at(3), &mut effects);
    assert!(whole);
    let (texts, notices) = take_all(&anna);
    assert_eq!(offsets(&texts), [2]);
    assert_eq!(notices.len(), 1);
}

#[test]
fn what_comes_by_the_inbox_does_not_come_twice() {
    let group = Group::new();
    let anna = group.listener(1, &[(RECEIPTS, "")], 0);
    let read = Entry {
        kind: Kind::MessageRead,
        ..said(3, "")
    };
    group.hear([said(1, ""), said(2, r#","uncopied":true"#), read]);
    assert_eq!(offsets(&take_all(&anna).0), [2, 3]);
}

#[test]
fn what_stood_there_before_is_given_only_if_no_inbox_has_it() {
    let group = Group::new();
    let topic = Topic::Conversation(GROUP);
    group
        .hub
        .learn_head(topic, at(9), None, &mut Effects::default());
    let anna = group.reader(1, ALL, 0, 9);
    let read = Entry {
        kind: Kind::MessageRead,
        ..said(5, "")
    };
    let uncopied = r#","uncopied":true"#;
    let change = |what: &str| format!(r#"{uncopied},"change":{{"what":"{what}"}}"#);
    let of_user = |what: &str, number| {
        let user = user(number);
        format!(r#"{uncopied},"change":{{"what":"{what}","userId":"{user}"}}"#)
    };
    let page = vec![
        said(1, &change("created")),
        said(2, uncopied),
        said(3, ""),
        // It took the right of then.
        said(4, &of_user("removed", 1)),
        read,
        said(6, &of_user("removed", 2)),
        said(7, &change("archived")),
        said(8, uncopied),
        said(9, ""),
    ];
    let feed = Feed::Conversation(GROUP);
    // The limit of what may wait.
    let (first, rest) = page.split_at(7);
    for (part, end) in [(first, 7), (rest, 9)] {
        group.hub.feed(topic, &anna, feed, part.to_vec(), at(end));
    }
    let (texts, notices) = take_all(&anna);
    assert_eq!((offsets(&texts), notices), (vec![2, 6, 7, 8], vec![]));
    assert_eq!(anna.mode(feed), Mode::Live);
    let read = Entry {
        kind: Kind::MessageRead,
        ..said(10, "")
    };
    group.hear([read, said(11, ""), removed(12, user(1)), said(13, "")]);
    let (texts, notices) = take_all(&anna);
    assert_eq!(offsets(&texts), [10, 11, 12]);
    assert_eq!(notices.len(), 1);
}

#[test]
fn what_stood_there_before_is_not_given_either_if_the_node_hears_it_late() {
    let group = Group::new();
    let topic = Topic::Conversation(GROUP);
    // The node has not come to the end by which the right was judged.
    group
        .hub
        .learn_head(topic, at(2), None, &mut Effects::default());
    let anna = group.reader(1, ALL, 2, 6);
    assert_eq!(anna.mode(Feed::Conversation(GROUP)), Mode::Live);
    let uncopied = r#","uncopied":true"#;
    let joined = format!(
        r#"{uncopied},"change":{{"what":"joined","userIds":["{}"]}}"#,
        user(1)
    );
    group.hear([
        said(3, ""),
        said(4, uncopied),
        said(5, &joined),
        said(6, ""),
    ]);
    group.hear([said(7, ""), said(8, uncopied)]);
    assert_eq!(offsets(&take_all(&anna).0), [4, 7, 8]);
}

#[test]
fn what_no_inbox_has_waits_until_it_is_confirmed() {
    let group = Group::new();
    let anna = group.reader(1, RECEIPTS, 0, 0);
    let feed = Feed::Conversation(GROUP);
    let uncopied = |offset| said(offset, r#","uncopied":true"#);
    let mut got = Vec::new();
    for offset in 1..=7 {
        group.hear([uncopied(offset)]);
        got.extend(offsets(&take_all(&anna).0));
    }
    // As many as may be unconfirmed.
    assert_eq!(got, [1, 2, 3, 4, 5, 6]);
    assert_eq!((anna.unconfirmed(), anna.mode(feed)), (6, Mode::Behind));
    let mut reach = anna.written().unwrap();
    assert_eq!(reach.heard, 6);
    reach.heard = 2;
    anna.confirmed(&reach);
    assert_eq!((anna.unconfirmed(), anna.mode(feed)), (4, Mode::Behind));
    reach.heard = 3;
    anna.confirmed(&reach);
    assert_eq!((anna.unconfirmed(), anna.mode(feed)), (3, Mode::CatchingUp));
    let topic = Topic::Conversation(GROUP);
    group.hub.feed(topic, &anna, feed, vec![uncopied(7)], at(7));
    assert_eq!(offsets(&take_all(&anna).0), [7]);
    assert_eq!(anna.mode(feed), Mode::Live);
}

#[test]
fn what_waits_of_a_conversation_goes_with_the_subscription() {
    let group = Group::new();
    let anna = group.reader(1, RECEIPTS, 0, 0);
    let uncopied = |offset| said(offset, r#","uncopied":true"#);
    group.hear([uncopied(1)]);
    assert_eq!(offsets(&take_all(&anna).0), [1]);
    group.hear([uncopied(2), uncopied(3)]);
    anna.forget(RECEIPTS, None);
    group.hub.leave(Topic::Conversation(GROUP), &anna).unwrap();
    anna.unlisten(GROUP);
    // What is on its way is confirmed as ever.
    assert_eq!(anna.unconfirmed(), 1);
    anna.wish(RECEIPTS, None).unwrap();
    group.begin(&anna, 3);
    assert!(offsets(&take_all(&anna).0).is_empty());
    group.hear([uncopied(4)]);
    assert_eq!(offsets(&take_all(&anna).0), [4]);
    assert_eq!(anna.written().unwrap().heard, 2);
}

#[test]
fn what_was_queued_and_is_not_wanted_any_more_is_not_confirmed() {
    let group = Group::new();
    let anna = group.reader(1, RECEIPTS, 0, 0);
    anna.wish(Interest::Typing(Some(GROUP)), None).unwrap();
    let uncopied = |offset| said(offset, r#","uncopied":true"#);
    group.hear([uncopied(1)]);
    assert_eq!(offsets(&take_all(&anna).0), [1]);
    group.hear([uncopied(2)]);
    anna.forget(RECEIPTS, None);
    assert!(
        !group.hub.listen(GROUP, &anna),
        "it still watches who types"
    );
    assert!(take_all(&anna).0.is_empty());
    assert_eq!(anna.unconfirmed(), 1, "that which it was given");
}

#[test]
fn a_socket_with_several_subscriptions_gets_a_frame_for_each() {
    let group = Group::new();
    let anna = group.listener(1, &[(ALL, "one\n"), (ALL, "two\n")], 0);
    group.hear([said(1, "")]);
    let texts = take_all(&anna).0;
    assert_eq!(offsets(&texts), [1, 1]);
    assert!(texts[0].starts_with("one\n") && texts[1].starts_with("two\n"));
    anna.forget(ALL, Some(&Bytes::from_static(b"one\n")));
    assert!(!group.hub.listen(GROUP, &anna), "it is here");
    group.hear([said(2, "")]);
    let texts = take_all(&anna).0;
    assert_eq!(texts.len(), 1);
    assert!(texts[0].starts_with("two\n"));
}

#[test]
fn addressed_frames_stay_whole_wherever_the_line_stops() {
    let whole = {
        let group = Group::new();
        let anna = group.listener(1, &[(ALL, "one\n"), (ALL, "two\n")], 0);
        group.hear([said(1, ""), said(2, "")]);
        take_all(&anna).0
    };
    assert_eq!(whole.len(), 4);
    for room in 1..=whole.iter().map(|text| text.len() + 4).sum::<usize>() + 1 {
        let group = Group::new();
        let anna = group.listener(1, &[(ALL, "one\n"), (ALL, "two\n")], 0);
        let line = Arc::new(Pipe::default());
        anna.connect(line.clone());
        assert_eq!(take_all(&anna).0.len(), 0);
        line.has_room_for(room);
        anna.drained(u32::MAX);
        let mut effects = Effects::default();
        let events = [said(1, ""), said(2, "")].map(BellEvent::Entry);
        group.hub.hear(events, &mut effects);
        assert_eq!(effects.write.len(), 1);
        let mut written = Written::default();
        anna.write(&mut written);
        let mut batch = Batch::new();
        let mut cx = Context::from_waker(Waker::noop());
        let _ = anna.poll_batch(&mut cx, &mut batch);
        line.write_all(batch);
        assert_eq!(line.texts(), whole, "with room for {room}");
    }
}

#[test]
fn what_nobody_has_to_confirm_is_written_while_the_session_sleeps() {
    let group = Group::new();
    let anna = group.listener(1, &[(ALL, "")], 0);
    let line = Arc::new(Pipe::default());
    anna.connect(line.clone());
    assert_eq!(take_all(&anna).0.len(), 0);
    line.has_room_for(usize::MAX);
    // The session has seen to nothing that would have to be confirmed.
    anna.drained(0);
    assert_eq!(
        anna.offer_live(&SharedEntry::new(said(1, "")), at(0)),
        Offered::Taken(Then::Write)
    );
    let mut written = Written::default();
    anna.write(&mut written);
    assert_eq!(written.frames, 1);
    assert_eq!(offsets(&line.texts()), [1]);
    assert_eq!(
        anna.offer_live(&SharedEntry::new(entry(at(1))), at(0)),
        Offered::Taken(Then::Wake)
    );
}

fn signal(session: u128) -> Arc<SharedSignal> {
    SharedSignal::new(Happening::Typing(GROUP, typing(session)))
}

fn typing(session: u128) -> Signal {
    Signal {
        kind: SignalKind::TypingStart,
        user: user(session),
        session: Some(SessionId(Uuid::from_u128(session))),
    }
}

#[test]
fn who_types_is_told_to_others_and_only_to_those_who_have_room() {
    let group = Group::new();
    let interest = Interest::Typing(Some(GROUP));
    let [anna, ben, carl] = [1, 2, 3].map(|number| group.listener(number, &[(interest, "")], 0));
    let dora = group.listener(4, &[(RECEIPTS, "")], 0);
    let tell = |from| {
        let event = BellEvent::Signal {
            topic: Topic::Conversation(GROUP),
            signal: typing(from),
        };
        group.hub.hear([event], &mut Effects::default());
    };
    // Two of four: no plenty of room.
    for offset in 1..=2 {
        let own = SharedEntry::new(entry(at(offset)));
        assert!(matches!(
            carl.offer_live(&own, at(offset - 1)),
            Offered::Taken(_)
        ));
    }
    tell(1);
    let texts = take_all(&ben).0;
    assert_eq!(texts.len(), 1);
    assert!(texts[0].contains("typing.start"), "{}", texts[0]);
    assert_eq!(take_all(&anna).0.len(), 0, "it is anna who types");
    assert_eq!(take_all(&dora).0.len(), 0, "dora did not ask");
    assert_eq!(take_all(&carl).0.len(), 2);
    assert_eq!(carl.mode(Feed::Conversation(GROUP)), Mode::Live);
    assert_eq!(carl.unconfirmed(), 2);
    tell(1);
    assert_eq!(take_all(&carl).0.len(), 1);
    assert_eq!(carl.unconfirmed(), 2, "nobody has to confirm a signal");
}

#[test]
fn what_is_said_is_revealed_once_and_only_for_somebody() {
    let calls = Arc::new(AtomicUsize::new(0));
    let reveal: Reveal = Arc::new({
        let calls = calls.clone();
        move |sealed| {
            calls.fetch_add(1, Ordering::Relaxed);
            Entry {
                body: r#"{"content":"open"}"#.into(),
                ..sealed
            }
        }
    });
    let entry = SharedEntry::of(said(1, ""), Some(reveal));
    assert!(entry.is_copied());
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    for dialect in DialectId::ALL {
        let frame = String::from_utf8_lossy(entry.frame(dialect)).into_owned();
        if frame.is_empty() {
            // A dialect that tells nothing of it.
            continue;
        }
        assert!(frame.contains(r#""content":"open""#), "{frame}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn what_a_dialect_does_not_tell_takes_no_room_and_is_not_behind() {
    let edited = |offset| {
        let kind = Kind::MessageEdited;
        SharedEntry::new(Entry {
            kind,
            ..said(offset, "")
        })
    };
    let silent = DialectId::ALL
        .into_iter()
        .find(|dialect| edited(1).frame(*dialect).is_empty());
    let outbox = socket_in(silent.expect("one has no word for it"), 1, true);
    outbox.wish(ALL, None).unwrap();
    let feed = Feed::Conversation(GROUP);
    outbox.listen(GROUP, 0).unwrap();
    outbox.begin(feed, at(0));
    // More than there is room for, read and then heard.
    for offset in 1..=20 {
        assert!(outbox.offer_read(feed, &edited(offset)));
    }
    assert_eq!(outbox.go_live_at(feed, at(20)), Some(Ok(())));
    for offset in 21..=40 {
        let offered = outbox.offer_live(&edited(offset), at(offset - 1));
        assert_eq!(offered, Offered::Taken(Then::Nothing));
    }
    assert_eq!(outbox.mode(feed), Mode::Live);
    assert!(!outbox.stands_before(feed, at(40)), "it was passed over");
    let mut batch = Batch::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(outbox.poll_batch(&mut cx, &mut batch).is_pending());
    assert!(batch.is_empty());
    assert_eq!(outbox.unconfirmed(), 0);
}

#[test]
fn a_socket_has_so_many_wishes_and_no_more() {
    let outbox = socket_of(1, false);
    for number in 0..200 {
        let id = Some(ConversationId(Uuid::from_u128(number)));
        outbox.wish(Interest::Typing(id), None).unwrap();
    }
    // The same again is none more.
    let first = Interest::Typing(Some(ConversationId(Uuid::nil())));
    outbox.wish(first, None).unwrap();
    let refusal = outbox.wish(ALL, None).unwrap_err();
    assert_eq!(refusal.code, shared::domain::Code::BadRequest);
    outbox.forget(first, None);
    outbox.wish(ALL, None).unwrap();
}

#[test]
fn who_wants_all_is_left_those_that_were_asked_for_by_name() {
    let group = Group::new();
    let all = Interest::Conversation {
        id: None,
        messages: Messages::Uncopied,
    };
    let anna = group.listener(1, &[(all, ""), (RECEIPTS, "")], 0);
    assert!(anna.wants_all());
    anna.forget(all, None);
    assert!(!anna.wants_all());
    assert_eq!(anna.wants(GROUP).entries, Some(Messages::Uncopied));
    anna.forget(RECEIPTS, None);
    assert_eq!(anna.wants(GROUP).entries, None);
}

/// A socket that follows this queue of its user's log from 1:0 on.
fn follower(queue: Queue, acks: AckMode) -> (Hub, Arc<Outbox>) {
    let (hub, outbox) = (Hub::new(), socket_of(7, true));
    hub.join(super::TOPIC, outbox.clone());
    hub.learn_head(super::TOPIC, at(0), None, &mut Effects::default());
    outbox.open_queues([at(0); 3]);
    outbox
        .wish(Interest::Queue(queue), Some(Bytes::from_static(b"q\n")))
        .unwrap();
    let cursor = hub.follow_queue(user(7), &outbox, queue, acks).unwrap();
    assert_eq!(cursor, at(0));
    outbox.begin(Feed::Queue(queue), cursor);
    let advance = hub.advance(super::TOPIC, &outbox, Feed::Queue(queue));
    assert_eq!(advance, Advance::Done);
    (hub, outbox)
}

fn hear(hub: &Hub, entries: impl IntoIterator<Item = Entry>) {
    let events = entries.into_iter().map(BellEvent::Entry);
    hub.hear(events, &mut Effects::default());
}

fn copied(offset: u64) -> Entry {
    Entry {
        topic: super::TOPIC,
        ..said(offset, "")
    }
}

#[test]
fn a_socket_gets_the_queues_it_follows_and_nothing_else_of_its_log() {
    let (hub, outbox) = follower(Queue::Messages, AckMode::Auto);
    hear(&hub, [entry(at(1)), copied(2), entry(at(3)), copied(4)]);
    let texts = take_all(&outbox).0;
    assert_eq!(offsets(&texts), [2, 4]);
    assert!(texts.iter().all(|text| text.starts_with("q\n")));
    let reach = outbox.written().unwrap();
    assert_eq!(reach.queue(Queue::Messages), at(4));
    assert_eq!(reach.user, Position::START);
    assert_eq!(outbox.unconfirmed(), 2);
    outbox.confirmed(&reach);
    assert_eq!(outbox.unconfirmed(), 0);
}

#[test]
fn what_was_not_confirmed_of_a_queue_comes_when_it_is_followed_again() {
    let (hub, outbox) = follower(Queue::Messages, AckMode::Auto);
    hear(&hub, [copied(1), copied(2), copied(3)]);
    take_all(&outbox);
    outbox
        .acknowledged(Feed::Queue(Queue::Messages), at(1))
        .unwrap();
    hub.leave_queue(user(7), &outbox, Queue::Messages).unwrap();
    hear(&hub, [copied(4)]);
    assert_eq!(take_all(&outbox).0.len(), 0);
    let again = hub.follow_queue(user(7), &outbox, Queue::Messages, AckMode::Auto);
    assert_eq!(again, Some(at(1)));
}

#[test]
fn a_queue_that_could_not_be_begun_is_begun_where_it_would_have_been() {
    let (hub, outbox) = (Hub::new(), socket_of(7, true));
    hub.join(super::TOPIC, outbox.clone());
    outbox.open_queues([at(5); 3]);
    for _ in 0..2 {
        let cursor = hub.follow_queue(user(7), &outbox, Queue::Messages, AckMode::Auto);
        assert_eq!(cursor, Some(at(5)));
        // The store is away.
        hub.leave_queue(user(7), &outbox, Queue::Messages).unwrap();
    }
}

/// How far the cursor may go.
fn stands(outbox: &Outbox) -> Position {
    let state = outbox.state.lock();
    state
        .track(Feed::Queue(Queue::Messages))
        .unwrap()
        .confirmed_up_to()
}

#[test]
fn what_is_confirmed_out_of_order_counts_once_all_before_it_is() {
    let (hub, outbox) = follower(Queue::Messages, AckMode::Client);
    let feed = Feed::Queue(Queue::Messages);
    hear(&hub, (1..=4).map(copied));
    take_all(&outbox);
    assert_eq!(outbox.unconfirmed(), 0, "no pong confirms any of it");
    assert_eq!(
        outbox.written().unwrap().queue(Queue::Messages),
        Position::START
    );
    outbox.acknowledged_one(feed, at(2)).unwrap();
    outbox.acknowledged_one(feed, at(4)).unwrap();
    assert_eq!(stands(&outbox), at(0));
    outbox.acknowledged_one(feed, at(1)).unwrap();
    assert_eq!(stands(&outbox), at(2));
    outbox.acknowledged_one(feed, at(3)).unwrap();
    assert_eq!(stands(&outbox), at(4));
    assert!(outbox.acknowledged_one(feed, at(5)).is_err());
}

#[test]
fn a_hole_stops_a_queue_only_once_four_windows_are_confirmed_ahead_of_it() {
    let (hub, outbox) = follower(Queue::Messages, AckMode::Client);
    let feed = Feed::Queue(Queue::Messages);
    let most = u64::from(outbox.limits.window) * 4;
    for offset in 1..=most {
        assert_eq!(outbox.mode(feed), Mode::Live, "{offset}");
        hear(&hub, [copied(offset)]);
        take_all(&outbox);
        if offset > 1 {
            outbox.acknowledged_one(feed, at(offset)).unwrap();
        }
    }
    hear(&hub, [copied(most + 1)]);
    assert_eq!(outbox.mode(feed), Mode::Behind);
    outbox.acknowledged_one(feed, at(1)).unwrap();
    assert_eq!(stands(&outbox), at(most));
    assert_eq!(outbox.mode(feed), Mode::CatchingUp);
}

#[test]
fn what_is_refused_holds_the_cursor_until_it_is_parked() {
    let (hub, outbox) = follower(Queue::Messages, AckMode::Client);
    let feed = Feed::Queue(Queue::Messages);
    hear(&hub, (1..=4).map(copied));
    take_all(&outbox);
    outbox.nacked(feed, at(2)).unwrap();
    outbox.acknowledged(feed, at(4)).unwrap();
    assert_eq!(stands(&outbox), at(1));
    outbox.park(feed, at(1));
    assert_eq!(stands(&outbox), at(1), "that one was not refused");
    let mut state = outbox.state.lock();
    let track = state.track_mut(feed).unwrap();
    track.acks().unwrap().park(at(2));
    let confirmed = track.settle().unwrap();
    assert_eq!(confirmed.upto, at(4));
    assert_eq!(confirmed.skipped, [at(2)]);
}

#[test]
fn nothing_but_what_a_client_confirms_can_be_refused() {
    let (hub, outbox) = follower(Queue::Messages, AckMode::Auto);
    hear(&hub, [copied(1)]);
    take_all(&outbox);
    let feed = Feed::Queue(Queue::Messages);
    assert!(outbox.nacked(feed, at(1)).is_err());
    assert!(outbox.nacked(Feed::Conversation(GROUP), at(1)).is_err());
}

#[test]
fn confirming_the_last_of_a_subscription_confirms_what_came_by_both_of_its_logs() {
    let (hub, outbox) = follower(Queue::Commands, AckMode::Client);
    outbox.reopen_broadcasts(AckMode::Client);
    hub.join_broadcasts(user(7), &outbox);
    hub.learn_head(Topic::Broadcast, at(0), None, &mut Effects::default());
    outbox.begin(Feed::Broadcast, at(0));
    hub.advance(Topic::Broadcast, &outbox, Feed::Broadcast);
    let broadcast = |offset| Entry {
        topic: Topic::Broadcast,
        ..entry(at(offset))
    };
    hear(
        &hub,
        [entry(at(1)), broadcast(1), broadcast(2), entry(at(2))],
    );
    assert_eq!(take_all(&outbox).0.len(), 4);
    outbox.acknowledged(Feed::Broadcast, at(1)).unwrap();
    let left = |feed| {
        let state = outbox.state.lock();
        state.track(feed).unwrap().unconfirmed()
    };
    assert_eq!(left(Feed::Broadcast), 1);
    assert_eq!(
        left(Feed::Queue(Queue::Commands)),
        1,
        "the second came later"
    );
    outbox
        .acknowledged(Feed::Queue(Queue::Commands), at(2))
        .unwrap();
    assert_eq!(left(Feed::Broadcast), 0);
    assert_eq!(left(Feed::Queue(Queue::Commands)), 0);
}

#[test]
fn a_socket_that_ended_is_not_taken_in_again() {
    let group = Group::new();
    let anna = group.listener(1, &[(ALL, "")], 0);
    let topic = Topic::Conversation(GROUP);
    assert!(group.hub.leave(topic, &anna).is_some());
    anna.unlisten(GROUP);
    anna.enter(crate::fanout::backlog::Stage::Ended);
    assert!(!group.hub.listen(GROUP, &anna));
    assert!(anna.conversations().is_empty());
}

#[test]
fn seats_are_found_again_after_others_left() {
    let group = Group::new();
    let all: Vec<_> = (1..=5)
        .map(|number| group.listener(number, &[(ALL, "")], 0))
        .collect();
    let topic = Topic::Conversation(GROUP);
    for gone in [0, 4, 1] {
        assert!(group.hub.leave(topic, &all[gone]).is_some());
        assert!(group.hub.leave(topic, &all[gone]).is_none());
    }
    group.hear([said(1, "")]);
    let heard: Vec<usize> = all.iter().map(|it| take_all(it).0.len()).collect();
    assert_eq!(heard, [0, 0, 1, 1, 0]);
}

#[test]
fn a_signal_wakes_a_session_that_sleeps() {
    let group = Group::new();
    let anna = group.listener(1, &[(Interest::Typing(Some(GROUP)), "")], 0);
    assert_eq!(anna.offer_signal(&signal(2)), Then::Wake);
    assert_eq!(anna.offer_signal(&signal(2)), Then::Nothing);
}

#[test]
fn a_user_who_is_brought_in_is_told_by_their_own_log() {
    let hub = Hub::new();
    let outbox = socket_of(7, false);
    hub.join(super::TOPIC, outbox.clone());
    hub.learn_head(super::TOPIC, at(0), None, &mut Effects::default());
    let joined = |offset, who: UserId| {
        let change = format!(
            r#","conversationId":"{GROUP}","change":{{"what":"joined","userIds":["{who}"]}}"#
        );
        Entry {
            topic: super::TOPIC,
            id: MessageId(Uuid::from_u128(9)),
            at: Timestamp(0),
            ..said(offset, &change)
        }
    };
    let mut effects = Effects::default();
    let events = [joined(1, user(8)), joined(2, user(7))].map(BellEvent::Entry);
    hub.hear(events, &mut effects);
    assert_eq!(effects.admitted, [(user(7), GROUP)]);
}
