//! Damaged bytes: the right state, or `Corruption` that names file and offset (S27).

use super::super::file::{Role, frame, frame_at, header};
use super::super::load::replay;
use super::*;
use crate::format::{Encode, FORMAT_VERSION, FileKind, checksum};
use crate::fs::MemFs;
use crate::{Error, Result};

const NUMBER: FileNumber = FileNumber(5);

fn path() -> std::path::PathBuf {
    FileKind::Manifest.path(dir(), NUMBER)
}

/// A small manifest, with the states that were true when it was so long.
struct Sample {
    bytes: Vec<u8>,
    states: Vec<(u64, ManifestState)>,
}

fn sample() -> Sample {
    let mut story = Story::new(3);
    let mut state = state_of(&[Edit::from(vec![bound(10), create(0, "first")])]);
    (story.next_number, story.next_keyspace) = (10, 1);
    story.account.keyspaces.insert(0, KeyspaceAccount::default());
    for _ in 0..4 {
        state = state.after(&story.next()).unwrap();
    }
    let fs = MemFs::new();
    let mut manifest = Manifest::create(Arc::new(fs.clone()), dir(), NUMBER, state).unwrap();
    let mut states = vec![(manifest.len(), manifest.state().clone())];
    for _ in 0..4 {
        manifest.append(&story.next()).unwrap();
        states.push((manifest.len(), manifest.state().clone()));
    }
    Sample { bytes: fs.read_file(path()).unwrap(), states }
}

impl Sample {
    fn load(&self, bytes: &[u8]) -> Result<Loaded> {
        let fs = MemFs::new();
        Manifest::create(Arc::new(fs.clone()), dir(), NUMBER, self.states[0].1.clone()).unwrap();
        fs.write_file(path(), bytes).unwrap();
        load(&fs, dir()).map(Option::unwrap)
    }

    /// Which of the states the bytes lead to; `None` is `Corruption` of the manifest. Whatever is not the whole is
    /// found by the log's proof.
    fn outcome(&self, bytes: &[u8], damage: &str) -> Option<usize> {
        match self.load(bytes) {
            Ok(loaded) => {
                let which = self.states.iter().position(|(len, state)| *len == loaded.len && *state == loaded.state);
                let which = which.unwrap_or_else(|| panic!("a state that never was, after {damage}"));
                let proof = loaded.check_proof(NUMBER, self.bytes.len() as u64);
                if which + 1 == self.states.len() {
                    proof.unwrap();
                } else {
                    assert_corrupt(&proof.unwrap_err(), bytes.len(), damage);
                }
                Some(which)
            }
            Err(error) => {
                assert_corrupt(&error, bytes.len(), damage);
                None
            }
        }
    }

    fn whole(&self) -> usize {
        self.states.len() - 1
    }

    fn end(&self, which: usize) -> usize {
        usize::try_from(self.states[which].0).unwrap()
    }
}

fn assert_corrupt(error: &Error, len: usize, damage: &str) {
    let names_it = matches!(error, Error::Corruption { path: p, offset, .. } if *p == path() && *offset <= len as u64);
    assert!(names_it, "{error} after {damage}");
}

#[test]
fn what_was_written_is_read() {
    let sample = sample();
    assert_eq!(sample.outcome(&sample.bytes, "nothing"), Some(sample.whole()));
}

#[test]
fn any_changed_byte_is_found_unless_it_looks_like_a_torn_last_edit() {
    // S27
    let sample = sample();
    let last_edit = sample.end(sample.whole() - 1);
    for at in 0..sample.bytes.len() {
        for change in [0x01, 0x10, 0x80, 0xff, sample.bytes[at]] {
            let mut bytes = sample.bytes.clone();
            bytes[at] ^= change;
            if bytes == sample.bytes {
                continue;
            }
            let outcome = sample.outcome(&bytes, &format!("byte {at} ^ {change:#x}"));
            let expected = (at >= last_edit).then_some(sample.whole() - 1);
            assert_eq!(outcome, expected, "byte {at} ^ {change:#x}");
        }
    }
}

