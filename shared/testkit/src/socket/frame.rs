//! Frames as bytes.

use std::io::Cursor;

use tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

/// A frame as a client has to send it.
pub fn masked(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mask: [u8; 4] = rand::random();
    let header = FrameHeader {
        is_final,
        opcode,
        mask: Some(mask),
        ..FrameHeader::default()
    };
    let mut frame = Vec::with_capacity(payload.len() + 14);
    header
        .format(payload.len() as u64, &mut frame)
        .expect("a vector takes every byte");
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// Cuts the first whole frame off the buffer.
pub(super) fn cut_frame(buffer: &mut Vec<u8>) -> Option<(FrameHeader, Vec<u8>)> {
    let mut cursor = Cursor::new(&buffer[..]);
    let (header, length) = FrameHeader::parse(&mut cursor).ok().flatten()?;
    let start = cursor.position() as usize;
    let end = start + length as usize;
    if buffer.len() < end {
        return None;
    }
    let payload = buffer[start..end].to_vec();
    buffer.drain(..end);
    Some((header, payload))
}
