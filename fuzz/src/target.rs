//! One target: its inputs, and what has to hold for each.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io::Write,
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::{
    corpus, memory,
    mutation::{Input, Mutations},
    panics,
};

/// Set for a long run: inputs that are answered in a new way are bred from, and kept.
const GROW: &str = "FUZZ_GROW";
/// Longest that one input may take: a thousand times what the slowest takes, for busy machines. A
/// parser that needs more hangs.
const INPUT_MAX: Duration = Duration::from_secs(20);
/// How long a failing input is made smaller.
const SHRINK_MAX: Duration = Duration::from_secs(5);

/// Inputs of all targets of this process.
static INPUTS: AtomicUsize = AtomicUsize::new(0);

/// How an input was answered, in few words: `accepted`, or which refusal.
pub type Answer = String;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its folder in `corpus`.
    pub name: &'static str,
    /// Inputs of a run, beside the corpus; `BOLERO_RANDOM_ITERATIONS` says otherwise.
    pub inputs: usize,
    /// Longest input, bytes.
    pub bytes_max: usize,
    /// What an input may have allocated at a time: so many bytes, and so many for each of its own.
    pub memory_max: (usize, usize),
}

impl Target {
    /// Checks every input of the corpus, of `seeds`, and mutations of both.
    ///
    /// # Panics
    ///
    /// When `check` does, when anything else does meanwhile, or when an input takes too much time or
    /// memory.
    pub fn run(self, seeds: Vec<Vec<u8>>, check: impl Fn(&[u8]) -> Answer) {
        let parents = [corpus::read(self.name), seeds].concat();
        assert!(!parents.is_empty(), "{} has no corpus", self.name);
        let run = Run {
            target: self,
            grows: std::env::var_os(GROW).is_some(),
            parents: Rc::new(RefCell::new(parents.clone())),
            answers: RefCell::default(),
            has_replayed: Cell::default(),
            check,
        };
        let mutations = Mutations { parents: run.parents.clone(), bytes_max: self.bytes_max };
        let run = AssertUnwindSafe(run);
        bolero::check!(name = self.name)
            .with_iterations(self.inputs)
            .with_shrink_time(SHRINK_MAX)
            .with_max_len(64 << 10)
            .with_generator(mutations)
            .for_each(|input: &Input| {
                let run = &run;
                // From within bolero, whose hook hides panics from those before it.
                panics::watch();
                if !run.has_replayed.replace(true) {
                    parents.iter().for_each(|parent| run.one(parent));
                }
                run.one(&input.0);
            });
        run.told();
    }
}

struct Run<C> {
    target: Target,
    grows: bool,
    parents: Rc<RefCell<Vec<Vec<u8>>>>,
    /// How often each answer was given.
    answers: RefCell<BTreeMap<Answer, usize>>,
    /// Whether the corpus has been replayed.
    has_replayed: Cell<bool>,
    check: C,
}

impl<C: Fn(&[u8]) -> Answer> Run<C> {
    fn one(&self, input: &[u8]) {
        let (panicked, began) = (panics::concerning_this_test(), Instant::now());
        let noted = Noted { target: self.target.name, input };
        let (answer, bytes) = memory::peak_of(|| (self.check)(input));
        let (took, panicked) = (began.elapsed(), panics::concerning_this_test() - panicked);
        assert_eq!(panicked, 0, "something panicked and was caught");
        assert!(took < INPUT_MAX, "it took {took:?}");
        let (base, each) = self.target.memory_max;
        let bytes_max = base + each * input.len();
        assert!(bytes <= bytes_max, "{bytes} bytes were allocated for {}", input.len());
        std::mem::forget(noted);
        INPUTS.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.borrow_mut();
        let times = answers.entry(answer).or_default();
        *times += 1;
        if *times == 1 && self.grows {
            self.parents.borrow_mut().push(input.to_vec());
            corpus::keep(self.target.name, "new", answers.len(), input);
        }
    }

    fn told(&self) {
        let answers = self.answers.borrow();
        let inputs: usize = answers.values().sum();
        // Past the capture of the test harness: a run's figures are worth seeing when it passes.
        let _ = writeln!(
            std::io::stderr(),
            "fuzz {}: {inputs} inputs, {} kinds of answers; of all targets so far: {} inputs, {} \
             panics",
            self.target.name,
            answers.len(),
            INPUTS.load(Ordering::Relaxed),
            panics::count(),
        );
    }
}

/// Keeps its input when it is dropped, which it is when the check fails.
struct Noted<'a> {
    target: &'static str,
    input: &'a [u8],
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let path = corpus::keep(self.target, "failed", 0, self.input);
        let _ = writeln!(std::io::stderr(), "fuzz {}: see {}", self.target, path.display());
    }
}
