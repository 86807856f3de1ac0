//! One speaks JSON, the other STOMP: neither can tell from what comes.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use testkit::{Deployment, Dialect, Socket, SocketOptions, User, socket::stomp, wait::PATIENCE};

use crate::{
    broadcasts::to_category,
    conversations::{expect_message, group, say},
    support::{expect_content, expect_status, id_of, message, send},
};

/// Who begins, and who answers.
const BOTH_WAYS: [[Dialect; 2]; 2] = [
    [Dialect::Json, Dialect::Stomp],
    [Dialect::Stomp, Dialect::Json],
];

/// What has to be escaped in one of the dialects, or is more than one byte.
const AWKWARD: &str = "ünïcode 🎉 \"quoted\" \\c \\ a:b\r\nbreak\n\n";

async fn connect(
    tidegate: &Deployment,
    gateway: usize,
    user: &User,
    device: &str,
    dialect: Dialect,
) -> Socket {
    let options = SocketOptions::bearer(&user.token).device(device);
    let (socket, _) = tidegate
        .connect_with(gateway, options.dialect(dialect))
        .await;
    socket
}

/// Ann and Bob, on a node each.
async fn two(tidegate: &Deployment, round: usize, [one, other]: [Dialect; 2]) -> (Pair, Pair) {
    let mut pairs = Vec::new();
    for (gateway, (name, dialect)) in [("ann", one), ("bob", other)].into_iter().enumerate() {
        let user = tidegate.user(&format!("{name}{round}")).await;
        let socket = connect(tidegate, gateway, &user, "phone", dialect).await;
        pairs.push((user, socket));
    }
    let bob = pairs.pop().unwrap();
    (pairs.pop().unwrap(), bob)
}

type Pair = (User, Socket);

#[tokio::test]
async fn commands_and_their_states_go_from_one_dialect_to_the_other() {
    let tidegate = Deployment::start().await;
    for (round, dialects) in BOTH_WAYS.into_iter().enumerate() {
        let ((ann, ann_socket), (bob, bob_socket)) = two(&tidegate, round, dialects).await;
        let mut body = message(&bob, AWKWARD);
        body["data"] = json!({"b": [1, 2.5, null, true], "": AWKWARD});
        let accepted = ann_socket.request("command.create", body.clone()).await;
        assert_eq!(accepted["type"], "command.accepted", "{accepted}");
        let id = id_of(&accepted);

        let frame = expect_content(&bob_socket, AWKWARD).await;
        assert_eq!(frame["payload"]["commandId"], id.as_str(), "{frame}");
        assert_eq!(frame["payload"]["senderId"], ann.id.as_str(), "{frame}");
        assert_eq!(frame["payload"]["data"], body["data"], "{frame}");
        // The envelope of the testkit hides the difference; this shows that there is one.
        let is_stomp = frame["stomp"]["command"] == "MESSAGE";
        assert_eq!(is_stomp, dialects[1] == Dialect::Stomp, "{frame}");
        expect_status(&ann_socket, &id, "delivered").await;
        let by_id = json!({"commandId": id});
        let done = bob_socket.request("command.complete", by_id).await;
        assert_eq!(done["type"], "command.completed", "{done}");
        expect_status(&ann_socket, &id, "completed").await;
    }
}

#[tokio::test]
async fn broadcasts_reach_both_dialects_alike() {
    let tidegate = Deployment::start().await;
    let dialects = [Dialect::Json, Dialect::Stomp];
    let ((_, ann_socket), (_, bob_socket)) = two(&tidegate, 0, dialects).await;
    let sockets = [&ann_socket, &bob_socket];
    for from in sockets {
        let accepted = from
            .request("command.create", to_category(AWKWARD, &["mild", "feet"]))
            .await;
        assert_eq!(accepted["type"], "command.accepted", "{accepted}");
        let mut heard = Vec::new();
        for socket in sockets {
            let mut frame = expect_content(socket, AWKWARD).await;
            assert_eq!(frame["topic"], "broadcast", "{frame}");
            heard.push(["epoch", "offset", "payload"].map(|field| frame[field].take()));
        }
        assert_eq!(heard[0], heard[1]);
    }
    for socket in sockets {
        let chosen = json!({"blockedCategories": ["feet"], "allowedCategories": []});
        socket.request("preferences.update", chosen).await;
        socket.expect("preferences").await;
    }
    for from in sockets {
        for (content, tags) in [("kept from both", ["feet"]), ("for both", ["mild"])] {
            from.request("command.create", to_category(content, &tags))
                .await;
        }
        for socket in sockets {
            expect_content(socket, "for both").await;
        }
    }
}

