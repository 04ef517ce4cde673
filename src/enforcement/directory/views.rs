//! What each thread looked at last, so that it finds it again without a lock, without a look at any
//! table that others write to, and with few cache lines that are not the counter's own.
//!
//! A view leads from the names of a tenant and a meter to the meter in its plan and to the counter
//! of its current window. What it leads to may become wrong: the tenant gets other terms, the
//! counter is dropped and another made in its place. Then the counter's onlookers are sent away
//! ([`crate::leases::onlookers`]), after the change, and a view that was sent away answers nobody.
//! A view's standing is read before its terms are seen in force, so that a change which it does
//! not know of sends it away too. A window that is over is seen by its end.
//!
//! Views are a thread's, of whatever directories it asks: each names its own. There are at most
//! [`PLACES_MAX`] of them, two for each hash; of others that come, some put the older of the two
//! out. A thread begins with few places, and gets more once so many looks have found none. What a
//! view has in hand stays in memory until it is found sent away, one place with each that is kept,
//! or its place is needed; of a thread that asks no more, for good: at most so many counters.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use jiff::Timestamp;

use super::{
    onlooker::Onlooker,
    tenant_state::{TenantState, Terms},
};
use crate::{
    domain::catalog::compiled_plan::{CompiledPlan, MeterIndex, PlanMeter},
    enforcement::counter::Counter,
    leases::onlookers::Standing,
};

/// Views of one thread: four megabytes.
const PLACES_MAX: usize = 1 << 16;
const PLACES_AT_FIRST: usize = 1 << 6;
/// Places for one hash.
const WAYS: usize = 2;
/// Of those that find all their places taken, every so many-th puts another out: who is asked about
/// often comes back soon, and making room takes longer than a look.
const CROWDED_PER_KEPT: usize = 4;
/// Bytes of a tenant's name beside its view: a UUID as it is mostly written, and one. Of a longer
/// name they are looked at elsewhere.
const NAME_BYTES: usize = 37;

thread_local! {
    static VIEWS: RefCell<Views> = const { RefCell::new(Views { places: vec![], swept: 0, crowded: 0 }) };
}

/// Tells directories apart. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirectoryNumber(u32);

impl DirectoryNumber {
    /// The next one; `None` = they are used up.
    pub fn next() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = |next: u32| next.checked_add(1);
        NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok().map(Self)
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'n> {
    pub directory: DirectoryNumber,
    pub tenant: &'n str,
    pub meter: &'n str,
    /// Of all of these.
    pub hash: u64,
}

/// What was found, and may be kept in view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'f> {
    pub state: &'f TenantState,
    pub terms: &'f Arc<Terms>,
    pub meter: MeterIndex,
    pub counter: &'f Arc<Counter>,
}

/// What `ask` says of the meter and of the counter that counts it at `now`, if this thread has them
/// in view.
#[inline]
pub(super) fn look<A>(
    sought: Sought<'_>,
    now: Timestamp,
    ask: impl FnOnce(&PlanMeter, &Counter) -> A,
) -> Option<A> {
    let look = |views: &RefCell<Views>| {
        let views = views.try_borrow().ok()?;
        let view = views.find(sought)?;
        // Before the figures are read: until it was sent away, what the view says was in force when
        // a change began.
        let is_current = view.counter.window.contains(now) && view.stands();
        is_current.then(|| view.meter()).flatten().map(|meter| ask(meter, &view.counter))
    };
    VIEWS.try_with(look).ok().flatten()
}

/// Keeps in view what was found, if it is its turn.
pub(super) fn keep(sought: Sought<'_>, found: &Candidate<'_>) {
    let keep = |views: &RefCell<Views>| {
        if let Ok(mut views) = views.try_borrow_mut() {
            views.keep(sought, found);
        }
    };
    // A thread that ends has nothing in view.
    let _ = VIEWS.try_with(keep);
}

#[derive(Debug)]
struct Views {
    /// None until the first is kept; a power of two.
    places: Vec<Place>,
    /// Which place is looked at next for a view that was sent away.
    swept: usize,
    /// How many have found both of theirs taken, since there have been so many.
    crowded: usize,
}

/// A cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Place(Option<View>);

