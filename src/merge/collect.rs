//! The merge that flushes and compactions write out: several sources become one, without what retention lets go.
//!
//! # What is dropped, and why no read notices
//!
//! Reads that are promised an answer stand at the floor F or above it, or at a live snapshot. `decide` has the rules;
//! the argument goes by the versions of one key, range tombstones over it among them.
//!
//! * **Replaced.** Of one timestamp the version that arrived last stays (T1). A point and a range tombstone of one
//!   timestamp both stay if the point arrived last, for in one file the point counts; else only the range tombstone
//!   does.
//! * **R2.** Let `v` be dropped because of the next newer `n <= F` in this merge. Reads at or above `n` see `n` or
//!   something newer; reads below `v` never saw it; none stands between. That holds wherever else versions of the key
//!   lie and in whatever order they came: only timestamps were used. If `n` goes by R2 as well, the same holds of the
//!   next newer one, up to the newest one in the merge at or below F, which only R3 can take. A version outside that
//!   `v` had replaced, or hidden, is hidden by `n` too; so while it exists `n` is not taken by R3.
//! * **R3.** Let `d` be the newest in the merge at or below F, dead there. Nothing at or below `d` is outside, and no
//!   snapshot is below, so by R2 this merge keeps nothing older. Reads at or above F, and snapshots at or above `d`,
//!   saw `d` (nothing: it is dead for them) or something newer, which is untouched; afterwards they see nothing, or
//!   that. No version at or below F arrives later (R1).
//! * **Late commits** change none of this: a version outside with a timestamp between `d` and F is newer than `d`
//!   whatever source it is in; one at or below `d` is outside, and then `d` stays. `Outside` counts equal timestamps,
//!   since `d` may be what replaces such a version.
//! * **Range tombstones** are decided for each piece of the key space in which the same ones lie over each other, as
//!   the versions of a key that are all ranges. Points under one that goes by R3 are gone by R2, as `d` shows; a point
//!   of its own timestamp that arrived later hides it anyway. R3 is asked for parts of the piece, and what no source
//!   outside can reach is cut off. A dead point that goes may bring an older range tombstone to light, which is just as
//!   dead.
//! * **Lookups that end early (T2)** rely on the `late` bits of what stays, which are copied: that a version is not
//!   late says something of what arrived before it, wherever that is now. Where one range tombstone stands for several
//!   of its timestamp it is the last to arrive, and later bits are the more careful ones.
//!
//! The sources of a merge must be neighbours in the order of arrival, for every key; what comes out takes the place of
//! the oldest.
//!
//! # What it costs
//!
//! The versions of a key are streamed; a key that stands in one source goes through without a copy of its values. Once
//! nothing older can stay, the rest of a key is not read at all.

use super::MergingCursor;
use super::decide::{Content, RetentionRules, Verdict};
use super::ranges::{MergedRanges, Piece, SourceRanges};
use super::versions::{Arrival, KeyVersions};
use crate::version::{Fragment, KeyCursor, Stamp, VersionRef};
use crate::{Result, Slice, Timestamp};

/// What lies outside a merge: every other source of the keyspace, memtables included. Answers may be too careful
/// (`true`, wider spans), never too bold.
pub(crate) trait Outside {
    /// Whether a source outside can hold a version of `key` at or below a timestamp.
    fn may_hold(&self, key: &[u8], at_or_below: Timestamp) -> Result<bool>;

    /// The parts of the keys from `start` up to `end` (exclusive; `None`: to the last key) of which a source outside
    /// can hold a version at or below a timestamp; in any order, and they may overlap.
    fn spans(&self, start: &[u8], end: Option<&[u8]>, at_or_below: Timestamp) -> Result<Vec<(Slice, Option<Slice>)>>;
}

