//! What moderators and administrators do, over two nodes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{
    Deployment, Dialect, Socket, SocketOptions, User, eventually, node::run_with_input,
    rest::Answer, wait::PATIENCE,
};

use super::support::{message, send};

/// One of each role.
struct Scene {
    tidegate: Deployment,
    admin: User,
    moderator: User,
    user: User,
}

impl Scene {
    async fn start() -> Self {
        let tidegate = Deployment::start().await;
        let (code, text) = create_admin(&tidegate, "root1", "root-password-1\n").await;
        assert_eq!(code, Some(0), "{text}");
        let admin = tidegate.login("root1", "root-password-1").await;
        let moderator = tidegate.user("mod1").await;
        let user = tidegate.user("plain1").await;
        let scene = Self {
            tidegate,
            admin,
            moderator,
            user,
        };
        let role = json!({"role": "moderator"});
        let path = format!("/admin/users/{}", scene.moderator.id);
        let made = scene.ask(0, &scene.admin, "PATCH", &path, &role).await;
        assert_eq!(made.status, 200, "{made:?}");
        assert_eq!(made.body["role"], "moderator");
        scene
    }

    async fn ask(&self, node: usize, who: &User, method: &str, path: &str, body: &Value) -> Answer {
        let rest = self.tidegate.gateways[node].rest();
        let path = format!("/api/v1{path}");
        rest.ask(method, &path, &who.token, body)
            .await
            .expect("the gateway answers")
    }

    async fn get(&self, node: usize, who: &User, path: &str) -> Answer {
        self.ask(node, who, "GET", path, &Value::Null).await
    }

    async fn socket(&self, node: usize, who: &User) -> (Socket, Value) {
        let options = SocketOptions::bearer(&who.token);
        let socket = Socket::open(self.tidegate.address(node), options)
            .await
            .unwrap();
        let connected = socket.expect("connected").await;
        (socket, connected)
    }

    /// The audit log, newest first.
    async fn audit(&self) -> Vec<Value> {
        let answer = self.get(0, &self.admin, "/admin/audit?limit=200").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["items"].as_array().unwrap().clone()
    }
}

async fn create_admin(tidegate: &Deployment, name: &str, input: &str) -> (Option<i32>, String) {
    run_with_input(
        "gateway",
        &["create-admin", name],
        tidegate.settings(),
        input,
    )
    .await
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.body["error"]["code"], code, "{answer:?}");
    assert!(answer.body["error"]["requestId"].is_string(), "{answer:?}");
}

#[tokio::test]
async fn the_first_administrator_is_made_at_the_command_line() {
    let tidegate = Deployment::start().await;
    let (code, text) = create_admin(&tidegate, "no name", "long enough\n").await;
    assert_ne!(code, Some(0));
    assert!(text.contains("username"), "{text}");
    let (code, text) = create_admin(&tidegate, "root1", "short\n").await;
    assert_ne!(code, Some(0));
    assert!(text.contains("password"), "{text}");
    let rows = tidegate.database.count("SELECT count(*) FROM users").await;
    assert_eq!(rows, 0, "what is refused changes nothing");

    let (code, text) = create_admin(&tidegate, "root1", "a good password\n").await;
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("a good password"), "{text}");
    let root = tidegate.login("root1", "a good password").await;

    // Somebody who is there is promoted and keeps their password.
    let ann = tidegate.user("ann1").await;
    let (code, text) = create_admin(&tidegate, "ANN1", "").await;
    assert_eq!(code, Some(0), "{text}");
    let rest = tidegate.gateways[1].rest();
    for who in [&root, &ann] {
        let answer = rest
            .ask("GET", "/api/v1/admin/audit", &who.token, &Value::Null)
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let lines = answer.body["items"].as_array().unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["action"], "create-admin");
        assert_eq!(lines[0]["target"], format!("users/{}", ann.id));
        assert!(lines[0]["actor"].is_null());
    }
    let (code, _) = create_admin(&tidegate, "ann1", "").await;
    assert_eq!(code, Some(0), "once more is no error");
}

