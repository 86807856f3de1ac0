//! What has not ended: the user's own log and that of broadcasts as one list, oldest first.
//!
//! A confirmed position of the own log tells `pending` from `delivered`; the record is asked where
//! preferences may have kept a command from devices that went past it. Of a broadcast the record
//! tells it, which has a row for the user once a device confirmed it or the user completed it.
//! What was completed a moment ago the record may not know; Redis does, by the key of that entry.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use serde::Deserialize;
use shared::domain::{
    Category, CommandState, Entry, Kind, MessageId, Position, Preferences, Refusal, Timestamp,
    Topic, UserId,
};

use super::{
    Valid,
    cursor::{Cursor, Places},
    list::List,
};
use crate::{
    app::App,
    commands::record,
    fanout::{Walk, store_refusal},
};

/// Most stretches of the logs one request reads; a longer search goes on at `nextCursor`.
const MAX_READS: u32 = 8;
const CHUNK: u32 = 256;

/// Who asks for what.
struct Asked<'a> {
    app: &'a Arc<App>,
    user: UserId,
    preferences: &'a Preferences,
    query: &'a Valid,
    /// The furthest that a device of the user has confirmed of their own log.
    confirmed: Position,
}

/// A command that may be listed.
struct Item {
    position: Position,
    id: MessageId,
    at: Timestamp,
    state: CommandState,
    body: Bytes,
}

/// A log on its way into the list.
struct Source {
    topic: Topic,
    walk: Walk,
    items: VecDeque<Item>,
    /// Everything up to here was listed or passed over.
    taken: Position,
    /// Nothing follows behind the items.
    is_read: bool,
}

/// The two logs.
struct Logs {
    own: Source,
    broadcasts: Source,
}

pub(super) async fn list(
    app: &Arc<App>,
    user: UserId,
    preferences: &Preferences,
    query: &Valid,
) -> Result<List, Refusal> {
    let confirmed = app.store.furthest_cursor(user).await;
    let asked = Asked {
        app,
        user,
        preferences,
        query,
        confirmed: confirmed.map_err(|error| store_refusal(&error))?,
    };
    let mut logs = Logs::from(user, asked.begin().await);
    let mut list = List::new();
    let mut reads = 0;
    loop {
        while let Some(source) = logs.unread() {
            if reads == MAX_READS {
                list.next = Some(logs.cursor());
                return Ok(list);
            }
            reads += 1;
            asked.read(source).await?;
        }
        if list.is_full(query.limit) && !logs.are_done() {
            list.next = Some(logs.cursor());
            return Ok(list);
        }
        match logs.take_earliest() {
            Some(item) => list.push(item.id, item.at, item.state, &item.body),
            None => return Ok(list),
        }
    }
}

impl Logs {
    fn from(user: UserId, begin: Places) -> Self {
        Self {
            own: Source::new(Topic::User(user), begin.own),
            broadcasts: Source::new(Topic::Broadcast, begin.broadcasts),
        }
    }

    /// One whose next command is not known.
    fn unread(&mut self) -> Option<&mut Source> {
        [&mut self.own, &mut self.broadcasts]
            .into_iter()
            .find(|source| source.items.is_empty() && !source.is_read)
    }

    /// Nothing is left, where none is unread.
    fn are_done(&self) -> bool {
        self.own.items.is_empty() && self.broadcasts.items.is_empty()
    }

    /// The command that was sent first.
    fn take_earliest(&mut self) -> Option<Item> {
        let source = match (self.own.items.front(), self.broadcasts.items.front()) {
            // Of one millisecond, ids that one node minted tell the order.
            (Some(direct), Some(broadcast))
                if (broadcast.at, broadcast.id) < (direct.at, direct.id) =>
            {
                &mut self.broadcasts
            }
            (Some(_), _) => &mut self.own,
            (None, _) => &mut self.broadcasts,
        };
        let item = source.items.pop_front()?;
        source.taken = item.position;
        Some(item)
    }

    fn cursor(&self) -> Cursor {
        Cursor::After(Places {
            own: self.own.place(),
            broadcasts: self.broadcasts.place(),
        })
    }
}

impl Source {
    fn new(topic: Topic, begin: Position) -> Self {
        Self {
            topic,
            walk: Walk::from(begin),
            items: VecDeque::new(),
            taken: begin,
            is_read: false,
        }
    }

