//! Whether the ledger agrees with itself: each window is the sum of its hours, of its days, and of
//! what the runs did to it; hours are the sums of the raw events that are kept; what covers usage
//! covers what the usage says.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use super::{
    cell_rows::{CellRow, read_column},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::{
    cell_key::CellKey,
    ids::{MeterName, PoolId, Subject, TenantId},
    window::WindowLabel,
};

/// Most owners that one page holds.
pub const OWNERS_PAGE_MAX: u32 = 500;

/// Which counters are looked at; what is absent is no bound.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// A tenant, or the owner of a pool's counters.
    pub tenant: Option<TenantId>,
    pub meter: Option<MeterName>,
    pub label: Option<WindowLabel>,
    /// Windows that begin then or later, and those that never began anew (levels).
    pub since: Option<Timestamp>,
}

impl Ledger {
    /// Whether any version of any plan has had the meter.
    pub async fn has_meter(&self, meter: &MeterName) -> Result<bool, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT EXISTS (
                   SELECT FROM plan_versions,
                       jsonb_array_elements(definition -> 'meters') AS meter
                   WHERE meter ->> 'name' = $1) AS "is_known!""#,
            meter.as_str()
        )
        .fetch_one(self.query("has_meter"))
        .await?;
        Ok(row.is_known)
    }
}

impl Scope {
    /// The same for one owner.
    pub fn of(&self, owner: &TenantId) -> Self {
        Self { tenant: Some(owner.clone()), ..self.clone() }
    }

    /// Whether `key` is to be looked at.
    pub fn covers(&self, key: &CellKey) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| *tenant == key.tenant)
            && self.meter.as_ref().is_none_or(|meter| *meter == key.meter)
            && self.covers_label(key.label)
    }

    fn covers_label(&self, label: WindowLabel) -> bool {
        self.label.is_none_or(|wanted| wanted == label)
            && self.since.is_none_or(|since| label.is_endless() || label.start >= since.as_second())
    }

    fn meter_column(&self) -> Option<&str> {
        self.meter.as_ref().map(MeterName::as_str)
    }

    fn label_column(&self) -> Option<String> {
        self.label.map(|label| label.to_string())
    }

    fn since_column(&self) -> Option<i64> {
        self.since.map(Timestamp::as_second)
    }
}

/// A window that is not the sum of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    pub key: CellKey,
    pub parts: Parts,
    /// What the window's own row says.
    pub window: i64,
    /// What its parts add up to.
    pub sum_of_parts: i64,
}

/// What a window is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Amounts of `usage_hourly`.
    HourlyAmounts,
    /// Events of `usage_hourly`.
    HourlyEvents,
    /// The largest amount of `usage_hourly`.
    HourlyMax,
    /// The latest amount of `usage_hourly`.
    HourlyLast,
    /// What of `usage_hourly` neither grants nor pools cover, as the meter counts.
    HourlyUnits,
    /// Amounts of `usage_daily`.
    DailyAmounts,
    /// Events of `usage_daily`.
    DailyEvents,
    /// The largest amount of `usage_daily`.
    DailyMax,
    /// The latest amount of `usage_daily`.
    DailyLast,
    /// What of `usage_daily` neither grants nor pools cover, as the meter counts.
    DailyUnits,
    /// Units of `run_totals` that count.
    RunUnits,
    /// Units of `run_totals` that were forfeited.
    RunForfeits,
}

impl Parts {
    fn read(name: &str) -> Option<Self> {
        Some(match name {
            "hourly_amounts" => Self::HourlyAmounts,
            "hourly_events" => Self::HourlyEvents,
            "hourly_max" => Self::HourlyMax,
            "hourly_last" => Self::HourlyLast,
            "hourly_units" => Self::HourlyUnits,
            "daily_amounts" => Self::DailyAmounts,
            "daily_events" => Self::DailyEvents,
            "daily_max" => Self::DailyMax,
            "daily_last" => Self::DailyLast,
            "daily_units" => Self::DailyUnits,
            "run_units" => Self::RunUnits,
            "run_forfeits" => Self::RunForfeits,
            _ => return None,
        })
    }

