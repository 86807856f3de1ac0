//! What makes a new command a good one, whoever sends it and whatever is known of tags and users.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::domain::{
    Broadcast, Category, Code, CommandType, Digest, Durability, FileRef, MAX_CATEGORIES,
    MAX_CONTENT_BYTES, Refusal, Timestamp, Topic, UserId,
};

/// How long a command is worth delivering unless its sender says less.
pub(in crate::commands) const LIFETIME: Duration = Duration::from_hours(14 * 24);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Create<'a> {
    command_type: CommandType,
    content: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    broadcast: Option<Broadcast>,
    target_user: Option<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    files: Vec<FileRef>,
    expires_at: Option<String>,
    durability: Option<Durability>,
}

/// Whom a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    User(UserId),
    /// Everybody whom its categories reach.
    Category,
    /// Everybody whom its categories, if it has any, do not keep from it.
    Allcast,
}

impl Audience {
    pub(super) fn broadcast(self) -> Broadcast {
        match self {
            Self::User(_) => Broadcast::User,
            Self::Category => Broadcast::Category,
            Self::Allcast => Broadcast::Allcast,
        }
    }

    pub(super) fn recipient(self) -> Option<UserId> {
        match self {
            Self::User(recipient) => Some(recipient),
            Self::Category | Self::Allcast => None,
        }
    }

    /// Where the command is stored, once, however many it is for.
    pub(super) fn topic(self) -> Topic {
        self.recipient().map_or(Topic::Broadcast, Topic::User)
    }
}

/// A request that keeps all rules that can be told from itself.
#[derive(Debug)]
pub(super) struct Valid<'a> {
    pub(super) command_type: CommandType,
    pub(super) content: String,
    pub(super) data: Option<&'a RawValue>,
    pub(super) audience: Audience,
    pub(super) categories: Vec<Category>,
    /// Only if the client said so.
    expires_at: Option<Timestamp>,
    /// That time has passed: good only as a retry of what was accepted before.
    pub(super) is_late: bool,
    durability: Option<Durability>,
}

/// What makes two requests the same, whatever the order of their fields. Without what the
/// server adds, which differs from one try to the next.
#[derive(Serialize)]
struct Canonical<'a> {
    command_type: CommandType,
    content: &'a str,
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broadcast: Option<Broadcast>,
    categories: &'a [Category],
    expires_at: Option<Timestamp>,
}

pub(super) fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::BadRequest, message)
}

impl<'a> Create<'a> {
    /// Holds the request to the rules; `now` is Redis' time of day.
    pub(super) fn validate(self, now: Timestamp) -> Result<Valid<'a>, Refusal> {
        let audience = self.audience()?;
        if self.content.len() > MAX_CONTENT_BYTES {
            let message = format!("content: more than {MAX_CONTENT_BYTES} bytes");
            return Err(Refusal::new(Code::TooLarge, message));
        }
        if self.content.contains('\0') {
            return Err(bad("content: contains NUL"));
        }
        if self.categories.len() > MAX_CATEGORIES {
            return Err(bad(format!("categories: more than {MAX_CATEGORIES}")));
        }
        let categories = self
            .categories
            .iter()
            .map(|tag| tag.parse())
            .collect::<Result<Vec<Category>, _>>()
            .map_err(|_| bad("categories: a tag is 1 to 32 of [a-z0-9_-]"))?;
        if audience == Audience::Category && categories.is_empty() {
            return Err(bad(
                "categories: a broadcast by category needs at least one",
            ));
        }
        if !self.files.is_empty() {
            return Err(bad("files: not served yet"));
        }
        let expires_at = self.expires_at.map(|text| {
            Timestamp::parse(&text).ok_or_else(|| bad("expiresAt: not an RFC 3339 time"))
        });
        let expires_at = expires_at.transpose()?;
        if expires_at.is_some_and(|at| at > expiry(now)) {
            return Err(bad("expiresAt: more than 14 days ahead"));
        }
        Ok(Valid {
            command_type: self.command_type,
            content: self.content,
            data: self.data,
            audience,
            categories,
            expires_at,
            is_late: expires_at.is_some_and(|at| at <= now),
            durability: self.durability,
        })
    }

    fn audience(&self) -> Result<Audience, Refusal> {
        let broadcast = self.broadcast.unwrap_or(Broadcast::User);
        match (broadcast, &self.target_user) {
            (Broadcast::User, Some(user)) => {
                let recipient = user.parse();
                let recipient = recipient.map_err(|_| bad("targetUser: not a user id"))?;
                Ok(Audience::User(recipient))
            }
            (Broadcast::User, None) => Err(bad("targetUser: missing")),
            (_, Some(_)) => Err(bad("targetUser: a broadcast is for nobody in particular")),
            (Broadcast::Category, None) => Ok(Audience::Category),
            (Broadcast::Allcast, None) => Ok(Audience::Allcast),
        }
    }
}