/// Where the merge goes: a row of files.
pub(crate) trait Output {
    /// Keys ascend; each has at least one version, newest first, timestamps descending.
    fn begin_key(&mut self, key: &[u8]) -> Result<()>;
    fn version(&mut self, version: VersionRef<'_>) -> Result<()>;
    fn end_key(&mut self) -> Result<()>;
    /// Fragments ascend and do not overlap; they come some time after the keys in them, before the next cut.
    fn range_tombstones(&mut self, fragment: &Fragment) -> Result<()>;
    /// Whether the file should end before `next_key`, which ascends from call to call.
    fn should_cut(&mut self, next_key: &[u8]) -> bool;
    /// Ends a file that was written to. All that follows lies at or after the key that was last asked about; nothing
    /// before reaches it (T3).
    fn cut(&mut self) -> Result<()>;
}

/// What is to be merged.
pub(crate) struct CollectInput<S> {
    /// Newest first.
    pub(crate) sources: Vec<S>,
    /// The range tombstones of each source.
    pub(crate) ranges: Vec<SourceRanges>,
    /// Only keys at or after it.
    pub(crate) lower: Slice,
    /// Only keys before it; `None`: to the last.
    pub(crate) upper: Option<Slice>,
}

/// What a merge did. Versions that it could tell unread to be droppable are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CollectStats {
    pub(crate) keys_in: u64,
    pub(crate) keys_out: u64,
    pub(crate) versions_in: u64,
    pub(crate) versions_out: u64,
    /// Of keys (once each) and values.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Each stamp of each fragment.
    pub(crate) range_tombstones_in: u64,
    pub(crate) range_tombstones_out: u64,
}

impl CollectStats {
    /// Whether less came out than went in.
    pub(crate) fn has_dropped(&self) -> bool {
        self.versions_out < self.versions_in || self.range_tombstones_out < self.range_tombstones_in
    }
}

/// After how many keys, and versions of one key, `progress` is called.
const PROGRESS_STEP: u64 = 256;

/// Merges `input` into `output`. The last file is left for the caller to end. `progress` is called every now and then;
/// an error from it ends the merge.
pub(crate) fn collect<S: KeyCursor>(
    input: CollectInput<S>,
    rules: &RetentionRules,
    outside: &dyn Outside,
    output: &mut dyn Output,
    progress: &mut dyn FnMut(&CollectStats) -> Result<()>,
) -> Result<CollectStats> {
    let mut pieces = MergedRanges::new(input.ranges, input.lower.clone(), input.upper.clone());
    let mut keys = MergingCursor::new(input.sources);
    let mut versions = KeyVersions::default();
    let mut collector = Collector {
        rules,
        outside,
        output,
        progress,
        stats: CollectStats::default(),
        key: Vec::new(),
        written: false,
        piece: pieces.next_piece(),
        pieces,
        held: None,
    };
    keys.seek(&input.lower)?;
    while let Some(key) = keys.key().filter(|key| input.upper.as_deref().is_none_or(|upper| *key < upper)) {
        collector.begin(key)?;
        let mut writer = KeyWriter::new(&mut collector);
        match keys.parts() {
            (sources, &[only]) => {
                #[expect(clippy::indexing_slicing, reason = "`parts` numbers the sources that it gives")]
                let source = &mut sources[only];
                let mut version = source.version_at(Timestamp::MAX)?;
                while let Some(found) = version
                    && writer.offer(only, found)?
                {
                    version = source.older_version()?;
                }
            }
            (sources, on_key) => {
                versions.start(sources, on_key, Timestamp::MAX)?;
                while let Some((arrival, version)) = versions.newest()
                    && writer.offer(arrival.source, version.as_version_ref())?
                {
                    versions.step_below(sources, arrival.stamp.timestamp)?;
                }
            }
        }
        writer.finish()?;
        keys.next()?;
    }
    collector.finish()
}

