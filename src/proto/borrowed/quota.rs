//! Checks of one meter.

use super::named;
use crate::proto::{
    v1::{AnyCheck, Durability, Mode, any_check::Check},
    wire::{Fields, Unread, Value},
};

/// A `CheckQuotaRequest` without subject, properties and time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainQuota<'m> {
    /// As it came: that it is a name is not checked.
    pub tenant: &'m str,
    /// The same.
    pub meter: &'m str,
    pub amount: i64,
    pub mode: Mode,
    /// As it came; empty where there is none.
    pub idempotency_key: &'m str,
    pub durability: Durability,
}

impl<'m> PlainQuota<'m> {
    /// Reads a `CheckQuotaRequest`.
    #[inline]
    pub fn of_quota(message: &'m [u8]) -> Result<Self, Unread> {
        const TENANT: u32 = 1;
        const METER: u32 = 2;
        const AMOUNT: u32 = 4;
        const MODE: u32 = 5;
        const IDEMPOTENCY_KEY: u32 = 6;
        const DURABILITY: u32 = 7;
        let (mut tenant, mut meter, mut idempotency_key) = ("", "", "");
        let (mut amount, mut mode, mut durability) = (None, 0, 0);
        let mut fields = Fields(message);
        while let Some((tag, value)) = fields.read()? {
            match tag {
                TENANT => tenant = value.text()?,
                METER => meter = value.text()?,
                AMOUNT => amount = Some(value.number()?.cast_signed()),
                MODE => mode = value.number()?,
                IDEMPOTENCY_KEY => idempotency_key = value.text()?,
                DURABILITY => durability = value.number()?,
                _ => return Err(Unread),
            }
        }
        let amount = amount.ok_or(Unread)?;
        let (mode, durability) = (named(mode)?, named(durability)?);
        Ok(Self { tenant, meter, amount, mode, idempotency_key, durability })
    }

    /// The same of a message that prost has read.
    pub fn of_read(check: &'m AnyCheck) -> Result<Self, Unread> {
        let Some(Check::Quota(quota)) = &check.check else { return Err(Unread) };
        let is_plain = quota.subject.is_empty()
            && quota.reservation_ttl.is_none()
            && quota.properties.is_empty();
        if !is_plain {
            return Err(Unread);
        }
        Ok(Self {
            tenant: &quota.tenant,
            meter: &quota.meter,
            amount: quota.amount.ok_or(Unread)?,
            mode: quota.mode.try_into().map_err(|_| Unread)?,
            idempotency_key: &quota.idempotency_key,
            durability: quota.durability.try_into().map_err(|_| Unread)?,
        })
    }

    /// Reads an `AnyCheck` that is a quota's.
    #[inline]
    pub fn of_any(message: &'m [u8]) -> Result<Self, Unread> {
        const QUOTA: u32 = 1;
        let mut fields = Fields(message);
        match (fields.read()?, fields.read()?) {
            (Some((QUOTA, value)), None) => Self::of_quota(value.bytes()?),
            _ => Err(Unread),
        }
    }

    /// Whether nothing is said but what is looked at.
    #[inline]
    pub fn is_look(&self) -> bool {
        self.mode == Mode::Check
            && self.idempotency_key.is_empty()
            && self.durability == Durability::Unspecified
    }
}

/// The checks of a `CheckBatchRequest`, as far as they are plain looks.
#[derive(Clone, Copy, Debug)]
pub struct PlainLooks<'m> {
    /// From the first check on that is none, or from the end: a `CheckBatchRequest` of its own.
    pub rest: &'m [u8],
}

impl<'m> Iterator for PlainLooks<'m> {
    type Item = PlainQuota<'m>;

    #[inline]
    fn next(&mut self) -> Option<PlainQuota<'m>> {
        const CHECKS: u32 = 1;
        let mut fields = Fields(self.rest);
        let Ok(Some((CHECKS, Value::Bytes(check)))) = fields.read() else { return None };
        let look = PlainQuota::of_any(check).ok().filter(PlainQuota::is_look)?;
        self.rest = fields.0;
        Some(look)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::proto::v1::{CheckBatchRequest, CheckFeatureRequest, CheckQuotaRequest};

    fn look(tenant: &str) -> CheckQuotaRequest {
        CheckQuotaRequest {
            tenant: tenant.into(),
            meter: "tokens".into(),
            amount: Some(5),
            mode: Mode::Check.into(),
            ..Default::default()
        }
    }

    fn of(check: Check) -> AnyCheck {
        AnyCheck { check: Some(check) }
    }

    #[test]
    fn what_has_more_than_plain_quotas_have_is_left_to_prost() {
        let plain = look("acme");
        for other in [
            CheckQuotaRequest { subject: "a".into(), ..plain.clone() },
            CheckQuotaRequest { amount: None, ..plain.clone() },
            CheckQuotaRequest { mode: 9, ..plain.clone() },
            CheckQuotaRequest { mode: -1, ..plain.clone() },
            CheckQuotaRequest { durability: 9, ..plain.clone() },
            CheckQuotaRequest { reservation_ttl: Some(Default::default()), ..plain.clone() },
            CheckQuotaRequest { properties: [("a".into(), "b".into())].into(), ..plain.clone() },
        ] {
            assert_eq!(PlainQuota::of_quota(&other.encode_to_vec()), Err(Unread), "{other:?}");
            assert_eq!(PlainQuota::of_read(&of(Check::Quota(other))), Err(Unread));
        }
        assert_eq!(PlainQuota::of_read(&AnyCheck::default()), Err(Unread));
        assert_eq!(PlainQuota::of_quota(b""), Err(Unread));
        let mut not_text = plain.encode_to_vec();
        not_text[2] = 0xff;
        assert_eq!(PlainQuota::of_quota(&not_text), Err(Unread));
    }