#[tokio::test]
async fn what_is_said_in_one_dialect_is_heard_in_the_other() {
    let tidegate = Deployment::start().await;
    for (round, dialects) in BOTH_WAYS.into_iter().enumerate() {
        let ((ann, ann_socket), (bob, bob_socket)) = two(&tidegate, round, dialects).await;
        let payload = json!({"targetUser": bob.id, "message": AWKWARD});
        let accepted = ann_socket.request("chat.message", payload).await;
        assert_eq!(accepted["type"], "chat.accepted", "{accepted}");
        let id = accepted["payload"]["conversationId"].as_str().unwrap();

        let frame = expect_message(&bob_socket, AWKWARD).await;
        let told = &frame["payload"];
        assert_eq!(told["messageId"], accepted["payload"]["messageId"]);
        assert_eq!(told["createdAt"], accepted["payload"]["createdAt"]);
        assert_eq!(told["conversationId"], id);
        assert_eq!(told["senderId"], ann.id.as_str());
        assert_eq!(told["senderName"], ann.name.as_str());
        assert_eq!(told["senderType"], "USER");
        assert_eq!(told["messageType"], "TEXT");
        assert_eq!(told["files"], json!([]));

        say(&bob_socket, id, "an answer").await;
        expect_message(&ann_socket, AWKWARD).await;
        expect_message(&ann_socket, "an answer").await;
        expect_message(&bob_socket, "an answer").await;

        // And what becomes of it.
        let said = json!({"messageId": told["messageId"]});
        let mut edit = said.clone();
        edit["message"] = "better".into();
        let reply = ann_socket.request("message.edit", edit).await;
        assert_eq!(reply["type"], "message.edited", "{reply}");
        let reply = ann_socket.request("message.delete", said).await;
        assert_eq!(reply["type"], "message.deleted", "{reply}");
        let edited = bob_socket.expect("message.edited").await;
        assert_eq!(edited["payload"]["messageId"], told["messageId"]);
        assert_eq!(edited["payload"]["content"], "better", "{edited}");
        let deleted = bob_socket.expect("message.deleted").await;
        assert_eq!(deleted["payload"]["messageId"], told["messageId"]);
    }
}

#[tokio::test]
async fn receipts_and_typing_go_from_one_dialect_to_the_other() {
    let tidegate = Deployment::start().await;
    for (round, dialects) in BOTH_WAYS.into_iter().enumerate() {
        let ((ann, ann_socket), (bob, bob_socket)) = two(&tidegate, round, dialects).await;
        let id = group(&tidegate, &[&ann, &bob]).await;
        let topics = json!(["conversation", "typing"]);
        let wish = json!({"topics": topics, "filters": {"conversation_id": id}});
        let reply = ann_socket.request("subscribe", wish).await;
        assert_eq!(reply["type"], "subscribed", "{reply}");
        assert_eq!(reply["payload"]["refused"], json!([]), "{reply}");
        let said = say(&ann_socket, &id, "read me").await;
        expect_message(&bob_socket, "read me").await;

        let here = json!({"conversationId": id});
        bob_socket.request("typing.start", here.clone()).await;
        let typing = ann_socket.expect("typing.start").await;
        assert_eq!(typing["payload"]["userId"], bob.id.as_str(), "{typing}");
        bob_socket.request("typing.stop", here).await;
        ann_socket.expect("typing.stop").await;
        let up_to = json!({"conversationId": id, "upTo": said});
        bob_socket.request("mark.read", up_to).await;
        let read = ann_socket.expect("message.read").await;
        assert_eq!(read["payload"]["userId"], bob.id.as_str(), "{read}");
        assert_eq!(read["payload"]["upTo"], said.as_str(), "{read}");
    }
}

/// The destinations that the dialect has for what the other has a request for.
#[tokio::test]
async fn what_is_sent_to_the_destinations_of_conversations_is_heard_in_json() {
    let tidegate = Deployment::start().await;
    let ((ann, ann_socket), (bob, bob_socket)) =
        two(&tidegate, 0, [Dialect::Stomp, Dialect::Json]).await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    let wish = json!({"topics": ["conversation", "typing"], "filters": {"conversation_id": id}});
    bob_socket.request("subscribe", wish).await;

    let body = json!({"conversationId": id, "content": AWKWARD, "messageType": "TEXT"});
    let reply = sent(&ann_socket, "/app/chat.send", &body).await;
    assert_eq!(reply["type"], "chat.ack", "{reply}");
    assert_eq!(reply["payload"]["status"], "SENT", "{reply}");
    let said = &reply["payload"]["messageId"];
    let frame = expect_message(&bob_socket, AWKWARD).await;
    assert_eq!(frame["payload"]["messageId"], *said, "{frame}");

    let body = json!({"conversationId": id, "isTyping": true});
    sent(&ann_socket, "/app/chat.typing", &body).await;
    let typing = bob_socket.expect("typing.start").await;
    assert_eq!(typing["payload"]["userId"], ann.id.as_str(), "{typing}");
    let body = json!({"conversationId": id, "upTo": said});
    sent(&ann_socket, "/app/chat.read", &body).await;
    let read = bob_socket.expect("message.read").await;
    assert_eq!(read["payload"]["upTo"], *said, "{read}");
}

