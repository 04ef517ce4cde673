//! A sidecar's side of a rate that is shared: what it was lent, and what it knows.
//!
//! One call is under way at a time: [`Purse::call`], then [`Purse::answered`] or [`Purse::failed`].
//! Requests take from what is in hand meanwhile.

use std::sync::Arc;

use super::{
    LENT_MIN, lapse_ns,
    message::{Ask, AskFor, Granted, RateCall, RateTerms},
    stack::RateStack,
};
use crate::domain::{
    ids::RunId,
    rate::{RateStandings, RateWindow},
};

/// How long a denial is answered from memory, in nanoseconds, at most: what others give back is
/// seen then.
const KNOWN_FOR_NS: u64 = 1_000_000_000;
/// How long a look believes what is known, in nanoseconds.
const LOOK_BELIEVES_NS: u64 = 50_000_000;
/// How long after a failure nobody calls, in nanoseconds: requests are not made to wait for a
/// store that is away, each one anew.
const AWAY_FOR_NS: u64 = 100_000_000;

/// A clock may be slow by one part in so many, and what was lent is given up before it lapses all
/// the same. Clocks that are kept in step are slewed by half of that at most.
const CLOCK_SLOW_BY: u64 = 1_000;

/// See the module. Times are nanoseconds of the caller's steady clock.
#[derive(Debug)]
pub struct Purse {
    run: RunId,
    terms: RateTerms,
    sequence: u64,
    /// Permits that this run was ever lent.
    granted: u64,
    /// Of these, spent or lapsed.
    spent: u64,
    /// Of these, held by requests that are not sure yet.
    held: u64,
    era: Era,
    lapses_at_ns: u64,
    known: Option<Known>,
    demand: Demand,
    /// What was lent in advance the last time.
    lent: u64,
    in_flight: Option<InFlight>,
    away_until_ns: u64,
}

/// What was lent between two lapses that the shared state told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Era(u64);

/// What the last answer said.
#[derive(Clone, Debug)]
struct Known {
    at_ns: u64,
    debts_ns: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    sent_at_ns: u64,
    lapse_ns: u64,
}

/// Permits that were asked for in the lapse before, and in this one.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    since_ns: u64,
    before: u64,
    now: u64,
}

impl Demand {
    fn count(&mut self, permits: u32, lapse_ns: u64, now_ns: u64) {
        let past_ns = now_ns.saturating_sub(self.since_ns);
        if past_ns >= lapse_ns {
            self.before = if past_ns < 2 * lapse_ns { self.now } else { 0 };
            (self.now, self.since_ns) = (0, now_ns);
        }
        self.now += u64::from(permits);
    }
}

/// What can be said of a request without a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offhand {
    /// It has its permits.
    Taken,
    /// As `Taken`, and it is time to ask for more.
    TakenLow,
    /// Denied; it would have to wait so many nanoseconds.
    Short { wait_ns: u64 },
    /// The shared state was out of reach a moment ago.
    Away,
    /// It takes a call.
    Ask,
}

impl Purse {
    /// Nothing lent yet.
    pub fn new(run: RunId, terms: RateTerms, now_ns: u64) -> Self {
        Self {
            run,
            terms,
            // A purse of the same rate that this run dropped earlier has used smaller ones.
            sequence: now_ns / 1_000,
            granted: 0,
            spent: 0,
            held: 0,
            era: Era::default(),
            lapses_at_ns: 0,
            known: None,
            demand: Demand::default(),
            lent: 0,
            in_flight: None,
            away_until_ns: 0,
        }
    }

    /// What the plan allows.
    pub fn windows(&self) -> &Arc<[RateWindow]> {
        &self.terms.windows
    }

    /// Goes on under other terms, unless they are older. What is in hand was granted under other
    /// windows and is not spent any more.
    pub fn change(&mut self, terms: RateTerms) {
        if terms.version <= self.terms.version {
            return;
        }
        if terms.windows != self.terms.windows {
            self.spent = self.granted - self.held;
            self.known = None;
            self.lent = 0;
        }
        self.terms = terms;
    }

