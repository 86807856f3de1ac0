//! Asks one node as its sessions do.

use std::sync::Arc;

use gateway::{
    app::App,
    commands::{self, Caller, Reply},
    dialect::{Body, Request},
};
use serde_json::Value;
use shared::domain::{Code, Refusal, SessionId, UserId};
use uuid::Uuid;

use crate::support::{PATIENCE, World};

pub struct Desk {
    pub app: Arc<App>,
    pub world: World,
}

impl Desk {
    pub async fn open() -> Self {
        let world = World::start().await;
        let tags = (0..16).map(|n| format!("tag_{n}-x"));
        let tags = tags.chain(["news", "mild", "feet"].map(str::to_owned));
        let categories: Vec<_> = tags.map(|tag| (tag.parse().unwrap(), tag)).collect();
        world.postgres.seed_categories(&categories).await.unwrap();
        let app = world.app().await;
        // Before that the node takes no sockets.
        testkit::eventually("the node is ready", PATIENCE, async || {
            let is_ready = app.fanout.follows_broadcasts() && app.directory.is_loaded();
            is_ready.then_some(())
        })
        .await;
        Self { app, world }
    }

    pub async fn ask(
        &self,
        user: UserId,
        id: Option<&str>,
        name: &str,
        body: &Value,
    ) -> Result<Reply, Refusal> {
        let caller = Caller {
            user,
            session: SessionId(Uuid::nil()),
            device: "phone".parse().unwrap(),
        };
        let request = Request {
            id: id.map(|id| id.parse().unwrap()),
            name: name.into(),
            body: Body::parse_object(&body.to_string()).unwrap(),
        };
        commands::run(&self.app, &caller, &request).await
    }

    pub async fn answer(&self, user: UserId, id: Option<&str>, name: &str, body: Value) -> Value {
        let reply = self.ask(user, id, name, &body).await.unwrap();
        serde_json::from_str(reply.payload.as_str()).unwrap()
    }

    pub async fn refusal(&self, user: UserId, id: Option<&str>, name: &str, body: Value) -> Code {
        self.ask(user, id, name, &body).await.unwrap_err().code
    }
}
