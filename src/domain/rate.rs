//! The question *may this happen once more now?* and its answer, for rates.

use std::{ops::Deref, time::Duration};

use super::{
    catalog::{names::RateName, operations::RateLimitDef},
    ids::{Subject, TenantId},
    quota::DecidedBy,
};

/// Windows that may be stacked: one for each unit of time that a catalog knows.
pub const RATE_WINDOWS_MAX: usize = 4;
/// Longest time, in nanoseconds, that a burst may take to become free again: 52 days. Redis' Lua
/// counts in doubles, which are exact below 2^53.
pub const CAPACITY_NS_MAX: u64 = 1 << 52;

/// One rate: so many permits per period on average, and so many at one instant.
///
/// It is the generic cell rate algorithm (GCRA; ITU-T I.371, and as a meter with a "theoretical
/// arrival time" in many rate limiters since): each permit costs `interval_ns`, time pays the debt
/// off, and a debt beyond `capacity_ns` is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateWindow {
    /// Permits per period.
    pub permits: u32,
    pub period: Duration,
    /// Permits that may be used at one instant.
    pub burst: u32,
    interval_ns: u64,
}

impl RateWindow {
    /// A rate of `permits` (at least 1) per `period`. A burst that would take longer than
    /// [`CAPACITY_NS_MAX`] to become free is cut to what does not.
    pub fn new(permits: u32, period: Duration, burst: u32) -> Self {
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).min(CAPACITY_NS_MAX);
        // Rounded up, so that rounding never admits more: by at most a nanosecond per permit.
        let interval_ns = period_ns.div_ceil(u64::from(permits.max(1))).max(1);
        let burst_max = u32::try_from(CAPACITY_NS_MAX / interval_ns).unwrap_or(u32::MAX).max(1);
        Self { permits, period, burst: burst.clamp(1, burst_max), interval_ns }
    }

    /// What one permit costs, in nanoseconds.
    pub fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// What `permits` cost, in nanoseconds.
    pub fn cost_ns(&self, permits: u32) -> u64 {
        u64::from(permits).saturating_mul(self.interval_ns)
    }

    /// The largest debt, in nanoseconds.
    pub fn capacity_ns(&self) -> u64 {
        self.cost_ns(self.burst)
    }

    /// Where the rate stands with a debt of `debt_ns`.
    pub fn standing(&self, debt_ns: u64) -> RateStanding {
        let free_ns = self.capacity_ns().saturating_sub(debt_ns);
        RateStanding {
            limit: self.permits,
            period: self.period,
            burst: self.burst,
            remaining: u32::try_from(free_ns / self.interval_ns).unwrap_or(self.burst),
            reset_after: Duration::from_nanos(debt_ns),
        }
    }

    /// How long, in nanoseconds, until `permits` are free when the debt is `debt_ns` and nobody
    /// takes any meanwhile; `None` = never.
    pub fn wait_ns(&self, debt_ns: u64, permits: u32) -> Option<u64> {
        let cost_ns = self.cost_ns(permits);
        let capacity_ns = self.capacity_ns();
        (cost_ns <= capacity_ns).then(|| debt_ns.saturating_sub(capacity_ns - cost_ns))
    }

    /// The debt under this rate of what is `debt_ns` under `other`: the same permits, at most the
    /// burst.
    pub fn converted_ns(&self, other: &Self, debt_ns: u64) -> u64 {
        if self.interval_ns == other.interval_ns {
            return debt_ns.min(self.capacity_ns());
        }
        let converted =
            u128::from(debt_ns) * u128::from(self.interval_ns) / u128::from(other.interval_ns);
        u64::try_from(converted).unwrap_or(u64::MAX).min(self.capacity_ns())
    }
}

impl From<RateLimitDef> for RateWindow {
    fn from(limit: RateLimitDef) -> Self {
        let period = Duration::from_secs(limit.per.seconds().into());
        Self::new(limit.requests, period, limit.burst.unwrap_or(limit.requests))
    }
}

/// Names one rate of one tenant, or of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RateKeyName {
    pub tenant: TenantId,
    pub rate: RateName,
    pub subject: Option<Subject>,
}

/// What a rate check does when it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateMode {
    /// Looks only.
    Check,
    /// Takes the permits.
    Consume,
}

/// One rate check.
#[derive(Clone, Debug)]
pub struct RateRequest {
    pub tenant: TenantId,
    pub rate: RateName,
    pub subject: Option<Subject>,
    pub permits: u32,
    pub mode: RateMode,
}

/// Why the answer is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateReason {
    /// Within the rate.
    WithinLimit,
    /// The plan does not limit this rate.
    Unlimited,
    /// Allowed without asking the shared state, because it was out of reach.
    AllowedByOutagePolicy,
    /// Too fast.
    RateExceeded,
    /// More permits at once than the burst will ever have.
    BurstExceeded,
    /// Shared state is out of reach and the rate's policy is to deny.
    DeniedByOutagePolicy,
    /// The tenant's subscription is suspended or cancelled.
    SubscriptionInactive,
    /// More subjects are live than the sidecar is configured to hold.
    TooManySubjects,
}