    /// Whether a new purse would be as good: nothing is in hand or known to be owed.
    pub fn is_unused(&self, now_ns: u64) -> bool {
        let is_idle = self.held == 0 && self.in_flight.is_none() && now_ns >= self.lapses_at_ns;
        let owes = |known: &Known| known.debts_ns.iter().any(|debt| now_ns < known.at_ns + debt);
        // The shared state lets what was lent lapse a little later than this purse.
        let is_settled = now_ns >= self.lapses_at_ns.saturating_add(KNOWN_FOR_NS);
        is_idle && is_settled && !self.known.as_ref().is_some_and(owes)
    }

    /// Notes that a request asks, once for each: it sizes what is lent in advance.
    pub fn count(&mut self, ask: Ask, now_ns: u64) {
        self.demand.count(ask.permits, lapse_ns(&self.terms.windows), now_ns);
    }

    /// Whether what is asked for is in hand.
    pub fn has_in_hand(&mut self, ask: Ask, now_ns: u64) -> bool {
        self.lapse(now_ns);
        u64::from(ask.permits) <= self.in_hand()
    }

    /// Decides without a call if that is possible.
    pub fn offhand(&mut self, ask: Ask, now_ns: u64) -> Offhand {
        if self.has_in_hand(ask, now_ns) {
            match ask.how {
                AskFor::Good => self.spent += u64::from(ask.permits),
                AskFor::Keeping => self.held += u64::from(ask.permits),
            }
            let is_low = self.in_flight.is_none() && self.in_hand() < self.lent / 4;
            return if is_low { Offhand::TakenLow } else { Offhand::Taken };
        }
        self.refusal(ask.permits, now_ns)
    }

    /// Decides a look without a call if that is possible. Nothing is taken.
    pub fn look(&mut self, permits: u32, now_ns: u64) -> Offhand {
        self.lapse(now_ns);
        if u64::from(permits) <= self.in_hand() {
            return Offhand::Taken;
        }
        let is_fresh = |known: &Known| now_ns.saturating_sub(known.at_ns) <= LOOK_BELIEVES_NS;
        match self.refusal(permits, now_ns) {
            Offhand::Ask if self.known.as_ref().is_some_and(is_fresh) => Offhand::Taken,
            other => other,
        }
    }

    fn refusal(&self, permits: u32, now_ns: u64) -> Offhand {
        let is_known = |known: &Known| now_ns.saturating_sub(known.at_ns) <= KNOWN_FOR_NS;
        match self.known.as_ref().is_some_and(is_known).then(|| self.wait_ns(permits, now_ns)) {
            // Whether or not the shared state is in reach: it was when this was learnt.
            Some(wait_ns) if wait_ns > 0 => Offhand::Short { wait_ns },
            _ if now_ns < self.away_until_ns => Offhand::Away,
            _ => Offhand::Ask,
        }
    }

    /// What a request that holds permits from now on names when it keeps them or lets them go.
    pub fn era(&self) -> Era {
        self.era
    }

    /// Counts permits of a request that is sure now. Those of an earlier era have been charged.
    pub fn keep(&mut self, permits: u32, era: Era) {
        if era == self.era {
            self.held -= u64::from(permits).min(self.held);
            self.spent += u64::from(permits);
        }
    }

    /// Takes permits back from a request that did not happen. Those of an earlier era are lost.
    pub fn let_go(&mut self, permits: u32, era: Era, now_ns: u64) {
        if era == self.era {
            self.held -= u64::from(permits).min(self.held);
        }
        self.lapse(now_ns);
    }

    /// How long, in nanoseconds, until `permits` are free, as far as is known.
    pub fn wait_ns(&self, permits: u32, now_ns: u64) -> u64 {
        let wait = |(window, debt_ns): (&RateWindow, u64)| window.wait_ns(debt_ns, permits);
        self.debts(now_ns).filter_map(wait).max().unwrap_or(0)
    }

