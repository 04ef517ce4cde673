//! What is being looked up: however many ask for the same at once, one of them asks the source, and
//! all get what that came to.

use std::{
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard},
};

use ahash::AHashMap;

use crate::enforcement::error::EngineError;

/// Look-ups under way, by what is looked up: at most as many as there are calls under way.
#[derive(Debug)]
pub struct Loads<K, V> {
    /// Guards who looks what up; held to come and to go.
    under_way: Mutex<AHashMap<K, Arc<Load<V>>>>,
}

/// Locked by whoever looks it up; the others wait for the lock. Should the one go away, the next
/// takes its place.
type Load<V> = tokio::sync::Mutex<Option<Result<V, EngineError>>>;

impl<K, V> Default for Loads<K, V> {
    fn default() -> Self {
        Self { under_way: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Loads<K, V> {
    /// What `load` comes to, of this caller or of one who was here before. A failure is for all who
    /// waited, so that a source that is away is not tried once for each of them; who comes
    /// afterwards tries anew.
    ///
    /// `load` has to look first whether there is still something to be done: the one before may
    /// have ended just now.
    pub async fn one<F>(&self, key: &K, load: impl FnOnce() -> F) -> Result<V, EngineError>
    where
        F: Future<Output = Result<V, EngineError>>,
    {
        let place = self.place(key);
        let mut outcome = place.load.lock().await;
        if let Some(outcome) = &*outcome {
            return outcome.clone();
        }
        let loaded = load().await;
        place.end();
        *outcome = Some(loaded.clone());
        loaded
    }

    fn place<'a>(&'a self, key: &'a K) -> Place<'a, K, V> {
        let load = self.lock().entry(key.clone()).or_default().clone();
        Place { loads: self, key, load }
    }

    fn lock(&self) -> MutexGuard<'_, AHashMap<K, Arc<Load<V>>>> {
        self.under_way.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Of one caller.
struct Place<'a, K: Clone + Eq + Hash, V: Clone> {
    loads: &'a Loads<K, V>,
    key: &'a K,
    load: Arc<Load<V>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Place<'_, K, V> {
    /// Nobody joins any more.
    fn end(&self) {
        let mut under_way = self.loads.lock();
        if under_way.get(self.key).is_some_and(|load| Arc::ptr_eq(load, &self.load)) {
            under_way.remove(self.key);
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Place<'_, K, V> {
    fn drop(&mut self) {
        let mut under_way = self.loads.lock();
        // Let go under the lock, so that of several the last one sees that it is the last.
        self.load = Arc::default();
        if under_way.get(self.key).is_some_and(|load| Arc::strong_count(load) == 1) {
            under_way.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::{sync::Notify, task::yield_now};

    use super::*;

    fn away() -> EngineError {
        EngineError::Unavailable("Postgres is away".into())
    }

    #[tokio::test]
    async fn many_at_once_cost_one_look_up_and_all_get_what_it_came_to() {
        for outcome in [Ok(7), Err(away())] {
            let (loads, asked) = (Loads::default(), AtomicUsize::new(0));
            let load = || async {
                asked.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
                outcome.clone()
            };
            let all = join_all((0..100).map(|_| loads.one(&"acme", load))).await;
            assert!(all.iter().all(|one| *one == outcome), "{all:?}");
            assert_eq!(asked.load(Ordering::Relaxed), 1);
            assert_eq!(loads.one(&"acme", load).await, outcome);
            assert_eq!(asked.load(Ordering::Relaxed), 2, "who comes afterwards asks anew");
            assert!(loads.lock().is_empty());
        }
    }

    #[tokio::test]
    async fn the_next_one_takes_the_place_of_one_who_went_away() {
        let (loads, begun) = (Arc::new(Loads::default()), Arc::new(Notify::new()));
        let gone = tokio::spawn({
            let (loads, begun) = (loads.clone(), begun.clone());
            let load = move || async move {
                begun.notify_one();
                std::future::pending().await
            };
            async move { loads.one(&"acme", load).await }
        });
        begun.notified().await;
        let next = loads.one(&"acme", || async { Ok(7) });
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending());
        gone.abort();
        assert_eq!(next.await, Ok(7));
        assert!(gone.await.unwrap_err().is_cancelled());
        assert!(loads.lock().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_left_of_those_who_all_went_away() {
        let loads = Loads::<_, u32>::default();
        let mut both: Vec<_> =
            (0..2).map(|_| Box::pin(loads.one(&"acme", std::future::pending))).collect();
        for one in &mut both {
            assert!(futures::poll!(one).is_pending());
        }
        drop(both);
        assert!(loads.lock().is_empty());
    }
}
