//! Any segments, and anything that a manifest may say of them: recovery says what is wrong, or gives a log that goes on.

use std::path::Path;

use super::life;
use super::parts::{seal, unseal};
use crate::format::{FileKind, FileNumber, parse_file_name};
use crate::fs::{Fs, MemFs, PowerCut, Purpose};
use crate::fuzzing::{Choices, pieces, pieces_of};
use crate::log::{
    COMMIT, Cut, Expectation, Log, LogEnv, LogPosition, LogStart, ManifestMark, Proof, Recovered, copy_tail, recover,
};
use crate::manifest::{Change, Edit, ManifestState};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::{Error, Result};

pub(super) const DIR: &str = "/db";

/// A replayed commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) position: LogPosition,
    pub(super) end: LogPosition,
    pub(super) payload: Vec<u8>,
}

/// The first byte says what the others are: what the manifest knows and the bytes of segments (0), the same to be sealed
/// (1), or choices that make a log, cut its power and damage it (2).
pub fn log(input: &[u8]) -> usize {
    let Some((mode, bytes)) = input.split_first() else { return 0 };
    if mode % 3 == 2 {
        return life::live(&pieces(bytes));
    }
    let pieces = pieces(bytes);
    let Some((knows, segments)) = pieces.split_first() else { return bytes.len() };
    let fs = new_fs();
    for (segment, number) in segments.iter().zip(1..) {
        let mut file = segment.to_vec();
        if mode % 3 == 1 {
            seal(&mut file, FileNumber(number));
        }
        fs.write_file(path_of(FileNumber(number)), file).unwrap();
    }
    check(fs, state_of(knows), segments.len() as u64 + 1);
    bytes.len()
}

pub(super) fn new_fs() -> MemFs {
    let fs = MemFs::new();
    fs.create_dir(Purpose::Directory, Path::new(DIR)).unwrap();
    fs
}

pub(super) fn path_of(number: FileNumber) -> std::path::PathBuf {
    FileKind::Log.path(Path::new(DIR), number)
}

/// What a manifest may know of the log: only states that edits can make.
fn state_of(knows: &[u8]) -> ManifestState {
    let mut choices = Choices::new(knows);
    let mut state = fresh_state();
    while !choices.is_empty() {
        let change = match choices.below(3) {
            0 => Change::LogStart { ordinal: choices.number(), position: choices.number() },
            1 => Change::LogProved(Proof { ordinal: choices.number(), position: LogPosition(choices.number()) }),
            _ => Change::LogCut(Cut {
                ordinal: choices.number(),
                end: LogPosition(choices.number()),
                next_ordinal: choices.number(),
            }),
        };
        let mut bytes = Vec::new();
        Edit::from(vec![change]).encode(&mut bytes);
        if let Ok(next) = Edit::decode(&bytes).map_err(drop).and_then(|edit| state.after(&edit).map_err(drop)) {
            state = next;
        }
    }
    state
}

pub(super) fn fresh_state() -> ManifestState {
    let mut state = ManifestState::default();
    state.log.start_ordinal = 1;
    state
}

pub(super) fn expectation(state: &ManifestState) -> Expectation {
    let start = LogStart { ordinal: state.log.start_ordinal, position: LogPosition(state.log.start_position) };
    Expectation { start, cuts: state.log.cuts.clone(), proved: state.log.proved }
}

pub(super) fn replay(fs: &MemFs, expectation: &Expectation) -> Result<(Recovered, Vec<Commit>)> {
    let mut commits = Vec::new();
    let recovered = recover(fs, Path::new(DIR), expectation, &mut |record| {
        assert_eq!(record.kind, COMMIT);
        commits.push(Commit { position: record.position, end: record.end, payload: record.payload.to_vec() });
        Ok(())
    })?;
    Ok((recovered, commits))
}

pub(super) fn env(fs: &MemFs, segment_bytes: u64, next: &Arc<AtomicU64>) -> LogEnv {
    let next = Arc::clone(next);
    LogEnv {
        fs: Arc::new(fs.clone()),
        dir: DIR.into(),
        segment_bytes,
        new_number: Box::new(move || Ok(FileNumber(next.fetch_add(1, Ordering::Relaxed)))),
    }
}

/// Goes on behind what was recovered, and gives what the manifest knows then: see `db/open.rs`.
pub(super) fn go_on(env: LogEnv, fs: &MemFs, state: &ManifestState, recovered: &Recovered) -> (ManifestState, Log) {
    let mut state = state.clone();
    if let Some(cut) = recovered.cut {
        let cut = Edit::from(vec![Change::LogCut(cut)]);
        state = state.after(&cut).expect("a cut that recovery asks for fits the manifest");
    }
    let log = Log::create(env, recovered.next, recovered.kept()).unwrap();
    if recovered.has_tail() {
        copy_tail(fs, Path::new(DIR), recovered, &log).unwrap();
    }
    let proof = if recovered.has_tail() { log.proof() } else { recovered.proof() };
    let proved = &mut state.log.proved;
    *proved = Proof { ordinal: proved.ordinal.max(proof.ordinal), position: proved.position.max(proof.position) };
    for dead in &recovered.dead {
        fs.remove(Purpose::Log, &path_of(*dead)).unwrap();
    }
    (state, log)
}