#[derive(Debug)]
struct View {
    counter: Onlooker,
    plan: Arc<CompiledPlan>,
    directory: DirectoryNumber,
    standing: Standing,
    meter: MeterIndex,
    /// Of the tenant's name.
    length: u8,
    name: [u8; NAME_BYTES],
}

impl Views {
    #[inline]
    fn find(&self, sought: Sought<'_>) -> Option<&View> {
        if self.places.is_empty() {
            return None;
        }
        let first = first_way(sought.hash, self.places.len());
        let ways = self.places.get(first..first + WAYS)?;
        ways.iter().filter_map(|place| place.0.as_ref()).find(|view| view.is_of(sought))
    }

    /// Lets go of what one place has in hand, if it was sent away.
    fn sweep(&mut self) {
        self.swept += 1;
        if self.swept >= self.places.len() {
            self.swept = 0;
        }
        if let Some(Place(place)) = self.places.get_mut(self.swept)
            && place.as_ref().is_some_and(|view| !view.stands())
        {
            *place = None;
        }
    }

    fn keep(&mut self, sought: Sought<'_>, found: &Candidate<'_>) {
        self.sweep();
        if self.crowded >= self.places.len() && self.places.len() < PLACES_MAX {
            let places = (self.places.len() * 4).clamp(PLACES_AT_FIRST, PLACES_MAX);
            // What was in view is looked up once more.
            *self = Self { places: vec![], swept: 0, crowded: 0 };
            self.places.resize_with(places, Place::default);
        }
        let first = first_way(sought.hash, self.places.len());
        let Some([newer, older]) = self.places.get_mut(first..first + WAYS) else { return };
        let is_free = |place: &Place| {
            place.0.as_ref().is_none_or(|view| view.is_of(sought) || !view.stands())
        };
        if !is_free(newer) {
            if !is_free(older) {
                self.crowded += 1;
                if !self.crowded.is_multiple_of(CROWDED_PER_KEPT) {
                    return;
                }
            }
            std::mem::swap(newer, older);
        }
        newer.put(sought, found);
    }
}

impl Place {
    fn put(&mut self, sought: Sought<'_>, found: &Candidate<'_>) {
        let Candidate { state, terms, meter, counter } = *found;
        let Ok(length) = u8::try_from(sought.tenant.len()) else { return };
        let Some((counter, standing)) = state.onlooker(terms, counter) else { return };
        // Many tenants share a plan, and all cores would count its holders in one place.
        let plan = self.0.take().map(|view| view.plan);
        let plan = plan.filter(|known| Arc::ptr_eq(known, &terms.plan));
        let mut name = [0; NAME_BYTES];
        name.iter_mut().zip(sought.tenant.bytes()).for_each(|(to, from)| *to = from);
        self.0 = Some(View {
            counter,
            plan: plan.unwrap_or_else(|| terms.plan.clone()),
            directory: sought.directory,
            standing,
            meter,
            length,
            name,
        });
    }
}

impl View {
    #[inline]
    fn is_of(&self, sought: Sought<'_>) -> bool {
        let length = usize::from(self.length);
        if self.directory != sought.directory || length != sought.tenant.len() {
            return false;
        }
        let is_of_tenant = match self.name.get(..length) {
            Some(name) => name == sought.tenant.as_bytes(),
            None => self.counter.key.tenant.as_str() == sought.tenant,
        };
        is_of_tenant && self.meter().is_some_and(|it| it.meter.name.as_str() == sought.meter)
    }

    /// Whether nothing has changed since it was taken in.
    #[inline]
    fn stands(&self) -> bool {
        self.counter.onlookers.still(self.standing)
    }

    #[inline]
    fn meter(&self) -> Option<&PlanMeter> {
        self.plan.meters.get(self.meter.get())
    }
}

/// Where the places of a hash begin.
#[inline]
fn first_way(hash: u64, places: usize) -> usize {
    #[allow(clippy::cast_possible_truncation)] // The low bits are what is wanted.
    let place = hash as usize & places.wrapping_sub(WAYS);
    place & !(WAYS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_takes_one_cache_line() {
        assert_eq!(size_of::<Place>(), 64);
    }
}
