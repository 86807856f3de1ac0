//! Who somebody is: tokens, passwords, and where a request comes from.

mod accounts;
mod issuers;
mod networks;
mod passwords;
mod settings;
mod tokens;

pub use accounts::{check_account, is_username};
pub use issuers::check as check_issuers;
pub use networks::Networks;
pub use passwords::{MAX_PASSWORD_BYTES, PasswordError, Passwords};
pub use settings::{Algorithm, NamedSecret, TrustedIssuer};
pub use tokens::{
    CLOCK_ERROR, Identity, Issued, MAX_LIFETIME, MAX_TOKEN_BYTES, TokenError, TokenSettings, Tokens,
};
