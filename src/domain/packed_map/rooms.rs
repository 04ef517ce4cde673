//! Memory for very many short pieces of bytes, each found again by a number of four bytes.
//!
//! A piece that is allocated on its own takes a pointer and a length where it is kept, and is rounded
//! up to one of the allocator's sizes. Here pieces of nearly the same length lie side by side in a
//! chunk; a long one has a chunk to itself. A place that is left is taken by the next piece of its
//! width; until then it holds the number of the place that was left before. Chunks stay until all that
//! is left of them is moved elsewhere.

/// Pieces take a multiple of so many bytes: room for the number of a place.
const STEP: usize = 4;
/// The widest that share a chunk.
const SHARED_BYTES_MAX: usize = 256;
/// Places in a chunk at most, and numbers for one that has fewer.
const PLACES: usize = 32;
/// No place has this number: there is memory for fewer.
const NOWHERE: u32 = u32::MAX;

/// There is memory for fewer.
const NUMBERED: &str = "there are no more than 2^32 places";

/// Where a piece lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u32);

/// Pieces of bytes.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    chunks: Vec<Chunk>,
    /// The place that was left last, of each width that shares chunks. From there one leads to the next.
    free: Vec<Option<Place>>,
    /// The chunks without a place, each by its first number.
    closed: Vec<Place>,
    bytes: usize,
    taken_bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    width: usize,
    bytes: Box<[u8]>,
}

impl Rooms {
    /// Puts a piece in. Where it is read, zeros may follow.
    pub fn put(&mut self, piece: &[u8]) -> Place {
        let width = width(piece);
        let place = self.place(width);
        self.taken_bytes += width;
        self.write(place, piece);
        place
    }

    /// Puts a piece into the place of another, or elsewhere if it does not fit there.
    pub fn put_again(&mut self, place: Place, piece: &[u8]) -> Place {
        if self.get(place).len() != width(piece) {
            self.leave(place);
            return self.put(piece);
        }
        self.write(place, piece);
        place
    }

    /// The piece at `place`, and behind it fewer than [`STEP`] zeros.
    pub fn get(&self, place: Place) -> &[u8] {
        let (chunk, slot) = place.parts();
        let Chunk { width, bytes } = &self.chunks[chunk];
        &bytes[slot * width..][..*width]
    }

    /// Gives a place back.
    pub fn leave(&mut self, place: Place) {
        let (chunk, _) = place.parts();
        let Chunk { width, bytes } = &mut self.chunks[chunk];
        self.taken_bytes -= *width;
        if *width <= SHARED_BYTES_MAX {
            self.set_free(place);
        } else {
            self.bytes -= *width;
            *bytes = Box::default();
            self.closed.push(place);
        }
    }

    fn set_free(&mut self, place: Place) {
        let class = self.get(place).len() / STEP;
        let next = self.free[class].replace(place).map_or(NOWHERE, |Place(number)| number);
        self.write(place, &next.to_le_bytes());
    }

    /// Whether more than a quarter of the memory is free: what was of one width and is of another now
    /// leaves as much behind.
    pub fn are_much_free(&self) -> bool {
        4 * self.taken_bytes < 3 * self.bytes
    }

    fn write(&mut self, place: Place, piece: &[u8]) {
        let (chunk, slot) = place.parts();
        let Chunk { width, bytes } = &mut self.chunks[chunk];
        let (start, rest) = bytes[slot * *width..][..*width].split_at_mut(piece.len());
        start.copy_from_slice(piece);
        rest.fill(0);
    }

    /// A place that nobody has.
    fn place(&mut self, width: usize) -> Place {
        if width > SHARED_BYTES_MAX {
            return self.open(width, 1);
        }
        let class = width / STEP;
        if self.free.len() <= class {
            self.free.resize(class + 1, None);
        }
        if let Some(place) = self.free[class] {
            let next = self.get(place).first_chunk().copied().map_or(NOWHERE, u32::from_le_bytes);
            self.free[class] = (next != NOWHERE).then_some(Place(next));
            return place;
        }
        let places = places(width);
        let first = self.open(width, places);
        (1..places as u32).rev().for_each(|slot| self.set_free(Place(first.0 + slot)));
        first
    }

