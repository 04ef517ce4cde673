//! Where the slow side of a counter is kept: most of them are at rest, and packed.
//!
//! A counter at rest has few numbers, most of them small: they take a fifth of the room of the parts
//! that work with them. Whoever locks the slow side finds it unpacked; who lets it go packs it, unless
//! something goes on: a call is under way, somebody waits.
//!
//! What is packed is written by `postcard`, which makes one byte of each small number and of whatever
//! there is not: zero. Zeros at the end are left out, and are there again when it is read.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::slow::{Bells, Resting, Slow};
use crate::leases::{cell::Cell, denials::Denied};

/// Bytes that lie in the counter itself: those of nearly all.
const SHORT_BYTES: usize = 23;
/// More than any takes: two dozen numbers, of at most ten bytes each.
const BYTES_MAX: usize = 256;

const WRITABLE: &str = "two dozen numbers are not too long";
const WRITTEN_HERE: &str = "a slow side is read as it was written";
const GUARDED: &str = "nobody packs a slow side while it is in somebody's hands";

/// The slow side of one counter.
#[derive(Debug)]
pub(super) struct SlowSide {
    /// Guards the slow side; held for a decision, never across an await.
    kept: Mutex<Kept>,
}

#[derive(Debug)]
enum Kept {
    Resting(Packed),
    /// As `Resting`, and somebody was denied. Most counters deny nothing.
    Denying(Box<(Denied, Packed)>),
    Moving(Box<Slow>),
}

#[derive(Debug)]
enum Packed {
    /// Filled up with zeros.
    Short([u8; SHORT_BYTES]),
    Long(Box<[u8]>),
}

/// The slow side in the hands of one who may change it.
#[derive(Debug)]
pub struct SlowGuard<'c> {
    /// Moving.
    kept: MutexGuard<'c, Kept>,
}

impl SlowSide {
    pub fn new(slow: Slow) -> Self {
        let kept = match slow.at_rest() {
            Some(resting) => Kept::Resting(Packed::of(&resting)),
            None => Kept::Moving(Box::new(slow)),
        };
        Self { kept: Mutex::new(kept) }
    }

    /// The slow side, to be changed.
    pub fn lock(&self) -> SlowGuard<'_> {
        let mut kept = self.kept();
        let (packed, denied) = match &*kept {
            Kept::Resting(packed) => (packed, None),
            Kept::Denying(denying) => (&denying.1, Some(denying.0)),
            Kept::Moving(_) => return SlowGuard { kept },
        };
        let mut slow = Slow::from_rest(packed.read());
        slow.denied = denied;
        *kept = Kept::Moving(Box::new(slow));
        SlowGuard { kept }
    }

    /// What `look` says of it. Nothing is packed anew.
    pub fn look<R>(&self, look: impl FnOnce(&Slow) -> R) -> R {
        match &*self.kept() {
            Kept::Resting(packed) => look(&Slow::from_rest(packed.read())),
            Kept::Denying(denying) => look(&Slow::from_rest(denying.1.read())),
            Kept::Moving(slow) => look(slow),
        }
    }

    /// What the last denial left remaining, if it still holds for `amount` at `now`. Nothing is unpacked
    /// for it; one that is over is forgotten.
    pub fn repeated_denial(&self, cell: &Cell, amount: u64, now: Duration) -> Option<u64> {
        let mut kept = self.kept();
        let denied = match &*kept {
            Kept::Resting(_) => None,
            Kept::Denying(denying) => Some(denying.0),
            Kept::Moving(slow) => slow.denied,
        };
        let denied = denied?;
        if denied.is_over(cell, now) {
            match &mut *kept {
                Kept::Resting(_) => {}
                Kept::Denying(denying) => *kept = Kept::Resting(std::mem::take(&mut denying.1)),
                Kept::Moving(slow) => slow.denied = None,
            }
            return None;
        }
        denied.repeated(amount)
    }

    /// Takes one of the bells away. There is none where nothing goes on.
    pub fn take_bell(
        &self,
        take: impl FnOnce(&mut Bells) -> Option<Arc<Notify>>,
    ) -> Option<Arc<Notify>> {
        let kept = self.kept();
        match *kept {
            Kept::Resting(_) | Kept::Denying(_) => None,
            Kept::Moving(_) => SlowGuard { kept }.take_bell(take),
        }
    }

    /// Nothing that holds the lock panics half way through a change.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Packed {
    fn default() -> Self {
        Self::Short([0; SHORT_BYTES])
    }
}