    /// The window's own column.
    pub fn column(self) -> &'static str {
        match self {
            Self::HourlyAmounts | Self::DailyAmounts => "amount_sum",
            Self::HourlyEvents | Self::DailyEvents => "events",
            Self::HourlyMax | Self::DailyMax => "amount_max",
            Self::HourlyLast | Self::DailyLast => "last_amount",
            Self::HourlyUnits | Self::DailyUnits | Self::RunUnits => "used",
            Self::RunForfeits => "forfeited",
        }
    }

    /// The table that the parts are rows of.
    pub fn table(self) -> &'static str {
        match self {
            Self::HourlyAmounts
            | Self::HourlyEvents
            | Self::HourlyMax
            | Self::HourlyLast
            | Self::HourlyUnits => "usage_hourly",
            Self::DailyAmounts
            | Self::DailyEvents
            | Self::DailyMax
            | Self::DailyLast
            | Self::DailyUnits => "usage_daily",
            Self::RunUnits | Self::RunForfeits => "run_totals",
        }
    }
}

/// An hour that is not the sum of the raw events that are kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHour {
    pub subject: Option<Subject>,
    pub label: WindowLabel,
    /// Start of the hour.
    pub hour: Timestamp,
    /// Number and amounts that the rollup has.
    pub summed: (i64, i64),
    /// Number and amounts of the events.
    pub kept: (i64, i64),
}

/// A pool's window whose counters are not what its members use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolWindow {
    pub meter: MeterName,
    pub label: WindowLabel,
    /// Units used by the pool's counters.
    pub counters: i64,
    /// Units that the members use, each at least 0.
    pub members: i64,
}

/// A meter whose hours say that grants and pools cover another amount than these do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoveredUnits {
    pub meter: MeterName,
    /// Units that are covered by the hours.
    pub hours: i64,
    /// Units that are used of grants and pools.
    pub covering: i64,
}

impl Ledger {
    /// The windows in `scope` that disagree with their parts, at most `count_max`; none is as it
    /// should be. Reads all of these tenants' rollups, in one snapshot.
    pub async fn disagreements(
        &self,
        scope: &Scope,
        count_max: u32,
    ) -> Result<Vec<Disagreement>, LedgerError> {
        let query = sqlx::query_file!(
            "src/ledger/queries/disagreements.sql",
            scope.tenant.as_ref().map(TenantId::as_str),
            scope.meter_column(),
            scope.label_column(),
            scope.since_column(),
            i64::from(count_max)
        );
        let rows = match &scope.tenant {
            Some(tenant) => query.fetch_all(self.query("disagreements").of(tenant)).await?,
            None => query.fetch_all(self.query("disagreements")).await?,
        };
        rows.into_iter()
            .map(|row| {
                let key = CellRow {
                    table: "window_totals",
                    tenant: row.tenant,
                    meter: row.meter,
                    label: row.label,
                    subject: row.subject,
                }
                .into_key()?;
                let parts = Parts::read(&row.parts).ok_or("not a kind of parts");
                Ok(Disagreement {
                    parts: read_column("window_totals", "parts", &key, &row.parts, parts)?,
                    window: row.window,
                    sum_of_parts: row.sum_of_parts,
                    key,
                })
            })
            .collect()
    }

    /// Tenants and owners of pools' counters behind `after`, in the database's own order.
    pub async fn owners_after(
        &self,
        after: Option<&TenantId>,
        count_max: u32,
    ) -> Result<Vec<TenantId>, LedgerError> {
        let rows = sqlx::query_file!(
            "src/ledger/queries/owners.sql",
            after.map_or("", TenantId::as_str),
            i64::from(count_max.min(OWNERS_PAGE_MAX))
        )
        .fetch_all(self.query("owners_after"))
        .await?;
        let read = |name: &String| {
            read_column("window_totals", "tenant", name, name, TenantId::stored(name))
        };
        rows.iter().map(|row| read(&row.tenant)).collect()
    }