    /// A chunk's first place.
    fn open(&mut self, width: usize, places: usize) -> Place {
        let chunk = Chunk { width, bytes: vec![0; width * places].into() };
        self.bytes += width * places;
        if let Some(first) = self.closed.pop() {
            let (place, _) = first.parts();
            self.chunks[place] = chunk;
            return first;
        }
        let first = u32::try_from(self.chunks.len() * PLACES).expect(NUMBERED);
        self.chunks.push(chunk);
        Place(first)
    }
}

/// What a piece takes.
fn width(piece: &[u8]) -> usize {
    piece.len().max(1).next_multiple_of(STEP)
}

/// How many places of this width a chunk has: as many as make each of them cost least.
fn places(width: usize) -> usize {
    let costs = |places: usize| allocated(places * width) + size_of::<Chunk>();
    let compared = |one: &usize, other: &usize| (costs(*one) * other).cmp(&(costs(*other) * one));
    (PLACES / 2..=PLACES).min_by(compared).unwrap_or(PLACES)
}

/// What the allocator gives for so many bytes: its sizes are four to each doubling.
fn allocated(bytes: usize) -> usize {
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(1))
}

impl Place {
    /// The chunk, and which place in it.
    fn parts(self) -> (usize, usize) {
        let number = self.0 as usize;
        (number / PLACES, number % PLACES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_found_as_they_were_put_and_none_lies_on_another(
            steps in prop::collection::vec((any::<u8>(), 1_usize..600, 0_usize..20), 0..400),
        ) {
            let mut rooms = Rooms::default();
            let mut model: Vec<(Place, Vec<u8>)> = vec![];
            for (byte, length, which) in steps {
                let piece = vec![byte; length];
                match (model.get_mut(which), byte % 3) {
                    (None, _) => model.push((rooms.put(&piece), piece)),
                    (Some((place, known)), 0) => {
                        (*place, *known) = (rooms.put_again(*place, &piece), piece);
                    }
                    (Some(_), 1) => rooms.leave(model.swap_remove(which).0),
                    (Some(_), _) => {}
                }
                for (place, piece) in &model {
                    let (found, filling) = rooms.get(*place).split_at(piece.len());
                    prop_assert_eq!(found, piece);
                    prop_assert!(filling.len() < STEP && filling.iter().all(|byte| *byte == 0));
                }
            }
            let width = |(_, piece): &(Place, Vec<u8>)| piece.len().next_multiple_of(STEP);
            prop_assert_eq!(rooms.taken_bytes, model.iter().map(width).sum::<usize>());
        }
    }

    #[test]
    fn little_of_what_the_allocator_gives_is_not_in_places() {
        let sizes = [1_024, 1_025, 1_280, 1_281, 2_047].map(allocated);
        assert_eq!(sizes, [1_024, 1_280, 1_280, 1_536, 2_048]);
        for width in (STEP..=SHARED_BYTES_MAX).step_by(STEP) {
            let bytes = width * places(width);
            assert!(100 * bytes >= 96 * allocated(bytes), "{bytes} of {}", allocated(bytes));
        }
    }

    #[test]
    fn places_that_were_left_are_taken_again() {
        let mut rooms = Rooms::default();
        for round in 0..10 {
            let pieces = (201..=300).map(|length| vec![round; length]);
            let places: Vec<_> = pieces.map(|piece| rooms.put(&piece)).collect();
            places.into_iter().for_each(|place| rooms.leave(place));
        }
        let widths = (204..=SHARED_BYTES_MAX).step_by(STEP);
        assert_eq!(rooms.bytes, widths.clone().map(|width| width * places(width)).sum::<usize>());
        assert_eq!(rooms.chunks.len(), widths.count() + (SHARED_BYTES_MAX + 1..=300).count());
    }
}
