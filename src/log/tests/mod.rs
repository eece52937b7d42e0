//! What a log is asked to do, and what is left of it after damage, failure and loss of power.

mod crash;
mod damage;
mod during_sync;
mod failure;
mod salvage;

use std::path::{Path, PathBuf};

use super::record::{MAX_PAYLOAD, NEWEST_KIND};
use super::*;
use crate::Result;
use crate::error::Error;
use crate::format::{FileKind, FileNumber, MAY_SKIP};
use crate::fs::{FaultFs, Fs, MemFs, Operation, PowerCut, Purpose, StdFs};
use crate::sync::{Arc, AtomicU64, Ordering, spawn};

const DIR: &str = "/db";
const BEGIN: LogStart = LogStart { ordinal: 1, position: LogPosition(0) };

fn mem_fs() -> MemFs {
    let fs = MemFs::new();
    fs.create_dir(Purpose::Directory, Path::new(DIR)).unwrap();
    fs
}

/// Numbers that are given to files, never twice.
type Numbers = Arc<AtomicU64>;

fn env(fs: &(impl Fs + Clone), segment_bytes: u64, numbers: &Numbers) -> LogEnv {
    let numbers = Arc::clone(numbers);
    LogEnv {
        fs: Arc::new(fs.clone()),
        dir: PathBuf::from(DIR),
        segment_bytes,
        new_number: Box::new(move || Ok(FileNumber(numbers.fetch_add(1, Ordering::SeqCst) + 1))),
    }
}

fn fresh(fs: &(impl Fs + Clone), segment_bytes: u64) -> Log {
    Log::create(env(fs, segment_bytes, &Numbers::default()), BEGIN, Vec::new()).unwrap()
}

fn expecting(start: LogStart, proved: Proof) -> Expectation {
    Expectation { start, cuts: Vec::new(), proved }
}

fn from_begin() -> Expectation {
    expecting(BEGIN, Proof::default())
}

/// Goes on behind what was recovered, as an opening does. What it says of the log is in the manifest at once.
fn go_on(env: LogEnv, recovered: &Recovered, manifest: &mut Expectation) -> Result<Log> {
    let fs = Arc::clone(&env.fs);
    let log = Log::create(env, recovered.next, recovered.kept())?;
    copy_tail(&*fs, Path::new(DIR), recovered, &log)?;
    decide(recovered.cut, log.proof(), manifest);
    Ok(log)
}

/// As the manifest keeps cuts: one replaces those at or behind its place.
fn decide(cut: Option<Cut>, proof: Proof, manifest: &mut Expectation) {
    let Expectation { start, cuts, proved } = manifest;
    if let Some(cut) = cut {
        assert!(cut.ordinal >= start.ordinal && cut.next_ordinal > cut.ordinal && cut.end >= proved.position);
        assert!(cuts.iter().all(|earlier| earlier.next_ordinal <= cut.next_ordinal));
        cuts.retain(|earlier| earlier.ordinal < cut.ordinal);
        cuts.push(cut);
    }
    *proved = Proof { ordinal: proved.ordinal.max(proof.ordinal), position: proved.position.max(proof.position) };
}

/// A replayed commit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Commit {
    position: LogPosition,
    end: LogPosition,
    flags: u8,
    payload: Vec<u8>,
}

fn replay(fs: &dyn Fs, expectation: &Expectation) -> Result<(Recovered, Vec<Commit>)> {
    let mut commits = Vec::new();
    let recovered = recover(fs, Path::new(DIR), expectation, &mut |record| {
        assert_eq!(record.kind, COMMIT);
        let (position, end, flags) = (record.position, record.end, record.flags);
        commits.push(Commit { position, end, flags, payload: record.payload.to_vec() });
        Ok(())
    })?;
    Ok((recovered, commits))
}

fn payloads(commits: &[Commit]) -> Vec<&[u8]> {
    commits.iter().map(|commit| commit.payload.as_slice()).collect()
}