impl Packed {
    fn of(resting: &Resting) -> Self {
        let mut room = [0; BYTES_MAX];
        let written = postcard::to_slice(resting, &mut room).expect(WRITABLE);
        let zeros = written.iter().rev().take_while(|byte| **byte == 0).count();
        let written = &written[..written.len() - zeros];
        let mut short = [0; SHORT_BYTES];
        match short.get_mut(..written.len()) {
            Some(bytes) => {
                bytes.copy_from_slice(written);
                Self::Short(short)
            }
            None => Self::Long(written.into()),
        }
    }

    fn read(&self) -> Resting {
        let written = match self {
            Self::Short(bytes) => &bytes[..],
            Self::Long(bytes) => bytes,
        };
        let mut room = [0; BYTES_MAX];
        room[..written.len()].copy_from_slice(written);
        postcard::from_bytes(&room).expect(WRITTEN_HERE)
    }
}

impl Deref for SlowGuard<'_> {
    type Target = Slow;

    fn deref(&self) -> &Slow {
        match &*self.kept {
            Kept::Moving(slow) => slow,
            Kept::Resting(_) | Kept::Denying(_) => unreachable!("{GUARDED}"),
        }
    }
}

impl DerefMut for SlowGuard<'_> {
    fn deref_mut(&mut self) -> &mut Slow {
        match &mut *self.kept {
            Kept::Moving(slow) => slow,
            Kept::Resting(_) | Kept::Denying(_) => unreachable!("{GUARDED}"),
        }
    }
}

