//! What is heard of others as it happens: `signals/scenario.json`, in each dialect.

use std::collections::HashMap;

use serde_json::{Value, json};
use testkit::{
    Deployment, Dialect, Plan, Socket, SocketOptions, User, socket::stomp, wait::PATIENCE,
};

use crate::{
    conversations::{ask, group},
    tokens::short_lived,
};

const SCENARIOS: &str = include_str!("signals/scenario.json");
/// Who shares the conversations.
const USERS: [&str; 3] = ["ann", "bob", "cat"];

/// What a scenario's sockets speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tongue {
    Json,
    Stomp,
    Events,
}

#[tokio::test]
async fn signals_over_json() {
    play_all(Tongue::Json).await;
}

#[tokio::test]
async fn signals_over_stomp() {
    play_all(Tongue::Stomp).await;
}

#[tokio::test]
async fn signals_over_events() {
    play_all(Tongue::Events).await;
}

/// Where three are too many for copies, all that is heard comes from the conversation's own log.
#[tokio::test]
async fn signals_of_large_conversations_over_events() {
    let large = plan().with("TIDEGATE_CONVERSATIONS__INBOX_MAX_MEMBERS", "2");
    play(Tongue::Events, large).await;
}

fn plan() -> Plan {
    Plan::default()
        .dialect(Dialect::Json)
        .with("TIDEGATE_PRESENCE__GRACE", "500ms")
}

async fn play_all(tongue: Tongue) {
    play(tongue, plan()).await;
}

async fn play(tongue: Tongue, plan: Plan) {
    let tidegate = Deployment::start_with(plan).await;
    let scenarios: Vec<Value> = serde_json::from_str(SCENARIOS).expect("scenarios");
    for (number, scenario) in scenarios.iter().enumerate() {
        println!("{}", scenario["name"]);
        let mut stage = Stage::of(&tidegate, tongue, number).await;
        for step in scenario["steps"].as_array().expect("steps") {
            stage.play(step).await;
        }
        stage.end();
    }
}

/// What somebody heard, whatever the dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heard {
    what: &'static str,
    place: String,
    from: Option<String>,
    message: Option<String>,
    on: Option<bool>,
    status: Option<String>,
}

/// One scenario, with users and conversations of its own.
struct Stage<'a> {
    tidegate: &'a Deployment,
    tongue: Tongue,
    users: HashMap<&'static str, User>,
    places: HashMap<&'static str, String>,
    sockets: HashMap<String, Socket>,
    /// What each listens to.
    listening: HashMap<String, Vec<String>>,
    /// The last message in each place.
    said: HashMap<String, String>,
    /// What came in one frame with what was expected, to whom.
    together: Vec<(String, Heard)>,
    /// What must not be heard, by whom.
    never: Vec<(String, Heard)>,
}

impl<'a> Stage<'a> {
    async fn of(tidegate: &'a Deployment, tongue: Tongue, number: usize) -> Self {
        let mut users = HashMap::new();
        for name in USERS {
            users.insert(name, tidegate.user(&format!("{name}{number}")).await);
        }
        let stranger = tidegate.user(&format!("eve{number}")).await;
        let all = USERS.map(|name| &users[name]);
        let mut places = HashMap::new();
        for place in ["room", "hall", "cellar"] {
            places.insert(place, group(tidegate, &all).await);
        }
        places.insert("foreign", group(tidegate, &[&stranger]).await);
        places.insert("nowhere", stranger.id.clone());
        users.insert("eve", stranger);
        Self {
            tidegate,
            tongue,
            users,
            places,
            sockets: HashMap::new(),
            listening: HashMap::new(),
            said: HashMap::new(),
            together: Vec::new(),
            never: Vec::new(),
        }
    }