/// Appends a commit and returns what its replay must give.
fn commit(log: &Log, payload: &[u8]) -> Commit {
    let position = log.end();
    let end = log.append(COMMIT, 7, &[payload]).unwrap();
    Commit { position, end, flags: 7, payload: payload.to_vec() }
}

fn log_files(fs: &dyn Fs) -> Vec<PathBuf> {
    let entries = fs.list(Purpose::Directory, Path::new(DIR)).unwrap();
    entries.iter().filter(|e| e.name.ends_with(".log")).map(|e| Path::new(DIR).join(&e.name)).collect()
}

fn path_of(number: FileNumber) -> PathBuf {
    FileKind::Log.path(Path::new(DIR), number)
}

fn corruption<T: fmt::Debug>(result: Result<T>) -> (PathBuf, u64, String) {
    match result {
        Err(Error::Corruption { path, offset, reason }) => (path, offset, reason.into()),
        other => panic!("this must be corruption: {other:?}"),
    }
}

#[test]
fn what_was_appended_is_replayed_over_all_segments() {
    let fs = mem_fs();
    let log = fresh(&fs, 300);
    // S3: an empty payload is one.
    let lens = [0, 1, 100, 7, 200, 250, 256, 5000, 0, 3, 64 << 10, 700_000, 12];
    let commits: Vec<_> = lens.iter().map(|len| commit(&log, &vec![u8::try_from(len % 251).unwrap(); *len])).collect();
    let (recovered, replayed) = replay(&fs, &from_begin()).unwrap();
    assert_eq!(replayed, commits);
    assert_eq!(recovered.end, log.end());
    assert_eq!(recovered.segments, log.segments());
    assert!(recovered.segments.len() > 5);
    assert_eq!(recovered.next.ordinal, recovered.segments.len() as u64 + 1);
    for (one, two) in recovered.segments.iter().zip(&recovered.segments[1..]) {
        assert_eq!((one.end, one.ordinal + 1), (two.start, two.ordinal));
    }
}

#[test]
fn it_works_on_the_real_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let number = AtomicU64::new(1);
    let new_number = Box::new(move || Ok(FileNumber(number.fetch_add(1, Ordering::SeqCst))));
    let env = LogEnv { fs: Arc::new(StdFs), dir: dir.path().to_owned(), segment_bytes: 4096, new_number };
    let log = Log::create(env, BEGIN, Vec::new()).unwrap();
    for i in 0..200u32 {
        log.append(COMMIT, 0, &[&i.to_le_bytes(), &[9; 40]]).unwrap();
    }
    log.close().unwrap();
    let mut count = 0u32;
    let recovered = recover(&StdFs, dir.path(), &from_begin(), &mut |record| {
        assert_eq!(record.payload[..4], count.to_le_bytes());
        count += 1;
        Ok(())
    });
    let recovered = recovered.unwrap();
    assert_eq!(count, 200);
    assert!(recovered.clean && recovered.segments.len() > 2);
    assert!(!recovered.has_tail(), "a close proves all before it");
}

#[test]
fn a_small_record_is_one_write_and_a_large_one_is_not_copied() {
    let fs = FaultFs::new(mem_fs());
    let log = fresh(&fs, 1 << 20);
    fs.trace(true);
    log.append(COMMIT, 0, &[b"several", b"", b"parts"]).unwrap();
    log.append(COMMIT, 0, &[b"head", &vec![1; 100_000], b"middle", &vec![2; 5000], b"tail"]).unwrap();
    let appends: Vec<u64> = fs.take_trace().iter().map(|call| call.len).collect();
    assert_eq!(appends, [22 + 12, 22 + 4, 100_000, 6, 5000, 4]);
    let (_, commits) = replay(fs.inner(), &from_begin()).unwrap();
    assert_eq!(commits[0].payload, b"severalparts");
    assert_eq!(commits[1].payload.len(), 105_014);
}

