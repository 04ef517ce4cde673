//! Protobuf's wire format, as far as it is read where it lies; and its varints, where most are one
//! byte: prost's do not presume that.

use prost::encoding::{WireType, decode_varint};

/// Bytes that are not read here: left to prost, or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread;

/// Takes a number off the front of `rest`.
#[inline]
pub fn take_varint(rest: &mut &[u8]) -> Result<u64, Unread> {
    match **rest {
        [byte, ref after @ ..] if byte < 0x80 => {
            *rest = after;
            Ok(byte.into())
        }
        _ => decode_varint(rest).map_err(|_| Unread),
    }
}

const VARINT: u32 = WireType::Varint as u32;
const SIXTY_FOUR_BIT: u32 = WireType::SixtyFourBit as u32;
const THIRTY_TWO_BIT: u32 = WireType::ThirtyTwoBit as u32;
const LENGTH_DELIMITED: u32 = WireType::LengthDelimited as u32;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
    /// Of 4 or 8 bytes: of no field that is read here.
    Fixed,
}

impl<'m> Value<'m> {
    /// Of a field that is a varint.
    pub fn number(self) -> Result<u64, Unread> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) | Self::Fixed => Err(Unread),
        }
    }

    /// Of a field of text, bytes or a message.
    pub fn bytes(self) -> Result<&'m [u8], Unread> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) | Self::Fixed => Err(Unread),
        }
    }

    /// Of a field of text.
    pub fn text(self) -> Result<&'m str, Unread> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unread)
    }
}

/// What of a message is not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'m>(pub &'m [u8]);

impl<'m> Fields<'m> {
    /// The next field with its tag; `None` at the end.
    #[inline]
    pub fn read(&mut self) -> Result<Option<(u32, Value<'m>)>, Unread> {
        let Self(rest) = self;
        if rest.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(take_varint(rest)?).map_err(|_| Unread)?;
        let (tag, kind) = (key >> 3, key & 7);
        let bytes = match kind {
            VARINT => return Ok(Some((tag, Value::Number(take_varint(rest)?)))),
            LENGTH_DELIMITED => usize::try_from(take_varint(rest)?).map_err(|_| Unread)?,
            SIXTY_FOUR_BIT => 8,
            THIRTY_TWO_BIT => 4,
            _ => return Err(Unread),
        };
        let (value, after) = rest.split_at_checked(bytes).ok_or(Unread)?;
        *rest = after;
        let value = if kind == LENGTH_DELIMITED { Value::Bytes(value) } else { Value::Fixed };
        Ok(Some((tag, value)))
    }
}

/// Bytes of a number at most.
const VARINT_BYTES_MAX: usize = 10;

/// Appends a number.
#[inline]
pub fn put_varint(value: u64, to: &mut Vec<u8>) {
    match value {
        0..0x80 => to.push(value as u8),
        _ => put_long_varint(value, to),
    }
}

/// As many bytes as there may be are appended and cut to those that there are: so it is looked once
/// whether there is room.
fn put_long_varint(mut value: u64, to: &mut Vec<u8>) {
    let mut bytes = [0; VARINT_BYTES_MAX];
    let mut length = to.len();
    for byte in &mut bytes {
        length += 1;
        // The lowest seven bits, and whether more follow.
        *byte = value as u8 & 0x7f;
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    to.extend_from_slice(&bytes);
    to.truncate(length);
}

/// Appends what comes before a field's value, and the first byte after it.
#[inline]
pub fn put_key_and(byte: u8, tag: u32, kind: WireType, to: &mut Vec<u8>) {
    match tag {
        // Keys of one byte: both in one piece.
        0..16 => to.extend_from_slice(&[(tag << 3) as u8 | kind as u8, byte]),
        _ => {
            put_key(tag, kind, to);
            to.push(byte);
        }
    }
}

/// Appends what comes before a field's value.
#[inline]
pub fn put_key(tag: u32, kind: WireType, to: &mut Vec<u8>) {
    put_varint(u64::from(tag) << 3 | kind as u64, to);
}

#[cfg(test)]
mod tests {
    use prost::encoding::{encode_key, encode_varint};

    use super::*;

    proptest::proptest! {
        #[test]
        fn numbers_are_written_and_read_as_prost_does(
            value in proptest::prelude::any::<u64>(), shift in 0..64_u32, tag in 1..1_000_u32,
        ) {
            let value = value >> shift;
            let (mut own, mut prosts) = (vec![], vec![]);
            put_varint(value, &mut own);
            put_key(tag, WireType::LengthDelimited, &mut own);
            encode_varint(value, &mut prosts);
            encode_key(tag, WireType::LengthDelimited, &mut prosts);
            proptest::prop_assert_eq!(&own, &prosts);
            let mut rest = own.as_slice();
            proptest::prop_assert_eq!(take_varint(&mut rest), Ok(value));
            let byte = value as u8 & 0x7f;
            put_key_and(byte, tag, WireType::Varint, &mut own);
            encode_key(tag, WireType::Varint, &mut prosts);
            encode_varint(byte.into(), &mut prosts);
            proptest::prop_assert_eq!(own, prosts);
        }
    }

    #[test]
    fn what_ends_too_early_or_never_is_no_number() {
        for bytes in [&[][..], &[0x80], &[0xff; 11]] {
            let mut rest = bytes;
            assert_eq!(take_varint(&mut rest), Err(Unread), "{bytes:?}");
        }
    }
}