/// Sends a body to a destination and gives the answer that comes to `/user/queue/acks`.
async fn sent(socket: &Socket, destination: &str, body: &Value) -> Value {
    let headers = [("destination", destination), ("client-id", destination)];
    let frame = stomp::frame("SEND", &headers, body.to_string().as_bytes());
    socket.send_bytes(&frame).await;
    socket.reply_to(destination).await
}

#[tokio::test]
async fn a_body_of_any_bytes_comes_unchanged_in_both_dialects() {
    let tidegate = Deployment::start().await;
    let ((ann, ann_socket), (bob, bob_socket)) =
        two(&tidegate, 0, [Dialect::Stomp, Dialect::Json]).await;
    let bob_tablet = connect(&tidegate, 0, &bob, "tablet", Dialect::Stomp).await;
    let id = group(&tidegate, &[&ann, &bob]).await;
    // Every byte there is, with all that means something to the protocol, and more than once.
    let body: Vec<u8> = (0..=255_u8)
        .chain(*b"\0\0\n\nSEND\n\n\0<script>&amp;</script>")
        .chain((0..=255).rev())
        .collect();
    let length = body.len().to_string();
    let headers = [
        ("destination", "/app/chat.send"),
        ("conversation-id", &*id),
        ("content-type", "image/png"),
        ("content-length", &*length),
        ("client-id", "picture"),
    ];
    let frame = stomp::frame("SEND", &headers, &body);
    // In pieces, the second of which begins amid the body.
    let (first, second) = frame.split_at(frame.len() - body.len());
    ann_socket.send_binary(first).await;
    ann_socket.send_binary(second).await;
    let reply = ann_socket.reply_to("picture").await;
    assert_eq!(reply["type"], "chat.ack", "{reply}");

    let url = format!("data:image/png;base64,{}", STANDARD.encode(&body));
    for socket in [&ann_socket, &bob_socket, &bob_tablet] {
        expect_message(socket, &url).await;
    }
    let path = format!("GET /conversations/{id}/messages");
    let page = crate::conversations::ask(&tidegate, 1, &bob, &path, Value::Null).await;
    let items = page["items"].as_array().expect("a list");
    assert!(
        items.iter().any(|item| item["content"] == url.as_str()),
        "{page}"
    );
}

#[tokio::test]
async fn a_device_that_comes_back_in_the_other_dialect_misses_nothing() {
    let tidegate = Deployment::start().await;
    for (round, [before, after]) in BOTH_WAYS.into_iter().enumerate() {
        let ann = tidegate.user(&format!("ann{round}")).await;
        let bob = tidegate.user(&format!("bob{round}")).await;
        let ann_socket = connect(&tidegate, 0, &ann, "laptop", before).await;
        let phone = connect(&tidegate, 0, &bob, "phone", before).await;
        let id = group(&tidegate, &[&ann, &bob]).await;
        say(&ann_socket, &id, "seen").await;
        expect_message(&phone, "seen").await;
        let seen = send(&ann_socket, &bob, "seen").await;
        expect_content(&phone, "seen").await;
        expect_status(&ann_socket, &seen, "delivered").await;
        phone.close().await;

        say(&ann_socket, &id, "missed").await;
        send(&ann_socket, &bob, "missed").await;
        let phone = connect(&tidegate, 1, &bob, "phone", after).await;
        // What was seen may come again; that is not what this is about.
        until(&phone, "message.new", "missed").await;
        until(&phone, "command.new", "missed").await;
        say(&ann_socket, &id, "live").await;
        until(&phone, "message.new", "live").await;
    }
}

/// Waits for a frame of this type and content, whatever comes before it.
async fn until(socket: &Socket, name: &str, content: &str) {
    let wanted = |it: &Value| it["type"] == name && it["payload"]["content"] == content;
    socket.take(content, PATIENCE, wanted).await;
}