#[test]
fn a_record_that_is_too_large_is_refused_and_harms_nothing() {
    let fs = mem_fs();
    let log = fresh(&fs, 300);
    let part = vec![0; 1 << 20];
    let refused = log.append(COMMIT, 0, &vec![part.as_slice(); 1026]);
    assert!(matches!(refused, Err(Error::TooLarge { max: MAX_PAYLOAD, .. })));
    let fine = commit(&log, b"fine");
    assert_eq!(replay(&fs, &from_begin()).unwrap().1, [fine]);
    assert_eq!(log.segments().len(), 1);
}

#[test]
fn replay_begins_at_the_start_that_is_needed() {
    // L5
    let fs = mem_fs();
    let log = fresh(&fs, 200);
    let commits: Vec<_> = (0..20).map(|i| commit(&log, &[i; 50])).collect();
    log.sync_through(log.end()).unwrap();
    for (needed, commit) in commits.iter().enumerate() {
        let start = log.start_at(commit.position);
        let (recovered, replayed) = replay(&fs, &expecting(start, log.proof())).unwrap();
        assert_eq!(replayed, commits[needed..]);
        assert!(recovered.segments[0].start <= commit.position && commit.position < recovered.segments[0].end);
        assert_eq!(recovered.kept(), recovered.segments, "all of it was synced");
        assert_eq!(recovered.dead.len() + recovered.segments.len(), log.segments().len());
        // The ordinal of an earlier segment will do as well.
        let earlier = LogStart { ordinal: 1, position: commit.position };
        assert_eq!(replay(&fs, &expecting(earlier, log.proof())).unwrap().1, commits[needed..]);
    }
    let nothing = replay(&fs, &expecting(log.start_at(log.end()), log.proof())).unwrap();
    assert_eq!((nothing.1, nothing.0.end), (Vec::new(), log.end()));
}

#[test]
fn an_empty_directory_is_an_empty_log() {
    let (recovered, commits) = replay(&mem_fs(), &from_begin()).unwrap();
    assert_eq!((recovered.next, commits.len(), recovered.cut), (BEGIN, 0, None));
}

#[test]
fn a_closed_log_is_clean_and_proved_whole() {
    let fs = mem_fs();
    let (numbers, mut manifest) = (Numbers::default(), from_begin());
    let log = Log::create(env(&fs, 1000, &numbers), BEGIN, Vec::new()).unwrap();
    let first = commit(&log, b"first");
    log.close().unwrap();
    assert!(matches!(log.append(COMMIT, 0, &[b"late"]), Err(Error::Closed)));
    assert!(matches!(log.rotate(), Err(Error::Closed)));
    log.close().unwrap();
    assert_eq!(log.synced(), log.end());
    let (recovered, _) = replay(&fs.power_cut(PowerCut::Lose), &from_begin()).unwrap();
    assert!(recovered.clean && !recovered.has_tail());

    // Going on makes it unclean again, until it is closed again.
    let log = go_on(env(&fs, 1000, &numbers), &recovered, &mut manifest).unwrap();
    assert!(!replay(&fs, &manifest).unwrap().0.clean);
    let second = commit(&log, b"second");
    assert!(!replay(&fs, &manifest).unwrap().0.clean);
    log.close().unwrap();
    let (recovered, commits) = replay(&fs, &manifest).unwrap();
    assert!(recovered.clean && !recovered.has_tail());
    assert_eq!(commits, [first, second]);
}

#[test]
fn the_furthest_manifest_mark_is_the_proof() {
    let fs = mem_fs();
    let log = fresh(&fs, 100);
    assert_eq!(replay(&fs, &from_begin()).unwrap().0.manifest_proof, None);
    for (number, len) in [(3, 500), (3, 700), (5, 10), (5, 90)] {
        log.mark_manifest(&mark(number, len)).unwrap();
        commit(&log, b"x");
        assert_eq!(replay(&fs, &from_begin()).unwrap().0.manifest_proof, Some((FileNumber(number), len)));
    }
}

