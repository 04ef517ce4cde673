//! How many different values there were: exactly while they are few, estimated beyond.
//!
//! Up to [`EXACT_VALUES_MAX`] values their 64-bit hashes (XXH3) are kept; two of 4,096 values share
//! one with a probability of 5 × 10⁻¹³. Beyond that, a HyperLogLog of 2^14 registers takes over:
//! its standard error is 1.04 / √2^14 = 0.81 %, whatever the number (Flajolet et al. 2007; the
//! estimator is that of Ertl, "New cardinality estimation algorithms for HyperLogLog sketches",
//! 2017, algorithm 6). Merging two counts gives the very count of all their values together, in any
//! order; the count never goes down.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64;

use super::invalid::Invalid;

/// Values up to which the count is exact. A hard limit on a distinct count must not exceed it.
pub const EXACT_VALUES_MAX: usize = 4096;

const PRECISION: u32 = 14;
const REGISTERS: usize = 1 << PRECISION;
/// Largest rank that a register can hold: every remaining bit of the hash is 0.
const RANK_MAX: usize = 64 - PRECISION as usize + 1;

const TAG_EXACT: u8 = 1;
const TAG_SKETCH: u8 = 2;

/// What stands for a value in a count.
pub fn hash(value: &str) -> u64 {
    xxh3_64(value.as_bytes())
}

/// A count of distinct values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinctCount(State);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Hashes of the values, [`EXACT_VALUES_MAX`] at most.
    Exact(BTreeSet<u64>),
    /// One rank per register.
    Sketch(Box<[u8]>),
}

impl Default for DistinctCount {
    fn default() -> Self {
        Self(State::Exact(BTreeSet::new()))
    }
}

impl DistinctCount {
    /// A count of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts `value`; says whether it was not counted before. Beyond the exact size a new value
    /// may be taken for an old one.
    pub fn insert(&mut self, value: &str) -> bool {
        self.insert_hash(hash(value))
    }

    fn insert_hash(&mut self, hash: u64) -> bool {
        match &mut self.0 {
            State::Exact(hashes) => {
                let is_new = hashes.insert(hash);
                if hashes.len() > EXACT_VALUES_MAX {
                    self.0 = State::Sketch(sketch_of(hashes));
                }
                is_new
            }
            State::Sketch(registers) => raise(registers, hash),
        }
    }

    /// Whether `value` was counted. Beyond the exact size, a value that was not may seem to be.
    pub fn contains(&self, value: &str) -> bool {
        let hash = hash(value);
        match &self.0 {
            State::Exact(hashes) => hashes.contains(&hash),
            State::Sketch(registers) => {
                let (register, rank) = place(hash);
                registers[register] >= rank
            }
        }
    }

    /// Counts what `other` counted, too.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, State::Exact(hashes)) => {
                for hash in hashes {
                    self.insert_hash(*hash);
                }
            }
            (State::Exact(hashes), State::Sketch(registers)) => {
                let mut registers = registers.clone();
                for hash in hashes.iter() {
                    raise(&mut registers, *hash);
                }
                self.0 = State::Sketch(registers);
            }
            (State::Sketch(registers), State::Sketch(others)) => {
                for (rank, other) in registers.iter_mut().zip(others) {
                    *rank = (*rank).max(*other);
                }
            }
        }
    }

    /// The number of distinct values: exact, or with a standard error of 0.81 %.
    pub fn count(&self) -> u64 {
        match &self.0 {
            State::Exact(hashes) => hashes.len() as u64,
            // A sketch only exists for more values than the exact set takes.
            State::Sketch(registers) => estimate(registers).max(EXACT_VALUES_MAX as u64 + 1),
        }
    }

    /// The hashes of the values, in order; `None` beyond the exact size.
    pub fn hashes(&self) -> Option<impl ExactSizeIterator<Item = &u64>> {
        match &self.0 {
            State::Exact(hashes) => Some(hashes.iter()),
            State::Sketch(_) => None,
        }
    }

    /// Whether the count is exact.
    pub fn is_exact(&self) -> bool {
        matches!(self.0, State::Exact(_))
    }

    /// The count as bytes: the same for the same values, whatever their order.
    ///
    /// Byte 1, then the hashes in order, 8 bytes little endian each; or byte 2, byte 14, then one
    /// byte per register.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            State::Exact(hashes) => {
                let hashes = hashes.iter().flat_map(|hash| hash.to_le_bytes());
                [TAG_EXACT].into_iter().chain(hashes).collect()
            }
            State::Sketch(registers) => {
                let head = [TAG_SKETCH, PRECISION as u8];
                head.into_iter().chain(registers.iter().copied()).collect()
            }
        }
    }

    /// Reads what [`DistinctCount::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        let unreadable = || {
            Invalid::new(
                "distinct_count",
                format!("{} bytes are no distinct count", bytes.len()),
                "this version reads format 1 (hashes) and format 2 (2^14 registers)",
            )
        };
        match bytes {
            [TAG_EXACT, hashes @ ..] => {
                let (hashes, rest) = hashes.as_chunks::<8>();
                let hashes: BTreeSet<u64> =
                    hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
                let is_whole = rest.is_empty()
                    && hashes.len() * 8 + 1 == bytes.len()
                    && hashes.len() <= EXACT_VALUES_MAX;
                if is_whole { Ok(Self(State::Exact(hashes))) } else { Err(unreadable()) }
            }
            [TAG_SKETCH, precision, registers @ ..]
                if u32::from(*precision) == PRECISION
                    && registers.len() == REGISTERS
                    && registers.iter().all(|rank| usize::from(*rank) <= RANK_MAX) =>
            {
                Ok(Self(State::Sketch(registers.into())))
            }
            _ => Err(unreadable()),
        }
    }
}