    async fn play(&mut self, step: &Value) {
        println!("  {step}");
        let word = |field: &str| step[field].as_str().unwrap_or_default();
        if let Some(only) = step["dialects"].as_array()
            && !only.contains(&json!(self.tongue.name()))
        {
            return;
        }
        let who = word("who");
        match word("do") {
            "connect" => self.connect(who, step).await,
            "disconnect" => {
                let socket = self.sockets.remove(who).expect("connected");
                socket.close().await;
            }
            "listen" => self.listen(who, step).await,
            "say" => self.say(who, word("in"), word("by")).await,
            "read" => self.read(who, word("in"), word("by")).await,
            "type" => self.type_in(who, word("in"), step["on"] == true).await,
            "remove" => {
                let what = format!(
                    "DELETE /conversations/{}/participants/{}",
                    self.places[word("in")],
                    self.users[who].id
                );
                ask(
                    self.tidegate,
                    0,
                    &self.users[word("by")],
                    &what,
                    Value::Null,
                )
                .await;
            }
            "logout" => {
                let node = step["node"].as_u64().unwrap_or(0) as usize;
                let rest = self.tidegate.gateways[node].rest();
                let answer = rest.logout(&self.users[who].token).await;
                assert!(answer.expect("an answer").status < 300);
            }
            "closed" => {
                let closed = self.sockets[who].closed().await;
                assert_eq!(closed.code().map(u64::from), step["code"].as_u64());
            }
            "expect" => {
                let expected = self.heard(step);
                let tongue = self.tongue;
                let is_it = |frame: &Value| tongue.heard(frame).iter().any(|it| it.is(&expected));
                let what = format!("{expected:?}");
                let is_at_hand =
                    |(name, heard): &(String, Heard)| name == who && heard.is(&expected);
                if let Some(at) = self.together.iter().position(is_at_hand) {
                    self.together.remove(at);
                    return;
                }
                let frame = self.sockets[who].take(&what, PATIENCE, is_it).await;
                let others = tongue
                    .heard(&frame)
                    .into_iter()
                    .filter(|it| !it.is(&expected));
                self.together.extend(others.map(|it| (who.to_owned(), it)));
                if expected.what == "lost"
                    && let Some(listening) = self.listening.get_mut(who)
                {
                    listening.retain(|it| *it != expected.place);
                }
            }
            "never" => {
                let heard = self.heard(step);
                self.never.push((who.to_owned(), heard));
            }
            other => panic!("no step is called {other}"),
        }
    }

    /// Nobody has heard what they must not.
    fn end(self) {
        for (who, never) in &self.never {
            for frame in self.sockets[who].waiting() {
                let heard = self.tongue.heard(&frame);
                assert!(!heard.iter().any(|it| it.is(never)), "{who}: {frame}");
            }
        }
    }

    /// What a step is about.
    fn heard(&self, step: &Value) -> Heard {
        let word = |field: &str| step[field].as_str().unwrap_or_default();
        let what = ["message", "read", "typing", "lost", "presence"];
        let what = what.into_iter().find(|what| *what == word("what"));
        let what = what.expect("something to hear");
        let place = word("in");
        let message = matches!(what, "message" | "read").then(|| self.said[place].clone());
        Heard {
            what,
            place: self.places.get(place).cloned().unwrap_or_default(),
            status: step["status"].as_str().map(str::to_owned),
            from: step["from"]
                .as_str()
                .map(|name| self.users[name].id.clone()),
            message,
            on: step["on"].as_bool(),
        }
    }

    async fn connect(&mut self, who: &str, step: &Value) {
        let user = &self.users[who];
        let token = match step["lives"].as_i64() {
            Some(seconds) => short_lived(user, seconds),
            None => user.token.clone(),
        };
        let node = step["node"].as_u64().unwrap_or(0) as usize;
        let socket = self.tongue.open(self.tidegate, node, &token).await;
        self.sockets.insert(who.to_owned(), socket);
    }

    /// The id of a conversation, or `@` and that of a user.
    fn topic(&self, name: &str) -> String {
        match name.strip_prefix('@') {
            Some(user) => format!("@{}", self.users[user].id),
            None => self.places[name].clone(),
        }
    }

    async fn listen(&mut self, who: &str, step: &Value) {
        let names = |field: &str| -> Vec<String> {
            let names = step[field].as_array().into_iter().flatten();
            names
                .map(|name| self.topic(name.as_str().unwrap()))
                .collect()
        };
        let (wanted, refused) = (names("to"), names("refused"));
        let before = self.listening.remove(who).unwrap_or_default();
        let socket = &self.sockets[who];
        let told = self.tongue.listen(socket, &before, &wanted).await;
        assert_eq!(told, refused, "what {who} may not hear");
        let granted = wanted.into_iter().filter(|it| !refused.contains(it));
        self.listening.insert(who.to_owned(), granted.collect());
    }

    /// By the socket, if its dialect can; by a socket of another dialect, or over REST.
    async fn say(&mut self, who: &str, place: &str, by: &str) {
        let (user, conversation) = (&self.users[who], &self.places[place]);
        let chat = json!({"conversationId": conversation, "message": "hello"});
        let over_socket = async |socket: &Socket| {
            let reply = socket.request("chat.message", chat.clone()).await;
            reply["payload"]["messageId"].as_str().map(str::to_owned)
        };
        let id = match (by, self.tongue) {
            ("rest", _) | ("", Tongue::Events) => {
                let what = format!("POST /conversations/{conversation}/messages");
                let said = ask(self.tidegate, 1, user, &what, json!({"content": "hello"})).await;
                said["id"].as_str().map(str::to_owned)
            }
            ("", _) => over_socket(&self.sockets[who]).await,
            (other, _) => {
                let tongue = [Tongue::Json, Tongue::Stomp].into_iter();
                let tongue = tongue.into_iter().find(|it| it.name() == other).unwrap();
                over_socket(&tongue.open(self.tidegate, 0, &user.token).await).await
            }
        };
        self.said
            .insert(place.to_owned(), id.expect("the message has an id"));
    }