/// Recovers what is in `fs`; if that is a log, goes on in it, and finds all of it again.
fn check(fs: MemFs, state: ManifestState, next_file: u64) {
    let expectation = expectation(&state);
    let (recovered, commits) = match replay(&fs, &expectation) {
        Ok(found) => found,
        Err(Error::Corruption { path, .. } | Error::UnsupportedFormat { path, .. }) => {
            assert!(path.starts_with(DIR));
            return;
        }
        Err(other) => panic!("neither a log nor corruption: {other}"),
    };
    check_recovered(&fs, &expectation, &recovered, &commits);
    let numbers = Arc::new(AtomicU64::new(next_file));
    let (state, log) = go_on(env(&fs, 120, &numbers), &fs, &state, &recovered);
    assert_eq!(log.end(), recovered.end);
    let mut all = commits;
    for payload in [&b"on"[..], &[7; 60], &[9; 60]] {
        let position = log.end();
        let end = log.append(COMMIT, 0, &[payload]).unwrap();
        all.push(Commit { position, end, payload: payload.to_vec() });
    }
    log.sync_through(log.end()).unwrap();
    let (again, commits) = replay(&fs.power_cut(PowerCut::Lose), &self::expectation(&state)).expect("the log goes on");
    assert_eq!(commits, all);
    assert_eq!(again.end, log.end());
}

fn check_recovered(fs: &MemFs, expectation: &Expectation, recovered: &Recovered, commits: &[Commit]) {
    let end = recovered.end;
    assert!(end >= expectation.start.position && end >= expectation.proved.position, "L1");
    assert!(recovered.next.ordinal > expectation.proved.ordinal);
    let mut at = expectation.start.position;
    for commit in commits {
        assert!(at <= commit.position && commit.position < commit.end && commit.end <= end, "positions rise");
        assert_eq!(commit.end.0 - commit.position.0, 22 + commit.payload.len() as u64);
        at = commit.end;
    }
    let kept = recovered.kept();
    for segment in recovered.segments.iter().chain(&kept) {
        assert!(segment.start <= segment.end && segment.ordinal < recovered.next.ordinal);
    }
    for pair in recovered.segments.windows(2).chain(kept.windows(2)) {
        assert!(pair[0].ordinal < pair[1].ordinal && pair[0].end == pair[1].start);
    }
    assert!(recovered.next.position >= expectation.proved.position && recovered.next.position <= end);
    assert!(kept.last().is_none_or(|last| last.end == recovered.next.position), "what is kept was synced");
    let mut named: Vec<_> = kept.iter().map(|segment| segment.number).collect();
    named.extend(&recovered.dead);
    named.sort();
    let entries = fs.list(Purpose::Directory, Path::new(DIR)).unwrap();
    let there: Vec<_> = entries.iter().filter_map(|entry| Some(parse_file_name(&entry.name)?.1)).collect();
    assert_eq!(named, there, "each segment is kept or dead");
}

pub(super) fn mark(len: u64) -> ManifestMark {
    ManifestMark { manifest: FileNumber(9), len, ..ManifestMark::default() }
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (segment_bytes, close) in [(120, false), (200, true), (4096, false)] {
        let fs = new_fs();
        let numbers = Arc::new(AtomicU64::new(1));
        let log = Log::create(
            env(&fs, segment_bytes, &numbers),
            LogStart { ordinal: 1, position: LogPosition(0) },
            Vec::new(),
        );
        let log = log.unwrap();
        for i in 0..7u8 {
            log.append(COMMIT, 0, &[&vec![i + 1; usize::from(i % 3) * 11]]).unwrap();
            if i % 3 == 2 {
                log.sync_through(log.end()).unwrap();
                log.mark_manifest(&mark(1234)).unwrap();
            }
        }
        if close {
            log.close().unwrap();
        }
        // Of the kinds of what the manifest may know, one each.
        for knows in [vec![], vec![0, 1, 0, 30, 0], vec![1, 1, 0, 40, 0], vec![2, 2, 0, 90, 0, 3, 0]] {
            for sealed in [false, true] {
                let mut parts = vec![knows.clone()];
                for segment in log.segments() {
                    let mut file = fs.read_file(path_of(segment.number)).unwrap();
                    // The room behind the records is of no use here.
                    file.truncate((44 + segment.end.0 - segment.start.0) as usize + 3);
                    if sealed {
                        unseal(&mut file);
                    }
                    parts.push(file);
                }
                seeds.push([&[u8::from(sealed)], &pieces_of(&parts)[..]].concat());
            }
        }
    }
    let choices: Vec<u8> = (0..120u8).map(|i| i.wrapping_mul(37)).collect();
    seeds.push([&[2], &choices[..]].concat());
    seeds.push([&[2], &pieces_of(&[choices, vec![0, 1, 50, 0, 3]])[..]].concat());
    seeds
}
