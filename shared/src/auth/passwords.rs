//! Passwords: argon2id with 19 MiB, two passes, one lane (the second recommended option of the OWASP
//! cheat sheet), about 20 ms of a core. Done on threads of their own, few at a time, with a bounded
//! queue before them: sockets must not feel somebody's log-ins.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::phc::PasswordHash,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Secret;

/// Longer passwords are refused: hashing them costs time.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// Why a password was not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many are waiting already.
    #[error("too many log-ins at the moment")]
    Busy,
    /// Longer than [`MAX_PASSWORD_BYTES`].
    #[error("the password is too long")]
    TooLong,
    /// A defect, which was logged.
    #[error("the password could not be hashed")]
    Failed,
}

/// Hashes and verifies. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    /// One permit for each that is worked on or waits.
    queue: Arc<Semaphore>,
    /// One permit for each that is worked on.
    workers: Arc<Semaphore>,
    /// Verified instead when there is no such user, so that this takes as long.
    decoy: Arc<str>,
}

fn argon2() -> Argon2<'static> {
    let params =
        Params::new(19 * 1024, 2, 1, None).expect("the parameters lie within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

impl Passwords {
    /// At most `workers` at a time (half the cores if `None`), at most `queue` waiting.
    pub fn new(workers: Option<u32>, queue: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = workers.map_or(cores / 2, |n| n as usize).max(1);
        let decoy = argon2()
            .hash_password(b"nobody has this password")
            .map(|hash| hash.to_string());
        Self {
            queue: Arc::new(Semaphore::new(workers + queue as usize)),
            workers: Arc::new(Semaphore::new(workers)),
            decoy: decoy.expect("hashing a constant with a fresh salt").into(),
        }
    }

    /// The hash of a new password as a PHC string, with its parameters and salt.
    pub async fn hash(&self, password: Secret) -> Result<String, PasswordError> {
        self.work(password, |password| {
            argon2()
                .hash_password(password)
                .map(|hash| hash.to_string())
                .map_err(|error| {
                    tracing::error!(%error, "hashing failed");
                    PasswordError::Failed
                })
        })
        .await?
    }

    /// Whether the password belongs to the hash. Without a hash (no such user) it does not, after the same work.
    pub async fn verify(
        &self,
        password: Secret,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.to_string());
        self.work(password, move |password| match PasswordHash::new(&hash) {
            // The parameters are those of the hash.
            Ok(hash) => Ok(argon2().verify_password(password, &hash).is_ok() && known),
            Err(error) => {
                tracing::error!(%error, "a stored password hash is unreadable");
                Err(PasswordError::Failed)
            }
        })
        .await?
    }

    async fn work<T: Send + 'static>(
        &self,
        password: Secret,
        job: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        if password.expose().len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::TooLong);
        }
        let place = self
            .queue
            .clone()
            .try_acquire_owned()
            .map_err(|_| PasswordError::Busy)?;
        let turn = self
            .workers
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| PasswordError::Failed)?;
        // The permits go with the work: a client that hangs up does not make room before it is done.
        let permits: [OwnedSemaphorePermit; 2] = [place, turn];
        let done = tokio::task::spawn_blocking(move || {
            let _permits = permits;
            job(password.expose().as_bytes())
        });
        done.await.map_err(|_| PasswordError::Failed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn only_the_right_password_fits() {
        let passwords = Passwords::new(Some(1), 8);
        let hash = passwords.hash(Secret::new("correct horse")).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert_ne!(
            hash,
            passwords.hash(Secret::new("correct horse")).await.unwrap()
        );
        let verify =
            |text: &str, hash: Option<&String>| passwords.verify(Secret::new(text), hash.cloned());
        assert_eq!(verify("correct horse", Some(&hash)).await, Ok(true));
        assert_eq!(verify("battery staple", Some(&hash)).await, Ok(false));
        assert_eq!(verify("nobody has this password", None).await, Ok(false));
        assert_eq!(
            verify("x", Some(&"nonsense".to_owned())).await,
            Err(PasswordError::Failed)
        );
        assert_eq!(
            verify(&"x".repeat(1025), Some(&hash)).await,
            Err(PasswordError::TooLong)
        );
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let passwords = Passwords::new(Some(1), 2);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let job = passwords.work(Secret::new("a"), move |_| held.recv().is_err());
        let mut working = Box::pin(job);
        let mut waiting: Vec<_> = (0..2)
            .map(|_| Box::pin(passwords.hash(Secret::new("b"))))
            .collect();
        assert!(futures_util::poll!(&mut working).is_pending());
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert_eq!(
            passwords.hash(Secret::new("c")).await,
            Err(PasswordError::Busy)
        );
        // Hanging up does not make room before the work is done, but giving up waiting does.
        drop(working);
        assert_eq!(
            passwords.hash(Secret::new("c")).await,
            Err(PasswordError::Busy)
        );
        waiting.clear();
        drop(release);
        let done =
            tokio::time::timeout(Duration::from_mins(1), passwords.hash(Secret::new("c"))).await;
        assert!(matches!(done, Ok(Ok(_))), "{done:?}");
    }
}