    /// Where the windows stand, as far as is known; what is in hand is still free.
    pub fn standings(&self, now_ns: u64) -> RateStandings {
        self.debts(now_ns).map(|(window, debt_ns)| window.standing(debt_ns)).collect()
    }

    /// The rate as this sidecar alone would go on with it, from what it knows.
    pub fn alone(&self, now_ns: u64) -> RateStack {
        let debts = self.debts(now_ns).map(|(_, debt_ns)| debt_ns);
        RateStack::indebted(self.terms.windows.clone(), debts, now_ns)
    }

    /// The debts as last heard of, paid off since, less what is in hand.
    fn debts(&self, now_ns: u64) -> impl Iterator<Item = (&RateWindow, u64)> {
        let in_hand = if now_ns < self.lapses_at_ns { self.in_hand() } else { 0 };
        self.terms.windows.iter().enumerate().map(move |(index, window)| {
            let debt_ns = self.known.as_ref().map_or(0, |known| {
                let debt_ns = known.debts_ns.get(index).copied().unwrap_or_default();
                debt_ns.saturating_sub(now_ns.saturating_sub(known.at_ns))
            });
            (window, debt_ns.saturating_sub(in_hand.saturating_mul(window.interval_ns())))
        })
    }

    /// Whether it is worth a call though nobody waits.
    pub fn wants_more(&self, now_ns: u64) -> bool {
        let is_away = now_ns < self.away_until_ns;
        self.in_flight.is_none() && !is_away && self.lent > 0 && self.in_hand() < self.lent / 4
    }

    /// Whether it is worth a call to give back what requests have let go. Permits of a rate that is
    /// lent nothing in advance are few and slow to come: they would lapse before anybody spends
    /// them. Where more is lent, what was let go is spent next.
    pub fn gives_back(&self, now_ns: u64) -> bool {
        let is_away = now_ns < self.away_until_ns;
        let is_in_hand = self.in_hand() > 0 && now_ns < self.lapses_at_ns;
        self.in_flight.is_none() && !is_away && self.lent == 0 && is_in_hand
    }

    /// Builds a call for requests that wait. `None` while one is under way.
    pub fn call(&mut self, asks: Vec<Ask>, now_ns: u64) -> Option<RateCall> {
        if self.in_flight.is_some() {
            return None;
        }
        self.lapse(now_ns);
        if !asks.is_empty() || self.gives_back(now_ns) {
            // Too little for those who wait, and needed to serve them whole; or nobody's.
            self.granted -= self.in_hand();
        }
        let lapse_ns = lapse_ns(&self.terms.windows);
        self.sequence += 1;
        self.in_flight = Some(InFlight { sent_at_ns: now_ns, lapse_ns });
        Some(RateCall {
            run: self.run,
            sequence: self.sequence,
            granted: self.granted,
            spent: self.spent,
            lapse_us: lapse_ns / 1_000,
            terms: self.terms.clone(),
            asks,
            ahead: self.ahead(lapse_ns),
        })
    }

    /// Takes an answer in. What the requests for keeping were met with is held from here on, in the
    /// era that begins here if there was a lapse.
    pub fn answered(&mut self, call: &RateCall, granted: &Granted, now_ns: u64) {
        let Some(flight) = self.in_flight.take() else { return };
        self.away_until_ns = 0;
        if granted.has_lapsed {
            (self.spent, self.held) = (self.granted, 0);
            self.era.0 += 1;
        }
        let kept = granted.kept(call);
        self.lent = granted.granted.saturating_sub(call.granted + kept);
        self.granted = self.granted.max(granted.granted);
        self.held += kept;
        // From when it was sent: the shared state's lapse began later.
        let lapse_ns = flight.lapse_ns - flight.lapse_ns / CLOCK_SLOW_BY;
        self.lapses_at_ns = flight.sent_at_ns + lapse_ns;
        let decided = granted.instead.as_ref().unwrap_or(&call.terms);
        if decided.version >= self.terms.version || decided.windows == self.terms.windows {
            if decided.windows != self.terms.windows {
                self.terms.windows = decided.windows.clone();
            }
            self.terms.version = self.terms.version.max(decided.version);
            let debts_ns = granted.debts_ns.clone();
            self.known = Some(Known { at_ns: flight.sent_at_ns, debts_ns });
        } else {
            // Granted under terms that have changed meanwhile.
            self.spent = self.granted - self.held;
        }
        self.lapse(now_ns);
    }