type Deed = (&'static str, String, Value);

/// Method, path and body; then the status for a user, a moderator, an administrator.
fn deeds(member: String, of_victim: String) -> Vec<(Deed, [u16; 3])> {
    let put = |path: &str, body| ("PUT", path.to_owned(), body);
    let nobody = "0190c1d2-0000-7000-8000-000000000001";
    let group = json!({"mayAllcast": false});
    let allcast = json!({"broadcast": "allcast", "commandType": "message", "content": "x"});
    let tagged = json!({"broadcast": "category", "commandType": "message", "content": "x", "categories": ["general"]});
    let null = Value::Null;
    vec![
        (
            ("GET", "/admin/users".to_owned(), null.clone()),
            [403, 200, 200],
        ),
        (
            ("PATCH", of_victim.clone(), json!({"status": "banned"})),
            [403, 200, 200],
        ),
        (
            ("PATCH", of_victim.clone(), json!({"status": "active"})),
            [403, 200, 200],
        ),
        (
            ("PATCH", of_victim, json!({"role": "user"})),
            [403, 403, 200],
        ),
        (
            ("GET", "/admin/groups".to_owned(), null.clone()),
            [403, 403, 200],
        ),
        (put("/admin/groups/g2", group), [403, 403, 200]),
        (
            ("GET", "/admin/groups/g1/members".to_owned(), null.clone()),
            [403, 403, 200],
        ),
        (put(&member, null.clone()), [403, 403, 204]),
        (("DELETE", member, null.clone()), [403, 403, 204]),
        (
            ("GET", "/admin/categories".to_owned(), null.clone()),
            [403, 403, 200],
        ),
        (
            (
                "POST",
                "/admin/categories".to_owned(),
                json!({"name": "art"}),
            ),
            [403, 403, 201],
        ),
        (
            (
                "PATCH",
                "/admin/categories/art".to_owned(),
                json!({"title": "Art"}),
            ),
            [403, 403, 200],
        ),
        (
            ("GET", "/admin/connections".to_owned(), null.clone()),
            [403, 200, 200],
        ),
        (
            (
                "DELETE",
                format!("/admin/connections/{nobody}"),
                null.clone(),
            ),
            [403, 202, 202],
        ),
        (
            ("GET", "/admin/connections/stats".to_owned(), null.clone()),
            [403, 200, 200],
        ),
        (
            ("POST", "/admin/broadcast".to_owned(), tagged),
            [403, 202, 202],
        ),
        (
            ("POST", "/admin/broadcast".to_owned(), allcast),
            [403, 403, 202],
        ),
        (("GET", "/admin/audit".to_owned(), null), [403, 403, 200]),
    ]
}

#[tokio::test]
async fn each_role_may_what_it_may() {
    let scene = Scene::start().await;
    let group = json!({"mayAllcast": false});
    let made = scene
        .ask(0, &scene.admin, "PUT", "/admin/groups/g1", &group)
        .await;
    assert_eq!(made.status, 200, "{made:?}");
    let member = format!("/admin/groups/g1/members/{}", scene.user.id);
    let victim = scene.tidegate.user("victim1").await;
    let table = deeds(member, format!("/admin/users/{}", victim.id));
    let roles = [&scene.user, &scene.moderator, &scene.admin];
    for ((method, path, body), expected) in &table {
        for (who, status) in roles.into_iter().zip(expected) {
            let answer = scene.ask(1, who, method, path, body).await;
            assert_eq!(
                answer.status, *status,
                "{method} {path} {}: {answer:?}",
                who.name
            );
            if *status == 403 {
                assert_refused(&answer, 403, "forbidden");
            }
        }
        let rest = scene.tidegate.gateways[1].rest();
        let path = format!("/api/v1{path}");
        let answer = rest.ask(method, &path, "no token", body).await.unwrap();
        assert_refused(&answer, 401, "unauthorized");
    }
    // Everything that was refused and everything that was changed has its line.
    let audit = scene.audit().await;
    let refused = table.iter().flat_map(|(_, statuses)| statuses);
    let refused = refused.filter(|status| **status == 403).count();
    let count = |outcome: &str| {
        audit
            .iter()
            .filter(|line| line["outcome"] == outcome)
            .count()
    };
    assert_eq!(count("forbidden"), refused);
    let line = audit
        .iter()
        .find(|line| line["action"] == "POST /admin/categories" && line["outcome"] == "done")
        .unwrap();
    assert_eq!(line["target"], "categories/art");
    assert_eq!(line["actor"], *scene.admin.id);
    assert_eq!(line["address"], "127.0.0.1");
    assert!(line["requestId"].is_string());
}

#[tokio::test]
async fn nobody_harms_themselves_and_moderators_only_plain_users() {
    let scene = Scene::start().await;
    let of = |who: &User| format!("/admin/users/{}", who.id);
    for (who, target, change) in [
        (&scene.admin, &scene.admin, json!({"role": "user"})),
        (&scene.admin, &scene.admin, json!({"status": "banned"})),
        (
            &scene.moderator,
            &scene.moderator,
            json!({"status": "banned"}),
        ),
        (&scene.moderator, &scene.admin, json!({"status": "banned"})),
        (&scene.moderator, &scene.user, json!({"role": "moderator"})),
    ] {
        let answer = scene.ask(0, who, "PATCH", &of(target), &change).await;
        assert_refused(&answer, 403, "forbidden");
    }
    let nobody = "/admin/users/0190c1d2-0000-7000-8000-000000000001";
    let answer = scene
        .ask(0, &scene.admin, "PATCH", nobody, &json!({}))
        .await;
    assert_refused(&answer, 404, "not_found");
    // A role that was taken away counts no longer, at once and on every node.
    let plain = json!({"role": "user"});
    let answer = scene
        .ask(0, &scene.admin, "PATCH", &of(&scene.moderator), &plain)
        .await;
    assert_eq!(answer.status, 200);
    let answer = scene.get(1, &scene.moderator, "/admin/users").await;
    assert_refused(&answer, 403, "forbidden");
}

#[tokio::test]
async fn a_ban_closes_sockets_on_the_other_node_at_once() {
    let scene = Scene::start().await;
    let path = format!("/admin/users/{}", scene.user.id);
    let mut times = Vec::new();
    for _ in 0..3 {
        let (socket, _) = scene.socket(1, &scene.user).await;
        let (other, _) = scene.socket(0, &scene.moderator).await;
        let begun = Instant::now();
        let banned = json!({"status": "banned"});
        let answer = scene
            .ask(0, &scene.moderator, "PATCH", &path, &banned)
            .await;
        assert_eq!(answer.body["status"], "banned", "{answer:?}");
        assert_eq!(socket.closed().await.code(), Some(4403));
        times.push(begun.elapsed());
        assert!(!other.is_closed(), "the others stay");
        let answer = scene.get(1, &scene.user, "/users/profile").await;
        assert_refused(&answer, 403, "forbidden");

        let active = json!({"status": "active"});
        let answer = scene
            .ask(0, &scene.moderator, "PATCH", &path, &active)
            .await;
        assert_eq!(answer.status, 200);
        eventually("the user is let in again", PATIENCE, || async {
            let answer = scene.get(1, &scene.user, "/users/profile").await;
            (answer.status == 200).then_some(())
        })
        .await;
    }
    times.sort();
    assert!(times[1] < Duration::from_secs(1), "{times:?}");
}

#[tokio::test]
async fn sessions_are_listed_over_all_nodes_and_can_be_ended() {
    let scene = Scene::start().await;
    let mut open = Vec::new();
    for node in [0, 1, 1] {
        open.push(scene.socket(node, &scene.user).await);
    }
    let first = scene
        .get(0, &scene.moderator, "/admin/connections?limit=2")
        .await;
    let items = |answer: &Answer| answer.body["items"].as_array().unwrap().clone();
    assert_eq!(items(&first).len(), 2, "{first:?}");
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let path = format!("/admin/connections?limit=2&cursor={cursor}");
    let rest = scene.get(1, &scene.moderator, &path).await;
    assert!(rest.body["nextCursor"].is_null() && rest.body.get("nodes").is_none());
    let mut listed: Vec<_> = [items(&first), items(&rest)].concat();
    assert!(listed.iter().all(|it| it["userId"] == *scene.user.id));
    let mut ids: Vec<_> = listed.drain(..).map(|it| it["sessionId"].clone()).collect();
    let mut expected: Vec<_> = open
        .iter()
        .map(|(_, connected)| connected["payload"]["sessionId"].clone())
        .collect();
    ids.sort_by_key(Value::to_string);
    expected.sort_by_key(Value::to_string);
    assert_eq!(ids, expected);
    let counts = first.body["nodes"].as_array().unwrap().iter();
    let mut counts: Vec<_> = counts
        .filter(|node| node["sessions"] != 0)
        .map(|node| node["sessions"].as_u64().unwrap())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2]);

    let (socket, connected) = open.pop().unwrap();
    let session = connected["payload"]["sessionId"].as_str().unwrap();
    let path = format!("/admin/connections/{session}");
    let answer = scene
        .ask(0, &scene.moderator, "DELETE", &path, &Value::Null)
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    socket.closed().await;
    assert!(
        open.iter().all(|(socket, _)| !socket.is_closed()),
        "the others stay"
    );
    assert_eq!(
        scene.audit().await[0]["target"],
        format!("connections/{session}")
    );
}

