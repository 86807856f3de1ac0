//! Settings: declared once, read from several places, documented by what was declared.
//!
//! A section is a struct made by [`section!`](crate::section); a process's settings are a
//! struct of sections made by [`settings!`](crate::settings). Both yield the table from which
//! `docs/CONFIGURATION.md` is rendered, so a setting cannot be forgotten there.
//!
//! Sources, later wins: defaults, a TOML file, the environment, `--set` flags. What none of
//! the declarations names is an error that names the nearest one. This module is the only
//! one that reads the environment.

mod common;
mod docs;
mod macros;
mod sources;
mod values;

pub use common::{
    ConversationsSettings, LogFormat, LogSettings, NodeSettings, PostgresSettings, RedisSettings,
};
pub use docs::{check_region, markdown};
pub use sources::{Problem, Problems, Sources, load};
// For the macros, which expand in other crates.
#[doc(hidden)]
pub use toml::{Table as TomlTable, Value as TomlValue};
pub use values::{Secret, SecretUrl, Setting, Size, describe_range, within};
pub(crate) use values::{read_list, secret};

/// A setting as it was declared.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name within the section.
    pub name: &'static str,
    /// What it does, in Markdown.
    pub doc: &'static str,
    /// What may be written, for people: `duration`, `integer`, …
    pub kind: String,
    /// The value it has when nobody sets it; `None` if there is none.
    pub default: Option<toml::Value>,
    /// The smallest and the largest value allowed.
    pub range: Option<String>,
    /// True if it is masked wherever settings are shown, and may come from a file.
    pub secret: bool,
}

/// Why a value was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetError {
    /// No setting has this name.
    Unknown,
    /// The setting exists, the value does not fit; the sentence says why.
    Invalid(String),
}

/// One `[section]`.
pub trait Section: Default {
    /// Its name in the file and, in capitals, in the environment.
    const NAME: &'static str;
    /// What the section is about.
    const DOC: &'static str;

    /// Its settings, in the order of their declaration.
    fn fields() -> Vec<Field>;
    /// Takes a value from a file (any type) or from the environment (a string).
    fn set(&mut self, field: &str, value: &toml::Value) -> Result<(), SetError>;
    /// The values now, secrets masked.
    fn render(&self) -> toml::Table;
}

/// A section for the documents.
#[derive(Debug, Clone)]
pub struct SectionTable {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub doc: &'static str,
    /// Its settings.
    pub fields: Vec<Field>,
}

/// All settings of a process.
pub trait Settings: Default {
    /// Sections of the other processes. Their values are passed over, so that one file or one
    /// environment can serve a whole deployment.
    const ELSEWHERE: &'static [&'static str];

    /// The sections, in the order of their declaration.
    fn sections() -> Vec<SectionTable>;
    /// Takes a value; [`SetError::Unknown`] also for an unknown section.
    fn set(&mut self, section: &str, field: &str, value: &toml::Value) -> Result<(), SetError>;
    /// The values now, secrets masked.
    fn render(&self) -> toml::Table;
    /// Rules between settings, and settings that have no default. Each problem names its setting.
    fn check(&self, problems: &mut Problems);
}
