//! Where salvage puts what it finds.

use super::*;
use crate::log::salvage;

/// The commits that salvage finds, by their places in the log.
fn found(fs: &MemFs) -> Vec<(LogPosition, Vec<u8>)> {
    let mut found = Vec::new();
    let nothing_known = expecting(LogStart { ordinal: 0, ..BEGIN }, Proof::default());
    let salvaged = salvage(fs, Path::new(DIR), &nothing_known, false, &mut |record| {
        found.push((record.position, record.payload.to_vec()));
        Ok(Ok(()))
    });
    assert!(found.iter().all(|(position, _)| *position < salvaged.as_ref().unwrap().end));
    found
}

/// A log of several openings, some of which have copied a tail, with segments that were full in between.
fn log_of_many_openings() -> MemFs {
    let fs = mem_fs();
    let numbers = Numbers::default();
    let mut log = Log::create(env(&fs, 300, &numbers), BEGIN, Vec::new()).unwrap();
    let mut commit = 0;
    for opening in 0..6 {
        log.mark_manifest(&mark(opening + 1, 100)).unwrap();
        for step in 0..8 {
            commit += 1;
            log.append(COMMIT, 0, &[&[commit; 30]]).unwrap();
            if step == opening {
                log.sync_through(log.end()).unwrap();
            }
        }
        // What no opening copies.
        log.mark_manifest(&mark(opening + 1, 200)).unwrap();
        let expected = expecting(BEGIN, log.proof());
        let recovered = recover(&fs, Path::new(DIR), &expected, &mut |_| Ok(()));
        let Ok(recovered) = recovered else { break };
        log = Log::create(env(&fs, 300, &numbers), recovered.next, recovered.kept()).unwrap();
        if recovered.has_tail() {
            copy_tail(&fs, Path::new(DIR), &recovered, &log).unwrap();
        }
        for dead in &recovered.dead {
            fs.remove(Purpose::Log, &FileKind::Log.path(Path::new(DIR), *dead)).unwrap();
        }
        if opening == 2 {
            break;
        }
    }
    log.mark_manifest(&mark(9, 100)).unwrap();
    log.append(COMMIT, 0, &[b"the last"]).unwrap();
    log.sync_through(log.end()).unwrap();
    // Proves that all before is durable: else a header that is damaged would be torn (L1).
    log.append(COMMIT, 0, &[b"proof"]).unwrap();
    fs
}

// L5: too high a place would put what tables cover over what is newer.
#[test]
fn a_segment_without_a_header_is_put_where_it_was_or_lower() {
    let fs = log_of_many_openings();
    let whole = found(&fs);
    assert!(whole.len() > 10, "{}", whole.len());
    let names: Vec<_> = fs.list(Purpose::Log, Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.len() > 3, "{names:?}");
    let mut exact = 0;
    for name in &names {
        let image = fs.kill();
        let path = Path::new(DIR).join(name);
        let mut bytes = image.read_file(&path).unwrap();
        bytes[20] ^= 1;
        image.write_file(&path, bytes).unwrap();
        let found = found(&image);
        assert_eq!(found.len(), whole.len(), "{name}");
        for ((place, payload), (true_place, true_payload)) in found.iter().zip(&whole) {
            assert_eq!(payload, true_payload, "{name}");
            assert!(place <= true_place, "{name}: {place} instead of {true_place}");
        }
        exact += usize::from(found == whole);
    }
    assert!(exact * 4 >= names.len() * 3, "{exact} of {} are exact", names.len());
}

/// A manifest that knows of cuts makes no segment dead that is needed, though its own header does not say any more which
/// one it is.
#[test]
fn a_segment_without_a_header_is_not_dead_next_to_a_cut() {
    let fs = mem_fs();
    let numbers = Numbers::default();
    let mut manifest = from_begin();
    let mut log = Log::create(env(&fs, 1 << 20, &numbers), BEGIN, Vec::new()).unwrap();
    for opening in 0..6 {
        log.mark_manifest(&mark(opening, 100)).unwrap();
        for commit in 0..3 {
            log.append(COMMIT, 0, &[format!("{commit} of opening {opening}").as_bytes()]).unwrap();
            if commit == 1 && opening % 2 == 1 {
                log.sync_through(log.end()).unwrap();
            }
        }
        let (recovered, _) = replay(&fs, &manifest).unwrap();
        log = go_on(env(&fs, 1 << 20, &numbers), &recovered, &mut manifest).unwrap();
        for dead in &recovered.dead {
            fs.remove(Purpose::Log, &path_of(*dead)).unwrap();
        }
    }
    drop(log);
    assert!(manifest.cuts.len() > 1, "{manifest:?}");
    let found = |fs: &MemFs| {
        let mut found = Vec::new();
        let mut note = |record: RecordRef<'_>| {
            found.push(String::from_utf8(record.payload.to_vec()).unwrap());
            Ok(Ok(()))
        };
        salvage(fs, Path::new(DIR), &manifest, true, &mut note).unwrap();
        found
    };
    let whole = found(&fs);
    assert_eq!(whole.len(), 18, "{whole:?}");
    for path in log_files(&fs) {
        let image = fs.kill();
        let mut bytes = image.read_file(&path).unwrap();
        bytes[20] ^= 1;
        image.write_file(&path, bytes).unwrap();
        assert_eq!(found(&image), whole, "{}", path.display());
    }
}