#[tokio::test]
async fn sockets_are_counted_by_node_by_dialect_and_by_user() {
    let scene = Scene::start().await;
    let token = &scene.user.token;
    let open = async |node: usize, options: SocketOptions| {
        let socket = Socket::open(scene.tidegate.address(node), options).await;
        socket.expect("a socket")
    };
    let options = || SocketOptions::bearer(token);
    let mut sockets = vec![
        open(0, options().dialect(Dialect::Json)).await,
        open(1, options().stomp()).await,
        open(1, options().events()).await,
        open(1, SocketOptions::bearer(&scene.moderator.token).events()).await,
    ];
    let path = format!("/admin/connections/stats?userId={}", scene.user.id);
    let are_counted = async |all: Value, of_user: Value, at: [u64; 2]| {
        let sum = |counts: &Value| {
            let counts = counts.as_object().unwrap().values();
            counts.map(|it| it.as_u64().unwrap()).sum::<u64>()
        };
        let statistics = eventually("sockets are counted", PATIENCE, async || {
            let answer = scene.get(0, &scene.moderator, &path).await;
            // Asking again and again is too much at some point.
            assert!([200, 429].contains(&answer.status), "{answer:?}");
            let is_it =
                answer.body["dialects"] == all && answer.body["user"]["dialects"] == of_user;
            is_it.then_some(answer.body)
        })
        .await;
        assert_eq!(statistics["sockets"], sum(&all));
        let nodes = statistics["nodes"].as_array().unwrap();
        assert!(nodes.iter().all(|it| it["alive"] == true), "{statistics}");
        let mut counts: Vec<_> = nodes
            .iter()
            .map(|it| {
                assert_eq!(it["sockets"], sum(&it["dialects"]), "{it}");
                it["sockets"].as_u64().unwrap()
            })
            .collect();
        counts.sort_unstable();
        assert_eq!(counts, at, "{statistics}");
        assert_eq!(statistics["user"]["userId"], scene.user.id.as_str());
        let sessions = statistics["user"]["sessions"].as_array().unwrap();
        assert_eq!(sessions.len() as u64, sum(&of_user));
        assert!(sessions.iter().all(|it| it["idle"] == false));
    };
    are_counted(
        json!({"json": 1, "stomp": 1, "events": 2}),
        json!({"json": 1, "stomp": 1, "events": 1}),
        [1, 3],
    )
    .await;
    sockets.pop().unwrap().close().await;
    sockets.pop().unwrap().abort().await;
    are_counted(
        json!({"json": 1, "stomp": 1, "events": 0}),
        json!({"json": 1, "stomp": 1}),
        [1, 1],
    )
    .await;
    let answer = scene.get(1, &scene.admin, "/admin/connections/stats").await;
    assert!(answer.body.get("user").is_none(), "{answer:?}");
}