struct Collector<'a> {
    rules: &'a RetentionRules,
    outside: &'a dyn Outside,
    output: &'a mut dyn Output,
    progress: &'a mut dyn FnMut(&CollectStats) -> Result<()>,
    stats: CollectStats,
    /// The last key that was begun; empty before.
    key: Vec<u8>,
    /// Whether anything was written since the last cut.
    written: bool,
    /// The first piece that does not end by the current key, without what was written of it.
    piece: Option<Piece>,
    pieces: MergedRanges,
    /// The last fragment, not written yet: the next may prolong it.
    held: Option<Fragment>,
}

impl Collector<'_> {
    /// Brings everything before `key` behind, cuts if wanted, and makes it the current key.
    fn begin(&mut self, key: &[u8]) -> Result<()> {
        self.write_pieces_before(Some(key))?;
        self.may_cut(key)?;
        self.key.clear();
        self.key.extend_from_slice(key);
        self.stats.keys_in += 1;
        self.stats.bytes_in += key.len() as u64;
        if self.stats.keys_in.is_multiple_of(PROGRESS_STEP) { (self.progress)(&self.stats) } else { Ok(()) }
    }

    fn finish(mut self) -> Result<CollectStats> {
        self.write_pieces_before(None)?;
        self.release_held()?;
        Ok(self.stats)
    }

    /// Writes the pieces that end by `key`; `None`: all.
    fn write_pieces_before(&mut self, key: Option<&[u8]>) -> Result<()> {
        let ends_by = |piece: &Piece| match (key, piece.end.as_deref()) {
            (None, _) => true,
            (Some(key), Some(end)) => end <= key,
            (Some(_), None) => false,
        };
        while let Some(piece) = self.piece.take_if(|piece| ends_by(piece)) {
            // A key in the piece may have been written already; then it cannot begin a file.
            if *piece.start > *self.key {
                self.may_cut(&piece.start)?;
            }
            self.write_piece(&piece)?;
            self.piece = self.pieces.next_piece();
        }
        Ok(())
    }

    /// Asks whether to cut before `key`, and does; a piece that reaches over it is split there.
    fn may_cut(&mut self, key: &[u8]) -> Result<()> {
        if !self.output.should_cut(key) {
            return Ok(());
        }
        if let Some(mut piece) = self.piece.take_if(|piece| *piece.start < *key) {
            let boundary = Slice::copy_of(key);
            let after = piece.end.replace(boundary.clone());
            self.write_piece(&piece)?;
            self.piece = Some(Piece { start: boundary, end: after, stamps: piece.stamps });
        }
        self.release_held()?;
        if std::mem::take(&mut self.written) { self.output.cut() } else { Ok(()) }
    }

    fn write_piece(&mut self, piece: &Piece) -> Result<()> {
        let mut kept: Vec<Stamp> = Vec::with_capacity(piece.stamps.len());
        let mut last = None;
        let mut newer = None;
        for Arrival { stamp, .. } in &piece.stamps {
            match self.rules.verdict(stamp.timestamp, newer, Content::Tombstone) {
                Verdict::Keep => kept.push(*stamp),
                Verdict::Drop => {}
                Verdict::DropIfLast => last = Some(*stamp),
            }
            newer = Some(stamp.timestamp);
        }
        self.stats.range_tombstones_in += piece.stamps.len() as u64;
        let Some(last) = last else { return self.write_fragment(piece.start.clone(), piece.end.clone(), kept) };
        // R3: nothing older than `last` was kept, so it is the oldest where it stays.
        let mut spans = self.outside.spans(&piece.start, piece.end.as_deref(), last.timestamp)?;
        spans.sort_unstable();
        let with_last: Vec<Stamp> = kept.iter().copied().chain([last]).collect();
        let mut start = Some(piece.start.clone());
        for (from, to) in spans {
            let Some(done) = start.take() else { break };
            let from = from.max(done.clone());
            let to = match (to, piece.end.clone()) {
                (Some(to), Some(end)) => Some(to.min(end)),
                (to, end) => to.or(end),
            };
            if to.as_ref().is_some_and(|to| *to <= from) {
                start = Some(done);
                continue;
            }
            self.write_fragment(done, Some(from.clone()), kept.clone())?;
            self.write_fragment(from, to.clone(), with_last.clone())?;
            start = to;
        }
        match start {
            Some(start) => self.write_fragment(start, piece.end.clone(), kept),
            None => Ok(()),
        }
    }

    fn write_fragment(&mut self, start: Slice, end: Option<Slice>, stamps: Vec<Stamp>) -> Result<()> {
        if stamps.is_empty() || end.as_ref().is_some_and(|end| *end <= start) {
            return Ok(());
        }
        match &mut self.held {
            Some(held) if held.end.as_ref() == Some(&start) && same(&held.stamps, &stamps) => held.end = end,
            _ => {
                self.release_held()?;
                self.held = Some(Fragment { start, end, stamps });
                self.written = true;
            }
        }
        Ok(())
    }

    fn release_held(&mut self) -> Result<()> {
        let Some(fragment) = self.held.take() else { return Ok(()) };
        self.stats.range_tombstones_out += fragment.stamps.len() as u64;
        self.output.range_tombstones(&fragment)
    }
}

