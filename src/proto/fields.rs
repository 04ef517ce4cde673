//! Fields of Protobuf messages, written from borrowed values: what is journalled, or answered in
//! maps, is not copied into messages first.
//!
//! As proto3 has it, a number that is 0 is left out; texts are written whenever they are given.

use std::io::Write;

use prost::encoding::{WireType, encode_varint, encoded_len_varint};

use super::wire::{put_key, put_key_and, put_varint};

/// Appends a message's fields to a buffer.
pub struct Fields<'b>(pub &'b mut Vec<u8>);

impl Fields<'_> {
    /// A `uint32` or `uint64`, or an enum's value.
    #[inline]
    pub fn uint(&mut self, tag: u32, value: u64) {
        match value {
            0 => {}
            1..0x80 => put_key_and(value as u8, tag, WireType::Varint, self.0),
            _ => {
                put_key(tag, WireType::Varint, self.0);
                put_varint(value, self.0);
            }
        }
    }

    /// An `int32` or `int64`.
    #[inline]
    pub fn int(&mut self, tag: u32, value: i64) {
        self.uint(tag, value.cast_unsigned());
    }

    /// A `sint32` or `sint64`.
    pub fn sint(&mut self, tag: u32, value: i64) {
        self.uint(tag, ((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// A `string`.
    pub fn text(&mut self, tag: u32, text: &str) {
        self.bytes(tag, text.as_bytes());
    }

    /// A `string`, as it is displayed.
    pub fn displayed(&mut self, tag: u32, value: impl std::fmt::Display) {
        self.delimited(tag, |buffer| {
            // Growing a vector cannot fail.
            let written = write!(buffer, "{value}");
            debug_assert!(written.is_ok());
        });
    }

    /// `bytes`.
    pub fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        match bytes.len() {
            length @ 0..0x80 => {
                put_key_and(length as u8, tag, WireType::LengthDelimited, self.0);
            }
            length => {
                put_key(tag, WireType::LengthDelimited, self.0);
                put_varint(length as u64, self.0);
            }
        }
        self.0.extend_from_slice(bytes);
    }

    /// A message.
    #[inline]
    pub fn message(&mut self, tag: u32, write: impl FnOnce(&mut Fields<'_>)) {
        self.delimited(tag, |buffer| write(&mut Fields(buffer)));
    }

    /// What is preceded by its length. There is room for a length of one byte, as most are; what
    /// turns out to be longer is moved.
    #[inline]
    fn delimited(&mut self, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
        put_key_and(0, tag, WireType::LengthDelimited, self.0);
        let start = self.0.len();
        write(self.0);
        match self.0.len() - start {
            length @ 0..0x80 => self.0[start - 1] = length as u8,
            length => self.make_room(start, length),
        }
    }

    /// Puts the length of what begins at `start` before it, where there is room for one byte.
    #[cold]
    fn make_room(&mut self, start: usize, length: usize) {
        let end = self.0.len();
        let more = encoded_len_varint(length as u64) - 1;
        self.0.resize(end + more, 0);
        self.0.copy_within(start..end, start + more);
        encode_varint(length as u64, &mut &mut self.0[start - 1..start + more]);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::journal as wire;

    #[test]
    fn what_turns_out_to_be_long_is_moved_behind_its_length() {
        for bytes in [127, 128, 16_383, 16_384, 3_000_000] {
            let text = "x".repeat(bytes);
            let mut written = vec![];
            Fields(&mut written).displayed(7, &text);
            let event = wire::Event { distinct_value: Some(text), ..Default::default() };
            assert_eq!(written, event.encode_to_vec());
        }
    }

    proptest::proptest! {
        #[test]
        fn fields_are_written_as_messages_are(
            seconds: i64, nanos: i32, amount in 0..3_u64, text in "[a-zß]{0,300}", run: Vec<u8>,
        ) {
            let mut written = vec![];
            let mut fields = Fields(&mut written);
            fields.uint(3, amount);
            fields.sint(4, seconds);
            fields.sint(5, nanos.into());
            fields.text(6, &text);
            fields.displayed(7, &text);
            fields.message(9, |id| {
                if !run.is_empty() {
                    id.bytes(1, &run);
                }
                id.uint(2, amount);
            });
            let event = wire::Event {
                from_lease: amount,
                time_seconds: seconds,
                time_nanos: nanos,
                idempotency_key: Some(text.clone()),
                distinct_value: Some(text),
                reservation: Some(wire::ReservationId { run, number: amount }),
                ..Default::default()
            };
            proptest::prop_assert_eq!(written, event.encode_to_vec());
        }
    }
}
