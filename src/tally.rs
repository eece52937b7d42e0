//! Counting from many threads. Each counts in a line of its own, as far as there are: readers do not wait for each
//! other's cache lines.

use std::fmt;

use crate::sync::{AtomicU64, Ordering, ProcessCount};

const STRIPES: usize = 16;
static NEXT_STRIPE: ProcessCount = ProcessCount::new(0);

thread_local! {
    static STRIPE: usize =
        usize::try_from(NEXT_STRIPE.fetch_add(1, Ordering::Relaxed) % STRIPES as u64).unwrap_or(0);
}

#[derive(Default)]
#[repr(align(128))]
struct Line([AtomicU64; 2]);

/// Two counts: how often something paid off, and how often not.
#[derive(Default)]
pub(crate) struct Tally([Line; STRIPES]);

impl Tally {
    pub(crate) fn count(&self, hit: bool) {
        add(&self.0, usize::from(!hit), 1);
    }

    pub(crate) fn hits(&self) -> u64 {
        sum(&self.0, 0)
    }

    pub(crate) fn misses(&self) -> u64 {
        sum(&self.0, 1)
    }
}

/// A sum, which wraps.
#[derive(Default)]
pub(crate) struct Sum([Line; STRIPES]);

impl Sum {
    pub(crate) fn add(&self, number: u64) {
        add(&self.0, 0, number);
    }

    pub(crate) fn get(&self) -> u64 {
        sum(&self.0, 0)
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

fn add(lines: &[Line; STRIPES], which: usize, number: u64) {
    // A thread that ends may have let go of it.
    let stripe = STRIPE.try_with(|stripe| *stripe).unwrap_or(0);
    if let Some(count) = lines.get(stripe).and_then(|line| line.0.get(which)) {
        count.fetch_add(number, Ordering::Relaxed);
    }
}

fn sum(lines: &[Line; STRIPES], which: usize) -> u64 {
    let counts = lines.iter().filter_map(|line| line.0.get(which));
    counts.fold(0, |sum, count| sum.wrapping_add(count.load(Ordering::Relaxed)))
}
