//! Where the outputs of a compaction are cut.
//!
//! Cuts prefer the edges of the level after the output's (grandparents), so that compacting an output later reads no
//! file of that level for a sliver. All cuts lie between keys (T3).

use super::CompactionOptions;
use super::job::Grandparent;

/// Decides where one output ends and the next begins.
#[derive(Debug)]
pub(crate) struct Splitter<'a> {
    target_file_bytes: u64,
    max_grandparent_bytes: u64,
    grandparents: &'a [Grandparent],
    /// How many grandparents end before the last key.
    passed: usize,
    /// How many grandparents begin at or before the last key.
    begun: usize,
    /// What the output that is being written overlaps of them.
    overlapped: u64,
    /// How many of their edges it has crossed.
    edges: u64,
}

impl<'a> Splitter<'a> {
    pub(crate) fn new(options: &CompactionOptions, grandparents: &'a [Grandparent]) -> Self {
        Self {
            target_file_bytes: options.target_file_bytes.max(1),
            max_grandparent_bytes: options.max_grandparent_bytes(),
            grandparents,
            passed: 0,
            begun: 0,
            overlapped: 0,
            edges: 0,
        }
    }

    /// Whether the output, which has `bytes_so_far`, ends before `next_key`. To be asked before every key, in order,
    /// also before the first one.
    pub(crate) fn should_cut(&mut self, bytes_so_far: u64, next_key: &[u8]) -> bool {
        let before = self.passed;
        let ended = |grandparent: &&Grandparent| !grandparent.upper.admits(next_key);
        self.passed += self.rest(self.passed).iter().take_while(ended).count();
        let begun = |grandparent: &&Grandparent| *grandparent.smallest <= *next_key;
        let entered: u64 = self.rest(self.begun).iter().take_while(begun).map(|grandparent| grandparent.bytes).sum();
        self.begun += self.rest(self.begun).iter().take_while(begun).count();

        let crossed = self.passed > before;
        self.edges += u64::from(crossed);
        let overlapped = self.overlapped.saturating_add(entered);
        let too_wide = entered > 0 && overlapped > self.max_grandparent_bytes;
        let cut = bytes_so_far > 0
            && (bytes_so_far >= self.target_file_bytes || too_wide || (crossed && self.ends_well(bytes_so_far)));
        if cut || bytes_so_far == 0 {
            let within = self.grandparents.get(self.passed..self.begun).unwrap_or_default();
            (self.overlapped, self.edges) = (within.iter().map(|grandparent| grandparent.bytes).sum(), 0);
        } else {
            self.overlapped = overlapped;
        }
        cut
    }

    fn rest(&self, at: usize) -> &'a [Grandparent] {
        self.grandparents.get(at..).unwrap_or_default()
    }

    /// Whether this edge is a good end: half full at least, and at this pace over full at the next edge.
    fn ends_well(&self, bytes: u64) -> bool {
        let next_edge = bytes.saturating_add(bytes / self.edges.max(1));
        let half = self.target_file_bytes / 2;
        bytes >= half && (next_edge > self.target_file_bytes || bytes >= half.saturating_add(half / 5 * 4))
    }
}