#[test]
fn any_cut_leaves_the_edits_before_it_or_is_found() {
    // S27
    let sample = sample();
    for len in 0..sample.bytes.len() {
        let outcome = sample.outcome(&sample.bytes[..len], &format!("cut to {len}"));
        let expected = sample.states.iter().rposition(|(end, _)| *end <= len as u64);
        assert_eq!(outcome, expected, "cut to {len}");
    }
}

#[test]
fn any_zeroed_range_is_found_unless_it_looks_like_a_torn_last_edit() {
    // S27
    let sample = sample();
    let mut story = Story::new(77);
    for _ in 0..3000 {
        let (a, b) =
            (story.random.random_range(0..sample.bytes.len()), story.random.random_range(0..sample.bytes.len()));
        let range = a.min(b)..a.max(b) + 1;
        let mut bytes = sample.bytes.clone();
        bytes[range.clone()].fill(0);
        if bytes == sample.bytes {
            continue;
        }
        let outcome = sample.outcome(&bytes, &format!("zeros in {range:?}"));
        // Edits behind the damage prove it. Without any, those before it count, and the log's proof decides.
        let intact_behind = sample.states[..sample.whole()].iter().any(|(end, _)| *end >= range.end as u64);
        if range.start < sample.end(0) || intact_behind {
            assert_eq!(outcome, None, "zeros in {range:?}");
        }
    }
}

#[test]
fn a_damaged_edit_is_not_torn_when_its_head_says_that_there_is_more_behind_it() {
    // S27: nothing behind it is whole
    let sample = sample();
    let mut bytes = sample.bytes.clone();
    bytes[sample.end(1) - 1] ^= 1;
    bytes[sample.end(1)..].fill(0);
    assert_eq!(sample.outcome(&bytes, "a damaged edit and zeros"), None);
}

#[test]
fn bytes_behind_the_last_edit_do_not_count() {
    let sample = sample();
    for tail in [&[0; 100][..], &[0xff; 5], &sample.bytes[sample.end(0)..]] {
        let bytes = [&sample.bytes, tail].concat();
        assert_eq!(sample.outcome(&bytes, "a tail"), Some(sample.whole()));
    }
}

#[test]
fn a_torn_edit_as_large_as_can_be_is_passed_over_quickly() {
    let sample = sample();
    let huge = frame(Role::Edit, NUMBER, sample.bytes.len() as u64, &vec![3; 8 << 20]).unwrap();
    let bytes = [&sample.bytes, &huge[..huge.len() - 1]].concat();
    assert_eq!(sample.outcome(&bytes, "a torn edit"), Some(sample.whole()));
}

#[test]
fn frames_at_another_place_or_of_another_file_do_not_count() {
    // S28
    let sample = sample();
    let at = sample.end(0);
    assert!(frame_at(&sample.bytes, NUMBER, at).is_some());
    assert!(frame_at(&sample.bytes, FileNumber(6), at).is_none());
    assert!(frame_at(&[&[0][..], &sample.bytes].concat(), NUMBER, at + 1).is_none());
}

#[test]
fn frames_out_of_order_and_edits_that_make_no_sense_are_corruption() {
    let file = |frames: &[(Role, Vec<Change>)]| {
        let mut bytes = header(NUMBER);
        for (role, changes) in frames {
            let mut payload = Vec::new();
            Edit::from(changes.clone()).encode(&mut payload);
            bytes.extend(frame(*role, NUMBER, bytes.len() as u64, &payload).unwrap());
        }
        replay(&path(), &bytes, NUMBER)
    };
    let end = (Role::SnapshotEnd, vec![bound(6)]);
    assert!(file(std::slice::from_ref(&end)).is_ok());
    for bad in [
        vec![],
        vec![(Role::SnapshotPart, vec![bound(6)])],
        vec![(Role::Edit, vec![]), end.clone()],
        vec![(Role::SnapshotPart, vec![]), (Role::Edit, vec![]), end.clone()],
        vec![end.clone(), end.clone()],
        vec![end.clone(), (Role::SnapshotPart, vec![])],
        vec![end.clone(), (Role::Edit, vec![remove(0, 0, 1)])],
        vec![(Role::SnapshotEnd, vec![bound(5)])],
    ] {
        let error = file(&bad).unwrap_err();
        assert!(matches!(error, Error::Corruption { .. }), "{bad:?}: {error}");
    }
}

