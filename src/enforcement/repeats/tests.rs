use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::domain::ids::{IdempotencyKey, MeterName, TenantId};

fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

fn content(amount: i64) -> Content {
    Content::Units { meter: MeterName::new("calls").unwrap(), subject: None, amount }
}

fn first(position: u64) -> FirstAnswer<u64> {
    FirstAnswer { answer: None, place: Some(position) }
}

async fn begin(repeats: &Repeats<u64>, verb: Verb, name: &str, amount: i64) -> Begun<u64> {
    let (tenant, key, content) = (tenant(), key(name), content(amount));
    let mut patience = Patience::default();
    repeats.begin(&tenant, verb, &key, &content, &mut patience).await.unwrap()
}

async fn claim(repeats: &Repeats<u64>, name: &str) -> Claim<u64> {
    match begin(repeats, Verb::Use, name, 1).await {
        Begun::Fresh(claim) => claim,
        other => panic!("{name} should be fresh: {other:?}"),
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer() {
    let repeats = Repeats::new(100);
    claim(&repeats, "a").await.answer(first(7));
    let begun = begin(&repeats, Verb::Use, "a", 1).await;
    assert!(matches!(begun, Begun::Repeat(FirstAnswer { place: Some(7), .. })));
}

#[tokio::test]
async fn a_key_with_another_amount_is_a_conflict_even_while_it_is_in_hand() {
    let repeats = Repeats::new(100);
    let held = claim(&repeats, "a").await;
    let begun = begin(&repeats, Verb::Use, "a", 2).await;
    assert!(matches!(begun, Begun::Conflict(Content::Units { amount: 1, .. })));
    drop(held);
}

#[tokio::test]
async fn a_claim_that_is_let_go_frees_its_key_for_the_one_who_waits() {
    let repeats = Arc::new(Repeats::<u64>::new(100));
    let held = claim(&repeats, "a").await;
    let waiting = tokio::spawn({
        let repeats = repeats.clone();
        async move { matches!(begin(&repeats, Verb::Use, "a", 1).await, Begun::Fresh(_)) }
    });
    tokio::task::yield_now().await;
    drop(held);
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn who_waits_for_a_key_waits_so_long_and_no_longer_for_all_its_keys_together() {
    let repeats = Repeats::new(100);
    let (_first, _second) = (claim(&repeats, "a").await, claim(&repeats, "b").await);
    let wait_max = Duration::from_secs(1);
    let mut patience = Patience { wait_max, until: None };
    let (began, mut until) = (Instant::now(), None);
    for name in ["a", "b"] {
        let begun =
            repeats.begin(&tenant(), Verb::Use, &key(name), &content(1), &mut patience).await;
        assert_eq!(begun.unwrap_err(), StillInHand);
        until = until.or(patience.until);
    }
    assert!(began.elapsed() >= wait_max);
    assert_eq!(patience.until, Some(until.unwrap()), "it is the same wait");
}

#[tokio::test]
async fn it_forgets_the_oldest_and_stays_within_its_bound() {
    let repeats = Repeats::new(10);
    for n in 0..100 {
        claim(&repeats, &format!("k{n}")).await.answer(first(n));
    }

    assert!(repeats.len() <= 10);
    let latest = begin(&repeats, Verb::Use, "k99", 1).await;
    assert!(matches!(latest, Begun::Repeat(_)));
    let forgotten = begin(&repeats, Verb::Use, "k0", 1).await;
    assert!(matches!(forgotten, Begun::Fresh(_)));
}

#[tokio::test]
async fn what_is_lost_is_forgotten_and_nothing_else() {
    let repeats = Repeats::new(6);
    claim(&repeats, "lost").await.answer(first(7));
    claim(&repeats, "kept").await.answer(first(6));
    let held = claim(&repeats, "held").await;
    for name in ["lost", "kept", "held"] {
        repeats.forget(&tenant(), Verb::Use, &key(name), |place| *place > 6);
    }
    assert!(matches!(begin(&repeats, Verb::Use, "lost", 1).await, Begun::Fresh(_)));
    assert!(matches!(begin(&repeats, Verb::Use, "kept", 1).await, Begun::Repeat(_)));
    assert!({
        let (tenant, key, content) = (tenant(), key("held"), content(1));
        let name = Name { tenant: &tenant, verb: Verb::Use, key: &key };
        repeats.try_begin(&Asked { name, content: content.lent() }).is_err()
    });
    drop(held);
}

#[tokio::test]
async fn a_reservation_and_the_usage_that_settles_it_may_have_one_key() {
    let repeats = Repeats::new(100);
    claim(&repeats, "a").await.answer(first(7));
    let begun = begin(&repeats, Verb::Reserve, "a", 1).await;
    assert!(matches!(begun, Begun::Fresh(_)));
}

/// Keys with their hashes and contents, in the order in which they are claimed together.
fn in_order(repeats: &Repeats<u64>, keys: impl IntoIterator<Item = u32>) -> Vec<(KeyHash, u32)> {
    let hash = |number| {
        let (tenant, key) = (tenant(), key(&format!("k{number}")));
        repeats.hash(&Name { tenant: &tenant, verb: Verb::Use, key: &key })
    };
    let mut hashed: Vec<_> = keys.into_iter().map(|number| (hash(number), number)).collect();
    hashed.sort_unstable();
    hashed
}

/// Claims of `keys`, in their order, what can be claimed; answers how many.
fn claim_fresh(repeats: &Repeats<u64>, claim: &mut Claim<u64>, keys: &[(KeyHash, u32)]) -> usize {
    let (tenant, content) = (tenant(), content(1));
    let keys: Vec<_> =
        keys.iter().map(|(hash, number)| (*hash, key(&format!("k{number}")))).collect();
    repeats.claim_fresh(claim, &keys, |(hash, key)| {
        let name = Name { tenant: &tenant, verb: Verb::Use, key };
        (*hash, Asked { name, content: content.lent() })
    })
}

#[tokio::test]
async fn a_batch_claims_up_to_the_first_key_that_is_known_and_answers_all_at_once() {
    let repeats = Arc::new(Repeats::new(1_000));
    let keys = in_order(&repeats, 0..100);
    let name = |at: usize| format!("k{}", keys[at].1);
    let held = claim(&repeats, &name(60)).await;
    let mut batch = repeats.no_claim();
    assert!(batch.is_empty());
    assert_eq!(claim_fresh(&repeats, &mut batch, &keys), 60);
    drop(held);
    batch.join(claim(&repeats, &name(60)).await);
    assert_eq!(claim_fresh(&repeats, &mut batch, &keys[61..]), 39);
    assert!(!batch.is_empty());
    let waiting = tokio::spawn({
        let (repeats, name) = (repeats.clone(), name(99));
        async move { begin(&repeats, Verb::Use, &name, 1).await }
    });
    tokio::task::yield_now().await;
    batch.answer(first(7));
    let waited = waiting.await.unwrap();
    assert!(matches!(waited, Begun::Repeat(FirstAnswer { place: Some(7), .. })));
    for at in 0..100 {
        let begun = begin(&repeats, Verb::Use, &name(at), 1).await;
        assert!(matches!(begun, Begun::Repeat(FirstAnswer { place: Some(7), .. })));
    }
    let dropped = in_order(&repeats, 100..200);
    let mut batch = repeats.no_claim();
    assert_eq!(claim_fresh(&repeats, &mut batch, &dropped), 100);
    assert_eq!(claim_fresh(&repeats, &mut repeats.no_claim(), &dropped), 0);
    drop(batch);
    assert_eq!(claim_fresh(&repeats, &mut repeats.no_claim(), &dropped), 100);
}

#[tokio::test]
async fn who_waits_goes_on_even_if_the_key_was_forgotten_meanwhile() {
    let repeats = Arc::new(Repeats::new(2));
    let held = claim(&repeats, "a").await;
    let waiting = tokio::spawn({
        let repeats = repeats.clone();
        async move { matches!(begin(&repeats, Verb::Use, "a", 1).await, Begun::Fresh(_)) }
    });
    tokio::task::yield_now().await;
    for name in ["b", "c", "d"] {
        claim(&repeats, name).await.answer(first(1));
    }
    held.answer(first(7));
    assert!(waiting.await.unwrap());
}

#[test]
fn of_many_threads_one_gets_each_key() {
    for (entries_max, is_all_kept) in [(100_000, true), (200, false)] {
        let repeats = Repeats::new(entries_max);
        let claimed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4_u32)
                .map(|thread| {
                    let repeats = &repeats;
                    scope.spawn(move || {
                        let mut claimed = 0;
                        for round in 0..100_u32 {
                            let from = round * 20 + thread * 7;
                            let keys = in_order(repeats, from..from + 30);
                            let mut rest = keys.as_slice();
                            while !rest.is_empty() {
                                let mut claim = repeats.no_claim();
                                let fresh = claim_fresh(repeats, &mut claim, rest);
                                claim.answer(first(1));
                                claimed += fresh;
                                rest = &rest[(fresh + 1).min(rest.len())..];
                                assert!(repeats.len() <= entries_max);
                            }
                        }
                        claimed
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        // 99 rounds on, the last thread's 30 keys.
        let different = 99 * 20 + 3 * 7 + 30;
        assert!(if is_all_kept { claimed == different } else { claimed >= different });
    }
}

/// What is known, the way one would think of it: two lists, and each claim has a number.
#[derive(Default)]
struct Model {
    young: Vec<Known>,
    old: Vec<Known>,
    inserted: usize,
    claims: usize,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    key: u32,
    amount: i64,
    claim: usize,
    place: Option<u64>,
}

impl Model {
    fn all(&mut self) -> impl Iterator<Item = &mut Known> {
        self.young.iter_mut().chain(&mut self.old)
    }

    fn find(&mut self, key: u32) -> Option<Known> {
        self.all().find(|known| known.key == key).copied()
    }

    fn insert(&mut self, key: u32, amount: i64, generation_max: usize) {
        if self.inserted == generation_max {
            (self.old, self.inserted) = (std::mem::take(&mut self.young), 0);
        }
        self.inserted += 1;
        self.young.push(Known { key, amount, claim: self.claims, place: None });
    }

    fn retain(&mut self, keep: impl Fn(&Known) -> bool) {
        self.young.retain(&keep);
        self.old.retain(&keep);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Begin { key: u32, amount: i64 },
    Batch { keys: std::collections::BTreeSet<u32> },
    Answer { which: usize, place: u64 },
    LetGo { which: usize },
    Forget { key: u32, from: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..60_u32, 1..3_i64).prop_map(|(key, amount)| Step::Begin { key, amount }),
        4 => prop::collection::btree_set(0..60_u32, 0..20).prop_map(|keys| Step::Batch { keys }),
        4 => (any::<usize>(), 0..5_u64).prop_map(|(which, place)| Step::Answer { which, place }),
        1 => any::<usize>().prop_map(|which| Step::LetGo { which }),
        1 => (0..60_u32, 0..5_u64).prop_map(|(key, from)| Step::Forget { key, from }),
    ]
}

proptest! {
    #[test]
    fn it_knows_what_two_lists_know(
        steps in prop::collection::vec(step(), 0..60), generation_max in 1..40_usize,
    ) {
        let repeats = Repeats::<u64>::new(2 * generation_max);
        let mut model = Model::default();
        let mut claims: Vec<(usize, Claim<u64>)> = vec![];
        for step in steps {
            match step {
                Step::Begin { key: number, amount } => {
                    let (tenant, key, content) = (tenant(), key(&format!("k{number}")), content(amount));
                    let name = Name { tenant: &tenant, verb: Verb::Use, key: &key };
                    let begun = repeats.try_begin(&Asked { name, content: content.lent() });
                    match (begun, model.find(number)) {
                        (Ok(Begun::Fresh(claim)), None) => {
                            model.claims += 1;
                            model.insert(number, amount, generation_max);
                            claims.push((model.claims, claim));
                        }
                        (Ok(Begun::Conflict(_)), Some(known)) => prop_assert_ne!(known.amount, amount),
                        (Ok(Begun::Repeat(first)), Some(known)) => {
                            prop_assert_eq!((known.amount, known.place), (amount, first.place));
                            prop_assert!(known.place.is_some());
                        }
                        (Err(_), Some(known)) => {
                            prop_assert_eq!((known.amount, known.place), (amount, None));
                        }
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                Step::Batch { keys } => {
                    let keys = in_order(&repeats, keys);
                    let mut claim = repeats.no_claim();
                    let claimed = claim_fresh(&repeats, &mut claim, &keys);
                    model.claims += 1;
                    for (index, (_, number)) in keys.iter().enumerate() {
                        if model.find(*number).is_some() {
                            prop_assert_eq!(index, claimed);
                            break;
                        }
                        prop_assert!(index < claimed);
                        model.insert(*number, 1, generation_max);
                    }
                    claims.push((model.claims, claim));
                }
                Step::Answer { which, place } if !claims.is_empty() => {
                    let (number, claim) = claims.swap_remove(which % claims.len());
                    claim.answer(first(place));
                    let of_claim = model.all().filter(|known| known.claim == number);
                    of_claim.for_each(|known| known.place = Some(place));
                }
                Step::LetGo { which } if !claims.is_empty() => {
                    let (number, _) = claims.swap_remove(which % claims.len());
                    model.retain(|known| known.claim != number);
                }
                Step::Answer { .. } | Step::LetGo { .. } => {}
                Step::Forget { key: number, from } => {
                    let key = key(&format!("k{number}"));
                    repeats.forget(&tenant(), Verb::Use, &key, |place| *place >= from);
                    model.retain(|known| {
                        known.key != number || known.place.is_none_or(|place| place < from)
                    });
                }
            }
            prop_assert!(repeats.len() <= 2 * generation_max);
        }
    }
}
