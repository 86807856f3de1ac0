//! What can go wrong, sorted by what a caller can do about it.

use std::borrow::Cow;

use sqlx::error::DatabaseError;

use crate::domain::Partition;

/// Why a question to Postgres failed.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// Postgres is away, overloaded or restarting, or a day has no partition yet: the same
    /// question may be asked again.
    #[error("postgres is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The data itself was refused (classes 22, 23): retrying cannot help.
    #[error("postgres refused the data")]
    Rejected(#[source] sqlx::Error),
    /// A defect, or a schema that does not fit this program.
    #[error("unexpected answer from postgres")]
    Unexpected(#[source] sqlx::Error),
}

impl From<sqlx::Error> for PgError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Database(refusal) if is_missing_day(refusal.as_ref()) => Self::Unavailable(error),
            E::Database(refusal) => match refusal.code().as_deref() {
                // Conflicts with other transactions, connections, resources, shutdowns; lock waits,
                // a server that was primary a moment ago, a transaction that stood open too long.
                Some(code)
                    if ["08", "40", "53", "57"]
                        .iter()
                        .any(|class| code.starts_with(class))
                        || ["55P03", "25006", "25P03"].contains(&code) =>
                {
                    Self::Unavailable(error)
                }
                Some(code) if code.starts_with("22") || code.starts_with("23") => {
                    Self::Rejected(error)
                }
                _ => Self::Unexpected(error),
            },
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                Self::Unavailable(error)
            }
            _ => Self::Unexpected(error),
        }
    }
}

impl PgError {
    /// True if it took too long: less at a time may do.
    pub fn is_timeout(&self) -> bool {
        matches!(self.code().as_deref(), Some("57014" | "25P03"))
    }

    /// True if rows had no daily partition to go to.
    pub(super) fn is_missing_day(&self) -> bool {
        self.refusal().is_some_and(is_missing_day)
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.refusal()?.code()
    }

    fn refusal(&self) -> Option<&dyn DatabaseError> {
        let (Self::Unavailable(error) | Self::Rejected(error) | Self::Unexpected(error)) = self;
        error.as_database_error()
    }
}

/// "no partition of relation … found for row": the code of a violated CHECK, but nobody's
/// constraint. The row is as good as any.
fn is_missing_day(refusal: &dyn DatabaseError) -> bool {
    refusal.code().as_deref() == Some("23514") && refusal.constraint().is_none()
}

/// Why a batch of the write-behind was not written. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another worker has taken these partitions over, or the position moved: the batch must
    /// not be tried again by this holder.
    #[error("{} partitions are in other hands", .0.len())]
    Fenced(Vec<Partition>),
    /// Postgres did not take it.
    #[error(transparent)]
    Postgres(#[from] PgError),
}

impl WriteError {
    /// True if the batch was too large for its time.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.is_timeout())
    }
}

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Postgres(error.into())
    }
}
