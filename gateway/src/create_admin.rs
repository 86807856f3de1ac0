//! `gateway create-admin`: the first administrator, who then makes others over REST.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use serde_json::json;
use shared::{
    auth::{MAX_PASSWORD_BYTES, Passwords, check_account, is_username},
    config::Secret,
    domain::UserId,
    postgres::{Audit, Postgres, Role, UserChange, UserChanged, UserStatus},
};
use uuid::Uuid;

/// Makes an administrator: a new user with a password from the terminal or from standard input, or
/// somebody who is there already and keeps theirs. Answers what was done, for people.
pub async fn create_admin(postgres: &Postgres, username: &str) -> anyhow::Result<String> {
    // Before a password is asked for.
    anyhow::ensure!(
        is_username(username),
        "username must be 3 to 32 of A-Z a-z 0-9 _ . -"
    );
    if let Some((user, _)) = postgres.user_by_name(username).await? {
        anyhow::ensure!(
            user.status == UserStatus::Active,
            "{} is banned",
            user.username
        );
        if user.role == Role::Admin {
            return Ok(format!("{} is an administrator already", user.username));
        }
        let change = UserChange {
            role: Some(Role::Admin),
            status: None,
        };
        let line = audit(user.id, "promoted");
        let is_active = |user: &shared::postgres::User| user.status == UserStatus::Active;
        let changed = postgres
            .change_user(user.id, change, is_active, &line)
            .await?;
        anyhow::ensure!(
            matches!(changed, UserChanged::Done(_)),
            "{} could not be made an administrator",
            user.username
        );
        return Ok(format!("{} is an administrator now", user.username));
    }
    let password = tokio::task::spawn_blocking(read_password)
        .await
        .context("the password could not be read")??;
    check_account(username, &password).map_err(anyhow::Error::msg)?;
    let hash = Passwords::new(Some(1), 1).hash(password).await?;
    let id = UserId(Uuid::now_v7());
    let made = postgres
        .create_admin(id, username, &hash, &audit(id, "created"))
        .await?;
    anyhow::ensure!(
        made.is_some(),
        "{username} was registered meanwhile: try again"
    );
    Ok(format!(
        "{username} is an administrator now, with the id {id}"
    ))
}

fn audit(user: UserId, how: &str) -> Audit {
    Audit {
        actor: None,
        action: "create-admin".to_owned(),
        target: format!("users/{user}"),
        details: json!({ "how": how }),
        request_id: None,
        address: None,
    }
}

/// Without echo from a terminal, and then twice; else the first line of standard input.
fn read_password() -> anyhow::Result<Secret> {
    if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ")?;
        let again = rpassword::prompt_password("Once more: ")?;
        anyhow::ensure!(password == again, "the two differ");
        return Ok(Secret::new(password));
    }
    let mut text = String::new();
    let most = MAX_PASSWORD_BYTES as u64 + 3;
    std::io::stdin().take(most).read_to_string(&mut text)?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}
