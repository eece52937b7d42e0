//! A log that is written, loses power and goes on; at last its files are damaged.

use std::path::Path;

use super::recovery::{Commit, DIR, env, expectation, fresh_state, go_on, mark, new_fs, path_of, replay};
use crate::Error;
use crate::format::FileNumber;
use crate::fs::Fs;
use crate::fs::{MemFs, PowerCut, Purpose};
use crate::fuzzing::{Choices, damage};
use crate::log::{COMMIT, Log, LogPosition, LogStart};
use crate::manifest::ManifestState;
use crate::sync::{Arc, AtomicU64, Ordering};

struct Life {
    fs: MemFs,
    segment_bytes: u64,
    numbers: Arc<AtomicU64>,
    /// Durable at once.
    state: ManifestState,
    log: Log,
    /// What may still be there; what lies before `synced` must.
    commits: Vec<Commit>,
    synced: LogPosition,
}

/// Lives as the first piece says, and is damaged as the second does.
pub(super) fn live(pieces: &[&[u8]]) -> usize {
    let mut choices = Choices::new(pieces[0]);
    let (fs, numbers) = (new_fs(), Arc::new(AtomicU64::new(1)));
    let segment_bytes = choices.one_of(&[100, 160, 400]);
    let begin = LogStart { ordinal: 1, position: LogPosition(0) };
    let log = Log::create(env(&fs, segment_bytes, &numbers), begin, Vec::new()).unwrap();
    let (commits, synced) = (Vec::new(), LogPosition(0));
    let mut life = Life { fs, segment_bytes, numbers, state: fresh_state(), log, commits, synced };
    for _ in 0..32 {
        if choices.is_empty() {
            break;
        }
        life.step(&mut choices);
    }
    life.end(&mut Choices::new(pieces.get(1).copied().unwrap_or_default()))
}

impl Life {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0..=6 => {
                let payload = vec![choices.byte(); choices.below(70)];
                let position = self.log.end();
                let end = self.log.append(COMMIT, 0, &[&payload]).unwrap();
                self.commits.push(Commit { position, end, payload });
            }
            7 | 8 => {
                self.log.sync_through(self.log.end()).unwrap();
                self.synced = self.log.end();
            }
            9 => drop(self.log.mark_manifest(&mark(self.log.end().0)).unwrap()),
            10 => self.log.rotate().unwrap(),
            11 => {
                // What the manifest learns when memtables are flushed.
                self.log.sync_through(self.log.end()).unwrap();
                self.synced = self.log.end();
                let needed = self.commits.get(choices.below(self.commits.len().max(1)));
                let start = self.log.start_at(needed.map_or(self.log.end(), |commit| commit.position));
                if start.position.0 >= self.state.log.start_position {
                    (self.state.log.start_ordinal, self.state.log.start_position) = (start.ordinal, start.position.0);
                    self.state.log.cuts.retain(|cut| cut.next_ordinal > start.ordinal);
                    self.state.log.proved = self.log.proof();
                    self.log.remove_before(start).unwrap();
                }
            }
            12 => self.state.log.proved = self.log.proof(),
            13 => {
                self.fs = self.fs.kill();
                self.recover();
            }
            _ => {
                let seed = choices.byte();
                let cut = match seed % 4 {
                    0 => PowerCut::Lose,
                    1 => PowerCut::Keep,
                    _ => PowerCut::Random(seed.into()),
                };
                self.fs = self.fs.power_cut(cut);
                self.recover();
            }
        }
    }

    /// The commits from the start on that is needed.
    fn needed(&self) -> &[Commit] {
        let from = self.commits.partition_point(|commit| commit.position.0 < self.state.log.start_position);
        &self.commits[from..]
    }

    fn recover(&mut self) {
        let (recovered, found) = replay(&self.fs, &expectation(&self.state)).expect("no power cut is damage");
        let needed = self.needed();
        assert!(found.len() <= needed.len() && found == needed[..found.len()], "a prefix (S21)");
        // Marks behind the last commit count for nothing, so the log may end before them.
        let promised = needed.partition_point(|commit| commit.end <= self.synced);
        assert!(found.len() >= promised, "with all that was synced (S21)");
        let end = recovered.end;
        self.commits.retain(|commit| commit.end <= end);
        let env = env(&self.fs, self.segment_bytes, &self.numbers);
        (self.state, self.log) = go_on(env, &self.fs, &self.state, &recovered);
        self.synced = end;
    }

    /// Damages one file: what is replayed then is a prefix, and holds all that is still proved, or it is corruption.
    fn end(self, choices: &mut Choices<'_>) -> usize {
        let numbers: Vec<_> = (1..self.numbers.load(Ordering::Relaxed)).map(FileNumber).collect();
        let there: Vec<_> = numbers.into_iter().filter(|number| self.fs.read_file(path_of(*number)).is_ok()).collect();
        let victim = path_of(there[choices.below(there.len())]);
        let mut file = self.fs.read_file(&victim).unwrap();
        let len = file.len() * there.len();
        if choices.once_in(8) {
            self.fs.remove(Purpose::Log, &victim).unwrap();
        } else {
            damage(&mut file, choices);
            self.fs.write_file(&victim, file).unwrap();
        }
        match replay(&self.fs, &expectation(&self.state)) {
            Ok((recovered, found)) => {
                let needed = self.needed();
                assert!(found.len() <= needed.len() && found == needed[..found.len()], "a prefix (S28)");
                assert!(recovered.end >= self.state.log.proved.position, "with all that is proved (S28)");
            }
            Err(Error::Corruption { path, .. }) => assert!(path == victim || path == Path::new(DIR)),
            Err(other) => panic!("neither a log nor corruption: {other}"),
        }
        len
    }
}
