//! What may come of damage: worked out from which bytes of which file are other ones, and from what those bytes meant.
//!
//! | damaged | opens | answers |
//! | --- | --- | --- |
//! | a table that is gone | yes | right, or `Io` (`NotFound`) of that table; `verify` finds it |
//! | a table | yes | right, or `Corruption` of that table; `verify` finds it |
//! | `CURRENT`, or what there was of the manifest | no: `Corruption` | |
//! | bytes behind the end of the manifest | yes | right: a torn edit was never acknowledged |
//! | the log, where nothing needs it, or behind its end | yes | right |
//! | the log, below what the rest proves synced | no: `Corruption` | |
//! | the log, above what the rest proves synced | yes | exactly the commits before the damage |

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Files;
use super::anatomy::{Anatomy, Known, RECORD_HEADER, SEGMENT_HEADER, Segment};

/// Other contents of some files; `None`: the file is gone.
pub type Damaged = BTreeMap<String, Option<Arc<Vec<u8>>>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub opens: bool,
    /// So many commits from the first on are there.
    pub commits: usize,
    /// Whether no byte of what is read is another one.
    pub sound: bool,
    /// Whether bytes of the log are other ones that tables cover: `verify` reads them as well, if a writer has the
    /// database open.
    pub covered: bool,
}

impl Verdict {
    /// `commits`: how many there are in the whole database.
    pub fn of(files: &Files, anatomy: &Anatomy, commits: usize, damaged: &Damaged) -> Self {
        let mut verdict = Self { opens: true, commits, sound: true, covered: false };
        for (name, bytes) in damaged {
            // A file that was not there: an old one that has come back.
            let Some(whole) = files.get(name) else { continue };
            if bytes.as_ref() == Some(whole) {
                continue;
            }
            match name.rsplit('.').next().unwrap_or(name) {
                "CURRENT" => verdict.opens = false,
                "manifest" => verdict.opens &= bytes.as_ref().is_some_and(|bytes| bytes.starts_with(whole)),
                "table" => verdict.sound = false,
                _ => {}
            }
        }
        let log = Log { files, segments: &anatomy.segments, known: &anatomy.known, damaged };
        verdict.covered = log.is_hurt_where_covered();
        match log.ending() {
            Ending::Whole => {}
            Ending::Before(lost) => verdict.commits -= lost,
            Ending::Refused => verdict.opens = false,
        }
        verdict
    }
}

enum Ending {
    Whole,
    /// So many commits are cut off.
    Before(usize),
    Refused,
}

struct Log<'a> {
    files: &'a Files,
    segments: &'a [Segment],
    known: &'a Known,
    damaged: &'a Damaged,
}

impl Log<'_> {
    /// Whether bytes of a segment are other ones.
    fn is_hurt(&self, segment: &Segment, from: usize, to: usize) -> bool {
        match self.damaged.get(&segment.name) {
            None => false,
            Some(None) => true,
            Some(Some(bytes)) => bytes.get(from..to) != self.files[&segment.name].get(from..to),
        }
    }

    /// The segments that are read, and up to which position each counts.
    fn live(&self) -> Vec<(&Segment, u64)> {
        let mut live: Vec<(&Segment, u64)> = Vec::new();
        for segment in self.segments {
            let dead = |cut: &super::anatomy::Cut| cut.ordinal < segment.ordinal && segment.ordinal < cut.next_ordinal;
            if segment.ordinal < self.known.start_ordinal || self.known.cuts.iter().any(dead) {
                continue;
            }
            let cut = self.known.cuts.iter().filter(|cut| cut.ordinal == segment.ordinal).map(|cut| cut.end).min();
            live.push((segment, cut.unwrap_or(u64::MAX)));
        }
        let needless = live.iter().skip(1).take_while(|(next, _)| next.start <= self.known.start).count();
        live.drain(..needless);
        live
    }

    fn is_hurt_where_covered(&self) -> bool {
        let covered = |segment: &Segment| {
            let len = usize::try_from(self.known.start.saturating_sub(segment.start)).unwrap_or(usize::MAX);
            (SEGMENT_HEADER + len).min(segment.records_end())
        };
        self.live().iter().any(|(segment, _)| self.is_hurt(segment, SEGMENT_HEADER, covered(segment)))
    }

    fn ending(&self) -> Ending {
        let live = self.live();
        let needed = |position: u64, end: u64, limit: u64| position >= self.known.start && end <= limit;
        // Where the log ends for those who read it: a position, and the ordinal that should come next.
        let mut ends = None;
        let mut proved = self.known.start.max(self.known.proved);
        let mut lost = 0;
        let mut before = None;
        for (segment, limit) in live {
            let headless = self.is_hurt(segment, 0, SEGMENT_HEADER);
            if headless {
                let position = segment.start.max(self.known.start);
                let next = before.map_or(self.known.start_ordinal, |_| segment.ordinal);
                ends = ends.or(Some((position, next)));
            } else {
                proved = proved.max(segment.synced);
            }
            for record in &segment.records {
                let end = segment.start + (record.end - SEGMENT_HEADER) as u64;
                if !needed(record.position, end, limit) {
                    continue;
                }
                if ends.is_none() && self.is_hurt(segment, record.offset, record.end) {
                    ends = Some((record.position, segment.ordinal + 1));
                }
                if !self.is_hurt(segment, record.offset, record.offset + RECORD_HEADER) {
                    proved = proved.max(record.synced);
                }
                lost += usize::from(ends.is_some() && record.kind == 1);
            }
            before = Some(segment);
        }
        match ends {
            None => Ending::Whole,
            Some((position, next)) if position < proved || next <= self.known.proved_ordinal => Ending::Refused,
            Some(_) => Ending::Before(lost),
        }
    }
}
