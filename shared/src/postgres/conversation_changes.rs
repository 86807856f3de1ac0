//! Changes of conversations: who takes part, what they may do, the title, the archive.
//!
//! A change is one transaction that raises the version and leaves a note of what Redis has to be
//! told. Who made it tells it and removes the note; a worker tells what was left.

use std::{num::NonZeroU64, time::Duration};

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{PgError, Postgres, conversations, rows};
use crate::domain::{
    ConversationChange, ConversationId, ConversationType, Member, Members, ParticipantRole,
    Position, Timestamp, UserId,
};

/// A change that Redis has not been told of for sure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntoldChange {
    /// Of which conversation.
    pub conversation: ConversationId,
    /// The version it made.
    pub version: u64,
    /// The body of its system message.
    pub body: String,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConversationChanged {
    /// It is like this now, and Redis has to be told, in this order.
    Done {
        /// Who takes part.
        members: Members,
        /// A system message for each step; there may be one more than was asked for.
        untold: Vec<UntoldChange>,
    },
    /// It is like that already.
    Nothing(Members),
    /// Not as the conversation is.
    Forbidden,
    /// There is no such conversation.
    NoConversation,
    /// There is no such user, or they are banned.
    NoUser(UserId),
    /// This user does not take part.
    NoParticipant(UserId),
    /// Nobody joins or leaves a direct one, and it has neither roles nor a title.
    IsDirect,
    /// There would be no administrator left.
    LastAdmin,
}

/// A conversation in which nothing was said for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleConversation {
    /// Which.
    pub id: ConversationId,
    /// Since when.
    pub since: Timestamp,
    /// How far its log is written: if it is longer, something was said.
    pub written: Position,
}

/// Why a step cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    NoParticipant(UserId),
    IsDirect,
    LastAdmin,
}

impl From<Refused> for ConversationChanged {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoParticipant(user) => Self::NoParticipant(user),
            Refused::IsDirect => Self::IsDirect,
            Refused::LastAdmin => Self::LastAdmin,
        }
    }
}

impl Postgres {
    /// Makes these changes, one after the other, all or none, if `allows` says yes to the
    /// conversation as it is at that moment. `body` writes the system message of each step, given
    /// who takes part after it. If the last administrator leaves, whoever takes part the longest
    /// becomes one, as a step of its own. `at` is the time by the clock of Redis.
    pub async fn change_conversation(
        &self,
        conversation: ConversationId,
        asked: &[ConversationChange],
        allows: impl Fn(&Members) -> bool,
        body: impl Fn(&ConversationChange, &Members) -> String,
        at: Timestamp,
    ) -> Result<ConversationChanged, PgError> {
        let mut transaction = self.pool.begin().await?;
        let title = sqlx::query("SELECT title FROM conversations WHERE id = $1 FOR NO KEY UPDATE")
            .bind(conversation.0)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(title) = title else {
            return Ok(ConversationChanged::NoConversation);
        };
        let mut title: Option<String> = title.try_get("title")?;
        let Some(before) = conversations::members(&mut transaction, conversation).await? else {
            return Ok(ConversationChanged::NoConversation);
        };
        if !allows(&before) {
            return Ok(ConversationChanged::Forbidden);
        }
        let joining: Vec<UserId> = asked.iter().flat_map(joining).copied().collect();
        if let Some(nobody) = conversations::not_active(&mut transaction, &joining).await? {
            return Ok(ConversationChanged::NoUser(nobody));
        }
        let (mut members, mut untold) = (before.clone(), Vec::new());
        for change in asked {
            let steps = match apply(&mut members, &mut title, change) {
                Ok(steps) => steps,
                Err(refused) => return Ok(refused.into()),
            };
            for step in steps {
                untold.push(UntoldChange {
                    conversation,
                    version: step.members.version,
                    body: body(&step.change, &step.members),
                });
            }
        }
        if untold.is_empty() {
            return Ok(ConversationChanged::Nothing(before));
        }
        sqlx::query(
            "UPDATE conversations SET version = $2, title = $3, \
                 archived_at = CASE WHEN $4 THEN coalesce(archived_at, $5) END \
             WHERE id = $1",
        )
        .bind(conversation.0)
        .bind(members.version as i64)
        .bind(&title)
        .bind(members.is_archived)
        .bind(at.to_datetime())
        .execute(&mut *transaction)
        .await?;
        let other: Vec<Member> = members
            .all
            .iter()
            .filter(|member| !before.all.contains(member))
            .copied()
            .collect();
        keep_members(
            &mut transaction,
            conversation,
            &other,
            before.version + 1,
            at,
        )
        .await?;
        keep_untold(&mut transaction, &untold).await?;
        transaction.commit().await?;
        Ok(ConversationChanged::Done { members, untold })
    }

