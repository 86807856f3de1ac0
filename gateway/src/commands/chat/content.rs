//! What makes the text of a message a good one.

use shared::domain::{Code, FileRef, MAX_CONTENT_BYTES, Refusal};

use super::bad;

/// Holds a text to the rules; `field` is what the client calls it.
pub(super) fn check(field: &str, content: &str, files: &[FileRef]) -> Result<(), Refusal> {
    if content.len() > MAX_CONTENT_BYTES {
        let message = format!("{field}: more than {MAX_CONTENT_BYTES} bytes");
        return Err(Refusal::new(Code::TooLarge, message));
    }
    if content.contains('\0') {
        return Err(bad(format!("{field}: contains NUL")));
    }
    if content.is_empty() && files.is_empty() {
        return Err(bad(format!("{field}: empty")));
    }
    if !files.is_empty() {
        return Err(bad("files: not served yet"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_neither_empty_nor_too_long_and_holds_no_nul() {
        let code = |content: &str| check("message", content, &[]).err().map(|it| it.code);
        assert_eq!(code("hello"), None);
        assert_eq!(code(&"x".repeat(MAX_CONTENT_BYTES)), None);
        assert_eq!(
            code(&"x".repeat(MAX_CONTENT_BYTES + 1)),
            Some(Code::TooLarge)
        );
        // Bytes of UTF-8, not letters.
        assert_eq!(
            code(&"ö".repeat(MAX_CONTENT_BYTES / 2 + 1)),
            Some(Code::TooLarge)
        );
        assert_eq!(code(""), Some(Code::BadRequest));
        assert_eq!(code("a\0b"), Some(Code::BadRequest));
    }
}