    /// Where to go on.
    fn place(&self) -> Position {
        if self.items.is_empty() {
            self.walk.at()
        } else {
            self.taken
        }
    }
}

impl Asked<'_> {
    async fn begin(&self) -> Places {
        if let Some(Cursor::After(places)) = self.query.cursor {
            return places;
        }
        let since = self
            .user
            .registered_at()
            .max(self.query.since.unwrap_or(Timestamp(0)));
        Places {
            own: Position::START,
            broadcasts: record::broadcasts_from(self.app, since).await,
        }
    }

    /// Reads on. What is not to be listed is left out.
    async fn read(&self, source: &mut Source) -> Result<(), Refusal> {
        let reader = self.app.fanout.reader();
        let chunk = reader.next(source.topic, &mut source.walk, CHUNK).await?;
        source.is_read = chunk.end.is_some();
        let is_own = source.topic != Topic::Broadcast;
        if is_own
            && self.query.status == Some(CommandState::Delivered)
            && source.walk.at() > self.confirmed
        {
            // Nothing behind that was delivered.
            source.is_read = true;
        }
        let entries = chunk.entries.into_iter();
        let wanted: Vec<_> = entries.filter_map(|entry| self.wanted(entry)).collect();
        source.items = if is_own {
            self.direct(wanted).await?
        } else {
            self.broadcasts(wanted).await?
        };
        let status = self.query.status;
        source
            .items
            .retain(|item| status.is_none_or(|status| status == item.state));
        Ok(())
    }

    /// The entry if it may be listed, as far as that can be told from itself.
    fn wanted(&self, entry: Entry) -> Option<Wanted> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            categories: Vec<Category>,
        }
        let is_asked_for = entry.kind == Kind::CommandNew
            && self.query.since.is_none_or(|since| entry.at >= since)
            && (entry.topic != Topic::Broadcast || entry.at >= self.user.registered_at());
        if !is_asked_for {
            return None;
        }
        // What cannot be read is nobody's.
        let Tags { categories } = serde_json::from_slice(&entry.body).ok()?;
        self.preferences.admit(&categories).then_some(Wanted {
            is_tagged: !categories.is_empty(),
            entry,
        })
    }

    /// Confirmed ones were delivered, unless preferences that have changed since kept them from
    /// the devices. That only the record knows.
    async fn direct(&self, wanted: Vec<Wanted>) -> Result<VecDeque<Item>, Refusal> {
        let is_confirmed = |entry: &Entry| entry.position <= self.confirmed;
        let doubtful: Vec<MessageId> = wanted
            .iter()
            .filter(|it| it.is_tagged && is_confirmed(&it.entry))
            .map(|it| it.entry.id)
            .collect();
        let states = record::states_of(self.app, self.user, &doubtful).await?;
        Ok(wanted
            .into_iter()
            .map(|Wanted { entry, .. }| {
                let state = match states.get(&entry.id) {
                    _ if !is_confirmed(&entry) => CommandState::Pending,
                    Some(CommandState::Pending) => CommandState::Pending,
                    _ => CommandState::Delivered,
                };
                Item::new(entry, state)
            })
            .collect())
    }

    /// Those that the user has not completed.
    async fn broadcasts(&self, wanted: Vec<Wanted>) -> Result<VecDeque<Item>, Refusal> {
        if wanted.is_empty() {
            return Ok(VecDeque::new());
        }
        let ids: Vec<MessageId> = wanted.iter().map(|it| it.entry.id).collect();
        let (states, completed) = tokio::join!(
            record::states_of(self.app, self.user, &ids),
            self.app.store.completed_by(self.user, &ids),
        );
        let (states, completed) = (states?, completed.map_err(|error| store_refusal(&error))?);
        Ok(wanted
            .into_iter()
            .filter(|it| !completed.contains(&it.entry.id))
            .map(|Wanted { entry, .. }| {
                let state = states.get(&entry.id).copied();
                Item::new(entry, state.unwrap_or(CommandState::Pending))
            })
            .filter(|item| !item.state.is_final())
            .collect())
    }
}

/// An entry that may be listed.
struct Wanted {
    entry: Entry,
    is_tagged: bool,
}

impl Item {
    fn new(entry: Entry, state: CommandState) -> Self {
        Self {
            position: entry.position,
            id: entry.id,
            at: entry.at,
            state,
            body: entry.body,
        }
    }
}