    #[test]
    fn a_look_says_nothing_but_what_is_looked_at() {
        let is_look = |request: CheckQuotaRequest| {
            let bytes = request.encode_to_vec();
            let plain = PlainQuota::of_quota(&bytes).unwrap();
            let check = of(Check::Quota(request));
            assert_eq!(PlainQuota::of_read(&check), Ok(plain));
            plain.is_look()
        };
        let plain = look("acme");
        assert!(is_look(plain.clone()));
        assert!(!is_look(CheckQuotaRequest { mode: Mode::Consume.into(), ..plain.clone() }));
        assert!(!is_look(CheckQuotaRequest { mode: 0, ..plain.clone() }));
        assert!(!is_look(CheckQuotaRequest { idempotency_key: "k".into(), ..plain.clone() }));
        assert!(!is_look(CheckQuotaRequest { durability: 2, ..plain.clone() }));
    }

    #[test]
    fn plain_looks_end_where_another_check_begins_and_the_rest_is_a_batch() {
        let feature = of(Check::Feature(CheckFeatureRequest::default()));
        let of = |tenant| of(Check::Quota(look(tenant)));
        let checks = vec![of("a"), of("b"), feature, of("c")];
        let bytes = CheckBatchRequest { checks: checks.clone() }.encode_to_vec();
        let mut looks = PlainLooks { rest: &bytes };
        let tenants: Vec<_> = looks.by_ref().map(|look| look.tenant).collect();
        assert_eq!(tenants, ["a", "b"]);
        assert_eq!(CheckBatchRequest::decode(looks.rest).unwrap().checks, checks[2..]);
    }

    #[test]
    fn a_batch_may_have_more_after_its_checks_than_is_known_here() {
        let check = of(Check::Quota(look("acme")));
        let mut bytes = CheckBatchRequest { checks: vec![check] }.encode_to_vec();
        bytes.extend([0x12, 0x01, 0x00]);
        let mut looks = PlainLooks { rest: &bytes };
        assert_eq!(looks.by_ref().count(), 1);
        assert_eq!(CheckBatchRequest::decode(looks.rest), Ok(CheckBatchRequest::default()));
    }

    proptest! {
        #[test]
        fn what_is_read_of_a_batch_and_what_is_left_are_all_of_it(
            messages in proptest::collection::vec(mutated(), 0..5),
            tail in proptest::collection::vec(0..=255_u8, 0..4),
        ) {
            let mut bytes = vec![];
            for message in messages {
                let check = [&[0x0a], &encoded(message.len())[..], &message].concat();
                bytes.extend([&[0x0a], &encoded(check.len())[..], &check].concat());
            }
            bytes.extend(tail);
            let mut looks = PlainLooks { rest: &bytes };
            let mut checks: Vec<_> = looks
                .by_ref()
                .map(|plain| of(Check::Quota(message_of(&plain))))
                .collect();
            let rest = CheckBatchRequest::decode(looks.rest);
            let all = rest.map(|rest| {
                checks.extend(rest.checks);
                CheckBatchRequest { checks }
            });
            let read = CheckBatchRequest::decode(bytes.as_slice());
            prop_assert_eq!(all.ok(), read.ok());
        }

        #[test]
        fn what_is_read_is_what_prost_reads(message in mutated()) {
            if let Ok(plain) = PlainQuota::of_quota(&message) {
                let read = CheckQuotaRequest::decode(message.as_slice()).unwrap();
                prop_assert_eq!(message_of(&plain), read);
            }
        }
    }

    fn encoded(length: usize) -> Vec<u8> {
        let mut bytes = vec![];
        prost::encoding::encode_varint(length as u64, &mut bytes);
        bytes
    }

    fn message_of(plain: &PlainQuota<'_>) -> CheckQuotaRequest {
        CheckQuotaRequest {
            tenant: plain.tenant.to_owned(),
            meter: plain.meter.to_owned(),
            amount: Some(plain.amount),
            mode: plain.mode.into(),
            idempotency_key: plain.idempotency_key.to_owned(),
            durability: plain.durability.into(),
            ..CheckQuotaRequest::default()
        }
    }

    /// Messages with some bytes put in the place of others, or twice.
    fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let message = ("[a-zß]{0,9}", "[a-z]{0,200}", any::<Option<i64>>(), 0..4_i32, "[a-z]?");
        let changes = proptest::collection::vec((any::<prop::sample::Index>(), 0..=255_u8), 0..3);
        (message, changes, any::<bool>()).prop_map(|(message, changes, is_twice)| {
            let (tenant, meter, amount, mode, idempotency_key) = message;
            let request = CheckQuotaRequest {
                tenant,
                meter,
                amount,
                mode,
                idempotency_key,
                durability: mode,
                ..Default::default()
            };
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
