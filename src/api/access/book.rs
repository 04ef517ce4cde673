//! The tokens in memory.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ahash::RandomState;
use arc_swap::ArcSwap;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio_util::sync::CancellationToken;

use crate::domain::token::{Token, TokenHash};

/// A token as callers are compared with it.
#[derive(Debug)]
pub struct Known {
    pub token: Token,
    /// How often it may call; `None` = as often as it likes. It lives and goes with the token, so
    /// that there are never more of them than tokens.
    pub(super) rate: Option<DefaultDirectRateLimiter>,
    /// The same as `ended`, for those who look at every message.
    is_revoked: AtomicBool,
    /// Ends streams that the token began.
    pub(super) revoked: CancellationToken,
}

impl Known {
    fn new(token: Token, calls_per_token_s: u32) -> Self {
        let rate = NonZeroU32::new(calls_per_token_s)
            .map(|calls| RateLimiter::direct(Quota::per_second(calls)));
        Self { token, rate, is_revoked: AtomicBool::new(false), revoked: CancellationToken::new() }
    }

    /// Whether it is not in the book any more.
    pub(super) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Relaxed)
    }

    fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
        self.revoked.cancel();
    }
}

/// By what hashes begin with. Two of a hundred thousand share it once in billions of years; then
/// both stand there.
type Pages = HashMap<u64, Vec<Arc<Known>>, RandomState>;

/// Every live token, replaced whole.
#[derive(Debug)]
pub struct Book {
    pages: ArcSwap<Pages>,
    /// Whether any tokens, be it none, have ever been read.
    is_known: AtomicBool,
    calls_per_token_s: u32,
}

impl Book {
    pub(super) fn new(calls_per_token_s: u32) -> Self {
        Self { pages: ArcSwap::default(), is_known: AtomicBool::new(false), calls_per_token_s }
    }

    /// The live token with this hash. What the hash begins with only leads to the page; the whole of it
    /// decides ([`TokenHash`] says why the time that takes tells nobody a secret).
    pub(super) fn find(&self, hash: &TokenHash) -> Option<Arc<Known>> {
        let pages = self.pages.load();
        pages.get(&hash.key())?.iter().find(|known| known.token.hash == *hash).cloned()
    }

    /// Whether the tokens have been read at all.
    pub fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// Puts `tokens` in the place of all that were there. Who is still there keeps its rate and its
    /// streams; who is not, ends. Of several with one hash the first holds.
    pub fn replace(&self, tokens: impl IntoIterator<Item = Token>) {
        let before = self.pages.load_full();
        let mut pages = Pages::with_hasher(RandomState::new());
        let mut count = 0u32;
        for token in tokens {
            let page = pages.entry(token.hash.key()).or_default();
            // What could never be found would be taken for revoked.
            if page.iter().any(|known| known.token.hash == token.hash) {
                continue;
            }
            let kept = before
                .get(&token.hash.key())
                .and_then(|page| page.iter().find(|known| known.token == token).cloned());
            let known = kept.unwrap_or_else(|| Arc::new(Known::new(token, self.calls_per_token_s)));
            count += 1;
            page.push(known);
        }
        self.pages.store(Arc::new(pages));
        self.is_known.store(true, Ordering::Release);
        metrics::gauge!("tollgate_access_tokens").set(f64::from(count));
        for known in before.values().flatten() {
            let is_kept = self.find(&known.token.hash).is_some_and(|now| Arc::ptr_eq(&now, known));
            if !is_kept {
                known.revoke();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::token::Role;

    #[test]
    fn the_whole_hash_decides_among_those_that_begin_alike() {
        let hash = |last: u8| {
            let mut hash = [7; 32];
            hash[31] = last;
            TokenHash(hash)
        };
        let token = |last: u8| Token {
            id: Uuid::from_u128(last.into()),
            name: format!("token {last}"),
            role: Role::Service,
            tenant: None,
            expires_at: None,
            hash: hash(last),
        };
        assert_eq!(hash(1).key(), hash(2).key());
        let book = Book::new(0);
        book.replace([token(1), token(2)]);
        let found = |last| book.find(&hash(last)).map(|known| known.token.name.clone());
        assert_eq!(found(1).as_deref(), Some("token 1"));
        assert_eq!(found(2).as_deref(), Some("token 2"));
        assert_eq!(found(3), None);
    }
}