fn sketch_of(hashes: &BTreeSet<u64>) -> Box<[u8]> {
    let mut registers = vec![0; REGISTERS].into_boxed_slice();
    for hash in hashes {
        raise(&mut registers, *hash);
    }
    registers
}

/// The register that a hash belongs to (its first bits), and the rank of the rest: one more than
/// its leading zeros.
fn place(hash: u64) -> (usize, u8) {
    let register = (hash >> (64 - PRECISION)) as usize;
    // At most `RANK_MAX` = 51.
    let rank = (hash << PRECISION).leading_zeros().min(64 - PRECISION) + 1;
    (register, rank as u8)
}

fn raise(registers: &mut [u8], hash: u64) -> bool {
    let (register, rank) = place(hash);
    let is_higher = registers[register] < rank;
    if is_higher {
        registers[register] = rank;
    }
    is_higher
}

fn estimate(registers: &[u8]) -> u64 {
    let mut having = [0u32; RANK_MAX + 1];
    for rank in registers {
        having[usize::from(*rank).min(RANK_MAX)] += 1;
    }
    let m = REGISTERS as f64;
    let mut z = m * tau(1.0 - f64::from(having[RANK_MAX]) / m);
    for count in having[1..RANK_MAX].iter().rev() {
        z = 0.5 * (z + f64::from(*count));
    }
    z += m * sigma(f64::from(having[0]) / m);
    let alpha = 1.0 / (2.0 * std::f64::consts::LN_2);
    // Positive, and far below 2^64.
    (alpha * m * m / z).round() as u64
}

/// Ertl's σ: corrects for registers that are still empty.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

/// Ertl's τ: corrects for registers that are full.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(values: impl IntoIterator<Item = u64>) -> DistinctCount {
        let mut count = DistinctCount::new();
        for value in values {
            count.insert(&format!("user-{value}"));
        }
        count
    }

    #[test]
    fn the_count_is_exact_up_to_the_stated_size_and_goes_on_from_there() {
        let mut count = counted(0..EXACT_VALUES_MAX as u64);
        assert!(count.is_exact());
        assert_eq!(count.count(), EXACT_VALUES_MAX as u64);
        assert!(!count.insert("user-0"));
        assert!(count.contains("user-1") && !count.contains("another"));
        assert!(count.insert("another"));
        assert!(!count.is_exact());
        assert!(count.contains("another"));
        assert!(count.count() > EXACT_VALUES_MAX as u64);
    }

    #[test]
    fn the_estimate_stays_within_four_standard_errors_at_every_size() {
        for size in [5_000u64, 10_000, 40_000, 200_000] {
            // Four independent sets of values.
            for set in 0..4u64 {
                let estimate = counted(set << 32..(set << 32) + size).count();
                let error = estimate.abs_diff(size) as f64 / size as f64;
                assert!(error < 4.0 * 0.0081, "{estimate} for {size}: {error}");
            }
        }
    }

    #[test]
    fn a_hash_of_zeros_has_the_highest_rank() {
        assert_eq!(place(0), (0, RANK_MAX as u8));
        assert_eq!(place(u64::MAX), (REGISTERS - 1, 1));
        assert_eq!(place(1), (0, RANK_MAX as u8 - 1));
    }

    #[test]
    fn the_hash_is_xxh3_and_stays_so() {
        let mut count = DistinctCount::new();
        // XXH3_64bits of nothing with seed 0, as its specification's test vectors have it.
        count.insert("");
        let expected = [TAG_EXACT].into_iter().chain(0x2d06_8005_38d3_94c2_u64.to_le_bytes());
        assert_eq!(count.to_bytes(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn bytes_of_another_format_are_refused() {
        let sketch = counted(0..5_000).to_bytes();
        let exact = counted(0..10).to_bytes();
        for bytes in [&[][..], &[3, 14], &exact[..exact.len() - 1], &sketch[..sketch.len() - 1]] {
            assert!(DistinctCount::from_bytes(bytes).is_err(), "{} bytes", bytes.len());
        }
        let mut impossible = sketch;
        impossible[7] = 60;
        assert!(DistinctCount::from_bytes(&impossible).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn merging_counts_the_union_whatever_the_order(
            a in 0u64..9_000, b in 0u64..9_000, overlap in 0u64..2_000,
        ) {
            let (left, right) = (0..a, a.saturating_sub(overlap)..a + b);
            let whole = counted(left.clone().chain(right.clone()));
            let (left, right) = (counted(left), counted(right));
            let (mut one, mut other) = (left.clone(), right.clone());
            one.merge(&right);
            other.merge(&left);
            prop_assert_eq!(&one, &whole);
            prop_assert_eq!(&other, &whole);
            prop_assert_eq!(&DistinctCount::from_bytes(&whole.to_bytes()).unwrap(), &whole);
        }

        #[test]
        fn the_count_never_goes_down(from in 4_000u64..4_200, more in 0u64..500) {
            let mut count = counted(0..from);
            let mut before = count.count();
            for value in from..from + more {
                count.insert(&format!("user-{value}"));
                prop_assert!(count.count() >= before);
                before = count.count();
            }
        }
    }
}
