//! WebSocket framing of what the server sends: whole, unmasked frames (RFC 6455, 5.2).

use bytes::Bytes;

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
/// The longest header of an unmasked frame.
const MAX_HEADER: usize = 10;

/// A buffer in which the payload of a text frame is written; the header follows when its
/// length is known, in the room kept before it.
pub(super) struct TextFrame(Vec<u8>);

impl TextFrame {
    pub(super) fn with_capacity(payload: usize) -> Self {
        let mut buffer = Vec::with_capacity(MAX_HEADER + payload);
        buffer.resize(MAX_HEADER, 0);
        Self(buffer)
    }

    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    pub(super) fn finish(self) -> Bytes {
        let mut buffer = self.0;
        let (header, length) = header_of(buffer.len() - MAX_HEADER);
        let start = MAX_HEADER - length;
        buffer[start..MAX_HEADER].copy_from_slice(&header[..length]);
        Bytes::from(buffer).slice(start..)
    }
}

/// The header of a text frame, and how much of the array it takes.
fn header_of(payload: usize) -> ([u8; MAX_HEADER], usize) {
    let mut header = [0; MAX_HEADER];
    header[0] = TEXT;
    let length = if let Ok(short @ 0..=125) = u8::try_from(payload) {
        header[1] = short;
        2
    } else if let Ok(medium) = u16::try_from(payload) {
        header[1] = 126;
        header[2..4].copy_from_slice(&medium.to_be_bytes());
        4
    } else {
        header[1] = 127;
        header[2..].copy_from_slice(&(payload as u64).to_be_bytes());
        10
    };
    (header, length)
}

/// Writes the header of a text frame whose payload follows.
pub(super) fn text_header(payload: usize, out: &mut Vec<u8>) {
    let (header, length) = header_of(payload);
    out.extend_from_slice(&header[..length]);
}

/// A text frame of `payload`.
pub fn text(payload: &str) -> Bytes {
    let mut frame = TextFrame::with_capacity(payload.len());
    frame.payload().extend_from_slice(payload.as_bytes());
    frame.finish()
}

/// A ping. The peer answers with the same eight bytes, after everything it got before.
pub fn ping(mark: u64) -> Bytes {
    let mut frame = [0; 10];
    frame[0] = PING;
    frame[1] = 8;
    frame[2..].copy_from_slice(&mark.to_be_bytes());
    Bytes::copy_from_slice(&frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_written_in_the_shortest_form() {
        for (length, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xff, 0xff]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = text(&"x".repeat(length));
            assert_eq!(frame[..header.len()], header, "{length}");
            assert_eq!(frame.len(), header.len() + length);
        }
    }

    #[test]
    fn ping_carries_its_mark_big_endian() {
        assert_eq!(ping(258)[..], [0x89, 8, 0, 0, 0, 0, 0, 0, 1, 2]);
    }
}
