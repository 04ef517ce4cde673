//! Inputs made of other inputs.

use std::{cell::RefCell, fmt, ops::Bound, rc::Rc};

use bolero::{Driver, ValueGenerator};

/// Mutations of one input at most; most inputs have fewer.
const STEPS_MAX: usize = 6;
/// Longest piece that is moved, doubled or removed by one mutation, bytes.
const PIECE_BYTES_MAX: usize = 64;
/// How often one mutation may repeat a piece.
const REPEATS_MAX: usize = 200;
/// What stands between the words of the texts that are read: YAML, JSON, HTTP, names and paths.
const SEPARATORS: &[u8] = b" \t\r\n\"'{}[]():,;=/&?";
/// Words that parsers find hard.
const WORDS: [&str; 44] = [
    "",
    "0",
    "-0",
    "-1",
    "1",
    "1e309",
    "-1e-400",
    "0.1",
    "1.0",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "NaN",
    ".inf",
    "null",
    "~",
    "true",
    "false",
    "{}",
    "[]",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\u{0}",
    "\u{7f}",
    "\u{feff}",
    "é",
    "𝔘",
    "%00",
    "%ff",
    "..",
    "&a *a",
    "<<: *a",
    "!!binary",
    "9999-12-31T23:59:59.999999999Z",
    "-009999-01-02T01:59:59Z",
    "0000-01-01T00:00:00Z",
    "315576000000s",
    "-0.000000001s",
];

/// An input, printed as far as it is text.
#[derive(Clone, PartialEq, Eq)]
pub struct Input(pub Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes: {}", self.0.len(), self.0.escape_ascii())
    }
}

/// Breeds inputs.
pub struct Mutations {
    /// What is bred from; a long run adds to it.
    pub parents: Rc<RefCell<Vec<Vec<u8>>>>,
    /// Longest input, bytes.
    pub bytes_max: usize,
}

impl ValueGenerator for Mutations {
    type Output = Input;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Input> {
        let parents = self.parents.borrow();
        let mut input = parents[below(driver, parents.len())?].clone();
        for _ in 0..=below(driver, STEPS_MAX)? {
            let other = &parents[below(driver, parents.len())?];
            mutate(driver, &mut input, other)?;
        }
        input.truncate(self.bytes_max);
        Some(Input(input))
    }
}

/// A number below `end`, or 0.
fn below<D: Driver>(driver: &mut D, end: usize) -> Option<usize> {
    match end {
        0 | 1 => Some(0),
        end => driver.gen_usize(Bound::Included(&0), Bound::Excluded(&end)),
    }
}

fn byte<D: Driver>(driver: &mut D) -> Option<u8> {
    driver.gen_u8(Bound::Unbounded, Bound::Unbounded)
}

/// One change of `input`, perhaps with a piece of `other`.
fn mutate<D: Driver>(driver: &mut D, input: &mut Vec<u8>, other: &[u8]) -> Option<()> {
    match below(driver, 12)? {
        0 => flip(driver, input),
        1 => {
            let at = below(driver, input.len() + 1)?;
            input.insert(at, byte(driver)?);
            Some(())
        }
        2 => {
            let piece = piece(driver, input, PIECE_BYTES_MAX)?;
            input.drain(piece);
            Some(())
        }
        3 => {
            let piece = input[piece(driver, input, PIECE_BYTES_MAX)?].to_vec();
            let times = below(driver, REPEATS_MAX)?;
            insert(driver, input, &piece.repeat(times))
        }
        4 => {
            let piece = other[piece(driver, other, PIECE_BYTES_MAX)?].to_vec();
            insert(driver, input, &piece)
        }
        5 => {
            let keep = below(driver, input.len() + 1)?;
            input.truncate(keep);
            Some(())
        }
        // The head of one with the tail of another.
        6 => {
            let (keep, from) = (below(driver, input.len() + 1)?, below(driver, other.len() + 1)?);
            input.truncate(keep);
            input.extend_from_slice(&other[from..]);
            Some(())
        }
        7 => number(driver, input),
        8 => {
            let line = line(driver, other)?;
            let at = line_start(driver, input)?;
            input.splice(at..at, line);
            Some(())
        }
        // Words twice as often: most inputs are texts.
        9 => {
            let word = other[word(driver, other)?].to_vec();
            replace(driver, input, &word)
        }
        10 => {
            let word = WORDS[below(driver, WORDS.len())?];
            insert(driver, input, word.as_bytes())
        }
        _ => {
            let word = WORDS[below(driver, WORDS.len())?];
            replace(driver, input, word.as_bytes())
        }
    }
}

fn flip<D: Driver>(driver: &mut D, input: &mut [u8]) -> Option<()> {
    let (at, bit) = (below(driver, input.len())?, below(driver, 8)?);
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << bit;
    }
    Some(())
}

/// Overwrites 1 to 8 bytes with a number at its bounds: a length, a count, an offset.
fn number<D: Driver>(driver: &mut D, input: &mut [u8]) -> Option<()> {
    let at = below(driver, input.len())?;
    let width = 1 << below(driver, 4)?;
    let value: u64 = match below(driver, 6)? {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX >> 1,
        3 => 1 << below(driver, 64)?,
        4 => input.len() as u64,
        _ => u64::from(byte(driver)?),
    };
    let bytes = if below(driver, 2)? == 0 { value.to_le_bytes() } else { value.to_be_bytes() };
    let end = input.len().min(at + width);
    input[at.min(end)..end].iter_mut().zip(bytes).for_each(|(old, new)| *old = new);
    Some(())
}

fn insert<D: Driver>(driver: &mut D, input: &mut Vec<u8>, piece: &[u8]) -> Option<()> {
    let at = below(driver, input.len() + 1)?;
    input.splice(at..at, piece.iter().copied());
    Some(())
}

fn replace<D: Driver>(driver: &mut D, input: &mut Vec<u8>, piece: &[u8]) -> Option<()> {
    let range = word(driver, input)?;
    input.splice(range, piece.iter().copied());
    Some(())
}

fn piece<D: Driver>(driver: &mut D, of: &[u8], bytes_max: usize) -> Option<std::ops::Range<usize>> {
    let start = below(driver, of.len())?;
    let length = below(driver, bytes_max.min(of.len() - start) + 1)?;
    Some(start..start + length)
}

/// The word around some place.
fn word<D: Driver>(driver: &mut D, of: &[u8]) -> Option<std::ops::Range<usize>> {
    let at = below(driver, of.len())?;
    let is_separator = |byte: &u8| SEPARATORS.contains(byte);
    let start = of[..at].iter().rposition(is_separator).map_or(0, |before| before + 1);
    let end = of[at..].iter().position(is_separator).map_or(of.len(), |length| at + length);
    Some(start..end.max(start))
}

fn line_start<D: Driver>(driver: &mut D, of: &[u8]) -> Option<usize> {
    let at = below(driver, of.len() + 1)?;
    Some(of[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1))
}

/// The line around some place, with its end.
fn line<D: Driver>(driver: &mut D, of: &[u8]) -> Option<Vec<u8>> {
    let start = line_start(driver, of)?;
    let length = of[start..].iter().position(|byte| *byte == b'\n');
    Some(of[start..length.map_or(of.len(), |length| start + length + 1)].to_vec())
}
