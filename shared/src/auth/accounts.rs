//! What a new user may be called, and how short a password may be.

use super::MAX_PASSWORD_BYTES;
use crate::config::Secret;

const USERNAME_CHARACTERS: std::ops::RangeInclusive<usize> = 3..=32;
const MIN_PASSWORD_BYTES: usize = 8;

/// Whether somebody may be called so: 3 to 32 of `[A-Za-z0-9_.-]`.
pub fn is_username(name: &str) -> bool {
    USERNAME_CHARACTERS.contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// What is wrong with the name and password of a new user, for people.
pub fn check_account(username: &str, password: &Secret) -> Result<(), &'static str> {
    if !is_username(username) {
        return Err("username must be 3 to 32 of A-Z a-z 0-9 _ . -");
    }
    if !(MIN_PASSWORD_BYTES..=MAX_PASSWORD_BYTES).contains(&password.expose().len()) {
        return Err("password must have 8 to 1024 bytes");
    }
    Ok(())
}
