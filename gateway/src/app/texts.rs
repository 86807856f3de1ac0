//! What was written, as it is kept and as clients see it: decrypted where it is encrypted at rest, and, where it may
//! hold markup, with only such markup left as does no harm. What is stored stays as it was sent.

use std::{borrow::Cow, sync::LazyLock};

use ammonia::Builder;
use serde::Deserialize;
use shared::{
    contents::Contents,
    domain::{Code, ConversationId, Entry, Kind, MessageBody, MessageEdited, Refusal},
};

static SANITISER: LazyLock<Builder<'static>> = LazyLock::new(Builder::default);

/// See the module.
pub struct Texts {
    contents: Contents,
    sanitises: bool,
}

/// What has to be known of a body before it is shown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    conversation_id: ConversationId,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(borrow)]
    sealed: Option<Cow<'a, str>>,
}

impl Texts {
    /// Encrypts and decrypts by `contents`; `sanitises`: markup is cleaned when it is shown.
    pub fn new(contents: Contents, sanitises: bool) -> Self {
        Self {
            contents,
            sanitises,
        }
    }

    /// A text as it is kept, and the id of the key if it was encrypted.
    pub fn seal(
        &self,
        conversation: ConversationId,
        content: &str,
    ) -> Result<(String, Option<String>), Refusal> {
        self.contents.seal(conversation, content).map_err(|error| {
            tracing::error!(%conversation, %error, "a message cannot be encrypted");
            Refusal::new(Code::Internal, "internal error")
        })
    }

    /// A text as it is shown.
    pub fn show(
        &self,
        conversation: ConversationId,
        content: &str,
        sealed: Option<&str>,
    ) -> String {
        match self.contents.open(conversation, content, sealed) {
            Ok(text) => self.clean(&text).into_owned(),
            Err(error) => {
                tracing::error!(%conversation, %error, "a message cannot be decrypted");
                String::new()
            }
        }
    }

    /// An entry as it is shown. Most hold nothing to do, and pass as they are.
    pub fn reveal(&self, entry: Entry) -> Entry {
        if !matches!(entry.kind, Kind::MessageNew | Kind::MessageEdited) {
            return entry;
        }
        let Ok(written) = serde_json::from_slice::<Written<'_>>(&entry.body) else {
            // Nobody gets what cannot be read.
            return entry;
        };
        let sealed = written.sealed.as_deref();
        if sealed.is_none() && matches!(self.clean(&written.content), Cow::Borrowed(_)) {
            return entry;
        }
        let shown = self.show(written.conversation_id, &written.content, sealed);
        let body = match entry.kind {
            Kind::MessageNew => {
                serde_json::from_slice(&entry.body).and_then(|body: MessageBody| {
                    serde_json::to_vec(&MessageBody {
                        content: shown,
                        sealed: None,
                        ..body
                    })
                })
            }
            _ => serde_json::from_slice(&entry.body).and_then(|body: MessageEdited| {
                serde_json::to_vec(&MessageEdited {
                    content: shown,
                    sealed: None,
                    ..body
                })
            }),
        };
        match body {
            Ok(body) => Entry {
                body: body.into(),
                ..entry
            },
            Err(_) => entry,
        }
    }

    /// A text of which nothing else is kept, as it is shown.
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.sanitises && may_hold_markup(text) {
            Cow::Owned(SANITISER.clean(text).to_string())
        } else {
            Cow::Borrowed(text)
        }
    }
}

/// Whether a browser could take some of it for a tag (HTML, 13.2.5.6: what opens one).
fn may_hold_markup(text: &str) -> bool {
    let opens = |next: &u8| next.is_ascii_alphabetic() || matches!(next, b'/' | b'!' | b'?');
    let bytes = text.as_bytes();
    bytes
        .iter()
        .zip(bytes.iter().skip(1))
        .any(|(first, next)| *first == b'<' && opens(next))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use shared::domain::{MessageId, MessageType, Position, SenderType, Timestamp, Topic, UserId};
    use uuid::Uuid;

    use super::*;

    fn shown(content: &str) -> String {
        let texts = Texts::new(Contents::default(), true);
        texts.show(ConversationId(Uuid::nil()), content, None)
    }

    #[test]
    fn harm_is_taken_out_and_plain_text_stays_as_it_is() {
        assert_eq!(shown("hi <script>alert(1)</script>there"), "hi there");
        assert_eq!(shown("<b>bold</b>"), "<b>bold</b>");
        assert!(!shown("<img src=x onerror=alert(1)>").contains("onerror"));
        for plain in ["1 < 2 && 3 > 2", "a <3 b", "AT&T", "<", "", "a & b <"] {
            assert_eq!(shown(plain), plain);
        }
    }

    #[test]
    fn whoever_cleans_nothing_shows_what_was_sent() {
        let texts = Texts::new(Contents::default(), false);
        let content = "<script>alert(1)</script>";
        assert_eq!(
            texts.show(ConversationId(Uuid::nil()), content, None),
            content
        );
    }

    #[test]
    fn an_entry_is_shown_with_all_its_other_fields() {
        let conversation = ConversationId(Uuid::from_u128(1));
        let body = |content: &str| MessageBody {
            message_id: None,
            created_at: None,
            conversation_id: conversation,
            sender_id: UserId(Uuid::from_u128(2)),
            sender_name: "Anna".into(),
            sender_type: SenderType::User,
            content: content.into(),
            sealed: None,
            message_type: MessageType::Text,
            files: Vec::new(),
            uncopied: true,
            change: None,
        };
        let entry = |content: &str| Entry {
            topic: Topic::Conversation(conversation),
            position: Position::START,
            id: MessageId(Uuid::nil()),
            kind: Kind::MessageNew,
            at: Timestamp(0),
            body: Bytes::from(serde_json::to_vec(&body(content)).unwrap()),
        };
        let texts = Texts::new(Contents::default(), true);
        let revealed = texts.reveal(entry("<i onclick=x()>hello</i>"));
        assert_eq!(revealed, entry("<i>hello</i>"));
        assert_eq!(texts.reveal(entry("hello")), entry("hello"));
    }
}
