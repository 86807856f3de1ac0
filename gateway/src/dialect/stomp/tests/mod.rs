//! Golden frames, and what each rule of the specification means here. `docs/STOMP.md` names the
//! test of each.

mod acks;
mod connecting;
mod frames;
mod golden;
mod sending;
mod subscribing;
mod transactions;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use shared::domain::*;

use crate::dialect::*;

pub(super) const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// One socket, as its session sees it.
pub(super) struct Line {
    dialogue: Box<dyn Dialogue>,
    out: VecDeque<Bytes>,
}

pub(super) type Said = Result<Incoming, Unreadable>;

/// How the session goes about a frame, unless a test wants otherwise.
fn answer(said: &Said) -> Answer {
    let outcome = match said {
        Ok(Incoming::Subscribe(wanted)) => Ok(Outcome::Subscribed(Subscribed {
            granted: wanted.wishes.iter().map(|wish| wish.interest).collect(),
            ..Subscribed::default()
        })),
        Ok(Incoming::Request(_)) => Ok(Outcome::Reply {
            name: "accepted".into(),
            payload: Json::of(&serde_json::json!({ "messageId": UUID })),
            always: false,
        }),
        Ok(_) => Ok(Outcome::Done),
        Err(unreadable) => Err(unreadable.refusal.clone()),
    };
    Answer { to: None, outcome }
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            dialogue: DialectId::Stomp.open(Terms {
                frame_bytes: 64 * 1024,
                heartbeat: Duration::from_secs(10),
            }),
            out: VecDeque::new(),
        }
    }

    /// After a CONNECT for this version.
    pub(super) fn open(version: &str) -> Self {
        let mut line = Self::new();
        let connect = match version {
            "1.0" => "CONNECT\npasscode:t\n\n\0".to_owned(),
            _ => format!("CONNECT\naccept-version:{version}\nhost:h\npasscode:t\n\n\0"),
        };
        let said = line.read(connect.as_bytes());
        assert!(
            matches!(said, Some(Ok(Incoming::Authenticate(_)))),
            "{said:?}"
        );
        let _ = line.tell(&Event::Connected(&connected()));
        let frames = line.written();
        assert!(frames[0].starts_with("CONNECTED\n"), "{frames:?}");
        line
    }

    /// One message, as the session hands it on: what it says first.
    fn read(&mut self, message: &[u8]) -> Option<Said> {
        let message = Bytes::copy_from_slice(message);
        self.dialogue.read(Frame::Binary(message))
    }

    /// Everything that a message says, each thing answered as a session would.
    pub(super) fn hear(&mut self, message: &[u8]) -> Vec<Said> {
        let mut all = Vec::new();
        let mut next = self.read(message);
        while let Some(said) = next {
            let _ = self.dialogue.write(&answer(&said).event(), &mut self.out);
            all.push(said);
            next = self.dialogue.more();
        }
        all
    }

    /// The only thing that a message says, not answered yet.
    fn one(&mut self, message: &str) -> Incoming {
        self.read(message.as_bytes())
            .expect("it says something")
            .unwrap_or_else(|unreadable| panic!("{message}: {unreadable:?}"))
    }

    /// A message that is answered with a refusal, or with the end; which, tells the bool.
    fn refused(&mut self, message: &str) -> (Refusal, bool) {
        let said = self.read(message.as_bytes()).expect("it says something");
        let unreadable = said.expect_err(message);
        let _ = self.tell(&Event::Error {
            to: None,
            refusal: &unreadable.refusal,
        });
        (unreadable.refusal, unreadable.is_fatal)
    }

    /// The message breaks the rules: an ERROR says so, and nothing is understood after it.
    fn broken(&mut self, message: &str) -> String {
        let (refusal, is_fatal) = self.refused(message);
        assert!(is_fatal, "{message}: {refusal}");
        let frames = self.written();
        assert_eq!(frames.len(), 1, "{frames:?}");
        assert!(frames[0].starts_with("ERROR\n"), "{frames:?}");
        let after = self.read(b"DISCONNECT\nreceipt:r\n\n\0");
        assert!(after.is_none(), "{after:?}");
        frames[0].clone()
    }

    fn tell(&mut self, event: &Event<'_>) -> Then {
        self.dialogue.write(event, &mut self.out)
    }

    fn done(&mut self) {
        assert_eq!(self.tell(&Event::Done), Then::GoOn);
    }

    /// The frames written since, with `\0` at their ends, as text.
    pub(super) fn written(&mut self) -> Vec<String> {
        self.out.drain(..).map(|frame| payload(&frame)).collect()
    }
}

/// The payload of a text message, whose header is checked.
fn payload(frame: &[u8]) -> String {
    assert_eq!(frame[0], 0x81);
    let (start, length) = match frame[1] {
        126 => (4, usize::from(u16::from_be_bytes([frame[2], frame[3]]))),
        127 => panic!("a long frame"),
        short => (2, usize::from(short)),
    };
    assert_eq!(frame.len(), start + length);
    String::from_utf8(frame[start..].to_vec()).expect("text is UTF-8")
}

fn connected() -> Connected {
    Connected {
        session_id: UUID.parse().unwrap(),
        user_id: UUID.parse().unwrap(),
        device: Device::default(),
        node: "gw-1".parse().unwrap(),
        heartbeat: Heartbeat {
            interval_ms: 25_000,
            max_missed: 3,
        },
        limits: Limits {
            frame_bytes: 65_536,
            content_bytes: 16_384,
            frames_per_second: 50,
            frames_burst: 150,
            messages_per_second: 20,
            messages_burst: 60,
            sessions_per_user: 10,
        },
        resumed: Resumed {
            from: Position::START,
            replayed: 0,
            complete: true,
        },
    }
}