/// Whether two fragments say the same; their sequences are of no use any more.
fn same(a: &[Stamp], b: &[Stamp]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a.timestamp, a.late) == (b.timestamp, b.late))
}

/// Decides and writes the versions of the current key.
struct KeyWriter<'c, 'a> {
    collector: &'c mut Collector<'a>,
    /// How many of the range tombstones over the key are newer than the last version.
    ranges_passed: usize,
    /// The timestamp of the last version, whether point or range tombstone, dropped or not.
    newer: Option<Timestamp>,
    begun: bool,
}

impl<'c, 'a> KeyWriter<'c, 'a> {
    fn new(collector: &'c mut Collector<'a>) -> Self {
        Self { collector, ranges_passed: 0, newer: None, begun: false }
    }

    /// Takes the next point, timestamps not ascending, of equal ones the last to arrive first. `false`: nothing older
    /// can stay.
    fn offer(&mut self, source: usize, version: VersionRef<'_>) -> Result<bool> {
        let collector = &mut *self.collector;
        let timestamp = version.stamp.timestamp;
        let bytes = version.value.map_or(0, |value| value.bytes.len() as u64);
        collector.stats.versions_in += 1;
        collector.stats.bytes_in += bytes;
        if collector.stats.versions_in.is_multiple_of(PROGRESS_STEP) {
            (collector.progress)(&collector.stats)?;
        }
        let ranges = match &collector.piece {
            Some(piece) if *piece.start <= *collector.key => piece.stamps.as_slice(),
            _ => &[],
        };
        let point = Arrival { source, stamp: version.stamp };
        while let Some(range) = ranges.get(self.ranges_passed)
            && (range.stamp.timestamp > timestamp || range.replaces(&point))
        {
            self.newer = Some(range.stamp.timestamp);
            self.ranges_passed += 1;
        }
        if self.newer == Some(timestamp) {
            return Ok(collector.rules.may_keep_below(timestamp));
        }
        let content = match version.value {
            Some(_) => Content::Value { expires_at: version.expires_at },
            None => Content::Tombstone,
        };
        let keep = match collector.rules.verdict(timestamp, self.newer, content) {
            Verdict::Keep => true,
            Verdict::Drop => false,
            Verdict::DropIfLast => collector.outside.may_hold(&collector.key, timestamp)?,
        };
        self.newer = Some(timestamp);
        if keep {
            if !self.begun {
                self.begun = true;
                collector.written = true;
                collector.stats.keys_out += 1;
                collector.stats.bytes_out += collector.key.len() as u64;
                collector.output.begin_key(&collector.key)?;
            }
            collector.stats.versions_out += 1;
            collector.stats.bytes_out += bytes;
            collector.output.version(version)?;
        }
        Ok(collector.rules.may_keep_below(timestamp))
    }

    fn finish(self) -> Result<()> {
        if self.begun { self.collector.output.end_key() } else { Ok(()) }
    }
}