impl RateReason {
    /// Whether the request may go ahead.
    pub fn is_allowed(self) -> bool {
        match self {
            Self::WithinLimit | Self::Unlimited | Self::AllowedByOutagePolicy => true,
            Self::RateExceeded
            | Self::BurstExceeded
            | Self::DeniedByOutagePolicy
            | Self::SubscriptionInactive
            | Self::TooManySubjects => false,
        }
    }
}

/// Where one window of a rate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStanding {
    /// Permits per period.
    pub limit: u32,
    pub period: Duration,
    /// Permits that may be used at one instant.
    pub burst: u32,
    /// Permits left at this instant.
    pub remaining: u32,
    /// How long until the whole burst is free, if nobody takes any meanwhile.
    pub reset_after: Duration,
}

impl RateStanding {
    const NONE: Self = Self {
        limit: 0,
        period: Duration::ZERO,
        burst: 0,
        remaining: 0,
        reset_after: Duration::ZERO,
    };
}

/// Where all windows of a rate stand, the shortest first. Kept without an allocation.
#[derive(Clone, Copy)]
pub struct RateStandings {
    all: [RateStanding; RATE_WINDOWS_MAX],
    len: usize,
}

impl RateStandings {
    /// No windows: the rate is not limited.
    pub const NONE: Self = Self { all: [RateStanding::NONE; RATE_WINDOWS_MAX], len: 0 };

    /// The window that says most about what comes next: the one that has least left, and of these
    /// the one that takes longest to recover.
    pub fn tightest(&self) -> Option<&RateStanding> {
        self.iter().min_by(|one, other| {
            one.remaining.cmp(&other.remaining).then(other.reset_after.cmp(&one.reset_after))
        })
    }
}

impl FromIterator<RateStanding> for RateStandings {
    /// The first [`RATE_WINDOWS_MAX`]; catalogs allow no more.
    fn from_iter<I: IntoIterator<Item = RateStanding>>(standings: I) -> Self {
        let mut kept = Self::NONE;
        for (slot, standing) in kept.all.iter_mut().zip(standings) {
            *slot = standing;
            kept.len += 1;
        }
        kept
    }
}

impl Deref for RateStandings {
    type Target = [RateStanding];

    fn deref(&self) -> &[RateStanding] {
        self.all.get(..self.len).unwrap_or_default()
    }
}

impl std::fmt::Debug for RateStandings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for RateStandings {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// The answer to a rate check. A denial is an answer, not an error.
#[derive(Clone, Debug, PartialEq)]
pub struct RateAnswer {
    pub allowed: bool,
    pub reason: RateReason,
    pub decided_by: DecidedBy,
    /// Empty when the rate is not limited. As far as this sidecar knows: while shared state is out
    /// of reach, as it last heard.
    pub windows: RateStandings,
    /// How long to wait until as many permits are free; absent when allowed, and when waiting does
    /// not help.
    pub retry_after: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_is_rounded_to_less_never_to_more() {
        let thirds = RateWindow::new(3, SECOND, 3);
        assert_eq!(thirds.interval_ns(), 333_333_334);
        assert_eq!(RateWindow::new(u32::MAX, SECOND, 1).interval_ns(), 1);
    }

    #[test]
    fn a_burst_that_never_becomes_free_again_is_cut() {
        let daily = RateWindow::new(1, Duration::from_secs(86_400), u32::MAX);
        assert_eq!(daily.burst, 52);
        assert!(daily.capacity_ns() <= CAPACITY_NS_MAX);
    }

    #[test]
    fn a_standing_says_what_is_left_and_when_all_is_free_again() {
        let window = RateWindow::new(2, SECOND, 5);
        let standing = window.standing(1_200_000_000);
        assert_eq!((standing.remaining, standing.reset_after), (2, Duration::from_millis(1_200)));
        assert_eq!(window.wait_ns(1_200_000_000, 2), Some(0));
        assert_eq!(window.wait_ns(1_200_000_000, 3), Some(200_000_000));
        assert_eq!(window.wait_ns(0, 6), None);
    }

    #[test]
    fn another_rate_keeps_the_permits_that_were_used() {
        let (small, large) = (RateWindow::new(10, SECOND, 10), RateWindow::new(100, SECOND, 100));
        let used_up = small.capacity_ns();
        assert_eq!(large.standing(large.converted_ns(&small, used_up)).remaining, 90);
        // As many as the smaller one has.
        let used_up = large.capacity_ns();
        assert_eq!(small.standing(small.converted_ns(&large, used_up)).remaining, 0);
    }

    #[test]
    fn the_tightest_window_is_told_first() {
        let day = RateWindow::new(500, Duration::from_secs(86_400), 500);
        let second = RateWindow::new(10, SECOND, 10);
        let standings: RateStandings = [second.standing(0), day.standing(0)].into_iter().collect();
        assert_eq!(standings.tightest().unwrap().limit, 10);
        let used_up = day.standing(day.capacity_ns());
        let standings: RateStandings = [second.standing(0), used_up].into_iter().collect();
        assert_eq!(standings.tightest().unwrap().limit, 500);
        assert_eq!(standings.len(), 2);
    }
}
