//! What the clients know: of each operation whether it counts, and of each meter what that makes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use super::operation::{Batch, Operation, Verb};

/// A tenant and a meter.
pub type Used = (String, &'static str);

/// How one request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It counts.
    Counted,
    /// It does not, for the limit.
    Denied,
    /// It does not, for an error that says so.
    NotCounted,
    /// Nobody can say.
    Unknown,
}

/// What is known of a meter of a tenant, base units.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Acknowledged, decreases taken off.
    pub acknowledged: i64,
    /// Of operations without a key whose fate is unknown: what they may have added.
    pub perhaps_added: i64,
    /// The same, of what they may have taken off.
    pub perhaps_taken_off: i64,
    /// Certainly admitted at this moment: acknowledged admissions, less every decrease that was so much
    /// as sent.
    admitted: i64,
    /// Recorded after the fact, outside the promise that nothing passes the limit: it counts, and may
    /// lie beyond.
    pub excused: i64,
    /// The highest limit that was ever in force; absent: it is not hard.
    pub limit: Option<i64>,
}

/// What was sent and answered, for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Operations, each with its retries counted once.
    pub operations: u64,
    /// Requests.
    pub sent: u64,
    pub admitted: u64,
    pub denied: u64,
    pub refused: u64,
    /// Requests without an answer.
    pub unknown: u64,
    /// Requests that sent an operation of unknown fate again.
    pub retried: u64,
    /// Requests that sent an operation again that was known to count.
    pub repeated: u64,
}

/// Everything that clients know.
#[derive(Debug, Default)]
pub struct Truth {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
pub struct Book {
    pub accounts: BTreeMap<Used, Account>,
    /// Operations with a key whose fate is unknown.
    pub unknown: Vec<Batch>,
    pub tally: Tally,
    /// Failed calls by code and reason.
    pub failures: BTreeMap<String, u64>,
    /// What no client may see.
    pub differences: Vec<String>,
}

impl Truth {
    /// The book, locked for a moment.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Says what the highest limit is.
    pub fn limit(&self, (tenant, meter): (&str, &'static str), limit: i64) {
        self.book().account(tenant, meter).limit = Some(limit);
    }
}

impl Book {
    pub fn account(&mut self, tenant: &str, meter: &'static str) -> &mut Account {
        self.accounts.entry((tenant.to_owned(), meter)).or_default()
    }

    /// Before a batch is sent for the first time.
    pub fn begun(&mut self, batch: &Batch) {
        self.tally.operations += 1;
        for operation in batch.operations.iter().filter(|operation| operation.amount < 0) {
            for (tenant, meter) in operation.limited_by() {
                self.account(tenant, meter).admitted += operation.amount;
            }
        }
    }

    /// The batch counts, once.
    pub fn counted(&mut self, batch: &Batch, is_beyond_promise: bool) {
        self.tally.admitted += 1;
        for operation in &batch.operations {
            let amount = operation.amount;
            self.account(&operation.tenant, operation.meter).acknowledged += amount;
            for (tenant, meter) in operation.limited_by() {
                let account = self.account(tenant, meter);
                match is_beyond_promise {
                    true => account.excused += amount,
                    false => account.admitted += amount.max(0),
                }
                let (admitted, limit) = (account.admitted, account.limit);
                if amount > 0 && limit.is_some_and(|limit| admitted > limit) {
                    self.differences.push(format!(
                        "{tenant}/{meter}: {admitted} admitted at one moment, of {limit:?}"
                    ));
                }
            }
        }
    }

    /// Nobody knows what became of the batch.
    pub fn lost(&mut self, batch: Batch) {
        if batch.is_keyed() {
            self.unknown.push(batch);
            return;
        }
        for operation in &batch.operations {
            let account = self.account(&operation.tenant, operation.meter);
            match operation.amount {
                taken_off @ ..0 => account.perhaps_taken_off -= taken_off,
                added => account.perhaps_added += added,
            }
        }
    }

    /// Units that may lie beyond a limit: recorded after the fact, or of unknown fate and perhaps
    /// settling a hold that had ended.
    pub fn excused(&self, tenant: &str, meter: &str) -> i64 {
        let mut accounts = self.accounts.iter();
        let account = accounts.find(|((whose, what), _)| whose == tenant && *what == meter);
        let known = account.map_or(0, |(_, account)| account.excused);
        let commits = self.unknown.iter().filter(|it| matches!(it.verb, Verb::Commit { .. }));
        let of_meter = |it: &&Operation| it.tenant == tenant && it.meter == meter;
        let perhaps = commits.flat_map(|batch| &batch.operations).filter(of_meter);
        known + perhaps.map(|operation| operation.amount).sum::<i64>()
    }

    /// What the ledger may say of a meter, while some fates are unknown.
    pub fn range(&self, used: &Used) -> std::ops::RangeInclusive<i64> {
        let account = self.accounts.get(used).cloned().unwrap_or_default();
        let of_meter = |it: &&Operation| it.tenant == used.0 && it.meter == used.1;
        let unknown = self.unknown.iter().flat_map(|batch| &batch.operations).filter(of_meter);
        let amounts: Vec<i64> = unknown.map(|operation| operation.amount).collect();
        let more: i64 = amounts.iter().filter(|amount| **amount > 0).sum();
        let less: i64 = amounts.iter().filter(|amount| **amount < 0).sum();
        let sure = account.acknowledged;
        (sure + less - account.perhaps_taken_off)..=(sure + more + account.perhaps_added)
    }
}