    /// Redis knows of this change.
    pub async fn conversation_change_told(
        &self,
        conversation: ConversationId,
        version: u64,
    ) -> Result<(), PgError> {
        sqlx::query("DELETE FROM conversation_changes WHERE conversation_id = $1 AND version = $2")
            .bind(conversation.0)
            .bind(version as i64)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Changes of a conversation that Redis has not been told of for sure, in their order.
    pub async fn untold_changes_of(
        &self,
        conversation: ConversationId,
    ) -> Result<Vec<UntoldChange>, PgError> {
        let rows = sqlx::query(
            "SELECT version, body FROM conversation_changes WHERE conversation_id = $1 ORDER BY version",
        )
        .bind(conversation.0)
        .fetch_all(&self.pool)
        .await?;
        let untold = rows.iter().map(|row| {
            Ok(UntoldChange {
                conversation,
                version: row.try_get::<i64, _>("version")? as u64,
                body: row.try_get("body")?,
            })
        });
        untold.collect()
    }

    /// Conversations with a change older than `age` that Redis has not been told of for sure, in the order
    /// of their ids, behind `after`.
    pub async fn conversations_to_tell(
        &self,
        age: Duration,
        after: Option<ConversationId>,
        limit: u32,
    ) -> Result<Vec<ConversationId>, PgError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT DISTINCT conversation_id FROM conversation_changes \
             WHERE at <= now() - make_interval(secs => $1) AND conversation_id > $2 \
             ORDER BY conversation_id LIMIT $3",
        )
        .bind(age.as_secs_f64())
        .bind(after.map_or(Uuid::nil(), |id| id.0))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(ConversationId).collect())
    }

    /// Conversations in which nothing was said since `before`, as far as their logs are written, idle
    /// the longest first. `after` continues behind the last one of the page before.
    pub async fn idle_conversations(
        &self,
        before: Timestamp,
        after: Option<&IdleConversation>,
        limit: u32,
    ) -> Result<Vec<IdleConversation>, PgError> {
        let (after_time, after_id) =
            after.map_or((Timestamp(0), Uuid::nil()), |it| (it.since, it.id.0));
        let rows = sqlx::query(IDLE_CONVERSATIONS)
            .bind(before.to_datetime())
            .bind(after_time.to_datetime())
            .bind(after_id)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        let idle = rows.iter().map(|row| {
            Ok(IdleConversation {
                id: ConversationId(row.try_get("id")?),
                since: Timestamp::from_datetime(row.try_get("active_at")?),
                written: rows::position(row)?,
            })
        });
        idle.collect()
    }
}

/// In the order of their partial index.
pub const IDLE_CONVERSATIONS: &str = r#"
    SELECT active_at, id, epoch, "offset" FROM conversations
    WHERE archived_at IS NULL AND active_at < $1 AND (active_at, id) > ($2, $3)
    ORDER BY active_at, id LIMIT $4"#;

fn joining(change: &ConversationChange) -> &[UserId] {
    match change {
        ConversationChange::Joined { user_ids } => user_ids,
        _ => &[],
    }
}

/// A step that was done, and who takes part after it.
struct Step {
    change: ConversationChange,
    members: Members,
}