#[tokio::test]
async fn a_right_that_is_granted_on_one_node_counts_on_the_other() {
    let scene = Scene::start().await;
    let (socket, _) = scene.socket(1, &scene.user).await;
    let allcast = json!({"commandType": "message", "content": "all", "broadcast": "allcast", "categories": []});
    let refused = socket.request("command.create", allcast.clone()).await;
    assert_eq!(refused["payload"]["code"], "forbidden", "{refused}");
    let member = format!("/admin/groups/crew/members/{}", scene.user.id);
    let answer = scene
        .ask(0, &scene.admin, "PUT", &member, &Value::Null)
        .await;
    assert_refused(&answer, 404, "not_found");
    let may = async |may: bool| {
        let rights = json!({"mayAllcast": may});
        let answer = scene
            .ask(0, &scene.admin, "PUT", "/admin/groups/crew", &rights)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let counts = async |wanted: &str| {
        let begun = Instant::now();
        eventually("the right counts on the other node", PATIENCE, || async {
            let reply = socket.request("command.create", allcast.clone()).await;
            (reply["type"] == wanted).then_some(())
        })
        .await;
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
    };
    may(true).await;
    let answer = scene
        .ask(0, &scene.admin, "PUT", &member, &Value::Null)
        .await;
    assert_eq!(answer.status, 204);
    counts("command.accepted").await;
    let profile = scene.get(1, &scene.user, "/users/profile").await;
    assert_eq!(profile.body["mayAllcast"], true);
    // The group loses the right; then it has it again, and the user leaves.
    may(false).await;
    counts("error").await;
    may(true).await;
    counts("command.accepted").await;
    let answer = scene
        .ask(0, &scene.admin, "DELETE", &member, &Value::Null)
        .await;
    assert_eq!(answer.status, 204);
    counts("error").await;
}

#[tokio::test]
async fn a_category_lives_and_retires_on_every_node() {
    let scene = Scene::start().await;
    let list = async |node| {
        let answer = scene.get(node, &scene.user, "/categories").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["items"].as_array().unwrap().clone()
    };
    let seeded: Vec<_> = list(0).await.iter().map(|it| it["name"].clone()).collect();
    assert_eq!(
        seeded,
        ["adult", "censored", "extreme", "feet", "general", "mild"]
    );
    assert_eq!(list(1).await[4]["title"], "General");

    let (socket, _) = scene.socket(1, &scene.user).await;
    let tagged = async || {
        let mut payload = message(&scene.moderator, "tagged");
        payload["categories"] = json!(["art"]);
        socket.request("command.create", payload).await
    };
    let refused = tagged().await;
    assert_eq!(refused["payload"]["code"], "bad_request", "{refused}");
    assert!(
        refused["payload"]["message"]
            .as_str()
            .unwrap()
            .contains("art")
    );

    // The same request again has the same answer; another one under its key has not.
    let rest = scene.tidegate.gateways[0].rest();
    let make = async |body: Value, key: &str| {
        let headers = [("idempotency-key", key)];
        let path = "/api/v1/admin/categories";
        rest.ask_with("POST", path, &scene.admin.token, &body, &headers)
            .await
            .unwrap()
    };
    let art = json!({"name": "art", "title": "Art"});
    let first = make(art.clone(), "k1").await;
    assert_eq!(first.status, 201, "{first:?}");
    let again = make(art.clone(), "k1").await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_refused(&make(json!({"name": "music"}), "k1").await, 409, "conflict");
    assert_refused(&make(art, "k2").await, 409, "conflict");
    eventually(
        "the other node knows it",
        Duration::from_secs(1),
        || async { (tagged().await["type"] == "command.accepted").then_some(()) },
    )
    .await;

    let change = async |body: Value| {
        let answer = scene
            .ask(0, &scene.admin, "PATCH", "/admin/categories/art", &body)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    };
    assert_eq!(
        change(json!({"title": "Fine arts"})).await["title"],
        "Fine arts"
    );
    let retired = change(json!({"retired": true})).await;
    assert!(retired["retiredAt"].is_string() && retired["title"] == "Fine arts");
    eventually(
        "the other node refuses it",
        Duration::from_secs(1),
        || async { (tagged().await["payload"]["code"] == "bad_request").then_some(()) },
    )
    .await;
    assert!(list(1).await.contains(&retired), "it stays readable");
    change(json!({"retired": false})).await;
    eventually("it is in use again", Duration::from_secs(1), || async {
        (tagged().await["type"] == "command.accepted").then_some(())
    })
    .await;
}

#[tokio::test]
async fn profiles_are_written_and_shown() {
    let scene = Scene::start().await;
    let hash = "0".repeat(64);
    let whole = json!({"displayName": "Ann Ä", "bio": "line\nline", "avatar": hash, "unknown": 1});
    let written = scene
        .ask(0, &scene.user, "PUT", "/users/profile", &whole)
        .await;
    assert_eq!(written.status, 200, "{written:?}");
    assert_eq!(written.body["role"], "user");
    let path = format!("/users/{}", scene.user.id);
    let seen = scene.get(1, &scene.moderator, &path).await;
    assert_eq!(
        (&seen.body["displayName"], &seen.body["bio"]),
        (&json!("Ann Ä"), &json!("line\nline"))
    );
    assert!(seen.body.get("role").is_none(), "not for others: {seen:?}");
    for wrong in [
        json!({"displayName": ""}),
        json!({"displayName": "  "}),
        json!({"displayName": "a\u{7}b"}),
        json!({"displayName": "x".repeat(65)}),
        json!({"displayName": 7}),
        json!({"bio": "a\u{0}"}),
        json!({"bio": "x".repeat(1001)}),
        json!({"avatar": "ABC"}),
        json!([]),
    ] {
        let answer = scene
            .ask(0, &scene.user, "PUT", "/users/profile", &wrong)
            .await;
        assert_refused(&answer, 400, "bad_request");
    }
    let seen = scene.get(1, &scene.user, "/users/profile").await;
    assert_eq!(
        seen.body["displayName"], "Ann Ä",
        "a refusal changes nothing"
    );
    // What a command says of its sender follows within a second, on the other node, too.
    let (sender, _) = scene.socket(1, &scene.user).await;
    let (receiver, _) = scene.socket(0, &scene.moderator).await;
    send(&sender, &scene.moderator, "one").await;
    assert_eq!(
        receiver.expect("command.new").await["payload"]["senderName"],
        "Ann Ä"
    );
    scene
        .ask(0, &scene.user, "PUT", "/users/profile", &json!({}))
        .await;
    eventually(
        "the name is the old one again",
        Duration::from_secs(1),
        || async {
            send(&sender, &scene.moderator, "two").await;
            let name = receiver.expect("command.new").await["payload"]["senderName"].clone();
            (name == *scene.user.name).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn a_command_is_seen_by_its_sender_and_its_recipient_only() {
    let scene = Scene::start().await;
    let (sender, _) = scene.socket(0, &scene.user).await;
    let id = send(&sender, &scene.moderator, "for you").await;
    let path = format!("/commands/{id}");
    let own = scene.get(1, &scene.moderator, &path).await;
    assert_eq!(own.status, 200, "{own:?}");
    assert_eq!(own.body["content"], "for you");
    assert_eq!(own.body["status"], "pending");
    assert!(own.body.get("recipients").is_none());
    let sent = scene.get(1, &scene.user, &path).await;
    assert_eq!(
        sent.body["recipients"]["items"][0]["userId"],
        *scene.moderator.id
    );
    assert_eq!(sent.body["counts"]["pending"], 1);
    let none = scene
        .get(1, &scene.user, &format!("{path}?state=completed"))
        .await;
    assert_eq!(none.body["recipients"]["items"], json!([]));
    assert_refused(&scene.get(1, &scene.admin, &path).await, 404, "not_found");
    assert_refused(
        &scene.get(1, &scene.admin, "/commands/x").await,
        400,
        "bad_request",
    );
    let queue = scene
        .get(0, &scene.moderator, "/commands?status=pending&limit=10")
        .await;
    assert_eq!(queue.body["items"][0]["commandId"], *id, "{queue:?}");
    assert!(queue.body["nextCursor"].is_null());

    // A broadcast, with the states of those who confirmed or completed it.
    let (receiver, _) = scene.socket(1, &scene.moderator).await;
    let body = json!({"broadcast": "category", "commandType": "task", "content": "all", "categories": ["general"], "data": {"a": [1]}});
    let rest = scene.tidegate.gateways[0].rest();
    let headers = [("idempotency-key", "b1")];
    let made = async || {
        let path = "/api/v1/admin/broadcast";
        rest.ask_with("POST", path, &scene.admin.token, &body, &headers)
            .await
            .unwrap()
    };
    let (first, again) = (made().await, made().await);
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(first.body, again.body, "the same request is one command");
    let id = first.body["commandId"].as_str().unwrap().to_owned();
    receiver
        .take("the broadcast", PATIENCE, |frame| {
            frame["payload"]["commandId"] == *id
        })
        .await;
    let done = receiver
        .request("command.complete", json!({"commandId": id}))
        .await;
    assert_eq!(done["type"], "command.completed", "{done}");
    let path = format!("/commands/{id}");
    let seen = eventually("the completion is counted", PATIENCE, || async {
        let seen = scene
            .get(0, &scene.admin, &format!("{path}?state=completed"))
            .await;
        (seen.body["counts"]["completed"] == 1).then_some(seen)
    })
    .await;
    assert_eq!(
        seen.body["recipients"]["items"][0]["userId"],
        *scene.moderator.id
    );
    assert_eq!(seen.body["data"], json!({"a": [1]}));
    let own = scene.get(0, &scene.moderator, &path).await;
    assert_eq!(own.body["status"], "completed", "{own:?}");
    let late = scene.tidegate.user("other1").await;
    let other = scene.get(0, &late, &path).await;
    assert!([200, 404].contains(&other.status), "registered about then");
}

#[tokio::test]
async fn preferences_are_the_same_over_rest_and_on_the_socket() {
    let scene = Scene::start().await;
    let (socket, _) = scene.socket(1, &scene.user).await;
    let chosen = json!({"blockedCategories": ["adult"]});
    let put = scene
        .ask(0, &scene.user, "PUT", "/users/preferences", &chosen)
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    let whole = json!({"blockedCategories": ["adult"], "allowedCategories": []});
    assert_eq!(put.body, whole);
    assert_eq!(socket.expect("preferences").await["payload"], whole);
    let got = scene.get(1, &scene.user, "/users/preferences").await;
    assert_eq!(got.body, whole);
    let wrong = json!({"blockedCategories": ["nonesuch"]});
    let answer = scene
        .ask(0, &scene.user, "PUT", "/users/preferences", &wrong)
        .await;
    assert_refused(&answer, 400, "bad_request");
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_and_changes_nothing() {
    let scene = Scene::start().await;
    let before = scene.audit().await.len();
    let long = "g".repeat(65);
    let ok = json!({"mayAllcast": true});
    let title = json!({"name": "fine", "title": ""});
    for (method, path, body) in [
        ("PUT", "/admin/groups/Upper".to_owned(), ok.clone()),
        ("PUT", format!("/admin/groups/{long}"), ok.clone()),
        ("PUT", "/admin/groups/a%00b".to_owned(), ok.clone()),
        ("PUT", "/admin/groups/%FF".to_owned(), ok),
        ("PUT", "/admin/groups/good".to_owned(), json!({})),
        (
            "PUT",
            "/admin/groups/good".to_owned(),
            json!({"mayAllcast": 1}),
        ),
        (
            "PUT",
            "/admin/groups/good/members/x".to_owned(),
            Value::Null,
        ),
        (
            "POST",
            "/admin/categories".to_owned(),
            json!({"name": "Bad"}),
        ),
        ("POST", "/admin/categories".to_owned(), title),
        ("PATCH", "/admin/users/x".to_owned(), json!({})),
        (
            "PATCH",
            format!("/admin/users/{}", scene.user.id),
            json!({"role": "king"}),
        ),
        (
            "POST",
            "/admin/broadcast".to_owned(),
            json!({"broadcast": "user", "commandType": "message", "content": "x"}),
        ),
        (
            "POST",
            "/admin/broadcast".to_owned(),
            json!({"broadcast": "category", "commandType": "message", "content": "x"}),
        ),
        ("DELETE", "/admin/connections/x".to_owned(), Value::Null),
        ("GET", "/admin/users?limit=0".to_owned(), Value::Null),
        ("GET", "/admin/users?limit=x".to_owned(), Value::Null),
        ("GET", "/admin/users?cursor=!".to_owned(), Value::Null),
        ("GET", "/admin/users?query=%00".to_owned(), Value::Null),
        ("GET", "/admin/audit?cursor=eA".to_owned(), Value::Null),
        (
            "GET",
            "/admin/connections/stats?userId=x".to_owned(),
            Value::Null,
        ),
        (
            "GET",
            "/admin/connections?cursor=eA".to_owned(),
            Value::Null,
        ),
        ("GET", "/commands?since=yesterday".to_owned(), Value::Null),
        ("GET", "/commands?status=odd".to_owned(), Value::Null),
    ] {
        let answer = scene.ask(0, &scene.admin, method, &path, &body).await;
        assert_refused(&answer, 400, "bad_request");
    }
    assert_eq!(scene.audit().await.len(), before);
    let groups = scene.get(0, &scene.admin, "/admin/groups").await;
    assert_eq!(groups.body, json!({"items": [], "nextCursor": null}));
}