    /// There was no answer, and if one comes it is too late.
    pub fn failed(&mut self, now_ns: u64) {
        self.in_flight = None;
        self.away_until_ns = now_ns + AWAY_FOR_NS;
    }

    /// The call was not sent: this sidecar has too many under way.
    pub fn not_sent(&mut self) {
        self.in_flight = None;
    }

    /// What to ask for in advance: what a lapse's requests need, and no more than becomes free
    /// meanwhile in every window, so that what lapses unspent is soon made up for in all of them. A
    /// slow rate is lent nothing; each of its permits is asked for when it is needed.
    fn ahead(&self, lapse_ns: u64) -> u64 {
        let slowest_ns = self.terms.windows.iter().map(RateWindow::interval_ns).max();
        let becomes_free = slowest_ns.map_or(0, |interval_ns| lapse_ns / interval_ns);
        let ahead = self.demand.before.max(self.demand.now).min(becomes_free);
        if ahead >= LENT_MIN { ahead } else { 0 }
    }

    fn in_hand(&self) -> u64 {
        self.granted - self.spent - self.held
    }

    /// Spends nothing of what is in hand any more. What is held is left to the shared state: it says
    /// whether that was charged before it heard of this run again.
    fn lapse(&mut self, now_ns: u64) {
        if now_ns >= self.lapses_at_ns {
            self.spent += self.in_hand();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::leases::rate::{message::RateReply, shared::SharedRate};

    const MS: u64 = 1_000_000;
    const START_NS: u64 = 5_000 * MS;
    const ONE: Ask = Ask { permits: 1, how: AskFor::Good };

    fn purse(windows: &[RateWindow]) -> Purse {
        let terms = RateTerms { version: 1, windows: windows.into() };
        Purse::new(RunId(Uuid::from_u128(1)), terms, START_NS)
    }

    fn window(permits: u32, seconds: u64) -> RateWindow {
        RateWindow::new(permits, Duration::from_secs(seconds), permits)
    }

    fn granted(granted: u64, met: u64, debts_ns: Vec<u64>) -> Granted {
        Granted { granted, met, debts_ns, has_lapsed: false, instead: None }
    }

    #[test]
    fn what_is_known_to_be_short_is_denied_though_the_shared_state_is_away() {
        let mut purse = purse(&[window(2, 1)]);
        let call = purse.call(vec![ONE], START_NS).unwrap();
        let debts_ns = vec![1_000 * MS];
        purse.answered(&call, &granted(0, 1, debts_ns), START_NS + MS);
        purse.call(vec![], START_NS + 2 * MS).unwrap();
        purse.failed(START_NS + 2 * MS);
        let short = Offhand::Short { wait_ns: 490 * MS };
        assert_eq!(purse.offhand(ONE, START_NS + 10 * MS), short);
        // Whoever goes on alone goes on from there.
        assert!(purse.alone(START_NS + 10 * MS).take(1, START_NS + 10 * MS).is_err());
        purse.failed(START_NS + 550 * MS);
        assert_eq!(purse.offhand(ONE, START_NS + 560 * MS), Offhand::Away);
    }

    #[test]
    fn what_is_lent_in_advance_is_little_for_every_window() {
        let ahead = |windows: &[RateWindow]| {
            let mut purse = purse(windows);
            (0..1_000).for_each(|_| purse.count(ONE, START_NS));
            purse.call(vec![ONE], START_NS).unwrap().ahead
        };
        assert_eq!(ahead(&[window(1_000, 1)]), 50);
        assert_eq!(ahead(&[window(1_000, 1), window(500, 86_400)]), 0);
        assert_eq!(ahead(&[window(1_000, 1), window(12_000, 60)]), 10);
    }

    #[test]
    fn a_permit_of_a_slow_rate_that_is_let_go_is_given_back_before_it_lapses() {
        let mut purse = purse(&[window(10, 86_400)]);
        let ask = Ask { permits: 1, how: AskFor::Keeping };
        assert_eq!(purse.offhand(ask, START_NS), Offhand::Ask);
        let call = purse.call(vec![ask], START_NS).unwrap();
        purse.answered(&call, &granted(1, 1, vec![0]), START_NS);
        assert!(!purse.gives_back(START_NS), "it is held");
        purse.let_go(1, purse.era(), START_NS + MS);
        assert!(purse.gives_back(START_NS + MS));
        let call = purse.call(vec![], START_NS + MS).unwrap();
        assert_eq!((call.granted, call.spent), (0, 0));
        purse.answered(&call, &granted(0, 0, vec![0]), START_NS + 2 * MS);
        assert!(!purse.gives_back(START_NS + 2 * MS));
    }

    #[test]
    fn permits_that_are_held_longer_than_a_lapse_are_charged_once() {
        let windows = [window(1_000, 86_400)];
        let (mut purse, mut shared) = (purse(&windows), SharedRate::default());
        let ask = Ask { permits: 1, how: AskFor::Keeping };
        let mut go = |purse: &mut Purse, asks: Vec<Ask>, at_ms: u64| {
            let call = purse.call(asks, at_ms * MS).unwrap();
            let reply = shared.apply(&call, at_ms * 1_000);
            let RateReply::Granted(granted) = reply else { panic!("{reply:?}") };
            purse.answered(&call, &granted, at_ms * MS);
            granted.debts_ns[0].div_ceil(windows[0].interval_ns())
        };
        let mut at_ms = 5_000;
        for admitted in 1..=10 {
            go(&mut purse, vec![ask], at_ms);
            let era = purse.era();
            // Another request's call comes later than the lapse, and before this one has its turn.
            go(&mut purse, vec![], at_ms + 150);
            purse.keep(1, era);
            at_ms += 300;
            assert_eq!(go(&mut purse, vec![], at_ms), admitted);
        }
    }

    #[test]
    fn what_is_lent_is_given_up_in_time_by_a_clock_that_is_slow() {
        let windows = [window(1_000, 1)];
        let mut purse = purse(&windows);
        let call = purse.call(vec![], START_NS).unwrap();
        purse.answered(&call, &granted(10, 0, vec![0]), START_NS);
        let lapse_ns = call.lapse_us * 1_000;
        assert_eq!(purse.offhand(ONE, START_NS + lapse_ns / 2), Offhand::Taken);
        // In truth the lapse is over, and this clock has lost half a thousandth of it.
        let late_ns = START_NS + lapse_ns - lapse_ns / 2_000;
        assert_eq!(purse.offhand(ONE, late_ns), Offhand::Ask);
    }

    #[test]
    fn older_terms_do_not_come_back_and_newer_ones_are_taken_from_an_answer() {
        let mut purse = purse(&[window(2, 1)]);
        let call = purse.call(vec![ONE], START_NS).unwrap();
        let newer = RateTerms { version: 3, windows: [window(7, 1)].into() };
        let granted = Granted { instead: Some(newer), ..granted(0, 1, vec![0]) };
        purse.answered(&call, &granted, START_NS + MS);
        assert_eq!(purse.windows()[0].permits, 7);
        purse.change(RateTerms { version: 2, windows: [window(9, 1)].into() });
        assert_eq!(purse.windows()[0].permits, 7);
        purse.change(RateTerms { version: 4, windows: [window(9, 1)].into() });
        assert_eq!(purse.windows()[0].permits, 9);
    }
}
