//! Conversations are made and changed: who takes part, what they may do, the title, the archive.
//!
//! The record decides, in one transaction; then Redis is told, and with it every node, by a system
//! message in the conversation's log. From that entry on nothing is taken from, and nothing given
//! to, whoever lost the right.

use std::{collections::HashMap, sync::Arc};

use shared::{
    domain::{
        Code, ConversationChange, ConversationId, ConversationType, MAX_TITLE, Members,
        MessageBody, MessageType, ParticipantRole, Refusal, SenderType, UserId,
    },
    postgres::{ConversationChanged, ConversationCreated, NewConversation, UserStatus},
};
use uuid::Uuid;

use super::bad;
use crate::{
    app::{App, conversations::archived},
    fanout::postgres_refusal,
};

/// Most participants that may be named at once.
pub const MAX_NAMED: usize = 1_000;

/// A conversation to be made.
#[derive(Debug, Clone)]
pub struct New {
    /// What sort.
    pub kind: ConversationType,
    /// What people call it; only of a group.
    pub title: Option<String>,
    /// Who takes part beside the one who makes it.
    pub participants: Vec<UserId>,
    /// Under which a second try is recognised.
    pub id: Option<ConversationId>,
}

/// A conversation that was made.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// Which.
    pub id: ConversationId,
    /// False if it was there before.
    pub is_new: bool,
}

/// Makes a conversation. Of two users there is one, whoever makes it how often.
pub async fn create(app: &Arc<App>, by: UserId, new: New) -> Result<Made, Refusal> {
    validate(by, &new)?;
    let maker = app.users.get(by).await?;
    if maker.status == UserStatus::Banned {
        return Err(Refusal::new(Code::Forbidden, "banned"));
    }
    let wanted = NewConversation {
        id: new.id.unwrap_or_else(|| ConversationId(Uuid::now_v7())),
        kind: new.kind,
        title: new.title.clone(),
        created_by: by,
        others: new.participants.clone(),
        at: app.store.clock().now(),
    };
    let author = Author {
        user: by,
        name: maker.name.clone(),
        names: HashMap::new(),
    };
    let made = app
        .postgres
        .create_conversation(&wanted, |change, members| {
            author.system_message(app, change, members)
        });
    match made.await.map_err(|error| postgres_refusal(&error))? {
        ConversationCreated::New { members, untold } => {
            app.conversations.announce(members, &[untold]).await;
            settled(app, by, &new, wanted.id, true).await
        }
        ConversationCreated::Existing(id) => {
            same_as_before(app, by, &new, id).await?;
            settled(app, by, &new, id, false).await
        }
        ConversationCreated::NoUser(user) => Err(no_user(user)),
    }
}

async fn settled(
    app: &App,
    by: UserId,
    new: &New,
    id: ConversationId,
    is_new: bool,
) -> Result<Made, Refusal> {
    if let (ConversationType::Direct, Some(other)) = (new.kind, new.participants.first()) {
        app.conversations.remember_pair(by, *other, id).await;
    }
    Ok(Made { id, is_new })
}

/// A second try has to ask for what the first one made.
async fn same_as_before(
    app: &App,
    by: UserId,
    new: &New,
    id: ConversationId,
) -> Result<(), Refusal> {
    let members = app.conversations.members(id).await?;
    if members.kind != new.kind {
        return Err(crate::commands::create::other_body());
    }
    let first: Vec<UserId> = members.at(1).map(|member| member.user).collect();
    let mut asked = new.participants.clone();
    asked.push(by);
    asked.sort_unstable();
    asked.dedup();
    if first == asked {
        Ok(())
    } else {
        Err(crate::commands::create::other_body())
    }
}

fn validate(by: UserId, new: &New) -> Result<(), Refusal> {
    match (new.kind, new.participants.as_slice()) {
        (ConversationType::Direct, [other]) if *other != by => {}
        (ConversationType::Direct, _) => {
            return Err(bad(
                "participantIds: a DIRECT conversation has one other user",
            ));
        }
        (ConversationType::Group, all) if all.len() > MAX_NAMED => {
            return Err(bad(format!("participantIds: more than {MAX_NAMED}")));
        }
        (ConversationType::Group, _) => {}
    }
    match &new.title {
        Some(_) if new.kind == ConversationType::Direct => {
            Err(bad("title: a DIRECT conversation has none"))
        }
        Some(title) => check_title(title),
        None => Ok(()),
    }
}

/// Holds a title to the rules.
pub fn check_title(title: &str) -> Result<(), Refusal> {
    let is_good = title.chars().count() <= MAX_TITLE
        && !title.trim().is_empty()
        && !title.chars().any(char::is_control);
    if is_good {
        Ok(())
    } else {
        Err(bad(format!(
            "title: expected 1 to {MAX_TITLE} characters, none of them a control character"
        )))
    }
}