/// Does what was asked for; no step if it is like that already. A step raises the version by one.
fn apply(
    members: &mut Members,
    title: &mut Option<String>,
    asked: &ConversationChange,
) -> Result<Vec<Step>, Refused> {
    let mut asked = asked.clone();
    if !is_for_direct(&asked) && members.kind == ConversationType::Direct {
        return Err(Refused::IsDirect);
    }
    let version = members.version + 1;
    match &mut asked {
        ConversationChange::Created => return Ok(Vec::new()),
        ConversationChange::Joined { user_ids } => {
            user_ids.sort_unstable();
            user_ids.dedup();
            user_ids.retain(|user| members.get(*user).is_none());
            if user_ids.is_empty() {
                return Ok(Vec::new());
            }
            for user in user_ids {
                join(members, *user, version);
            }
        }
        ConversationChange::Left { user_id } | ConversationChange::Removed { user_id } => {
            present(members, *user_id)?.left = NonZeroU64::new(version);
        }
        ConversationChange::Renamed { title: new } => {
            if title.as_ref() == Some(new) {
                return Ok(Vec::new());
            }
            *title = Some(new.clone());
        }
        ConversationChange::Role { user_id, role } => {
            let member = present(members, *user_id)?;
            if member.role == *role {
                return Ok(Vec::new());
            }
            member.role = *role;
            if !has_admin(members) {
                return Err(Refused::LastAdmin);
            }
        }
        ConversationChange::Muted { user_id, until } => {
            let member = present(members, *user_id)?;
            if member.muted_until == *until {
                return Ok(Vec::new());
            }
            member.muted_until = *until;
        }
        ConversationChange::Archived if members.is_archived => return Ok(Vec::new()),
        ConversationChange::Archived => members.is_archived = true,
        ConversationChange::Unarchived if !members.is_archived => return Ok(Vec::new()),
        ConversationChange::Unarchived => members.is_archived = false,
    }
    members.version = version;
    let mut steps = vec![Step {
        change: asked,
        members: members.clone(),
    }];
    if members.kind == ConversationType::Group && !has_admin(members) {
        steps.extend(promote(members));
    }
    Ok(steps)
}

fn is_for_direct(change: &ConversationChange) -> bool {
    matches!(
        change,
        ConversationChange::Muted { .. }
            | ConversationChange::Archived
            | ConversationChange::Unarchived
            | ConversationChange::Created
    )
}

fn has_admin(members: &Members) -> bool {
    let mut present = members.present();
    present.any(|member| member.role == ParticipantRole::Admin)
}

fn present(members: &mut Members, user: UserId) -> Result<&mut Member, Refused> {
    let mut all = members.all.iter_mut();
    all.find(|member| member.user == user && member.left.is_none())
        .ok_or(Refused::NoParticipant(user))
}

/// Comes, or comes back: as an ordinary member, but as muted as before.
fn join(members: &mut Members, user: UserId, version: u64) {
    let mut member = Member {
        user,
        role: ParticipantRole::Member,
        joined: version,
        left: None,
        muted_until: None,
    };
    match members.all.binary_search_by_key(&user, |it| it.user) {
        Ok(index) => {
            member.muted_until = members.all[index].muted_until;
            members.all[index] = member;
        }
        Err(index) => members.all.insert(index, member),
    }
}

/// Whoever takes part the longest becomes an administrator; nobody does where nobody is left.
fn promote(members: &mut Members) -> Option<Step> {
    let oldest = members
        .present()
        .min_by_key(|it| (it.joined, it.user))?
        .user;
    let member = present(members, oldest).ok()?;
    member.role = ParticipantRole::Admin;
    members.version += 1;
    Some(Step {
        change: ConversationChange::Role {
            user_id: oldest,
            role: ParticipantRole::Admin,
        },
        members: members.clone(),
    })
}

/// Writes members as they are now. Who joined with `version` or later has come at `at`; pointers stay.
pub(super) async fn keep_members(
    connection: &mut PgConnection,
    conversation: ConversationId,
    members: &[Member],
    version: u64,
    at: Timestamp,
) -> Result<(), PgError> {
    if members.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO conversation_participants AS held (conversation_id, user_id, role, joined_at, joined, since, \
             left_at, left_version, muted_until) \
         SELECT $1, user_id, role, $2, joined, $3, CASE WHEN left_version IS NOT NULL THEN $2 END, left_version, \
             muted_until \
         FROM unnest($4::uuid[], $5::text[], $6::bigint[], $7::bigint[], $8::timestamptz[]) \
             AS row(user_id, role, joined, left_version, muted_until) \
         ON CONFLICT (conversation_id, user_id) DO UPDATE SET role = excluded.role, \
             joined_at = CASE WHEN excluded.joined >= $9 THEN excluded.joined_at ELSE held.joined_at END, \
             since = CASE WHEN excluded.joined >= $9 THEN excluded.since ELSE held.since END, \
             joined = excluded.joined, left_at = excluded.left_at, left_version = excluded.left_version, \
             muted_until = excluded.muted_until",
    )
    .bind(conversation.0)
    .bind(at.to_datetime())
    .bind(rows::first_id_of(at))
    .bind(members.iter().map(|it| it.user.0).collect::<Vec<_>>())
    .bind(members.iter().map(|it| it.role.as_str()).collect::<Vec<_>>())
    .bind(members.iter().map(|it| it.joined as i64).collect::<Vec<_>>())
    .bind(members.iter().map(|it| it.left.map(|at| at.get() as i64)).collect::<Vec<_>>())
    .bind(members.iter().map(|it| it.muted_until.map(Timestamp::to_datetime)).collect::<Vec<_>>())
    .bind(version as i64)
    .execute(connection)
    .await?;
    Ok(())
}

