//! SEND, RECEIPT and ERROR.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;

fn request(frame: &str) -> Request {
    match Line::open("1.2").one(frame) {
        Incoming::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(request.body.as_bytes()).unwrap()
}

fn send(destination: &str, headers: &str, body: &str) -> String {
    format!("SEND\ndestination:{destination}\n{headers}\n{body}\0")
}

const HI: &str = r#"{"content":"hi"}"#;

/// The bytes that the content of a message stands for.
pub(super) fn bytes_of(request: &Request) -> Vec<u8> {
    let body = body(request);
    let content = body["message"].as_str().unwrap();
    let encoded = content
        .strip_prefix("data:application/octet-stream;base64,")
        .expect(content);
    STANDARD.decode(encoded).unwrap()
}

#[test]
fn chat_send_is_the_request_chat_message() {
    let text = r#"{ "content" : "h\u00e9 <b>", "conversationId":"c", "messageType":"TEXT","files":[{"hash":"x", "filename":"y"}], "other": 1 }"#;
    let request = request(&send("/app/chat.send", "client-id:m1\n", text));
    assert_eq!(&*request.name, "chat.message");
    assert_eq!(request.id, Some("m1".parse().unwrap()));
    assert_eq!(
        body(&request),
        json!({"conversationId": "c", "message": "hé <b>", "messageType": "TEXT", "files": [{"hash": "x", "filename": "y"}]})
    );
}

#[test]
fn typing_and_read_receipts_have_names_of_their_own() {
    let typing = |on| {
        let text = json!({"conversationId": UUID, "isTyping": on}).to_string();
        request(&send("/app/chat.typing", "", &text))
    };
    assert_eq!(&*typing(true).name, "typing.start");
    assert_eq!(&*typing(false).name, "typing.stop");
    assert_eq!(body(&typing(true)), json!({ "conversationId": UUID }));
    let text = json!({"conversationId": UUID, "upTo": UUID}).to_string();
    let read = request(&send("/app/chat.read", "", &text));
    assert_eq!(&*read.name, "mark.read");
    assert_eq!(read.body.as_bytes(), text.as_bytes());
}

#[test]
fn any_request_can_be_sent_to() {
    let text = r#"{ "commandType":"task" }"#;
    let command = request(&send("/app/command.create", "receipt:7\n", text));
    assert_eq!(&*command.name, "command.create");
    assert_eq!(command.body.as_bytes(), text.as_bytes());
    assert_eq!(
        command.id, None,
        "a receipt is a name on this connection only"
    );
    let ping = request(&send("/app/ping", "", ""));
    assert_eq!(ping.body, Body::EMPTY);
}

#[test]
fn a_session_is_refreshed_by_authenticate() {
    let mut line = Line::open("1.2");
    let said = line.one(&send(
        "/app/authenticate",
        "receipt:r\n",
        r#"{"token":"a.b.c"}"#,
    ));
    let Incoming::Authenticate(Authenticate {
        token: Some(token), ..
    }) = said
    else {
        panic!("{said:?}")
    };
    assert_eq!(token.0, "a.b.c");
    let _ = line.tell(&Event::AuthSuccess {
        to: None,
        user: UUID.parse().unwrap(),
        expires_at: Timestamp(0),
    });
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:r\n\n\0"]);
    let (refusal, _) = line.refused(&send("/app/authenticate", "", r#"{"token":["secret"]}"#));
    assert!(!refusal.message.contains("secret"), "{refusal}");
}

#[test]
fn text_bodies_are_the_content_as_they_are() {
    let headers = "content-type:text/plain;charset=utf-8\nconversation-id:c\nmessage-type:TEXT\n";
    let request = request(&send("/app/chat.send", headers, "{\"é\n"));
    assert_eq!(
        body(&request),
        json!({"conversationId": "c", "message": "{\"é\n", "messageType": "TEXT"})
    );
}

#[test]
fn bodies_of_any_bytes_survive_with_a_content_length() {
    let bytes: Vec<u8> = (0..=255).chain([0, 10, 0]).collect();
    let mut frame = format!(
        "SEND\ndestination:/app/chat.send\ncontent-type:application/octet-stream\n\
         conversation-id:c\ncontent-length:{}\n\n",
        bytes.len()
    )
    .into_bytes();
    frame.extend(&bytes);
    frame.push(0);
    let said = Line::open("1.2").hear(&frame);
    let [Ok(Incoming::Request(request))] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(bytes_of(request), bytes);
}

#[test]
fn bodies_that_nobody_can_store_are_refused() {
    for (headers, text) in [
        ("", "no json"),
        ("", "[1]"),
        ("", r#"{"content":"a\u0000b"}"#),
        ("", r#"{"content":1,"content":2}"#),
        ("content-type:application/json\n", "{"),
        ("content-type:nonsense\n", "x"),
        ("content-type:a/b,c\n", "x"),
        ("content-type:text/plain\ncontent-length:1\n", "\u{0}"),
        ("client-id:\n", HI),
        ("", r#"{"conversationId":"c"}"#),
    ] {
        let (refusal, is_fatal) = Line::open("1.2").refused(&send("/app/chat.send", headers, text));
        assert_eq!(refusal.code, Code::BadRequest, "{text}");
        assert!(!is_fatal, "{text}");
    }
}

#[test]
fn other_destinations_are_not_sent_to() {
    for destination in ["/topic/conversation/x", "/user/queue/messages", "/app/", ""] {
        let (refusal, is_fatal) = Line::open("1.2").refused(&send(destination, "", "{}"));
        assert_eq!(refusal.code, Code::NotFound, "{destination}");
        assert!(!is_fatal);
    }
}

#[test]
fn a_receipt_comes_when_the_request_was_accepted() {
    let mut line = Line::open("1.2");
    line.one(&send("/app/x", "receipt:r\n", ""));
    assert!(line.written().is_empty(), "not before");
    let _ = line.tell(&Event::Reply {
        to: None,
        name: "accepted",
        payload: &Json::of(&json!({})),
        always: false,
    });
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:r\n\n\0"]);
    // And only if it was asked for.
    line.hear(send("/app/x", "", "").as_bytes());
    assert!(line.written().is_empty());
}

#[test]
fn sent_messages_are_acknowledged_where_acks_are_listened_to() {
    let mut line = Line::open("1.2");
    line.hear(b"SUBSCRIBE\nid:a:1\ndestination:/user/queue/acks\n\n\0");
    line.hear(send("/app/chat.send", "client-id:m1\nreceipt:r\n", HI).as_bytes());
    let ack = format!(r#"{{"messageId":"{UUID}","clientId":"m1","status":"SENT"}}"#);
    assert_eq!(
        line.written(),
        [
            "RECEIPT\nreceipt-id:r\n\n\0".to_owned(),
            format!(
                "MESSAGE\nsubscription:a\\c1\nmessage-id:own@1\ndestination:/user/queue/acks\nack:own@1\ntype:chat.ack\nreply-to:m1\ncontent-type:application/json\ncontent-length:{}\n\n{ack}\0",
                ack.len()
            )
        ]
    );
    // Without a client-id its receipt names the message.
    line.hear(send("/app/chat.send", "receipt:r2\n", HI).as_bytes());
    assert!(line.written()[1].contains(r#""clientId":"r2""#));
    line.hear(send("/app/chat.send", "", HI).as_bytes());
    assert!(line.written()[0].contains(r#""clientId":null"#));
    // What answers another request comes as it is.
    line.hear(send("/app/x", "client-id:q\n", "").as_bytes());
    let reply = line.written().remove(0);
    assert!(reply.contains("\ntype:accepted\nreply-to:q\n"), "{reply}");
    let payload = format!("{{\"messageId\":\"{UUID}\"}}\0");
    assert!(reply.ends_with(&payload), "{reply}");
    // Without a name it would mean nothing, unless it is all that was wanted.
    line.hear(send("/app/x", "", "").as_bytes());
    assert!(line.written().is_empty());
    line.one(&send("/app/ping", "", ""));
    let _ = line.tell(&Event::Reply {
        to: None,
        name: "pong",
        payload: &Json::of(&json!({})),
        always: true,
    });
    assert!(line.written()[0].contains("\ntype:pong\n"));
}

#[test]
fn a_refusal_ends_the_connection_unless_errors_are_listened_to() {
    let refusal =
        Refusal::new(Code::RateLimited, "too: many").retry_after(Duration::from_millis(20));
    let event = Event::Error {
        to: None,
        refusal: &refusal,
    };
    let mut line = Line::open("1.2");
    line.one(&send("/app/x", "receipt:r\n", ""));
    assert_eq!(line.tell(&event), Then::Close);
    assert_eq!(
        line.written(),
        [
            "ERROR\nmessage:too\\c many\ncode:rate_limited\nreceipt-id:r\nretry-after-ms:20\ncontent-type:text/plain\ncontent-length:9\n\ntoo: many\0"
        ]
    );
    assert!(line.hear(b"SEND\ndestination:/app/x\n\n\0").is_empty());

    let mut line = Line::open("1.2");
    line.hear(b"SUBSCRIBE\nid:e\ndestination:/user/queue/errors\n\n\0");
    line.one(&send("/app/x", "receipt:r\nclient-id:c\n", ""));
    assert_eq!(line.tell(&event), Then::GoOn);
    let body = r#"{"code":"rate_limited","message":"too: many","retryAfterMs":20,"clientId":"c"}"#;
    assert_eq!(
        line.written(),
        [format!(
            "MESSAGE\nsubscription:e\nmessage-id:own@1\ndestination:/user/queue/errors\nack:own@1\ntype:error\ncode:rate_limited\nreceipt-id:r\nreply-to:c\ncontent-type:application/json\ncontent-length:{}\n\n{body}\0",
            body.len()
        )]
    );
    assert_eq!(line.hear(b"SEND\ndestination:/app/x\n\n\0").len(), 1);
    // What is no frame ends it in any case.
    line.broken("NONSENSE\n\n\0");
}
