//! WebSocket frames as a client writes and reads them (RFC 6455, section 5).

/// Kinds of frames a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
    Other,
}

/// A whole frame at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: Opcode,
    pub payload: &'a [u8],
    /// Bytes of the buffer it takes, header included.
    pub length: usize,
}

/// The first frame of `bytes`, `None` while it is not there as a whole. Servers do not mask and
/// this server does not fragment.
pub fn read_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (header, length) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
        short => (2, u64::from(short)),
    };
    let opcode = match first & 0x0f {
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => Opcode::Other,
    };
    let length = usize::try_from(length).ok()?.checked_add(header)?;
    let payload = bytes.get(header..length)?;
    Some(Frame {
        opcode,
        payload,
        length,
    })
}

/// Appends a client frame. The masking key is zero, which is legal and costs nothing.
pub fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            out.push(0xfe);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(0xff);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// A server's text frame with this payload.
pub fn server_text(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    write_frame(&mut frame, 1, payload);
    let header = frame.len() - payload.len() - 4;
    frame[1] &= 0x7f;
    frame.drain(header..header + 4);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_only_when_it_is_whole() {
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; size];
            let frame = server_text(&payload);
            for cut in [0, 1, frame.len() / 2, frame.len() - 1] {
                assert_eq!(read_frame(&frame[..cut]), None);
            }
            let read = read_frame(&frame).expect("whole");
            assert_eq!(
                (read.opcode, read.payload, read.length),
                (Opcode::Text, &payload[..], frame.len())
            );
        }
    }
}
