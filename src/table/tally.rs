//! Counting how often something paid off, from many threads.

use crate::sync::{AtomicU64, Ordering, ProcessCount};

/// Two counts. Threads count in lines of their own, as far as there are: readers do not wait for each other's cache
/// lines.
#[derive(Default)]
pub(crate) struct Tally {
    stripes: [Stripe; STRIPES],
}

#[derive(Default)]
#[repr(align(128))]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
}

const STRIPES: usize = 16;
static NEXT_STRIPE: ProcessCount = ProcessCount::new(0);

thread_local! {
    static STRIPE: usize =
        usize::try_from(NEXT_STRIPE.fetch_add(1, Ordering::Relaxed) % STRIPES as u64).unwrap_or(0);
}

impl Tally {
    pub(crate) fn count(&self, hit: bool) {
        if let Some(stripe) = self.stripes.get(STRIPE.with(|stripe| *stripe)) {
            let counter = if hit { &stripe.hits } else { &stripe.misses };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn hits(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.hits.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn misses(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.misses.load(Ordering::Relaxed)).sum()
    }
}