impl Drop for SlowGuard<'_> {
    fn drop(&mut self) {
        if let Some(resting) = self.at_rest() {
            let packed = Packed::of(&resting);
            *self.kept = match self.denied {
                None => Kept::Resting(packed),
                Some(denied) => Kept::Denying(Box::new((denied, packed))),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::ids::RunId,
        leases::{
            holder::{Holder, HolderSeed, LeaseTimes, Step, Surroundings},
            key::KeyState,
            message::{Answer, Call, Ceiling, Epoch, Floor},
        },
    };

    const AROUND: Surroundings = Surroundings {
        epoch: Epoch { number: 1, recovered: true },
        ceiling: Ceiling { units: Some(1_000_000), version: 3 },
        now: Duration::from_secs(40_000),
    };

    struct World {
        seed: HolderSeed,
        side: SlowSide,
        cell: Cell,
        key: Option<KeyState>,
    }

    impl World {
        fn new() -> Self {
            let seed = HolderSeed { run: RunId(Uuid::nil()), times: LeaseTimes::default() };
            let slow = Slow::new(Holder::new(), AROUND.ceiling);
            Self { seed, side: SlowSide::new(slow), cell: Cell::new(), key: None }
        }

        fn lock(&self) -> SlowGuard<'_> {
            self.side.lock()
        }

        fn is_packed(&self) -> bool {
            matches!(&*self.side.kept(), Kept::Resting(_))
        }

        fn answer(&mut self, call: &Call) -> Answer {
            let call = Call { floor: Some(Box::new(Floor::default())), ..call.clone() };
            KeyState::apply(&mut self.key, true, &call).0
        }
    }

    #[test]
    fn a_slow_side_is_packed_while_nothing_goes_on_and_knows_afterwards_what_it_knew() {
        let mut world = World::new();
        assert!(world.is_packed());
        world.lock().holder.look();
        assert!(world.is_packed(), "a note is not lost with the one who made it");
        let Step::Send(call) = world.lock().holder.next(&world.seed, &world.cell, None, &AROUND)
        else {
            panic!("nobody looks")
        };
        assert!(!world.is_packed(), "a call is under way");
        let answer = world.answer(&call);
        world.lock().holder.answered(&world.seed, &world.cell, &call, &answer, AROUND.now);
        assert!(world.is_packed());
        let totals = |slow: &Slow| slow.holder.totals(&world.cell);
        let told = world.side.look(totals);
        assert_eq!(told.granted, 0);
        let is_told = |slow: &Slow| slow.holder.has_reported(&world.cell, 1);
        world.cell.record(7);
        assert!(world.side.look(is_told), "it forgot that it was answered");
        let rest = Step::Rest { until: Some(AROUND.now + LeaseTimes::default().settle) };
        assert_eq!(world.lock().holder.next(&world.seed, &world.cell, None, &AROUND), rest);
    }

    #[test]
    fn numbers_of_any_size_are_kept() {
        let world = World::new();
        let mut slow = world.lock();
        let ceiling = Ceiling { units: Some(u64::MAX - 2), version: u64::MAX };
        slow.ceiling = ceiling.into();
        (slow.refused, slow.parted_at) = (u64::MAX, Some(u64::MAX));
        drop(slow);
        assert!(matches!(&*world.side.kept(), Kept::Resting(Packed::Long(_))));
        let slow = world.lock();
        assert_eq!(Ceiling::from(slow.ceiling), ceiling);
        assert_eq!((slow.refused, slow.parted_at), (u64::MAX, Some(u64::MAX)));
    }

    #[test]
    fn the_longest_slow_side_fits() {
        let longest = Packed::of(&Resting::longest());
        assert!(matches!(longest, Packed::Long(_)));
        assert!(longest.read() == Resting::longest());
    }

    #[test]
    fn a_denial_is_repeated_while_nothing_goes_on_and_forgotten_once_it_is_over() {
        let world = World::new();
        let (basis, until) = (world.cell.basis(), AROUND.now);
        let repeated = |amount, now| world.side.repeated_denial(&world.cell, amount, now);
        let before = until - Duration::from_nanos(1);
        assert_eq!(repeated(1, before), None, "nobody was denied");
        world.lock().denied = Some(Denied { remaining: 3, basis, until });
        assert!(matches!(&*world.side.kept(), Kept::Denying(_)));
        assert_eq!((repeated(4, before), repeated(3, before)), (Some(3), None));
        // Through the hands of one who changes something else, and while something goes on.
        let bell = world.lock().bells().called.get_or_insert_default().clone();
        assert_eq!((world.is_packed(), repeated(4, before)), (false, Some(3)));
        drop((bell, world.side.take_bell(|bells| bells.called.take())));
        assert_eq!(world.side.look(|slow| slow.ceiling), AROUND.ceiling.into());
        assert_eq!(repeated(4, before), Some(3));
        assert_eq!(repeated(4, until), None);
        assert!(world.is_packed(), "it has expired");
        world.lock().denied = Some(Denied { remaining: 3, basis, until });
        world.cell.renew();
        assert_eq!(repeated(4, before), None, "more may be allowed by now");
        assert!(world.is_packed() && world.lock().denied.is_none());
    }

    #[test]
    fn whoever_waits_keeps_it_unpacked() {
        let world = World::new();
        let bell = world.lock().bells().called.get_or_insert_default().clone();
        assert!(!world.is_packed());
        let taken = world.side.take_bell(|bells| bells.called.take());
        assert!(taken.is_some_and(|taken| Arc::ptr_eq(&taken, &bell)));
        assert!(world.is_packed());
    }
}
