//! Where a frame ends in a stream of bytes, whatever it says.

use super::Broken;

/// Most headers of a frame.
pub(super) const MAX_HEADERS: usize = 64;
/// Longest line of a frame's head, in bytes: a header with the longest token.
pub(super) const MAX_LINE: usize = shared::auth::MAX_TOKEN_BYTES + 256;

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// A whole frame.
    Frame(Parts),
    /// The beginning of one.
    Partial,
}

/// The parts of a frame, as offsets from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    /// Where the head ends, with the empty line behind it, and the body begins.
    pub(super) body: usize,
    /// Where the body ends; a NUL follows.
    pub(super) end: usize,
}

impl Parts {
    /// Of a frame that was cut before, without its NUL.
    pub(super) fn of_kept(frame: &[u8]) -> Self {
        let mut at = 0;
        let lines = frame.split(|byte| *byte == b'\n');
        for line in lines {
            at += line.len() + 1;
            if without_return(line).is_empty() {
                break;
            }
        }
        Self {
            body: at.min(frame.len()),
            end: frame.len(),
        }
    }
}

/// How many bytes at the beginning are line ends, which stand between frames and are signs of
/// life.
pub(super) fn line_ends(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match bytes.get(at..) {
            Some([b'\n', ..]) => at += 1,
            Some([b'\r', b'\n', ..]) => at += 2,
            _ => return at,
        }
    }
}

/// Looks for the end of the frame that the bytes begin with. `most` is its longest length.
pub(super) fn cut(bytes: &[u8], most: usize) -> Result<Cut, Broken> {
    let (mut at, mut lines) = (0, 0);
    let mut content_length = None;
    let body = loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let window = &rest[..rest.len().min(MAX_LINE + 1)];
        let Some(length) = window.iter().position(|byte| matches!(byte, b'\n' | 0)) else {
            if window.len() > MAX_LINE {
                return Err(Broken::too_large(format!(
                    "a line of the head has more than {MAX_LINE} bytes"
                )));
            }
            return partial(bytes, most);
        };
        if rest[length] == 0 {
            return Err(Broken::malformed("the head ends without an empty line"));
        }
        let line = without_return(&rest[..length]);
        at += length + 1;
        if line.is_empty() {
            break at;
        }
        if lines > MAX_HEADERS {
            return Err(Broken::too_large(format!(
                "more than {MAX_HEADERS} headers"
            )));
        }
        lines += 1;
        // Of repeated headers the first counts.
        if content_length.is_none()
            && let Some(value) = line.strip_prefix(b"content-length:")
        {
            content_length = Some(number(value)?);
        }
    };
    let end = match content_length {
        Some(length) if length > most => return Err(too_long(most)),
        Some(length) => {
            let end = body + length;
            match bytes.get(end) {
                None => return partial(bytes, most),
                Some(0) => end,
                Some(_) => {
                    return Err(Broken::malformed(
                        "no NUL stands where content-length says that the body ends",
                    ));
                }
            }
        }
        None => match bytes[body..].iter().position(|byte| *byte == 0) {
            None => return partial(bytes, most),
            Some(length) => body + length,
        },
    };
    if end >= most {
        return Err(too_long(most));
    }
    Ok(Cut::Frame(Parts { body, end }))
}

/// A line without the carriage return that may stand before its line feed.
pub(super) fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn partial(bytes: &[u8], most: usize) -> Result<Cut, Broken> {
    if bytes.len() >= most {
        return Err(too_long(most));
    }
    Ok(Cut::Partial)
}

fn too_long(most: usize) -> Broken {
    Broken::too_large(format!("a frame has more than {most} bytes"))
}

fn number(value: &[u8]) -> Result<usize, Broken> {
    // 1.0 has examples with spaces around values.
    std::str::from_utf8(value)
        .ok()
        .map(str::trim)
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|text| text.parse().unwrap_or(usize::MAX))
        .ok_or_else(|| Broken::malformed("content-length is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 64 * 1024;

    fn code(bytes: &[u8]) -> shared::domain::Code {
        cut(bytes, MOST).unwrap_err().0.code
    }

    #[test]
    fn a_frame_ends_with_the_nul_behind_its_body() {
        let parts = |body, end| Ok(Cut::Frame(Parts { body, end }));
        assert_eq!(cut(b"A\n\nbody\0rest", MOST), parts(3, 7));
        assert_eq!(cut(b"A\r\n\r\nbody\0", MOST), parts(5, 9));
        assert_eq!(cut(b"A\nx:y\n\n\0", MOST), parts(7, 7));
        assert_eq!(
            cut(b"A\ncontent-length:3\n\n\0\0\0\0", MOST),
            parts(20, 23),
            "NULs inside the body"
        );
        let first_counts = b"A\ncontent-length:1\ncontent-length:9\n\nx\0";
        assert_eq!(cut(first_counts, MOST), parts(37, 38));
    }

    #[test]
    fn every_beginning_of_a_frame_is_partial() {
        let frame = b"SEND\ndestination:/a\ncontent-length:5\n\na\0b\0c\0";
        for end in 0..frame.len() {
            assert_eq!(cut(&frame[..end], MOST), Ok(Cut::Partial), "{end}");
        }
    }

    #[test]
    fn what_cannot_be_a_frame_is_malformed() {
        use shared::domain::Code::BadRequest;
        assert_eq!(code(b"A\0"), BadRequest);
        assert_eq!(code(b"A\nx:y\0\n\n"), BadRequest);
        assert_eq!(code(b"A\ncontent-length:1\n\nxy\0"), BadRequest);
        assert_eq!(code(b"A\ncontent-length:-1\n\n\0"), BadRequest);
        assert_eq!(code(b"A\ncontent-length:\n\n\0"), BadRequest);
        assert_eq!(code(b"A\ncontent-length:1x\n\n\0"), BadRequest);
    }

    #[test]
    fn limits_are_found_before_the_frame_is_whole() {
        use shared::domain::Code::TooLarge;
        assert_eq!(code(&vec![b'A'; MAX_LINE + 1]), TooLarge);
        let headers = format!("A\n{}", "x:y\n".repeat(MAX_HEADERS + 1));
        assert_eq!(code(headers.as_bytes()), TooLarge);
        assert_eq!(code(b"A\ncontent-length:65537\n\n"), TooLarge);
        let huge = b"A\ncontent-length:99999999999999999999999999\n\n";
        assert_eq!(code(huge), TooLarge);
        let body = [b"A\n\n".to_vec(), vec![b'x'; MOST]].concat();
        assert_eq!(code(&body), TooLarge);
        let headers = format!("A\n{}\n\0", "x:y\n".repeat(MAX_HEADERS));
        assert!(cut(headers.as_bytes(), MOST).is_ok());
        let longest = [b"A\n\n".to_vec(), vec![b'x'; MOST - 4], vec![0]].concat();
        assert!(matches!(cut(&longest, MOST), Ok(Cut::Frame(_))));
    }
}
