//! Tells many counters something: some at a time, and those again that do not answer, so that one
//! call that was lost does not mean to tell all of them anew.

use std::future::Future;

use futures::{StreamExt, TryStreamExt, stream};

/// Counters that are told at a time.
const AT_ONCE: usize = 32;
/// How often a counter is told that does not answer.
const TELLINGS_MAX: u32 = 3;
/// If so many in a row do not answer, none will: who is told may be away.
const SILENT_IN_A_ROW_MAX: usize = 2 * AT_ONCE;

/// What came of telling one of them.
pub enum Heard<T, A> {
    Answer(A),
    /// It may be told again.
    Silent(T),
}

/// The answers of all `whom`, in no order; `None`: some did not answer. Fails at once where telling one
/// does.
pub async fn tell_each<T, A, E, F>(
    mut whom: Vec<T>,
    tell: impl Fn(T) -> F,
) -> Result<Option<Vec<A>>, E>
where
    F: Future<Output = Result<Heard<T, A>, E>>,
{
    let mut answers = Vec::with_capacity(whom.len());
    for _ in 0..TELLINGS_MAX {
        let mut silent = vec![];
        let mut in_a_row = 0;
        let mut heard = stream::iter(whom).map(&tell).buffer_unordered(AT_ONCE);
        while let Some(one) = heard.try_next().await? {
            match one {
                Heard::Answer(answer) => {
                    answers.push(answer);
                    in_a_row = 0;
                }
                Heard::Silent(one) => {
                    silent.push(one);
                    in_a_row += 1;
                }
            }
            if in_a_row >= SILENT_IN_A_ROW_MAX {
                return Ok(None);
            }
        }
        if silent.is_empty() {
            return Ok(Some(answers));
        }
        whom = silent;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex};

    use super::*;

    /// Tells 1,000, each of which answers when it was told as often as `answers_at` says, and then
    /// with its own number; and how often each was told.
    async fn told(answers_at: impl Fn(u32) -> u32) -> (Option<Vec<u32>>, BTreeMap<u32, u32>) {
        let told = Mutex::new(BTreeMap::new());
        let answers = tell_each((0..1_000).collect(), |one: u32| {
            let mut told = told.lock().unwrap();
            let times = told.entry(one).or_default();
            *times += 1;
            let hears = *times >= answers_at(one);
            std::future::ready(Ok::<_, ()>(if hears {
                Heard::Answer(one)
            } else {
                Heard::Silent(one)
            }))
        });
        let answers = answers.await.unwrap();
        (answers, told.into_inner().unwrap())
    }

    #[tokio::test]
    async fn only_who_did_not_answer_is_told_again() {
        // Fewer than would be taken for all.
        let answers_at = |one| if one % 20 == 0 { TELLINGS_MAX } else { 1 };
        let (answers, told) = told(answers_at).await;
        let mut answers = answers.unwrap();
        answers.sort_unstable();
        assert!(answers.into_iter().eq(0..1_000));
        assert!(told.iter().all(|(one, times)| *times == answers_at(*one)), "{told:?}");
    }

    #[tokio::test]
    async fn who_never_answers_is_told_so_often_and_no_more() {
        let (answers, told) = told(|one| if one == 500 { u32::MAX } else { 1 }).await;
        assert_eq!(answers, None);
        assert_eq!((told.len(), told[&500]), (1_000, TELLINGS_MAX));
    }

    #[tokio::test]
    async fn when_nobody_answers_most_are_not_even_told() {
        let (answers, told) = told(|_| u32::MAX).await;
        assert_eq!(answers, None);
        assert!(told.len() < SILENT_IN_A_ROW_MAX + AT_ONCE + 1, "{}", told.len());
    }

    #[tokio::test]
    async fn what_fails_ends_it() {
        let tell =
            |one: u32| std::future::ready(if one == 3 { Err("3") } else { Ok(Heard::Answer(one)) });
        assert_eq!(tell_each((0..10).collect(), tell).await, Err("3"));
    }
}
