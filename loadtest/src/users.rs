//! Users by the thousand: rows straight into Postgres, tokens signed here. Registering them
//! would hash twenty thousand passwords.

use std::{net::SocketAddr, ops::Range};

use anyhow::Context as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use shared::domain::UserId;
use testkit::Database;
use uuid::Uuid;

use crate::swarm::upgrade_request;

/// Most users a bench has.
pub const MOST: u64 = 40_000;

/// A user known to Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User(pub u64);

impl User {
    /// The id; the same in every deployment of the kit.
    pub fn id(self) -> UserId {
        UserId(Uuid::from_u128(
            0x7000_8000_0000_0000_0000 + u128::from(self.0),
        ))
    }

    /// The upgrade request of one of its devices.
    pub fn upgrade(self, device: &str, host: SocketAddr) -> anyhow::Result<Vec<u8>> {
        self.upgrade_to("json", device, host)
    }

    /// The same in a dialect.
    pub fn upgrade_to(
        self,
        dialect: &str,
        device: &str,
        host: SocketAddr,
    ) -> anyhow::Result<Vec<u8>> {
        let token = self.token()?;
        let headers = format!("Authorization: Bearer {token}\r\n");
        let path = format!("/api/ws?device={device}&protocol={dialect}");
        Ok(upgrade_request(&path, &headers, host))
    }

    /// A token of its own.
    pub fn token(self) -> anyhow::Result<String> {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_secs();
        let claims = json!({
            "sub": self.id(), "jti": format!("bench-{}", self.0),
            "iat": now - 1, "nbf": now - 1, "exp": now + 3600,
            "iss": "tidegate", "aud": "tidegate",
        });
        let header = Header {
            kid: Some("main".to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        let key = EncodingKey::from_secret(testkit::deployment::JWT_SECRET.as_bytes());
        jsonwebtoken::encode(&header, &claims, &key).context("signing a token")
    }
}

/// Writes all of them into the database.
pub async fn insert(database: &Database) -> anyhow::Result<()> {
    let sql = format!(
        "INSERT INTO users (id, username, password_hash) \
         SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'bench' || n, 'none' \
         FROM generate_series(0, {}) n",
        MOST - 1
    );
    database.try_query(&sql).await.map_err(anyhow::Error::msg)?;
    Ok(())
}

/// What a user has chosen: tags, separated by commas.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    pub blocked: &'static str,
    pub allowed: &'static str,
}

impl Choice {
    pub const NONE: Self = Self {
        blocked: "",
        allowed: "",
    };
}

/// Writes it for each `step`-th user from `first` on, before anything is known of them in Redis.
pub async fn choose(
    database: &Database,
    first: u64,
    step: u64,
    choice: Choice,
) -> anyhow::Result<()> {
    write(database, first..MOST, step, choice).await
}

/// Writes it for so many users from `first` on.
pub async fn choose_for(
    database: &Database,
    first: u64,
    count: u64,
    choice: Choice,
) -> anyhow::Result<()> {
    write(database, first..first + count, 1, choice).await
}

async fn write(
    database: &Database,
    users: Range<u64>,
    step: u64,
    choice: Choice,
) -> anyhow::Result<()> {
    let Choice { blocked, allowed } = choice;
    let sql = format!(
        "INSERT INTO user_preferences (user_id, blocked, allowed, epoch, \"offset\", updated_at) \
         SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, \
         string_to_array('{blocked}', ','), string_to_array('{allowed}', ','), 0, 0, now() \
         FROM generate_series({}, {}, {step}) n",
        users.start,
        users.end - 1
    );
    database.try_query(&sql).await.map_err(anyhow::Error::msg)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_statement() {
        assert_eq!(
            User(0).id().to_string(),
            "00000000-0000-7000-8000-000000000000"
        );
        assert_eq!(
            User(255).id().to_string(),
            "00000000-0000-7000-8000-0000000000ff"
        );
    }
}