/// Leaves notes of what Redis has to be told.
pub(super) async fn keep_untold(
    connection: &mut PgConnection,
    untold: &[UntoldChange],
) -> Result<(), PgError> {
    sqlx::query(
        "INSERT INTO conversation_changes (conversation_id, version, body) \
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[])",
    )
    .bind(
        untold
            .iter()
            .map(|it| it.conversation.0)
            .collect::<Vec<_>>(),
    )
    .bind(
        untold
            .iter()
            .map(|it| it.version as i64)
            .collect::<Vec<_>>(),
    )
    .bind(untold.iter().map(|it| it.body.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn group(roles: &[ParticipantRole]) -> Members {
        let all = roles.iter().zip(1..).map(|(role, n)| Member {
            user: user(n),
            role: *role,
            joined: 10 - n as u64,
            left: None,
            muted_until: None,
        });
        Members {
            conversation: ConversationId(Uuid::nil()),
            kind: ConversationType::Group,
            version: 10,
            is_archived: false,
            all: all.collect(),
        }
    }

    fn changes(
        members: &mut Members,
        asked: &ConversationChange,
    ) -> Vec<(u64, ConversationChange)> {
        let steps = apply(members, &mut None, asked).unwrap();
        let steps = steps.into_iter();
        steps.map(|it| (it.members.version, it.change)).collect()
    }

    #[test]
    fn when_the_last_administrator_leaves_whoever_is_there_longest_becomes_one() {
        use ParticipantRole::{Admin, Member};
        let mut members = group(&[Admin, Member, Member]);
        let left = ConversationChange::Left { user_id: user(1) };
        let promoted = ConversationChange::Role {
            user_id: user(3),
            role: Admin,
        };
        assert_eq!(changes(&mut members, &left), [(11, left), (12, promoted)]);
        assert_eq!(members.get(user(3)).unwrap().role, Admin);
        // The last one of all just goes.
        for n in [3, 2] {
            changes(&mut members, &ConversationChange::Left { user_id: user(n) });
        }
        assert_eq!((members.version, members.present().count()), (15, 0));
    }

    #[test]
    fn a_step_that_changes_nothing_is_none() {
        use ParticipantRole::{Admin, Member};
        let mut members = group(&[Admin, Member]);
        for nothing in [
            ConversationChange::Joined {
                user_ids: vec![user(2)],
            },
            ConversationChange::Role {
                user_id: user(2),
                role: Member,
            },
            ConversationChange::Muted {
                user_id: user(2),
                until: None,
            },
            ConversationChange::Unarchived,
        ] {
            assert_eq!(changes(&mut members, &nothing), []);
        }
        assert_eq!(members, group(&[Admin, Member]));
    }

    #[test]
    fn who_comes_back_is_an_ordinary_member_and_muted_as_before() {
        use ParticipantRole::Admin;
        let mut members = group(&[Admin, Admin]);
        members.all[1].muted_until = Some(Timestamp(7));
        changes(&mut members, &ConversationChange::Left { user_id: user(2) });
        let joined = ConversationChange::Joined {
            user_ids: vec![user(2), user(1), user(2)],
        };
        let told = ConversationChange::Joined {
            user_ids: vec![user(2)],
        };
        assert_eq!(changes(&mut members, &joined), [(12, told)]);
        let back = members.get(user(2)).unwrap();
        assert_eq!((back.role, back.joined), (ParticipantRole::Member, 12));
        assert_eq!(back.muted_until, Some(Timestamp(7)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        use ParticipantRole::{Admin, Member};
        let refused =
            |members: &mut Members, asked| apply(members, &mut None, &asked).err().unwrap();
        let mut members = group(&[Admin, Member]);
        let demoted = ConversationChange::Role {
            user_id: user(1),
            role: Member,
        };
        assert_eq!(refused(&mut members, demoted), Refused::LastAdmin);
        let left = ConversationChange::Left { user_id: user(9) };
        assert_eq!(
            refused(&mut members, left.clone()),
            Refused::NoParticipant(user(9))
        );
        members.kind = ConversationType::Direct;
        assert_eq!(refused(&mut members, left), Refused::IsDirect);
    }
}
