//! One world, and what it says when it breaks something.

use std::{cell::Cell, panic, sync::Once};

use super::{event::Seen, plan::Plan, trace::Trace, world::World};

/// A world that did not end well.
#[derive(Debug)]
pub(super) struct Broken {
    /// Begins with the invariant.
    pub said: String,
}

impl Broken {
    /// Whether the same is broken, in whatever numbers.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.kind() == other.kind()
    }

    fn kind(&self) -> &str {
        let numbers = self.said.char_indices().skip(3).find(|(_, char)| char.is_ascii_digit());
        &self.said[..numbers.map_or(self.said.len(), |(index, _)| index)]
    }
}

/// Plays one world.
pub(super) fn attempt(seed: u64, plan: &Plan, trace: Option<Trace>) -> Result<Seen, Broken> {
    thread_local! {
        static IS_ATTEMPTING: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // What an attempt says is told by whoever made it.
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_ATTEMPTING.get() {
                others(panic);
            }
        }));
    });
    IS_ATTEMPTING.set(true);
    let played = panic::catch_unwind(|| World::new(seed, plan.clone(), trace).play());
    IS_ATTEMPTING.set(false);
    played.map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        Broken { said: said.unwrap_or_default() }
    })
}
