//! Bytes are not what was written (S27, S28).

use super::*;
use crate::fs::PowerCut;
use crate::log::reader::SegmentReader;
use crate::log::record::{RECORD_HEADER_LEN, RecordHeader};
use crate::log::segment::SEGMENT_HEADER_LEN;

/// A stretch of bytes of a file, and what it proves.
struct Claim {
    file: PathBuf,
    bytes: std::ops::Range<usize>,
    proves: LogPosition,
}

struct Sample {
    fs: MemFs,
    commits: Vec<Commit>,
    claims: Vec<Claim>,
    proof: Proof,
}

/// A log of several segments with syncs here and there, a mark, and a last record that nothing proves.
fn sample(close: bool) -> Sample {
    let fs = mem_fs();
    let log = fresh(&fs, 160);
    let mut commits = Vec::new();
    for i in 0..11u8 {
        commits.push(commit(&log, &vec![i + 1; usize::from(i % 4) * 11]));
        if i % 3 == 2 {
            log.sync_through(log.end()).unwrap();
        }
        if i == 5 {
            log.mark_manifest(&mark(9, 1234)).unwrap();
        }
    }
    if close {
        log.close().unwrap();
    }
    assert!(log.segments().len() >= 4);
    Sample { claims: claims(&fs), fs, commits, proof: log.proof() }
}

fn claims(fs: &MemFs) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (file, number) in log_files(fs).into_iter().zip(1..) {
        let number = FileNumber(number);
        let header = SegmentReader::open(fs, Path::new(DIR), number).unwrap().header().unwrap().unwrap();
        claims.push(Claim { file: file.clone(), bytes: 0..SEGMENT_HEADER_LEN, proves: header.synced });
        let bytes = fs.read_file(&file).unwrap();
        let mut at = SEGMENT_HEADER_LEN;
        while let Some(record) = RecordHeader::decode(&bytes[at..], (number, at as u64), LogPosition(u64::MAX)) {
            let end = at + usize::try_from(record.record_len()).unwrap();
            claims.push(Claim { file: file.clone(), bytes: at..at + RECORD_HEADER_LEN, proves: record.synced });
            at = end;
        }
    }
    claims
}

