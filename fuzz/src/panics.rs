//! Counts panics, those too that somebody catches.

use std::{
    cell::Cell,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

static PANICS: AtomicUsize = AtomicUsize::new(0);
/// Of them, those in threads that are of no test: a runtime's, the journal's.
static STRAY: AtomicUsize = AtomicUsize::new(0);
static WATCH: Once = Once::new();

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// Counts every panic of the process from now on. To be called from within a target, which is after
/// bolero has put its own hook in place: it hides panics from hooks that were there before.
pub fn watch() {
    WATCH.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            OWN.set(OWN.get() + 1);
            // A test's thread has the test's path for a name.
            if !thread::current().name().is_some_and(|name| name.contains("::")) {
                STRAY.fetch_add(1, Ordering::SeqCst);
            }
            before(panic);
        }));
    });
}

/// Panics so far, in all threads.
pub fn count() -> usize {
    PANICS.load(Ordering::SeqCst)
}

/// Panics so far that concern the test of this thread: its own, and those of threads that it or
/// another test started.
pub fn concerning_this_test() -> usize {
    OWN.get() + STRAY.load(Ordering::SeqCst)
}