fn expiry(now: Timestamp) -> Timestamp {
    Timestamp(now.0 + LIFETIME.as_millis() as i64)
}

impl Valid<'_> {
    /// A request may ask for more than the deployment's level, never for less.
    pub(super) fn durability(&self, least: Durability) -> Durability {
        self.durability.map_or(least, |asked| asked.max(least))
    }

    /// When it stops being worth delivering.
    pub(super) fn expires_at(&self, now: Timestamp) -> Timestamp {
        self.expires_at.unwrap_or(expiry(now))
    }

    pub(super) fn digest(&self) -> Digest {
        let recipient = self.audience.recipient();
        let canonical = Canonical {
            command_type: self.command_type,
            content: &self.content,
            data: self.data,
            recipient,
            broadcast: recipient.is_none().then(|| self.audience.broadcast()),
            categories: &self.categories,
            expires_at: self.expires_at,
        };
        Digest::of(&serde_json::to_vec(&canonical).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn valid(json: &str) -> Result<Valid<'_>, Refusal> {
        let create: Create<'_> = serde_json::from_str(json).unwrap();
        create.validate(Timestamp(0))
    }

    #[test]
    fn a_request_may_only_ask_for_more_durability() {
        use Durability::{Durable, Memory, Stored};
        let level = |asked, least| {
            let valid = Valid {
                command_type: CommandType::Message,
                content: String::new(),
                data: None,
                audience: Audience::User(UserId(Uuid::nil())),
                categories: Vec::new(),
                expires_at: None,
                is_late: false,
                durability: asked,
            };
            valid.durability(least)
        };
        assert_eq!(level(None, Durable), Durable);
        assert_eq!(level(Some(Memory), Durable), Durable);
        assert_eq!(level(Some(Memory), Memory), Memory);
        assert_eq!(level(Some(Durable), Memory), Durable);
        assert_eq!(level(Some(Durable), Stored), Stored);
        assert_eq!(level(Some(Stored), Durable), Stored);
    }

    #[test]
    fn the_audience_has_to_fit_the_rest() {
        let user = "01890a5d-ac96-774b-bcce-b302099a8057";
        for (fields, audience) in [
            (format!(r#""targetUser":"{user}""#), Some("user")),
            (
                format!(r#""targetUser":"{user}","broadcast":"user","categories":["a"]"#),
                Some("user"),
            ),
            (
                r#""broadcast":"category","categories":["a","b"]"#.into(),
                Some("category"),
            ),
            (r#""broadcast":"allcast""#.into(), Some("allcast")),
            (
                r#""broadcast":"allcast","categories":["a"]"#.into(),
                Some("allcast"),
            ),
            (r#""broadcast":"user""#.into(), None),
            (r#""broadcast":"category""#.into(), None),
            (
                format!(r#""broadcast":"category","categories":["a"],"targetUser":"{user}""#),
                None,
            ),
            (
                format!(r#""broadcast":"allcast","targetUser":"{user}""#),
                None,
            ),
        ] {
            let json = format!(r#"{{"commandType":"task","content":"x",{fields}}}"#);
            let found = valid(&json).map(|valid| valid.audience.broadcast().as_str());
            match audience {
                Some(audience) => assert_eq!(found, Ok(audience), "{json}"),
                None => assert_eq!(found.unwrap_err().code, Code::BadRequest, "{json}"),
            }
        }
    }

    #[test]
    fn requests_are_the_same_only_if_they_are_for_the_same() {
        let json = |broadcast: &str| {
            format!(
                r#"{{"commandType":"task","content":"x","broadcast":"{broadcast}","categories":["a"]}}"#
            )
        };
        let (category, allcast) = (json("category"), json("allcast"));
        let digest = |json| valid(json).unwrap().digest();
        assert_eq!(digest(&category), digest(&category));
        assert_ne!(digest(&category), digest(&allcast));
    }
}