    async fn read(&mut self, who: &str, place: &str, by: &str) {
        let (user, conversation) = (&self.users[who], &self.places[place]);
        let up_to = &self.said[place];
        if by == "rest" || self.tongue == Tongue::Events {
            let what = format!("POST /conversations/{conversation}/read");
            ask(self.tidegate, 0, user, &what, json!({"upTo": up_to})).await;
        } else {
            let payload = json!({"conversationId": conversation, "upTo": up_to});
            let reply = self.sockets[who].request("mark.read", payload).await;
            assert_ne!(reply["type"], "error", "{reply}");
        }
    }

    /// Whatever a client says about who it is.
    async fn type_in(&mut self, who: &str, place: &str, on: bool) {
        let (socket, conversation) = (&self.sockets[who], &self.places[place]);
        let forged = self.users["cat"].id.clone();
        match self.tongue {
            Tongue::Json | Tongue::Stomp => {
                let name = if on { "typing.start" } else { "typing.stop" };
                let payload = json!({"conversationId": conversation, "userId": forged});
                let reply = socket.request(name, payload).await;
                assert_ne!(reply["type"], "error", "{reply}");
            }
            Tongue::Events => {
                let data =
                    json!({"conversationId": conversation, "userId": forged, "isTyping": on});
                let frame = json!({"type": "client.messenger.typing", "id": "t", "data": data});
                socket.send(&frame).await;
                assert_eq!(fence(socket, "t").await, Vec::<Value>::new());
            }
        }
    }
}

impl Heard {
    /// Whether this is what was expected: the same, as far as that says.
    fn is(&self, expected: &Self) -> bool {
        self.what == expected.what
            && self.place == expected.place
            && (expected.from.is_none() || self.from == expected.from)
            && (expected.message.is_none() || self.message == expected.message)
            && (expected.on.is_none() || self.on == expected.on)
            && (expected.status.is_none() || self.status == expected.status)
    }
}

/// The refusals of a frame that is not answered: what is unknown is refused, and in the order in
/// which it was sent.
async fn fence(socket: &Socket, id: &str) -> Vec<Value> {
    let end = format!("{id}-end");
    socket
        .send(&json!({"type": "client.system.unknown", "id": end}))
        .await;
    let is_end = |frame: &Value| frame["id"] == end.as_str();
    socket
        .take("the end of the answers", PATIENCE, is_end)
        .await;
    refusals(socket, id).await
}

/// The refusals of a subscription, when the sign is there that the rest of it is in force.
async fn in_force(socket: &Socket, id: &str) -> Vec<Value> {
    let is_sign = |frame: &Value| frame["type"] == "server.presence.batch" && frame["id"] == id;
    let sign = socket
        .take("the subscription in force", PATIENCE, is_sign)
        .await;
    assert_eq!(sign["data"], json!({"users": []}), "how they are follows");
    refusals(socket, id).await
}

/// What came so far of the refusals of a frame.
async fn refusals(socket: &Socket, id: &str) -> Vec<Value> {
    let mut refused = Vec::new();
    while let Some(frame) = socket.waiting().into_iter().find(|frame| frame["id"] == id) {
        assert_eq!(frame["type"], "server.system.error", "{frame}");
        refused.push(socket.take("a refusal", PATIENCE, |it| *it == frame).await);
    }
    refused
}

