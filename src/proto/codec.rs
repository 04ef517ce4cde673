//! How calls' messages are read off the wire: as prost does it, once they have been found to be no
//! larger in memory than on the wire.
//!
//! An entry of a list takes two bytes on the wire when nothing is in it, and a hundred times that
//! once it is decoded: a message within its bound of bytes could take all memory there is.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Most entries of a message, those of all its lists together. More than any call takes, so that a
/// list that is a little too long is told by its name.
pub const ENTRIES_MAX: usize = 200_000;
/// The least that an entry takes: its tag and its length.
const ENTRY_BYTES_MIN: usize = 2;

/// [`tonic_prost::ProstCodec`] with the bound.
#[derive(Clone, Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstDecoder::default())
    }
}

/// Reads a message that is within the bound.
#[derive(Clone, Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // A message lies there in one piece.
        check_entries(from.chunk())?;
        self.0.decode(from)
    }
}

/// Reads a message that is within the bound, as [`BoundedCodec`] does.
pub fn bounded<M: Message + Default>(message: &[u8]) -> Result<M, Status> {
    check_entries(message)?;
    M::decode(message).map_err(|error| Status::internal(error.to_string()))
}

fn check_entries(message: &[u8]) -> Result<(), Status> {
    if message.len() <= ENTRIES_MAX * ENTRY_BYTES_MIN {
        return Ok(());
    }
    match entries(message) {
        0..=ENTRIES_MAX => Ok(()),
        entries => Err(Status::invalid_argument(format!(
            "the message has {entries} entries; send smaller batches"
        ))),
    }
}

/// Messages as they come and go; who answers them reads and writes them.
#[derive(Clone, Copy, Debug, Default)]
pub struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Entries of the message itself, as far as it can be read; prost tells what cannot.
fn entries(mut message: &[u8]) -> usize {
    const VARINT: u64 = 0;
    const FIXED_64: u64 = 1;
    const LENGTH_DELIMITED: u64 = 2;
    const FIXED_32: u64 = 5;
    let mut entries = 0;
    while let Ok(tag) = prost::encoding::decode_varint(&mut message) {
        let skipped = match tag & 7 {
            VARINT => prost::encoding::decode_varint(&mut message).map(|_| 0),
            FIXED_64 => Ok(8),
            FIXED_32 => Ok(4),
            LENGTH_DELIMITED => {
                entries += 1;
                prost::encoding::decode_varint(&mut message)
            }
            // What is in a group is counted like what is beside it.
            _ => Ok(0),
        };
        let skipped = skipped.ok().and_then(|bytes| usize::try_from(bytes).ok());
        match skipped.and_then(|bytes| message.get(bytes..)) {
            Some(rest) => message = rest,
            None => break,
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{RecordUsageRequest, UsageEvent};

    #[test]
    fn events_are_counted_without_being_decoded_and_nothing_in_them_is() {
        let event = UsageEvent {
            tenant: "acme".into(),
            amount: Some(5),
            properties: [("a".into(), "b".into())].into(),
            ..UsageEvent::default()
        };
        let message = RecordUsageRequest { events: vec![event; 1_000], durability: 2 };
        assert_eq!(entries(&message.encode_to_vec()), 1_000);
        assert_eq!(entries(&[0x0a, 0x00].repeat(5_000)), 5_000);
    }

    #[test]
    fn a_group_hides_nothing_and_what_is_no_message_ends_the_count() {
        let hidden = [[0x7b, 0x7c].as_slice(), &[0x0a, 0x00].repeat(10)].concat();
        assert_eq!(entries(&hidden), 10);
        assert_eq!(entries(&[0x0a, 0x00, 0x0a, 0x7f, 1]), 2);
        assert_eq!(entries(&[0xff; 100]), 0);
    }
}
