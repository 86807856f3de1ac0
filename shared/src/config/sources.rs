//! Where values come from, and what is wrong with them.

use std::{fmt, fs, path::PathBuf};

use toml::Value;

use super::{SetError, Settings};

/// Environment variables that stand for a setting under a name other programs use, too.
const SHORTCUTS: [(&str, &str); 2] = [
    ("TIDEGATE_REDIS_URL", "redis.url"),
    ("TIDEGATE_DATABASE_URL", "postgres.url"),
];
const PREFIX: &str = "TIDEGATE_";

/// What is wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its full name, `section.field`, or the file that could not be read.
    pub setting: String,
    /// What is wrong, and where it was set if that is known.
    pub message: String,
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Notes one more.
    pub fn add(&mut self, setting: &str, message: impl Into<String>) {
        self.0.push(Problem {
            setting: setting.to_owned(),
            message: message.into(),
        });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{}: {}", problem.setting, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where to read settings from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// `section.field=value`.
    pub flags: Vec<String>,
}

impl Sources {
    /// The environment of this process.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "settings are what may read the environment"
    )]
    pub fn with_environment(mut self) -> Self {
        self.environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        self
    }
}

/// Reads all sources, later ones win, and checks the result. All problems are found, not
/// only the first.
pub fn load<T: Settings>(sources: &Sources) -> Result<T, Problems> {
    let mut loader = Loader {
        settings: T::default(),
        problems: Problems::default(),
    };
    if let Some(path) = &sources.file {
        loader.file(path);
    }
    loader.environment(&sources.environment);
    for flag in &sources.flags {
        match flag.split_once('=') {
            Some((name, value)) => {
                loader.apply(name.trim(), &Value::String(value.to_owned()), "--set");
            }
            None => loader.problems.add(flag, "--set takes section.field=value"),
        }
    }
    let Loader {
        settings,
        mut problems,
    } = loader;
    if problems.0.is_empty() {
        settings.check(&mut problems);
    }
    if problems.0.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

struct Loader<T> {
    settings: T,
    problems: Problems,
}

impl<T: Settings> Loader<T> {
    fn file(&mut self, path: &PathBuf) {
        let shown = path.display().to_string();
        let table = match fs::read_to_string(path).map(|text| text.parse::<toml::Table>()) {
            Ok(Ok(table)) => table,
            // Its Display quotes the offending line, which may hold a secret.
            Ok(Err(error)) => {
                return self
                    .problems
                    .add(&shown, format!("is not valid TOML: {}", error.message()));
            }
            Err(error) => {
                return self
                    .problems
                    .add(&shown, format!("cannot be read: {error}"));
            }
        };
        for (section, fields) in &table {
            let Value::Table(fields) = fields else {
                self.unknown(section, &shown);
                continue;
            };
            for (field, value) in fields {
                self.apply(&format!("{section}.{field}"), value, &shown);
            }
        }
    }

    /// An empty variable counts as not set. Variables of our prefix without a double
    /// underscore are not settings (Kubernetes makes such of a Service's name).
    fn environment(&mut self, environment: &[(String, String)]) {
        let mut settings: Vec<_> = Vec::new();
        for (variable, value) in environment.iter().filter(|(_, value)| !value.is_empty()) {
            let shortcut = SHORTCUTS.iter().find_map(|(name, setting)| {
                let rest = variable.strip_prefix(name)?;
                match rest {
                    "" => Some((*setting).to_owned()),
                    "_FILE" => Some(format!("{setting}_file")),
                    _ => None,
                }
            });
            let long = || {
                let (section, field) = variable.strip_prefix(PREFIX)?.split_once("__")?;
                Some(format!(
                    "{}.{}",
                    section.to_ascii_lowercase(),
                    field.to_ascii_lowercase()
                ))
            };
            // Shortcuts go first, so that the long name wins.
            match shortcut {
                Some(name) => settings.push((0, name, variable, value)),
                None => settings.extend(long().map(|name| (1, name, variable, value))),
            }
        }
        settings.sort();
        for (_, name, variable, value) in settings {
            self.apply(&name, &Value::String(value.clone()), variable);
        }
    }

    fn apply(&mut self, name: &str, value: &Value, origin: &str) {
        let Some((section, field)) = name.split_once('.') else {
            return self.unknown(name, origin);
        };
        match self.settings.set(section, field, value) {
            Ok(()) => {}
            Err(SetError::Invalid(message)) => {
                self.problems.add(name, format!("{message} ({origin})"));
            }
            Err(SetError::Unknown) if is_secret_file::<T>(section, field) => {
                self.secret_file(name, value, origin);
            }
            Err(SetError::Unknown) if is_elsewhere::<T>(section) => {}
            Err(SetError::Unknown) => self.unknown(name, origin),
        }
    }

    fn secret_file(&mut self, name: &str, value: &Value, origin: &str) {
        let Some(path) = value.as_str() else {
            return self
                .problems
                .add(name, format!("expected a path ({origin})"));
        };
        match fs::read_to_string(path) {
            Ok(text) => {
                let target = name.strip_suffix("_file").unwrap_or(name);
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                self.apply(target, &Value::String(text), origin);
            }
            Err(error) => self
                .problems
                .add(name, format!("{path} cannot be read: {error} ({origin})")),
        }
    }

    fn unknown(&mut self, name: &str, origin: &str) {
        let nearest = T::sections()
            .iter()
            .flat_map(|section| {
                section
                    .fields
                    .iter()
                    .map(|field| format!("{}.{}", section.name, field.name))
            })
            .map(|known| (strsim::normalized_damerau_levenshtein(name, &known), known))
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .filter(|(likeness, _)| *likeness > 0.3);
        let hint = nearest
            .map(|(_, known)| format!(", did you mean {known}?"))
            .unwrap_or_default();
        self.problems
            .add(name, format!("there is no such setting{hint} ({origin})"));
    }
}

/// True for `<name>_file` where `<name>` is a secret.
fn is_secret_file<T: Settings>(section: &str, field: &str) -> bool {
    field.strip_suffix("_file").is_some_and(|secret| {
        T::sections().iter().any(|known| {
            known.name == section && known.fields.iter().any(|f| f.name == secret && f.secret)
        })
    })
}

/// True for a section that only other processes have.
fn is_elsewhere<T: Settings>(section: &str) -> bool {
    T::ELSEWHERE.contains(&section) && T::sections().iter().all(|known| known.name != section)
}

#[cfg(test)]
mod tests;