impl Tongue {
    pub const ALL: [Self; 3] = [Self::Json, Self::Stomp, Self::Events];

    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Stomp => "stomp",
            Self::Events => "events",
        }
    }

    pub async fn open(self, tidegate: &Deployment, node: usize, token: &str) -> Socket {
        let options = SocketOptions::bearer(token);
        let options = match self {
            Self::Json => options.dialect(Dialect::Json),
            Self::Stomp => options.stomp().queues(&["errors", "acks"]),
            Self::Events => options.events(),
        };
        let socket = Socket::open(tidegate.address(node), options).await;
        let socket = socket.expect("a good token opens a socket");
        if self == Self::Events {
            fence(&socket, "open").await;
        } else {
            socket.expect("connected").await;
        }
        socket
    }

    /// Listens to these topics, and to no others. Answers those that are refused.
    pub async fn listen(
        self,
        socket: &Socket,
        before: &[String],
        wanted: &[String],
    ) -> Vec<String> {
        if self == Self::Events {
            let topic = |topic: &String| match topic.strip_prefix('@') {
                Some(id) => json!({"kind": "user", "id": id}),
                None => json!({"kind": "conversation", "id": topic}),
            };
            let topics: Vec<_> = wanted.iter().map(topic).collect();
            let data = json!({"topics": topics});
            let frame = json!({"type": "client.system.subscribe", "id": "s", "data": data});
            socket.send(&frame).await;
            let refused = in_force(socket, "s").await;
            return named(&refused, wanted);
        }
        for topic in before.iter().filter(|it| !wanted.contains(it)) {
            if self == Self::Json {
                socket.request("unsubscribe", json_wish(topic)).await;
            } else {
                let headers = [("id", topic.as_str()), ("receipt", topic.as_str())];
                let frame = stomp::frame("UNSUBSCRIBE", &headers, b"");
                socket.send_bytes(&frame).await;
                socket.expect("receipt").await;
            }
        }
        let mut refused = Vec::new();
        for topic in wanted.iter().filter(|it| !before.contains(it)) {
            let reply = if self == Self::Json {
                socket.request("subscribe", json_wish(topic)).await
            } else {
                let destination = match topic.strip_prefix('@') {
                    Some(user) => format!("/topic/presence/{user}"),
                    None => format!("/topic/conversation/{topic}"),
                };
                let receipt = format!("subscribed/{topic}");
                let headers = [
                    ("id", topic.as_str()),
                    ("destination", &destination),
                    ("receipt", &receipt),
                ];
                let frame = stomp::frame("SUBSCRIBE", &headers, b"");
                socket.send_bytes(&frame).await;
                socket.reply_to(topic).await
            };
            let is_refused = reply["payload"]["refused"] != json!([]);
            refused.extend(is_refused.then(|| topic.clone()));
        }
        refused
    }

    /// What a frame tells.
    fn heard(self, frame: &Value) -> Vec<Heard> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let name = frame["type"].as_str().unwrap_or_default();
        let of = if self == Self::Events {
            &frame["data"]
        } else {
            &frame["payload"]
        };
        let place = text(&of["conversationId"]);
        let heard = |what, from: &str, message: Option<String>, on| Heard {
            what,
            place: place.clone().unwrap_or_default(),
            from: text(&of[from]),
            message,
            on,
            status: None,
        };
        let presence = |of: &Value| Heard {
            place: String::new(),
            from: text(&of["userId"]),
            status: text(&of["status"]),
            ..heard("presence", "", None, None)
        };
        match name {
            "message.new" | "server.messenger.message_new" => {
                vec![heard("message", "senderId", text(&of["messageId"]), None)]
            }
            "message.read" => {
                let ids = of["messageIds"].as_array().into_iter().flatten();
                let ids = ids.chain(Some(&of["upTo"])).filter_map(text);
                ids.map(|id| heard("read", "userId", Some(id), None))
                    .collect()
            }
            "server.messenger.message_read" => {
                vec![heard("read", "readerId", text(&of["messageId"]), None)]
            }
            "typing.start" => vec![heard("typing", "userId", None, Some(true))],
            "typing.stop" => vec![heard("typing", "userId", None, Some(false))],
            "server.messenger.typing" => {
                vec![heard("typing", "userId", None, of["isTyping"].as_bool())]
            }
            "presence.online"
            | "presence.offline"
            | "presence.update"
            | "server.presence.update" => vec![presence(of)],
            "server.presence.batch" => {
                let users = of["users"].as_array().into_iter().flatten();
                users.map(presence).collect()
            }
            "unsubscribed" | "server.system.error" => {
                let said = frame.to_string();
                let uuid = said.split(['"', ' ', '/']).find(|it| it.len() == 36);
                vec![Heard {
                    place: uuid.unwrap_or_default().to_owned(),
                    ..heard("lost", "", None, None)
                }]
            }
            _ => Vec::new(),
        }
    }
}

/// What a socket of the JSON dialect wishes to hear.
fn json_wish(topic: &str) -> Value {
    match topic.strip_prefix('@') {
        Some(user) => json!({"topics": ["presence"], "filters": {"user_id": user}}),
        None => {
            json!({"topics": ["conversation", "typing"], "filters": {"conversation_id": topic}})
        }
    }
}

/// Those that the refusals name.
fn named(refused: &[Value], all: &[String]) -> Vec<String> {
    let message = |it: &Value| {
        it["data"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let messages: Vec<_> = refused.iter().map(message).collect();
    let is_named = |topic: &&String| {
        let id = topic.trim_start_matches('@');
        messages.iter().any(|message| message.contains(id))
    };
    all.iter().filter(is_named).cloned().collect()
}
