//! `preferences.get` and `preferences.update`: which categories reach the caller.
//!
//! A choice is an entry of the user's own log, so every device hears of it, in order with
//! everything else, and none needs to ask. It counts for all that is delivered from then on,
//! whatever waited before.

#[cfg(test)]
mod fuzz;

use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;
use shared::{
    domain::{Category, Code, Digest, Kind, MAX_PREFERENCES, Preferences, Refusal, Topic},
    redis::{Append, Appended},
};

use super::{
    Asker, Reply,
    create::{key_of, other_body},
};
use crate::{
    app::App,
    dialect::{Json, Request},
    fanout::store_refusal,
};

/// Both lists at once: one that is absent becomes empty.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    #[serde(default)]
    blocked_categories: Vec<String>,
    #[serde(default)]
    allowed_categories: Vec<String>,
}

impl Update {
    fn validate(self) -> Result<Preferences, Refusal> {
        Ok(Preferences {
            blocked_categories: list("blockedCategories", &self.blocked_categories)?,
            allowed_categories: list("allowedCategories", &self.allowed_categories)?,
        })
    }
}

fn list(name: &str, tags: &[String]) -> Result<BTreeSet<Category>, Refusal> {
    let bad = |why: String| Refusal::new(Code::BadRequest, format!("{name}: {why}"));
    if tags.len() > MAX_PREFERENCES {
        return Err(bad(format!("more than {MAX_PREFERENCES}")));
    }
    tags.iter()
        .map(|tag| tag.parse())
        .collect::<Result<_, _>>()
        .map_err(|_| bad("a tag is 1 to 32 of [a-z0-9_-]".to_owned()))
}

/// What the caller chose.
pub(super) async fn get(app: &Arc<App>, caller: &Asker) -> Result<Reply, Refusal> {
    let preferences = app.fanout.preferences(caller.user).await?;
    Ok(Reply::answer("preferences", Json::of(&*preferences)))
}

/// Chooses anew.
pub(super) async fn update(
    app: &Arc<App>,
    caller: &Asker,
    request: &Request,
) -> Result<Reply, Refusal> {
    let preferences = request.body.parse::<Update>()?.validate()?;
    let tags = preferences
        .blocked_categories
        .union(&preferences.allowed_categories);
    // Also a retired one: commands that carry it are still about.
    app.directory.check_known(tags)?;
    let payload = Json::of(&preferences);
    let body = payload.as_str().as_bytes().to_vec();
    let digest = Digest::of(&body);
    let append = Append::new(
        Topic::User(caller.user),
        Kind::Preferences,
        body,
        key_of(caller, request),
        digest,
        app.durability,
    );
    match app
        .store
        .append(append)
        .await
        .map_err(|error| store_refusal(&error))?
    {
        Appended::New { .. } | Appended::Duplicate { .. } => {
            Ok(Reply::acknowledge("preferences", payload))
        }
        Appended::Conflict { .. } => Err(other_body()),
        Appended::Delivered | Appended::Outdated => {
            Err(Refusal::new(Code::Internal, "internal error"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Preferences, Refusal> {
        serde_json::from_str::<Update>(json).unwrap().validate()
    }

    #[test]
    fn what_is_absent_is_empty_and_what_stands_twice_stands_once() {
        assert!(read("{}").unwrap().is_open());
        let chosen = read(r#"{"blockedCategories":["feet","adult","feet"]}"#).unwrap();
        assert_eq!(
            Json::of(&chosen).as_str(),
            r#"{"blockedCategories":["adult","feet"],"allowedCategories":[]}"#,
        );
    }

    #[test]
    fn lists_keep_the_rules() {
        let tags = |count: usize| {
            let tags: Vec<_> = (0..count).map(|n| format!("tag-{n}")).collect();
            serde_json::json!({ "allowedCategories": tags }).to_string()
        };
        assert!(read(&tags(MAX_PREFERENCES)).is_ok());
        for wrong in [
            tags(MAX_PREFERENCES + 1),
            r#"{"blockedCategories":["No"]}"#.to_owned(),
            r#"{"allowedCategories":[""]}"#.to_owned(),
        ] {
            assert_eq!(read(&wrong).unwrap_err().code, Code::BadRequest, "{wrong}");
        }
    }
}
