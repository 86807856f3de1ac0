//! How headers hold the characters that end them.

use std::borrow::Cow;

use super::version::Version;

/// An escape that is not defined, which nothing can be understood behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undefined;

/// What a name or value says. CONNECT frames are not escaped in any version.
pub(super) fn unescape(text: &str, version: Version) -> Result<Cow<'_, str>, Undefined> {
    if version == Version::V10 || !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('c') => ':',
                Some('\\') => '\\',
                Some('r') if version == Version::V12 => '\r',
                _ => return Err(Undefined),
            },
            character => character,
        });
    }
    Ok(Cow::Owned(plain))
}

/// Writes a value. In 1.0, which cannot say them, line ends become spaces.
pub(super) fn escape(text: &str, version: Version, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match (byte, version) {
            (b'\n' | b'\r' | 0, Version::V10) | (b'\r' | 0, Version::V11) | (0, Version::V12) => {
                out.push(b' ');
            }
            (b'\n', _) => out.extend_from_slice(b"\\n"),
            (b'\r', _) => out.extend_from_slice(b"\\r"),
            (b':' | b'\\', Version::V10) => out.push(byte),
            (b':', _) => out.extend_from_slice(b"\\c"),
            (b'\\', _) => out.extend_from_slice(b"\\\\"),
            (byte, _) => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str, version: Version) -> String {
        let mut out = Vec::new();
        escape(text, version, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_version_has_its_escapes_and_no_others() {
        let plain = "a:b\\c\nd\re";
        assert_eq!(escaped(plain, Version::V12), r"a\cb\\c\nd\re");
        assert_eq!(escaped(plain, Version::V11), r"a\cb\\c\nd e");
        assert_eq!(escaped(plain, Version::V10), "a:b\\c d e");
        assert_eq!(unescape(r"\n\c\\\r", Version::V12).unwrap(), "\n:\\\r");
        assert_eq!(unescape(r"\n\c\\", Version::V11).unwrap(), "\n:\\");
        assert_eq!(
            unescape(r"\n\c\\\r\t", Version::V10).unwrap(),
            r"\n\c\\\r\t"
        );
        for text in [r"\t", r"a\", r"\\\", r"\N"] {
            assert_eq!(unescape(text, Version::V12), Err(Undefined), "{text}");
            assert_eq!(unescape(text, Version::V11), Err(Undefined), "{text}");
        }
        assert_eq!(unescape(r"\r", Version::V11), Err(Undefined));
    }

    proptest! {
        #[test]
        fn what_is_escaped_reads_back(text in "[^\u{0}]{0,40}") {
            let back = escaped(&text, Version::V12);
            prop_assert!(!back.contains(['\n', '\r', ':']));
            prop_assert_eq!(unescape(&back, Version::V12).unwrap(), text);
        }
    }
}
