//! Tokens: who may call the API, and what.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{ids::TenantId, invalid::Invalid};

/// What every secret begins with, so that scanners of leaked secrets find it.
pub const PREFIX: &str = "tg_";
/// Random bytes of a secret.
pub const RANDOM_BYTES: usize = 32;
/// Longest name, bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Digits of 256 bits in base 62.
const RANDOM_DIGITS: usize = 43;
/// Digits of 32 bits in base 62.
const CHECKSUM_DIGITS: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// An application: all checks, and recording usage.
    Service,
    /// Looks only: usage, features, checks that take nothing.
    Viewer,
    /// Looks only on a sidecar; bills and plans on the console.
    Billing,
    /// Everything.
    Admin,
}

/// What a call needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Sees limits and usage, and changes nothing.
    Look,
    /// Takes, holds, records or gives back.
    Use,
}

impl Role {
    /// Whether this role may do what needs `need`.
    pub fn may(self, need: Need) -> bool {
        match (self, need) {
            (Self::Admin | Self::Service, _) | (Self::Viewer | Self::Billing, Need::Look) => true,
            (Self::Viewer | Self::Billing, Need::Use) => false,
        }
    }

    /// The role as it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Viewer => "viewer",
            Self::Billing => "billing",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        [Self::Service, Self::Viewer, Self::Billing, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| {
                let remedy = "give service, viewer, billing or admin";
                Invalid::new("role", format!("{text:?} is not a role"), remedy)
            })
    }
}

/// A token as it is kept: everything but the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub id: Uuid,
    /// What the operator calls it.
    pub name: String,
    pub role: Role,
    /// The only tenant that it may name; `None` = any.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// When it ends by itself, real time.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    pub hash: TokenHash,
}

impl Token {
    /// Whether it has ended by itself.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// Checks what an operator wants to call a token.
pub fn check_name(name: &str) -> Result<(), Invalid> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let remedy = format!("give 1 to {NAME_BYTES_MAX} bytes without control characters");
    Err(Invalid::new("name", format!("{name:?} cannot be a token's name"), remedy))
}

/// SHA-256 of a secret. The secret has 256 random bits, so that nothing slower is needed.
///
/// Hashes are compared in a time that does not depend on where they differ, and there is no other way
/// to compare them. What is compared is a hash and not the secret: who learns bits of a hash by timing
/// would have to find another input with it, which takes 2^256 tries whatever is known of it. That is
/// why a look-up by [`Self::key`], whose time may tell whether a hash begins like a known one, gives
/// nobody a way to a secret; it finds candidates, and the comparison alone decides.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of a secret as a caller sends it.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// What the hash begins with, to look it up by.
    pub fn key(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for TokenHash {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        let bad = || {
            let remedy = "give the 64 hexadecimal digits that `tollgate token create` prints";
            Invalid::new("hash", "is not a SHA-256", remedy)
        };
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(hash))
    }
}

/// A secret: `tg_`, 256 random bits, and a checksum, in base 62. Shown once and never kept.
pub struct Secret(String);

impl Secret {
    /// The secret made of `random` bytes.
    pub fn of(random: [u8; RANDOM_BYTES]) -> Self {
        let body = base62::<RANDOM_DIGITS>(&random);
        let sum = base62::<CHECKSUM_DIGITS>(&crc32c::crc32c(body.as_bytes()).to_be_bytes());
        Self(format!("{PREFIX}{body}{sum}"))
    }

    /// The text that callers send.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.0.as_bytes())
    }

    /// Whether `text` can be a secret: a mistyped one is told from an unknown one by its checksum.
    pub fn is_well_formed(text: &str) -> bool {
        let Some(rest) = text.strip_prefix(PREFIX) else { return false };
        if rest.len() != RANDOM_DIGITS + CHECKSUM_DIGITS || !rest.is_ascii() {
            return false;
        }
        let (body, sum) = rest.split_at(RANDOM_DIGITS);
        base62::<CHECKSUM_DIGITS>(&crc32c::crc32c(body.as_bytes()).to_be_bytes()) == sum
    }
}

/// A big-endian number in `N` digits of base 62.
fn base62<const N: usize>(number: &[u8]) -> String {
    let mut number = number.to_vec();
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        // Schoolbook division of the whole number by 62.
        let rest = number.iter_mut().fold(0u32, |rest, byte| {
            let value = (rest << 8) | u32::from(*byte);
            *byte = (value / 62) as u8;
            value % 62
        });
        *digit = DIGITS[rest as usize];
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_told_from_a_mistyped_one() {
        let secret = Secret::of([0xff; RANDOM_BYTES]);
        assert_eq!(secret.as_str().len(), 3 + 43 + 6);
        assert!(Secret::is_well_formed(secret.as_str()));
        let mut mistyped = secret.as_str().to_owned();
        mistyped.replace_range(10..11, "x");
        assert!(!Secret::is_well_formed(&mistyped));
        assert!(!Secret::is_well_formed("tg_"));
        assert!(!Secret::is_well_formed("Bearer"));
    }

    #[test]
    fn different_bytes_make_different_secrets_and_hashes() {
        let (one, other) = (Secret::of([1; RANDOM_BYTES]), Secret::of([2; RANDOM_BYTES]));
        assert_ne!(one.as_str(), other.as_str());
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash(), TokenHash::of(one.as_str().as_bytes()));
    }

    #[test]
    fn every_bit_of_a_hash_counts() {
        let hash = Secret::of([7; RANDOM_BYTES]).hash();
        for bit in 0..256 {
            let mut other = hash;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(other, hash, "bit {bit}");
        }
    }

    #[test]
    fn a_hash_is_read_back_from_its_text() {
        let hash = Secret::of([7; RANDOM_BYTES]).hash();
        assert_eq!(TokenHash::try_from(hash.to_string()), Ok(hash));
        assert!(TokenHash::try_from("é".repeat(32)).is_err());
        assert!(TokenHash::try_from("0".repeat(63)).is_err());
    }

    #[test]
    fn who_only_looks_may_not_take() {
        assert!(Role::Viewer.may(Need::Look) && !Role::Viewer.may(Need::Use));
        assert!(Role::Service.may(Need::Use) && Role::Admin.may(Need::Use));
        assert_eq!("viewer".parse(), Ok(Role::Viewer));
        assert!("root".parse::<Role>().unwrap_err().remedy.contains("admin"));
    }

    #[test]
    fn a_token_ends_at_its_instant() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let token = Token {
            id: Uuid::nil(),
            name: "shop".into(),
            role: Role::Service,
            tenant: None,
            expires_at: Some(at(10)),
            hash: TokenHash([0; 32]),
        };
        assert!(!token.is_expired(at(9)) && token.is_expired(at(10)));
    }
}
