//! The declarations.

/// Declares one section of settings. A default is an expression; an optional range follows
/// `=>` and is part of the documentation.
///
/// ```
/// use std::time::Duration;
///
/// shared::section! {
///     /// How sockets are treated.
///     pub struct Session = "session" {
///         /// Time between two pings.
///         ping_interval: Duration = Duration::from_secs(25) => Duration::from_secs(1)..=Duration::from_secs(3600),
///     }
/// }
/// assert_eq!(Session::default().ping_interval, Duration::from_secs(25));
/// ```
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        $vis:vis struct $name:ident = $section:literal {
            $( $(#[doc = $field_doc:literal])+ $field:ident : $type:ty = $default:expr $(=> $range:expr)? ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone)]
        $vis struct $name {
            $( $(#[doc = $field_doc])+ pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::config::Section for $name {
            const NAME: &'static str = $section;
            const DOC: &'static str = concat!($($doc),+);

            fn fields() -> Vec<$crate::config::Field> {
                let defaults = Self::default();
                vec![ $( $crate::config::Field {
                    name: stringify!($field),
                    doc: concat!($($field_doc),+),
                    kind: <$type as $crate::config::Setting>::kind(),
                    default: $crate::config::Setting::show(&defaults.$field),
                    range: {
                        let range: Option<String> = None;
                        $( let range = Some($crate::config::describe_range::<$type>(&$range)).or(range); )?
                        range
                    },
                    secret: <$type as $crate::config::Setting>::SECRET,
                }, )* ]
            }

            fn set(&mut self, field: &str, value: &$crate::config::TomlValue) -> Result<(), $crate::config::SetError> {
                match field {
                    $( stringify!($field) => {
                        let read = <$type as $crate::config::Setting>::read(value)
                            .map_err($crate::config::SetError::Invalid)?;
                        $( $crate::config::within(&read, &$range).map_err($crate::config::SetError::Invalid)?; )?
                        self.$field = read;
                        Ok(())
                    } )*
                    _ => Err($crate::config::SetError::Unknown),
                }
            }

            fn render(&self) -> $crate::config::TomlTable {
                let mut table = $crate::config::TomlTable::new();
                $( if let Some(value) = $crate::config::Setting::show(&self.$field) {
                    table.insert(stringify!($field).to_owned(), value);
                } )*
                table
            }
        }
    };
}

/// Declares the settings of a process as a struct of sections, and which sections belong to
/// other processes. `check` is a `fn(&Self, &mut Problems)` for rules between settings.
#[macro_export]
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        $vis:vis struct $name:ident {
            $( $field:ident : $type:ty ),* $(,)?
        }
        elsewhere: $elsewhere:expr;
        check: $check:expr;
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Default)]
        $vis struct $name {
            $(
                #[doc = concat!("Section `", stringify!($field), "`.")]
                pub $field: $type,
            )*
        }

        impl $crate::config::Settings for $name {
            const ELSEWHERE: &'static [&'static str] = $elsewhere;

            fn sections() -> Vec<$crate::config::SectionTable> {
                vec![ $( $crate::config::SectionTable {
                    name: <$type as $crate::config::Section>::NAME,
                    doc: <$type as $crate::config::Section>::DOC,
                    fields: <$type as $crate::config::Section>::fields(),
                }, )* ]
            }

            fn set(&mut self, section: &str, field: &str, value: &$crate::config::TomlValue) -> Result<(), $crate::config::SetError> {
                $( if section == <$type as $crate::config::Section>::NAME {
                    return $crate::config::Section::set(&mut self.$field, field, value);
                } )*
                Err($crate::config::SetError::Unknown)
            }

            fn render(&self) -> $crate::config::TomlTable {
                let mut table = $crate::config::TomlTable::new();
                $( table.insert(
                    <$type as $crate::config::Section>::NAME.to_owned(),
                    $crate::config::TomlValue::Table($crate::config::Section::render(&self.$field)),
                ); )*
                table
            }

            fn check(&self, problems: &mut $crate::config::Problems) {
                let check: fn(&Self, &mut $crate::config::Problems) = $check;
                check(self, problems);
            }
        }
    };
}

/// Declares an enum whose values are written by name.
#[macro_export]
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        $vis:vis enum $name:ident {
            $( $(#[$variant_attribute:meta])* $variant:ident = $text:literal ),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name {
            $( $(#[$variant_attribute])* $variant, )+
        }

        impl $crate::config::Setting for $name {
            fn kind() -> String {
                [$( concat!("`", $text, "`") ),+].join(" or ")
            }

            fn read(value: &$crate::config::TomlValue) -> Result<Self, String> {
                match value.as_str() {
                    $( Some($text) => Ok(Self::$variant), )+
                    _ => Err(format!("expected one of {}", [$( $text ),+].join(", "))),
                }
            }

            fn show(&self) -> Option<$crate::config::TomlValue> {
                let text = match self { $( Self::$variant => $text, )+ };
                Some($crate::config::TomlValue::String(text.to_owned()))
            }
        }
    };
}