/// Makes changes, all or none. Answers whether anything is other than it was.
pub async fn change(
    app: &Arc<App>,
    by: UserId,
    id: ConversationId,
    asked: &[ConversationChange],
) -> Result<bool, Refusal> {
    let author = Author::about(app, by, asked).await?;
    let changed = app.postgres.change_conversation(
        id,
        asked,
        |members| asked.iter().all(|change| may(members, by, change)),
        |change, members| author.system_message(app, change, members),
        app.store.clock().now(),
    );
    match changed.await.map_err(|error| postgres_refusal(&error))? {
        ConversationChanged::Done { members, untold } => {
            app.conversations.announce(members, &untold).await;
            Ok(true)
        }
        ConversationChanged::Nothing(members) => {
            app.conversations.remember(Arc::new(members)).await;
            Ok(false)
        }
        ConversationChanged::Forbidden => Err(why(app, by, id, asked).await),
        ConversationChanged::NoConversation => Err(Refusal::new(
            Code::NotFound,
            "there is no such conversation",
        )),
        ConversationChanged::NoUser(user) => Err(no_user(user)),
        ConversationChanged::NoParticipant(user) => Err(Refusal::new(
            Code::NotFound,
            format!("{user} does not take part in this conversation"),
        )),
        ConversationChanged::IsDirect => Err(Refusal::new(
            Code::Conflict,
            "a DIRECT conversation has two participants, no roles and no title",
        )),
        ConversationChanged::LastAdmin => Err(Refusal::new(
            Code::Conflict,
            "a conversation needs an administrator",
        )),
    }
}

fn no_user(user: UserId) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no user {user}"))
}

/// Whether a participant may make a change, as the conversation is now.
fn may(members: &Members, by: UserId, change: &ConversationChange) -> bool {
    let Some(member) = members.get(by) else {
        return false;
    };
    let manages = member.role == ParticipantRole::Admin;
    let is_direct = members.kind == ConversationType::Direct;
    match change {
        ConversationChange::Left { user_id } => *user_id == by,
        ConversationChange::Unarchived => manages || is_direct,
        // Nobody takes back what the other has decided.
        ConversationChange::Muted { user_id, .. } if is_direct && *user_id == by => false,
        // What is not possible at all is told as such.
        _ => (manages || is_direct) && !members.is_archived,
    }
}

/// What speaks against it, for people.
async fn why(app: &App, by: UserId, id: ConversationId, asked: &[ConversationChange]) -> Refusal {
    let members = match app.conversations.read_again(id).await {
        Ok(members) => members,
        Err(refusal) => return refusal,
    };
    if let Err(refusal) = crate::app::conversations::participant(&members, by) {
        return refusal;
    }
    if members.is_archived && !asked.contains(&ConversationChange::Unarchived) {
        return archived();
    }
    Refusal::new(
        Code::Forbidden,
        "only administrators of the conversation may do this",
    )
}

/// Who makes a change, with the names that its system message needs.
struct Author {
    user: UserId,
    name: String,
    names: HashMap<UserId, String>,
}

impl Author {
    async fn about(
        app: &Arc<App>,
        user: UserId,
        asked: &[ConversationChange],
    ) -> Result<Self, Refusal> {
        let name = app.users.get(user).await?.name.clone();
        let mut names = HashMap::new();
        for about in asked.iter().flat_map(users_of) {
            if let Ok(profile) = app.users.get(about).await {
                names.insert(about, profile.name.clone());
            }
        }
        Ok(Self { user, name, names })
    }

    /// The JSON of the system message.
    fn system_message(&self, app: &App, change: &ConversationChange, members: &Members) -> String {
        let body = MessageBody {
            message_id: None,
            created_at: None,
            conversation_id: members.conversation,
            sender_id: self.user,
            sender_name: self.name.clone(),
            sender_type: SenderType::System,
            content: self.words(change),
            sealed: None,
            message_type: MessageType::System,
            files: Vec::new(),
            uncopied: app.conversations.is_uncopied(members),
            change: Some(change.clone()),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }

    fn name_of(&self, user: UserId) -> &str {
        self.names.get(&user).map_or("somebody", String::as_str)
    }

    fn words(&self, change: &ConversationChange) -> String {
        let Self { name, .. } = self;
        match change {
            ConversationChange::Created => format!("{name} began the conversation"),
            ConversationChange::Joined { user_ids } => {
                let names: Vec<_> = user_ids.iter().map(|user| self.name_of(*user)).collect();
                format!("{name} brought in {}", names.join(", "))
            }
            ConversationChange::Left { .. } => format!("{name} left"),
            ConversationChange::Removed { user_id } => {
                format!("{name} removed {}", self.name_of(*user_id))
            }
            ConversationChange::Renamed { title } => {
                format!("{name} called the conversation {title}")
            }
            ConversationChange::Role { user_id, role } => {
                let role = match role {
                    ParticipantRole::Admin => "an administrator",
                    ParticipantRole::Member => "a member",
                };
                format!("{name} made {} {role}", self.name_of(*user_id))
            }
            ConversationChange::Muted { user_id, until } => {
                let muted = if until.is_some() { "muted" } else { "unmuted" };
                format!("{name} {muted} {}", self.name_of(*user_id))
            }
            ConversationChange::Archived => format!("{name} archived the conversation"),
            ConversationChange::Unarchived => format!("{name} opened the conversation again"),
        }
    }
}

fn users_of(change: &ConversationChange) -> Vec<UserId> {
    match change {
        ConversationChange::Joined { user_ids } => user_ids.iter().copied().take(20).collect(),
        ConversationChange::Removed { user_id }
        | ConversationChange::Role { user_id, .. }
        | ConversationChange::Muted { user_id, .. } => vec![*user_id],
        _ => Vec::new(),
    }
}