/// The right answer, or a torn tail above all that is still proved, or corruption.
fn check(sample: &Sample, expectation: &Expectation, file: &Path, damaged: std::ops::Range<usize>, what: &str) -> bool {
    let overlaps = |c: &&Claim| c.file == file && c.bytes.start < damaged.end && damaged.start < c.bytes.end;
    let proved = sample.claims.iter().filter(|c| !overlaps(c)).map(|c| c.proves).max().unwrap();
    let proved = proved.max(expectation.proved.position);
    match replay(&sample.fs, expectation) {
        Ok((recovered, commits)) => {
            assert_eq!(commits, sample.commits[..commits.len()], "{what}");
            assert!(recovered.end >= proved, "{what}: ends at {}, proved {proved}", recovered.end);
            if commits.len() < sample.commits.len() {
                // Whatever is cut off stays cut off, also once the damage is gone.
                let (image, mut later) = (sample.fs.kill(), expectation.clone());
                let numbers = Numbers::new(AtomicU64::new(100));
                let log = go_on(env(&image, 160, &numbers), &recovered, &mut later).unwrap();
                assert_eq!(log.end(), recovered.end, "{what}");
                let again = replay(&image.power_cut(PowerCut::Lose), &later).unwrap();
                assert_eq!((again.1, again.0.end), (commits, recovered.end), "{what}");
            }
            true
        }
        Err(Error::Corruption { path, .. }) => {
            assert!(path == file || path == Path::new(DIR), "{what}: {}", path.display());
            false
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

/// Does damage to every file, checks each, and returns how often the log was still replayed and how often refused.
fn for_each_damage(
    sample: &Sample,
    mut damage: impl FnMut(&[u8], &mut dyn FnMut(Vec<u8>, std::ops::Range<usize>)),
) -> [u32; 2] {
    let mut counts = [0, 0];
    for proof in [Proof::default(), sample.proof] {
        let expectation = expecting(BEGIN, proof);
        for file in log_files(&sample.fs) {
            let bytes = sample.fs.read_file(&file).unwrap();
            damage(&bytes, &mut |damaged, range| {
                sample.fs.write_file(&file, damaged).unwrap();
                let what = format!("{} {range:?}, {proof:?}", file.display());
                counts[usize::from(!check(sample, &expectation, &file, range, &what))] += 1;
            });
            sample.fs.write_file(&file, bytes).unwrap();
        }
    }
    counts
}

#[test]
fn any_flipped_byte_is_found_or_lies_in_a_torn_tail() {
    for close in [false, true] {
        let [replayed, refused] = for_each_damage(&sample(close), |bytes, try_it| {
            for at in 0..bytes.len() {
                for flip in [0xff, 1, 0x80] {
                    let mut damaged = bytes.to_vec();
                    damaged[at] ^= flip;
                    try_it(damaged, at..at + 1);
                }
            }
        });
        assert!(replayed > 50 && refused > 1000, "{replayed} {refused}");
    }
}

#[test]
fn any_zeroed_range_is_found_or_lies_in_a_torn_tail() {
    for close in [false, true] {
        let [replayed, refused] = for_each_damage(&sample(close), |bytes, try_it| {
            for len in [1, 7, 22, 60, bytes.len()] {
                for at in 0..bytes.len() {
                    let end = (at + len).min(bytes.len());
                    let mut damaged = bytes.to_vec();
                    damaged[at..end].fill(0);
                    if damaged != bytes {
                        try_it(damaged, at..end);
                    }
                }
            }
        });
        assert!(replayed > 50 && refused > 1000, "{replayed} {refused}");
    }
}

#[test]
fn any_truncation_is_found_or_cuts_a_torn_tail() {
    for close in [false, true] {
        let [replayed, refused] = for_each_damage(&sample(close), |bytes, try_it| {
            for len in 0..bytes.len() {
                try_it(bytes[..len].to_vec(), len..bytes.len());
            }
        });
        assert!(replayed > 10 && refused > 100, "{replayed} {refused}");
    }
}

#[test]
fn garbage_behind_the_end_changes_nothing_but_is_cut_off() {
    let sample = sample(false);
    let file = log_files(&sample.fs).pop().unwrap();
    let mut bytes = sample.fs.read_file(&file).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    bytes.extend([1; 300]);
    sample.fs.write_file(&file, bytes).unwrap();
    let (recovered, commits) = replay(&sample.fs, &expecting(BEGIN, sample.proof)).unwrap();
    assert_eq!(commits, sample.commits);
    assert_eq!(recovered.cut.map(|cut| cut.end), Some(recovered.next.position));
}

#[test]
fn a_missing_segment_is_an_error_and_not_a_shorter_replay() {
    // S28
    let sample = sample(true);
    let files = log_files(&sample.fs);
    for (file, ordinal) in files.iter().zip(1u64..) {
        let bytes = sample.fs.read_file(file).unwrap();
        sample.fs.remove(Purpose::Log, file).unwrap();
        let proofs =
            if ordinal == files.len() as u64 { vec![sample.proof] } else { vec![Proof::default(), sample.proof] };
        for proof in proofs {
            let (path, _, reason) = corruption(replay(&sample.fs, &expecting(BEGIN, proof)));
            assert_eq!(path, Path::new(DIR));
            assert_eq!(reason, format!("missing segment: the log segment with ordinal {ordinal} is gone"));
        }
        sample.fs.write_file(file, bytes).unwrap();
    }
}

#[test]
fn a_missing_segment_that_nothing_proves_ends_the_log_before_it() {
    let fs = mem_fs();
    let log = fresh(&fs, 200);
    let commits: Vec<_> = (0..12).map(|i| commit(&log, &[i; 50])).collect();
    fs.remove(Purpose::Log, &path_of(FileNumber(3))).unwrap();
    let (recovered, replayed) = replay(&fs, &from_begin()).unwrap();
    let segments = log.segments();
    assert_eq!(recovered.end, segments[2].start);
    assert_eq!(replayed, commits.into_iter().filter(|c| c.end <= segments[2].start).collect::<Vec<_>>());
    let next_ordinal = segments.last().unwrap().ordinal + 1;
    // Nothing at all was synced, so what is left will be written anew.
    assert_eq!(recovered.cut, Some(Cut { ordinal: 1, end: LogPosition(0), next_ordinal }));
    assert_eq!(recovered.next, LogStart { ordinal: next_ordinal, position: LogPosition(0) });
    assert_eq!(recovered.dead.len(), segments.len() - 1);
}

#[test]
fn damage_names_file_and_offset() {
    let sample = sample(true);
    let second = &sample.commits[1];
    let file = path_of(FileNumber(1));
    let mut bytes = sample.fs.read_file(&file).unwrap();
    let offset = SEGMENT_HEADER_LEN as u64 + second.position.0;
    bytes[usize::try_from(offset).unwrap() + 2] ^= 4;
    sample.fs.write_file(&file, bytes).unwrap();
    let (path, at, _) = corruption(replay(&sample.fs, &from_begin()));
    assert_eq!((path, at), (file, offset));
}

#[test]
fn old_bytes_of_another_file_are_not_replayed() {
    // S28: the same records, left over in a file that was reused.
    let sample = sample(false);
    let old = sample.fs.read_file(path_of(FileNumber(1))).unwrap();
    let fs = mem_fs();
    let numbers = Numbers::new(AtomicU64::new(50));
    let log = Log::create(env(&fs, 160, &numbers), BEGIN, Vec::new()).unwrap();
    let only = commit(&log, b"");
    let mut bytes = fs.read_file(path_of(FileNumber(51))).unwrap();
    let from = SEGMENT_HEADER_LEN + RECORD_HEADER_LEN;
    let to = bytes.len().min(old.len());
    bytes[from..to].copy_from_slice(&old[from..to]);
    fs.write_file(path_of(FileNumber(51)), bytes).unwrap();
    let (recovered, commits) = replay(&fs, &from_begin()).unwrap();
    assert_eq!(commits, [only]);
    assert!(recovered.cut.is_some());
}

#[test]
fn a_file_shorter_than_the_start_is_damaged_only_if_something_behind_is_proved() {
    let fs = mem_fs();
    let log = fresh(&fs, 1000);
    commit(&log, b"flushed");
    let start = log.start_at(log.end());
    let needed = commit(&log, b"needed");
    log.sync_through(needed.end).unwrap();
    let file = path_of(FileNumber(1));
    let bytes = fs.read_file(&file).unwrap();
    for len in SEGMENT_HEADER_LEN..SEGMENT_HEADER_LEN + usize::try_from(start.position.0).unwrap() {
        fs.write_file(&file, &bytes[..len]).unwrap();
        let (path, offset, _) = corruption(replay(&fs, &expecting(start, log.proof())));
        assert_eq!((path, offset), (file.clone(), len as u64));
        // It was never synced: tables hold what it has lost (L4), and it goes.
        let (recovered, commits) = replay(&fs, &expecting(start, Proof::default())).unwrap();
        assert_eq!(
            (commits.len(), recovered.end, recovered.next),
            (0, start.position, LogStart { ordinal: 2, ..start })
        );
        assert_eq!((recovered.kept().len(), recovered.dead), (0, vec![FileNumber(1)]));
    }
}

#[test]
fn of_two_segments_with_one_ordinal_the_newer_counts() {
    // An opening that failed has removed the first, and the power went before that was durable.
    let fs = mem_fs();
    let numbers = Numbers::default();
    let one = Log::create(env(&fs, 100, &numbers), BEGIN, Vec::new()).unwrap();
    commit(&one, b"came to nothing");
    let two = Log::create(env(&fs, 100, &numbers), BEGIN, Vec::new()).unwrap();
    let counts = commit(&two, b"counts");
    two.sync_through(counts.end).unwrap();
    let (recovered, commits) = replay(&fs, &expecting(BEGIN, two.proof())).unwrap();
    assert_eq!((commits, recovered.dead), (vec![counts], vec![FileNumber(1)]));
}

/// A tail that begins within a record could not be written anew; and a log that was cut there could not be read.
#[test]
fn a_log_that_was_synced_up_to_the_middle_of_a_record_is_corrupt() {
    let fs = mem_fs();
    let log = fresh(&fs, 1000);
    let commits: Vec<_> = (0..3).map(|_| commit(&log, &[7; 10])).collect();
    for (position, boundary) in [(0, true), (1, false), (31, false), (32, true), (40, false), (64, true), (95, false)] {
        let proved = Proof { ordinal: 1, position: LogPosition(position) };
        let found = replay(&fs, &expecting(BEGIN, proved));
        if boundary {
            assert_eq!(found.unwrap().1, commits, "{position}");
        } else {
            assert_eq!(corruption(found).0, path_of(FileNumber(1)), "{position}");
        }
    }
}
