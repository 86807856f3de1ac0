//! Ids that bind the lines of one connection or request together.
//!
//! No spans: one per socket would take a kilobyte of each, one per request four microseconds of
//! each, for lines that are hardly ever written. These ids are only looked at when a line is.

use std::{fmt, sync::Arc};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::domain::{SessionId, UserId};

tokio::task_local! {
    static CURRENT: Arc<Ids>;
}

/// What every line written meanwhile is about. Absent ids are left out.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    /// `session`: the socket.
    pub session: Option<SessionId>,
    /// `user`: whose token it was.
    pub user: Option<UserId>,
    /// `request`: the client's id of it, or ours over REST.
    pub request: Option<Name>,
    /// `type`: what was asked for.
    pub asked: Option<&'static str>,
}

/// A short name from outside that is fit for a log.
#[derive(Debug, Clone)]
pub struct Name(Box<str>);

impl Name {
    /// At most 64 of `[A-Za-z0-9._:-]`; anything else stays out of logs.
    pub fn new(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        ((1..=64).contains(&text.len()) && text.bytes().all(fits)).then(|| Self(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ids {
    /// Of a socket whose user is not known yet.
    pub fn of_session(session: SessionId) -> Self {
        Self {
            session: Some(session),
            ..Self::default()
        }
    }

    /// Lines that `work` writes have these ids, those of tasks it spawns do not.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(Arc::new(self), work).await
    }

    /// The same for what needs no waiting.
    pub fn within<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Arc::new(self), work)
    }

    fn each(
        &self,
        mut put: impl FnMut(&'static str, &dyn fmt::Display) -> fmt::Result,
    ) -> fmt::Result {
        if let Some(session) = &self.session {
            put("session", session)?;
        }
        if let Some(user) = &self.user {
            put("user", user)?;
        }
        if let Some(request) = &self.request {
            put("request", request)?;
        }
        self.asked.map_or(Ok(()), |asked| put("type", &asked))
    }
}

/// Writes a line as `F` does, with the current ids: in JSON as its first fields, else at its end.
pub(super) struct WithIds<F> {
    pub(super) format: F,
    pub(super) json: bool,
}

impl<S, N, F> FormatEvent<S, N> for WithIds<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Ok(ids) = CURRENT.try_with(Arc::clone) else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format
            .format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        // No value needs escaping: they are UUIDs, names of ours, and what `Name` lets through.
        if let Some(rest) = line.strip_prefix('{').filter(|_| self.json) {
            writer.write_char('{')?;
            ids.each(|name, id| write!(writer, "\"{name}\":\"{id}\","))?;
            writeln!(writer, "{rest}")
        } else {
            writer.write_str(line)?;
            ids.each(|name, id| write!(writer, " {name}={id}"))?;
            writeln!(writer)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use parking_lot::Mutex;
    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};
    use uuid::Uuid;

    use super::{super::lines, *};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn ids() -> Ids {
        Ids {
            session: Some(SessionId(Uuid::from_u128(1))),
            user: Some(UserId(Uuid::from_u128(2))),
            request: Name::new("r-1"),
            asked: Some("command.create"),
        }
    }

    fn written(pretty: bool, log: impl FnOnce()) -> String {
        let written = Written::default();
        let subscriber = tracing_subscriber::registry().with(lines(pretty, false, written.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_within_have_the_ids_and_others_do_not() {
        let log = || {
            ids().within(|| tracing::error!(error = "a \"quoted\" one", "it broke"));
            tracing::error!("elsewhere");
        };
        let json = written(false, log);
        let lines: Vec<serde_json::Value> = json
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["session"], Uuid::from_u128(1).to_string());
        assert_eq!(lines[0]["user"], Uuid::from_u128(2).to_string());
        assert_eq!(lines[0]["request"], "r-1");
        assert_eq!(lines[0]["type"], "command.create");
        assert_eq!(lines[0]["error"], "a \"quoted\" one");
        assert_eq!(lines[0]["level"], "ERROR");
        assert!(lines[1].get("session").is_none());

        let pretty = written(true, log);
        let session = format!("session={}", Uuid::from_u128(1));
        assert!(pretty.lines().next().unwrap().contains(&session));
        assert_eq!(pretty.lines().count(), 2);
    }

    #[tokio::test]
    async fn the_innermost_ids_count() {
        let inner = Ids {
            asked: Some("ping"),
            ..Ids::default()
        };
        let asked = || CURRENT.with(|ids| ids.asked);
        ids()
            .during(async {
                assert_eq!(inner.during(async { asked() }).await, Some("ping"));
                assert_eq!(asked(), Some("command.create"));
            })
            .await;
        assert!(CURRENT.try_with(|_| ()).is_err());
    }

    #[test]
    fn only_harmless_names_are_taken() {
        assert!(Name::new("a.B_c-9:1").is_some());
        for text in ["", "a b", "a\"b", "a\nb", "ü", &"x".repeat(65)] {
            assert!(Name::new(text).is_none(), "{text}");
        }
    }
}