#[test]
fn an_unknown_kind_is_passed_over_if_it_may_be_and_refused_by_its_number_if_not() {
    // F1
    let fs = mem_fs();
    let log = fresh(&fs, 1000);
    log.append(0x70 | MAY_SKIP, 0, &[b"from the future"]).unwrap();
    let known = commit(&log, b"known");
    assert_eq!(replay(&fs, &from_begin()).unwrap().1, [known]);
    log.append(9, 0, &[b"from the future"]).unwrap();
    match replay(&fs, &from_begin()) {
        Err(Error::UnsupportedFormat { path, found: 9, supported }) => {
            assert_eq!((path, supported), (path_of(FileNumber(1)), u32::from(NEWEST_KIND)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn segments_wholly_before_a_position_are_removed_but_never_the_active_one() {
    let fs = mem_fs();
    let log = fresh(&fs, 200);
    let commits: Vec<_> = (0..12).map(|i| commit(&log, &[i; 50])).collect();
    // Not synced, and no later one is named as the start: not removed.
    log.remove_before(LogStart { position: log.end(), ..BEGIN }).unwrap();
    assert_eq!(log_files(&fs).len(), log.segments().len());
    log.sync_through(log.end()).unwrap();
    let segments = log.segments();
    log.remove_before(log.start_at(LogPosition(segments[2].end.0 - 1))).unwrap();
    assert_eq!(log.segments(), segments[2..]);
    assert_eq!(log.live_bytes(), log.end().0 - segments[2].start.0);
    let needed = commits.iter().filter(|commit| commit.position >= segments[2].start).cloned().collect::<Vec<_>>();
    let start = log.start_at(segments[2].start);
    assert_eq!(replay(&fs, &expecting(start, log.proof())).unwrap().1, needed);

    let active = log.start_at(log.end());
    log.remove_before(active).unwrap();
    assert_eq!(log.segments().len(), 1);
    log.rotate().unwrap();
    log.rotate().unwrap();
    assert_eq!(log.segments().len(), 2);
    log.sync_through(log.end()).unwrap();
    // Only once what follows is durable, or named as the start: else a power cut would have to leave the one or the other.
    log.remove_before(LogStart { position: log.end(), ..active }).unwrap();
    assert_eq!(log.segments().len(), 2);
    let last = commit(&log, b"last");
    log.sync_through(log.end()).unwrap();
    log.remove_before(LogStart { position: last.position, ..active }).unwrap();
    assert_eq!((log.segments().len(), log_files(&fs).len()), (1, 1));
    assert_eq!(replay(&fs, &expecting(log.start_at(last.position), log.proof())).unwrap().1, [last]);
}

#[test]
fn threads_that_sync_together_find_their_records_durable() {
    let fs = FaultFs::new(mem_fs());
    let log = Arc::new(fresh(&fs, 2000));
    let threads: Vec<_> = (0..6u8)
        .map(|thread| {
            let log = Arc::clone(&log);
            let body = move || {
                for i in 0..100u8 {
                    let end = log.append(COMMIT, thread, &[&[i; 30]]).unwrap();
                    log.sync_through(end).unwrap();
                    assert!(log.synced() >= end);
                }
            };
            spawn("committer", body).unwrap()
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let lost = fs.inner().power_cut(PowerCut::Lose);
    let (_, commits) = replay(&lost, &from_begin()).unwrap();
    for thread in 0..6 {
        let of_thread: Vec<_> = commits.iter().filter(|c| c.flags == thread).map(|c| c.payload[0]).collect();
        assert_eq!(of_thread, (0..100).collect::<Vec<u8>>());
    }
    assert!(log.syncs() >= log.segments().len() as u64);
}

#[test]
fn the_directory_is_synced_once_a_segment_and_before_its_records_count() {
    let fs = FaultFs::new(mem_fs());
    let log = fresh(&fs, 200);
    fs.trace(true);
    let operations = |payload: &[u8]| -> Vec<Operation> {
        let end = log.append(COMMIT, 0, &[payload]).unwrap();
        log.sync_through(end).unwrap();
        log.sync_through(end).unwrap();
        fs.take_trace().iter().map(|call| call.operation).filter(|o| *o != Operation::Truncate).collect()
    };
    use Operation::{Append, Create, Sync, SyncDir};
    assert_eq!(operations(b"first"), [Append, Sync, SyncDir]);
    assert_eq!(operations(b"second"), [Append, Sync]);
    assert_eq!(operations(&[0; 150]), [Create, Append, Append, Sync, Sync, SyncDir]);
    assert_eq!(operations(b"fourth"), [Create, Append, Append, Sync, Sync, SyncDir]);
}

#[test]
fn a_mark_that_is_proved_survives_by_itself() {
    // S28
    let fs = mem_fs();
    let log = fresh(&fs, 1000);
    (0..8).for_each(|i| drop(commit(&log, &[i; 50])));
    // Much is not synced: the mark begins a segment, and only that is synced.
    log.prove_manifest(&mark(9, 1234)).unwrap();
    assert_eq!((log.segments().len(), log.syncs(), log.synced()), (2, 1, LogPosition(0)));
    let (recovered, commits) = replay(&fs.power_cut(PowerCut::Lose), &from_begin()).unwrap();
    assert_eq!((commits.len(), recovered.manifest_proof), (0, Some((FileNumber(9), 1234))));
    // Little is not.
    log.sync_through(log.end()).unwrap();
    log.prove_manifest(&mark(9, 2345)).unwrap();
    assert_eq!(log.segments().len(), 2);
    let (recovered, commits) = replay(&fs.power_cut(PowerCut::Lose), &from_begin()).unwrap();
    assert_eq!((commits.len(), recovered.manifest_proof), (8, Some((FileNumber(9), 2345))));
    log.close().unwrap();
    assert!(matches!(log.prove_manifest(&mark(9, 3456)), Err(Error::Closed)));
}

fn mark(manifest: u64, len: u64) -> ManifestMark {
    let standing = Standing {
        file_number_bound: FileNumber(manifest + 10),
        next_keyspace: 3,
        last_timestamp: 70,
        closed: 60,
        manual_floor: 50,
    };
    ManifestMark { manifest: FileNumber(manifest), len, standing }
}

/// The bytes of a segment, record by record: whoever changes them changes the format (S31).
#[test]
fn the_bytes_of_a_segment_are_these() {
    let fs = mem_fs();
    let begin = LogStart { ordinal: 300, position: LogPosition(4096) };
    let log = Log::create(env(&fs, 1 << 20, &Numbers::default()), begin, Vec::new()).unwrap();
    commit(&log, b"pay");
    log.sync_through(log.end()).unwrap();
    log.mark_manifest(&mark(9, 1234)).unwrap();
    log.close().unwrap();
    let hex: String = fs.read_file(path_of(FileNumber(1))).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        // magic, version, their checksum; ordinal 300, start 4096, synced up to there, their checksum
        "534c494e454c4f47 03000000 16a6cf07",
        "2c01000000000000 0010000000000000 0010000000000000 9b978997",
        // a commit: kind, flags, 3 bytes, their checksum; synced up to 4096, the head's checksum
        "01 07 03000000 5b08a2e3 0010000000000000 01f273bb",
        "706179",
        // a mark, which knows that the commit is synced: manifest 9 of 1,234 bytes, then its counters
        "82 00 34000000 657091a9 1910000000000000 a9572d21",
        "0900000000000000 d204000000000000 1300000000000000 03000000",
        "4600000000000000 3c00000000000000 3200000000000000",
        // the end, up to which all is synced
        "83 00 00000000 5c8ed4cd 6310000000000000 8076eb7a",
    ];
    assert_eq!(hex, expected.concat().replace(' ', ""));
}
