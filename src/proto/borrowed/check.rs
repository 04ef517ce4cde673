//! Checks of an operation.

use arrayvec::ArrayVec;

use super::named;
use crate::proto::{
    v1::{Durability, Mode},
    wire::{Fields, Unread},
};

/// Amounts of a plain check at most: few operations leave more of them open, and each is compared
/// with those before it.
const AMOUNTS_MAX: usize = 8;

/// A `CheckRequest` without subject, properties, attributes and time to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainCheck<'m> {
    /// As it came: that it is a name is not checked.
    pub tenant: &'m str,
    /// The same.
    pub operation: &'m str,
    /// By meter, whose name is not checked either; each is named once.
    pub amounts: ArrayVec<(&'m str, i64), AMOUNTS_MAX>,
    pub mode: Mode,
    /// As it came; empty where there is none.
    pub idempotency_key: &'m str,
    pub durability: Durability,
}

impl<'m> PlainCheck<'m> {
    /// Reads a `CheckRequest`.
    pub fn of_check(message: &'m [u8]) -> Result<Self, Unread> {
        const TENANT: u32 = 1;
        const OPERATION: u32 = 2;
        const AMOUNTS: u32 = 4;
        const MODE: u32 = 5;
        const IDEMPOTENCY_KEY: u32 = 6;
        const DURABILITY: u32 = 7;
        let (mut tenant, mut operation, mut idempotency_key) = ("", "", "");
        let (mut mode, mut durability) = (0, 0);
        let mut amounts = ArrayVec::new();
        let mut fields = Fields(message);
        while let Some((tag, value)) = fields.read()? {
            match tag {
                TENANT => tenant = value.text()?,
                OPERATION => operation = value.text()?,
                AMOUNTS => put_amount(&mut amounts, value.bytes()?)?,
                MODE => mode = value.number()?,
                IDEMPOTENCY_KEY => idempotency_key = value.text()?,
                DURABILITY => durability = value.number()?,
                _ => return Err(Unread),
            }
        }
        let (mode, durability) = (named(mode)?, named(durability)?);
        Ok(Self { tenant, operation, amounts, mode, idempotency_key, durability })
    }
}

/// Reads an entry of a map. A meter that is named twice has its last amount: prost sees to that.
fn put_amount<'m>(
    amounts: &mut ArrayVec<(&'m str, i64), AMOUNTS_MAX>,
    entry: &'m [u8],
) -> Result<(), Unread> {
    const METER: u32 = 1;
    const AMOUNT: u32 = 2;
    let (mut meter, mut amount) = ("", 0);
    let mut fields = Fields(entry);
    while let Some((tag, value)) = fields.read()? {
        match tag {
            METER => meter = value.text()?,
            AMOUNT => amount = value.number()?.cast_signed(),
            _ => return Err(Unread),
        }
    }
    if amounts.iter().any(|(before, _)| *before == meter) {
        return Err(Unread);
    }
    amounts.try_push((meter, amount)).map_err(|_| Unread)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::proto::v1::CheckRequest;

    fn plain() -> CheckRequest {
        CheckRequest {
            tenant: "acme".into(),
            operation: "ask".into(),
            amounts: [("tokens".into(), 5), ("images".into(), 0)].into(),
            mode: Mode::Consume.into(),
            ..Default::default()
        }
    }

    #[test]
    fn what_has_more_than_plain_checks_have_is_left_to_prost() {
        let text = || [("a".to_owned(), "b".to_owned())].into();
        for other in [
            CheckRequest { subject: "a".into(), ..plain() },
            CheckRequest { mode: 9, ..plain() },
            CheckRequest { durability: -1, ..plain() },
            CheckRequest { reservation_ttl: Some(Default::default()), ..plain() },
            CheckRequest { properties: text(), ..plain() },
            CheckRequest { attributes: text(), ..plain() },
        ] {
            assert_eq!(PlainCheck::of_check(&other.encode_to_vec()), Err(Unread), "{other:?}");
        }
    }

    #[test]
    fn a_meter_that_is_named_twice_is_left_to_prost() {
        let one = CheckRequest { amounts: [("tokens".into(), 5)].into(), ..Default::default() };
        let twice = [plain().encode_to_vec(), one.encode_to_vec()].concat();
        assert_eq!(PlainCheck::of_check(&twice), Err(Unread));
    }

    #[test]
    fn many_amounts_are_left_to_prost() {
        let amounts = |count: usize| (0..count).map(|number| (number.to_string(), 1)).collect();
        let read = |count| {
            let request = CheckRequest { amounts: amounts(count), ..plain() };
            PlainCheck::of_check(&request.encode_to_vec()).map(|plain| plain.amounts.len())
        };
        assert_eq!(read(AMOUNTS_MAX), Ok(AMOUNTS_MAX));
        assert_eq!(read(AMOUNTS_MAX + 1), Err(Unread));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_prost_reads(message in mutated()) {
            if let Ok(plain) = PlainCheck::of_check(&message) {
                let read = CheckRequest::decode(message.as_slice()).unwrap();
                prop_assert_eq!(message_of(&plain), read);
            }
        }

        #[test]
        fn what_is_plain_is_read(request in requests()) {
            let message = request.encode_to_vec();
            let plain = PlainCheck::of_check(&message).unwrap();
            prop_assert_eq!(message_of(&plain), request);
        }
    }

    fn message_of(plain: &PlainCheck<'_>) -> CheckRequest {
        let amount = |(meter, amount): &(&str, i64)| ((*meter).to_owned(), *amount);
        CheckRequest {
            tenant: plain.tenant.to_owned(),
            operation: plain.operation.to_owned(),
            amounts: plain.amounts.iter().map(amount).collect(),
            mode: plain.mode.into(),
            idempotency_key: plain.idempotency_key.to_owned(),
            durability: plain.durability.into(),
            ..CheckRequest::default()
        }
    }

    fn requests() -> impl Strategy<Value = CheckRequest> {
        let amounts = prop::collection::btree_map("[a-z]{0,3}", any::<i64>(), 0..7);
        let message = ("[a-zß]{0,9}", "[a-z]{0,200}", amounts, 0..4_i32, "[a-z]?");
        message.prop_map(|(tenant, operation, amounts, mode, idempotency_key)| CheckRequest {
            tenant,
            operation,
            amounts,
            mode,
            idempotency_key,
            durability: mode,
            ..Default::default()
        })
    }

    /// Messages with some bytes put in the place of others, or twice.
    fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let changes = prop::collection::vec((any::<prop::sample::Index>(), 0..=255_u8), 0..3);
        (requests(), changes, any::<bool>()).prop_map(|(request, changes, is_twice)| {
            let mut bytes = request.encode_to_vec();
            for (place, byte) in changes {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = byte;
                }
            }
            if is_twice { bytes.repeat(2) } else { bytes }
        })
    }
}
