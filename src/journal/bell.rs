//! What wakes the journal's thread: at once, or when the longest delay is over.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

#[derive(Default)]
struct Rung {
    soon: bool,
    now: bool,
}

/// The bell beside which the journal's thread sleeps. Those who append ring it: a bell that has been
/// rung costs them one look.
#[derive(Default)]
pub struct Bell {
    /// `Rung::soon` and `Rung::now` again, readable without the lock; changed only under it.
    soon: AtomicBool,
    now: AtomicBool,
    /// Guards what was rung, for the thread that waits.
    rung: Mutex<Rung>,
    changed: Condvar,
}

impl Bell {
    fn rung(&self) -> MutexGuard<'_, Rung> {
        // No code that holds the lock panics.
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was queued that has to be on disk when the longest delay is over.
    pub fn soon(&self) {
        if !self.soon.load(Ordering::SeqCst) {
            let mut rung = self.rung();
            rung.soon = true;
            self.soon.store(true, Ordering::SeqCst);
            self.changed.notify_one();
        }
    }

    /// Somebody waits for what only the thread does.
    pub fn now(&self) {
        if !self.now.load(Ordering::SeqCst) {
            let mut rung = self.rung();
            rung.now = true;
            self.now.store(true, Ordering::SeqCst);
            self.changed.notify_one();
        }
    }

    /// Forgets `soon`: who queues from now on rings anew. What was queued before has to be looked
    /// for after this.
    pub fn hush(&self) {
        let mut rung = self.rung();
        rung.soon = false;
        self.soon.store(false, Ordering::SeqCst);
    }

    /// Sleeps until `now` is rung, which is forgotten with it, or `deadline` passes; without a
    /// deadline, until either is rung.
    pub fn wait(&self, deadline: Option<Instant>) {
        let mut rung = self.rung();
        loop {
            if std::mem::take(&mut rung.now) {
                self.now.store(false, Ordering::SeqCst);
                return;
            }
            rung = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None if rung.soon => return,
                None => self.changed.wait(rung).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return,
                Some(left) => {
                    let woken = self.changed.wait_timeout(rung, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use super::*;

    #[test]
    fn what_was_rung_before_the_wait_is_heard() {
        let bell = Bell::default();
        bell.now();
        bell.wait(None);
        bell.soon();
        bell.wait(None);
        // `soon` stays until it is hushed, and a deadline is not cut short by it.
        let deadline = Instant::now() + Duration::from_millis(5);
        bell.wait(Some(deadline));
        assert!(Instant::now() >= deadline);
        bell.hush();
        bell.now();
        bell.wait(None);
        bell.wait(Some(Instant::now()));
    }

    #[test]
    fn a_sleeper_is_woken_by_either() {
        for ring in [Bell::now, Bell::soon] {
            let bell = Arc::new(Bell::default());
            let sleeper = thread::spawn({
                let bell = bell.clone();
                move || bell.wait(None)
            });
            thread::sleep(Duration::from_millis(5));
            ring(&bell);
            sleeper.join().unwrap();
        }
    }
}
