//! S29 and S31: which files there are, and of which format.

use std::collections::BTreeSet;
use std::path::Path;

use strandline::fs::{Fault, FaultKind, Operation};
use strandline::{Error, FaultFs, MemFs};

use crate::specimen::{files, specimen};
use crate::support::{self, Dice, pairs, settle, small};

// S29
#[test]
fn file_numbers_are_never_used_twice_over_any_number_of_crashes() {
    let mut used = BTreeSet::new();
    let mut memory = MemFs::new();
    let mut dice = Dice::new(9);
    for life in 0..30u64 {
        let fs = FaultFs::new(memory.clone());
        fs.trace(true);
        let opened = small(&memory).fs(fs.clone()).open("db").and_then(|db| {
            let keyspace = db.keyspace("k")?;
            if life % 3 == 2 {
                let nth = dice.below(60);
                fs.inject(Fault { purpose: None, operation: None, nth, kind: FaultKind::StorageFull, repeat: true });
            }
            for n in 0..100 {
                keyspace.put(format!("{n:03}"), "value".repeat(10))?;
                db.step_background()?;
            }
            Ok(db)
        });
        let left = memory.kill();
        for call in
            fs.take_trace().into_iter().filter(|call| call.operation == Operation::Create && call.file != "CURRENT.tmp")
        {
            let number: u64 = call.file.split('.').next().unwrap().parse().unwrap();
            assert!(used.insert(number), "life {life}: {call} has been there before");
        }
        drop(opened);
        memory = if life % 2 == 0 { left } else { left.power_cut(life) };
    }
    assert!(used.len() > 100, "{}", used.len());
}

// S29
#[test]
fn orphans_are_gone_after_a_reopen_and_what_is_not_the_databases_stays() {
    let (fs, model) = specimen();
    let before = files(&fs);
    for name in ["000900.table", "000901.log", "000902.manifest", "CURRENT.tmp"] {
        fs.write_file(Path::new("db").join(name), "left by a crash").unwrap();
    }
    let foreign = ["notes.txt", "000903.txt", "table", "x000904.table"];
    for name in foreign {
        fs.write_file(Path::new("db").join(name), "not ours").unwrap();
    }
    let db = small(&fs).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    assert_eq!(pairs(keyspace.iter()), model.scan(&support::everything(), model.last));
    let after = files(&fs);
    for name in ["000900.table", "000901.log", "000902.manifest", "CURRENT.tmp"] {
        assert!(!after.contains(&name.to_owned()), "{name} in {after:?}");
    }
    assert!(foreign.iter().all(|name| after.contains(&(*name).to_owned())), "{after:?}");
    assert!(
        before.iter().filter(|name| name.ends_with(".table")).all(|name| after.contains(name)),
        "no live file is deleted"
    );
    db.compact().unwrap();
    settle(&db);
    let tables =
        files(&fs).into_iter().filter(|name| name.ends_with(".table") && !name.starts_with('x')).count() as u64;
    assert_eq!(tables, db.metrics().table_files, "no file that nothing names stays");
    assert!(
        files(&fs).iter().filter_map(|name| name.split('.').next()?.parse::<u64>().ok()).max() > Some(902),
        "numbers go on above"
    );
}

/// As `format::checksum` in the engine: over what the bytes are, where they lie, and the bytes.
fn checksum(kind: u8, file: u64, offset: u64, bytes: &[u8]) -> [u8; 4] {
    let place = [&file.to_le_bytes()[..], &offset.to_le_bytes(), &[kind]].concat();
    crc32c::crc32c_append(crc32c::crc32c(&place), bytes).to_le_bytes()
}

// S31
#[test]
fn a_format_version_that_is_not_known_is_refused_by_name() {
    let (fs, _) = specimen();
    for name in files(&fs) {
        let path = Path::new("db").join(&name);
        let (stem, kind) = name.split_once('.').unwrap_or((&name, &name));
        let number: u64 = stem.parse().unwrap_or(0);
        let mut bytes = fs.read_file(&path).unwrap();
        let version = 77u32.to_le_bytes();
        match kind {
            "CURRENT" | "manifest" => {
                bytes[8..12].copy_from_slice(&version);
                let sum = checksum(if kind == "CURRENT" { 0x43 } else { 0x40 }, number, 0, &bytes[..20]);
                bytes[20..24].copy_from_slice(&sum);
            }
            "log" => {
                bytes[8..12].copy_from_slice(&version);
                let sum = checksum(0, number, 0, &bytes[..12]);
                bytes[12..16].copy_from_slice(&sum);
            }
            "table" => {
                let end = bytes.len();
                let footer = u32::from_le_bytes(bytes[end - 20..end - 16].try_into().unwrap()) as usize;
                bytes[end - 16..end - 12].copy_from_slice(&version);
                let sum = checksum(9, number, (end - footer) as u64, &bytes[end - footer..end - 12]);
                bytes[end - 12..end - 8].copy_from_slice(&sum);
            }
            other => panic!("{other}"),
        }
        let image = fs.kill();
        image.write_file(&path, bytes).unwrap();
        let refused = small(&image).open("db").and_then(|db| db.verify().map(drop)).unwrap_err();
        let named = matches!(&refused, Error::UnsupportedFormat { path: found, found: 77, supported: 3 } if found.ends_with(&name));
        assert!(named, "{name}: {refused:?}");
        assert!(refused.to_string().contains("77"));
    }
}
