//! What a floor would free of a table: a few steps, kept in its meta.

use crate::Timestamp;
use crate::format::{DecodeError, Decoder, Encode};

/// How many bytes of a table a floor would free: retention drives compaction by it.
///
/// At most [`Freeable::STEPS`] steps, and conservative: it never says more than what was added at or below the floor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Freeable {
    /// (timestamp, bytes that a floor there frees), both strictly ascending.
    steps: Vec<(Timestamp, u64)>,
}

impl Freeable {
    pub(crate) const STEPS: usize = 32;

    /// What a builder makes of these bytes, each with the least floor that frees them.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of(freed: impl IntoIterator<Item = (Timestamp, u64)>) -> Self {
        let mut builder = FreeableBuilder::default();
        let mut sum = 0;
        for (timestamp, bytes) in freed {
            builder.add(timestamp, bytes);
            sum += bytes;
        }
        builder.finish(sum, sum)
    }

    /// How many bytes a floor at `floor` frees.
    pub(crate) fn at(&self, floor: Timestamp) -> u64 {
        let after = self.steps.partition_point(|(timestamp, _)| *timestamp <= floor);
        after.checked_sub(1).and_then(|last| self.steps.get(last)).map_or(0, |(_, bytes)| *bytes)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.steps.len() as u64);
        let mut before = (0, 0);
        for step in &self.steps {
            out.put_varint(step.0 - before.0);
            out.put_varint(step.1 - before.1);
            before = *step;
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = from.varint_usize()?;
        if count > Self::STEPS {
            return Err(from.error("too many steps of freeable bytes"));
        }
        let mut steps = Vec::with_capacity(count);
        let mut step = (0u64, 0u64);
        for i in 0..count {
            let (timestamp, bytes) = (from.varint()?, from.varint()?);
            let next = step.0.checked_add(timestamp).zip(step.1.checked_add(bytes));
            step = next.ok_or(from.error("steps of freeable bytes overflow"))?;
            if (timestamp == 0 && i > 0) || bytes == 0 {
                return Err(from.error("steps of freeable bytes do not rise"));
            }
            steps.push(step);
        }
        Ok(Self { steps })
    }
}

/// Collects what floors would free, in constant memory.
#[derive(Debug, Default)]
pub(crate) struct FreeableBuilder {
    /// (timestamp, bytes that become free there), unsorted; summed up when it is full.
    pending: Vec<(Timestamp, u64)>,
}

impl FreeableBuilder {
    const PENDING: usize = 2048;
    /// What pending steps are merged to on the way: finer than the result, so that repeated merging costs little
    /// precision.
    const MERGED: usize = 512;

    /// A floor at or above `timestamp` frees `bytes` (more).
    pub(crate) fn add(&mut self, timestamp: Timestamp, bytes: u64) {
        if bytes > 0 {
            self.pending.push((timestamp, bytes));
            if self.pending.len() >= Self::PENDING {
                self.merge(Self::MERGED);
            }
        }
    }

    /// `raw`: the bytes of everything, in the measure of what was added; `bytes`: what they became in the file.
    pub(crate) fn finish(mut self, bytes: u64, raw: u64) -> Freeable {
        self.merge(Freeable::STEPS);
        let mut steps: Vec<(Timestamp, u64)> = Vec::with_capacity(self.pending.len());
        let mut sum = 0u64;
        for (timestamp, added) in self.pending {
            sum = sum.saturating_add(added);
            let scaled = u128::from(sum) * u128::from(bytes) / u128::from(raw.max(1));
            let scaled = u64::try_from(scaled).unwrap_or(u64::MAX);
            if steps.last().map_or(0, |step| step.1) < scaled {
                steps.push((timestamp, scaled));
            }
        }
        Freeable { steps }
    }

    /// Sorts, and merges neighbours into at most `limit` steps of about equal bytes. A merged step stands at the
    /// greatest of its timestamps.
    fn merge(&mut self, limit: usize) {
        self.pending.sort_unstable();
        self.pending.dedup_by(|later, step| {
            let same = later.0 == step.0;
            if same {
                step.1 = step.1.saturating_add(later.1);
            }
            same
        });
        if self.pending.len() <= limit {
            return;
        }
        let total = self.pending.iter().fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let share = total.div_ceil(limit as u64);
        self.pending.dedup_by(|later, step| {
            let merges = step.1 < share;
            if merges {
                *step = (later.0, step.1.saturating_add(later.1));
            }
            merges
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freeable_bytes_are_exact_while_few_and_conservative_when_merged() {
        let few = Freeable::of([(9, 100), (7, 50)]);
        assert_eq!([6, 7, 8, 9, u64::MAX].map(|floor| few.at(floor)), [0, 50, 50, 150, 150]);
        let mut builder = FreeableBuilder::default();
        let count = 100_000u64;
        for i in 0..count {
            builder.add((i * 7919) % count + 1, 10);
        }
        assert!(builder.pending.capacity() <= 2 * FreeableBuilder::PENDING);
        let merged = builder.finish(count * 10, count * 10);
        assert!(merged.steps.len() <= Freeable::STEPS);
        for floor in (0..=count).step_by(997) {
            let (said, exact) = (merged.at(floor), floor * 10);
            assert!(said <= exact, "says {said} of {exact}");
            assert!(exact - said <= count * 10 / 12, "says only {said} of {exact}");
        }
        assert_eq!(merged.at(count), count * 10);
    }
}
