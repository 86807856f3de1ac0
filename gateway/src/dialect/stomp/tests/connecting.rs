//! CONNECT, CONNECTED, heart-beats, DISCONNECT.

use super::*;

fn authenticate(frame: &str) -> Authenticate {
    match Line::new().one(frame) {
        Incoming::Authenticate(authenticate) => authenticate,
        other => panic!("{other:?}"),
    }
}

fn token(frame: &str) -> Option<String> {
    authenticate(frame).token.map(|token| token.0)
}

#[test]
fn a_client_is_connected_in_the_highest_common_version() {
    for (accepted, version) in [
        ("accept-version:1.2\nhost:h\n", "1.2"),
        ("accept-version:1.0,1.1,2.0\nhost:h\n", "1.1"),
        ("accept-version:1.0\n", "1.0"),
        ("", "1.0"),
    ] {
        let mut line = Line::new();
        line.one(&format!("CONNECT\n{accepted}\n\0"));
        let _ = line.tell(&Event::Connected(&connected()));
        let beats = match version {
            "1.0" => "",
            _ => "heart-beat:10000,10000\n",
        };
        let expected = format!(
            "CONNECTED\nversion:{version}\n{beats}session:{UUID}\nserver:tidegate/{}\nuser-name:{UUID}\ndevice:default\n\n\0",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(line.written(), [expected]);
    }
}

#[test]
fn a_stomp_frame_is_a_connect_frame() {
    assert_eq!(
        token("STOMP\naccept-version:1.2\nhost:h\npasscode:t\n\n\0").as_deref(),
        Some("t")
    );
}

#[test]
fn without_a_common_version_an_error_lists_those_served() {
    let error = Line::new().broken("CONNECT\naccept-version:2.0,3.1\nhost:h\n\n\0");
    assert!(error.contains("\nversion:1.0,1.1,1.2\n"), "{error}");
    assert!(error.contains("\ncode:bad_request\n"), "{error}");
}

#[test]
fn the_token_is_a_bearer_token_or_the_passcode() {
    let connect = |headers: &str| format!("CONNECT\naccept-version:1.2\nhost:h\n{headers}\n\0");
    for (headers, expected) in [
        ("Authorization:Bearer a.b.c\npasscode:no\n", Some("a.b.c")),
        ("authorization:bearer a.b.c\n", Some("a.b.c")),
        ("login:me\npasscode:a.b.c\n", Some("a.b.c")),
        ("Authorization:Basic x\npasscode:a.b.c\n", Some("a.b.c")),
        ("login:me\npasscode:\n", None),
        ("login:me\n", None),
    ] {
        assert_eq!(token(&connect(headers)).as_deref(), expected, "{headers}");
    }
}

#[test]
fn connect_frames_are_not_escaped() {
    let frame = "CONNECT\naccept-version:1.2\nhost:h\npasscode:a\\nb:c\\t\n\n\0";
    assert_eq!(token(frame).as_deref(), Some("a\\nb:c\\t"));
}

#[test]
fn the_device_may_be_named() {
    let connect = |device| format!("CONNECT\naccept-version:1.2\nhost:h\ndevice:{device}\n\n\0");
    let device = authenticate(&connect("phone-1")).device.unwrap();
    assert_eq!(device.to_string(), "phone-1");
    Line::new().broken(&connect("a b"));
}

#[test]
fn nothing_but_connect_comes_first_and_only_once() {
    Line::new().broken("SEND\ndestination:/app/ping\n\n\0");
    Line::new().broken("DISCONNECT\n\n\0");
    Line::open("1.2").broken("CONNECT\naccept-version:1.2\nhost:h\n\n\0");
}

#[test]
fn heart_beats_are_agreed_on() {
    let rhythm = |beats: &str| {
        let mut line = Line::new();
        line.one(&format!("CONNECT\naccept-version:1.1\nhost:h\n{beats}\n\0"));
        line.dialogue.rhythm()
    };
    assert_eq!(rhythm(""), Rhythm::default());
    assert_eq!(rhythm("heart-beat:0,0\n"), Rhythm::default());
    let both = Rhythm {
        send: Some(Duration::from_secs(30)),
        expect: Some(Duration::from_secs(10)),
    };
    assert_eq!(rhythm("heart-beat:1000,30000\n"), both);
    Line::new().broken("CONNECT\naccept-version:1.1\nhost:h\nheart-beat:1\n\n\0");
}

#[test]
fn a_heart_beat_is_a_line_end() {
    let mut line = Line::open("1.2");
    assert_eq!(line.tell(&Event::Heartbeat), Then::GoOn);
    assert_eq!(line.written(), ["\n"]);
    assert!(line.hear(b"\n").is_empty());
    assert!(line.hear(b"\r\n\n\r\n").is_empty());
}

#[test]
fn a_bad_token_is_an_error_and_the_end() {
    let mut line = Line::new();
    line.one("CONNECT\naccept-version:1.2\nhost:h\npasscode:bad\n\n\0");
    let refusal = Refusal::new(Code::Unauthorized, "the token is malformed");
    let then = line.tell(&Event::AuthFailed {
        to: None,
        refusal: &refusal,
    });
    assert_eq!(then, Then::Close);
    assert_eq!(
        line.written(),
        [
            "ERROR\nmessage:the token is malformed\ncode:unauthorized\ncontent-type:text/plain\ncontent-length:22\n\nthe token is malformed\0"
        ]
    );
}

#[test]
fn disconnect_is_receipted_and_nothing_is_heard_after_it() {
    let mut line = Line::open("1.2");
    let said = line.hear(b"DISCONNECT\nreceipt:77\n\n\0SEND\ndestination:/app/ping\n\n\0");
    assert!(matches!(&said[..], [Ok(Incoming::Leave)]), "{said:?}");
    assert_eq!(line.written(), ["RECEIPT\nreceipt-id:77\n\n\0"]);
    assert!(line.hear(b"SEND\ndestination:/app/ping\n\n\0").is_empty());
}

#[test]
fn a_node_that_goes_away_says_when_to_come_back() {
    let mut line = Line::open("1.2");
    let then = line.tell(&Event::Draining {
        reconnect_after: Duration::from_millis(1_500),
    });
    assert_eq!(then, Then::Close);
    let error = line.written().remove(0);
    assert!(
        error.contains("\ncode:unavailable\nretry-after-ms:1500\n"),
        "{error}"
    );
}