    /// Hours of a tenant's meter that are not the sum of their raw events, at most `count_max`. Of
    /// hours before `complete_from` events may have been deleted, so only too many are told.
    pub async fn event_hours(
        &self,
        tenant: &TenantId,
        meter: &MeterName,
        scope: &Scope,
        complete_from: Timestamp,
        count_max: u32,
    ) -> Result<Vec<EventHour>, LedgerError> {
        let rows = sqlx::query_file!(
            "src/ledger/queries/event_hours.sql",
            tenant.as_str(),
            meter.as_str(),
            scope.label_column(),
            scope.since_column(),
            complete_from.to_sqlx() as _,
            i64::from(count_max)
        )
        .fetch_all(self.query("event_hours").of(tenant))
        .await?;
        rows.into_iter()
            .map(|row| {
                let key = CellRow {
                    table: "usage_events",
                    tenant: tenant.as_str().to_owned(),
                    meter: meter.as_str().to_owned(),
                    label: row.label,
                    subject: row.subject,
                }
                .into_key()?;
                Ok(EventHour {
                    subject: key.subject,
                    label: key.label,
                    hour: row.hour.to_jiff(),
                    summed: (row.hour_events, row.hour_amounts),
                    kept: (row.kept_events, row.kept_amounts),
                })
            })
            .collect()
    }

    /// Windows of a pool whose counters do not add up to its members' use, at most `count_max`.
    pub async fn pool_windows(
        &self,
        pool: PoolId,
        scope: &Scope,
        count_max: u32,
    ) -> Result<Vec<PoolWindow>, LedgerError> {
        let number = i64::try_from(pool.0).map_err(|_| LedgerError::not_found("pool", pool))?;
        let rows = sqlx::query_file!(
            "src/ledger/queries/pool_books.sql",
            number,
            scope.label_column(),
            scope.since_column(),
            i64::from(count_max)
        )
        .fetch_all(self.query("pool_windows"))
        .await?;
        rows.into_iter()
            .map(|row| {
                let (meter, label) = (MeterName::new(&row.meter), row.label.parse());
                Ok(PoolWindow {
                    meter: read_column("pool_usage", "meter", pool, &row.meter, meter)?,
                    label: read_column("pool_usage", "label", pool, &row.label, label)?,
                    counters: row.counters,
                    members: row.members,
                })
            })
            .collect()
    }

    /// Meters of a tenant whose hours say that another amount is covered than grants and pools cover.
    pub async fn covered_units(
        &self,
        tenant: &TenantId,
        meter: Option<&MeterName>,
    ) -> Result<Vec<CoveredUnits>, LedgerError> {
        let rows = sqlx::query_file!(
            "src/ledger/queries/covered_books.sql",
            tenant.as_str(),
            meter.map(MeterName::as_str)
        )
        .fetch_all(self.query("covered_units").of(tenant))
        .await?;
        rows.into_iter()
            .map(|row| {
                let meter = MeterName::new(&row.meter);
                Ok(CoveredUnits {
                    meter: read_column("usage_hourly", "meter", tenant, &row.meter, meter)?,
                    hours: row.hours,
                    covering: row.covering,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_what_it_names_and_levels_whenever_they_began() {
        let key = |label: &str| CellKey {
            tenant: TenantId::new("acme").unwrap(),
            meter: MeterName::new("calls").unwrap(),
            subject: None,
            label: label.parse().unwrap(),
        };
        let since = Some(Timestamp::from_second(1_000).unwrap());
        let late = Scope { since, ..Scope::default() };
        assert!(Scope::default().covers(&key("month:5:1")));
        assert!(late.covers(&key("month:1000:1")) && !late.covers(&key("month:999:1")));
        assert!(late.covers(&key("lifetime:0:0")));
        let other = Scope { meter: Some(MeterName::new("disk").unwrap()), ..Scope::default() };
        assert!(!other.covers(&key("month:1000:1")));
        assert!(!late.of(&TenantId::new("else").unwrap()).covers(&key("month:1000:1")));
    }
}