#[test]
fn newer_formats_are_refused_by_name() {
    // S31
    let newer = |kind: u8, number: FileNumber, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let sum = checksum(kind, number, 0, &[&bytes[..20]]);
        bytes[20..24].copy_from_slice(&sum.to_le_bytes());
        bytes
    };
    let unsupported = |error: Error, file: &Path, version: u32| matches!(error, Error::UnsupportedFormat { path, found, .. } if path == file && found == version);
    let sample = sample();
    let error = sample.load(&newer(0x40, NUMBER, &sample.bytes)).unwrap_err();
    assert!(unsupported(error, &path(), FORMAT_VERSION + 1));

    let fs = MemFs::new();
    Manifest::create(Arc::new(fs.clone()), dir(), NUMBER, sample.states[0].1.clone()).unwrap();
    let current = dir().join("CURRENT");
    fs.write_file(&current, newer(0x43, FileNumber(0), &fs.read_file(&current).unwrap())).unwrap();
    assert!(unsupported(load(&fs, dir()).unwrap_err(), &current, FORMAT_VERSION + 1));

    let mut payload = vec![0x10];
    payload.put_bytes(b"a lineage");
    let unknown = frame(Role::Edit, NUMBER, sample.bytes.len() as u64, &payload).unwrap();
    assert!(unsupported(sample.load(&[&sample.bytes[..], &unknown].concat()).unwrap_err(), &path(), 0x10));
}

#[test]
fn the_bytes_of_a_manifest_are_these() {
    let fs = MemFs::new();
    let state = state_of(&[Edit::from(vec![bound(2)])]);
    let mut manifest = Manifest::create(Arc::new(fs.clone()), dir(), FileNumber(1), state).unwrap();
    manifest.append(&Edit::from(vec![Change::Closed { timestamp: 300 }])).unwrap();
    let hex =
        |name: &str| fs.read_file(dir().join(name)).unwrap().iter().map(|b| format!("{b:02x}")).collect::<String>();
    let snapshot = ["080102", "090100", "0a0100", "0b0100", "0c020000", "0d020000", "070100"].concat();
    let manifest = hex("000001.manifest");
    let (header, frames) = manifest.split_at(48);
    assert!(header.starts_with("737472616e644d46030000000100000000000000"), "{header}");
    assert!(frames.starts_with("1700000002"), "{frames}");
    assert_eq!(&frames[26..26 + snapshot.len()], snapshot);
    let edit = &frames[26 + snapshot.len()..];
    assert!(edit.starts_with("0400000003") && edit.ends_with("0a02ac02"), "{edit}");
    assert!(hex("CURRENT").starts_with("737472616e644355030000000100000000000000"));
}

#[test]
fn any_damage_to_current_is_found() {
    // S27
    let fs = MemFs::new();
    let state = state_of(&[Edit::from(vec![bound(10)])]);
    Manifest::create(Arc::new(fs.clone()), dir(), NUMBER, state).unwrap();
    let current = dir().join("CURRENT");
    let bytes = fs.read_file(&current).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..bytes.len()).map(|len| bytes[..len].to_vec()).collect();
    damaged.push([&bytes[..], b"\n"].concat());
    for at in 0..bytes.len() {
        for change in [0x01, 0x10, 0x80, 0xff, bytes[at]] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            damaged.push(changed);
        }
    }
    for damaged in damaged.into_iter().filter(|damaged| *damaged != bytes) {
        fs.write_file(&current, damaged.clone()).unwrap();
        let error = load(&fs, dir()).unwrap_err();
        assert!(matches!(&error, Error::Corruption { path, .. } if *path == current), "{error} after {damaged:x?}");
    }
}

#[test]
fn a_current_that_was_put_back_is_found_by_the_logs_proof() {
    // S27
    let sample = sample();
    let loaded = sample.load(&sample.bytes).unwrap();
    loaded.check_proof(FileNumber(4), 1 << 40).unwrap();
    loaded.check_proof(NUMBER, loaded.len).unwrap();
    let error = loaded.check_proof(FileNumber(6), 0).unwrap_err();
    assert!(matches!(&error, Error::Corruption { path, .. } if *path == dir().join("CURRENT")), "{error}");
}
