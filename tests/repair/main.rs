//! What a repair makes of a database that is damaged: it opens, everything that is left in it is right, and what was
//! not lost is there.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::type_complexity,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test"
)]

mod again;
mod anything;
mod damaged;
mod files;
mod life;
mod log;
mod manifest;
#[path = "../support/mod.rs"]
mod support;
mod tables;

use std::path::Path;

use strandline::fs::Purpose;
use strandline::{Db, Error, Fs, ManifestFound, MemFs};

use crate::files::{DIR, flip, names, of_kind, path, remove};
use crate::life::{Course, everything, reopened, repair};
use crate::support::small;

#[test]
fn a_healthy_database_is_left_as_it_is() {
    for seed in 0..20 {
        let (fs, life) = Course { close: seed % 2 == 0, late: seed % 3 == 0, ..Course::new(seed) }.live();
        let before = everything(&fs);
        let report = repair(&fs).unwrap();
        assert!(report.healthy, "seed {seed}: {report}");
        assert_eq!(report.manifest, ManifestFound::Whole);
        assert_eq!(report.keyspaces.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["latest", "manual", "window"]);
        assert!(report.lost.is_empty() && report.unknown.is_empty() && report.log_bytes_lost == 0);
        assert_eq!(everything(&fs), before, "seed {seed}");
        let db = reopened(&fs, "healthy");
        life.check_floors(&db, "healthy");
        life.check_whole(&db, "healthy");
    }
}

#[test]
fn where_there_is_no_database_nothing_is_touched() {
    let fs = MemFs::new();
    assert!(matches!(repair(&fs), Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
    fs.create_dir(Purpose::Directory, Path::new(DIR)).unwrap();
    assert!(matches!(repair(&fs), Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
    fs.write_file(path("notes.txt"), "mine").unwrap();
    assert!(matches!(repair(&fs), Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
    // Names alone are no database.
    for name in ["000001.table", "000002.log", "000003.manifest", "CURRENT"] {
        fs.write_file(path(name), "a file of somebody else, who likes such names").unwrap();
    }
    let before = everything(&fs);
    assert!(matches!(repair(&fs), Err(Error::Corruption { .. })));
    assert_eq!(everything(&fs), before);
    assert!(names(&fs, "db/lost").is_empty());
}

#[test]
fn nothing_that_can_be_read_is_an_error_and_nothing_is_moved() {
    let fs = Course::new(1).live().0;
    for name in names(&fs, DIR).into_iter().filter(|name| name != "CURRENT") {
        remove(&fs, &name);
    }
    let before = everything(&fs);
    assert!(matches!(repair(&fs), Err(Error::Corruption { .. })));
    let after: Vec<_> = everything(&fs).into_iter().filter(|(name, _)| name != "LOCK").collect();
    assert_eq!(after, before.into_iter().collect::<Vec<_>>());
}

#[test]
fn foreign_files_stay_where_they_are() {
    let (fs, life) = Course::new(2).live();
    let foreign = ["notes.txt", "7.table", "000012.table.bak", "00000a.log"];
    foreign.iter().for_each(|name| fs.write_file(path(name), *name).unwrap());
    fs.create_dir(Purpose::Directory, &path("999999.table")).unwrap();
    remove(&fs, "CURRENT");
    repair(&fs).unwrap();
    life.check_whole(&reopened(&fs, "foreign"), "foreign");
    for name in foreign {
        assert_eq!(fs.read_file(path(name)).unwrap(), name.as_bytes());
    }
    assert!(names(&fs, "db/lost").is_empty());
}

// S30
#[test]
fn an_open_database_is_locked() {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    assert!(matches!(repair(&fs), Err(Error::Locked { .. })));
    db.close().unwrap();
    assert!(repair(&fs).unwrap().healthy);
    assert!(matches!(small(&fs).read_only(true).repair(DIR), Err(Error::ReadOnly)));
}

// S31
#[test]
fn a_newer_format_is_refused_by_name_and_nothing_is_touched() {
    let (fs, _) = Course::new(3).live();
    let name = of_kind(&fs, ".manifest").pop().unwrap();
    let mut bytes = fs.read_file(path(&name)).unwrap();
    let number: u64 = name.split_once('.').unwrap().0.parse().unwrap();
    bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
    let mut sum = crc32c::crc32c(&[&number.to_le_bytes()[..], &0u64.to_le_bytes(), &[0x40]].concat());
    sum = crc32c::crc32c_append(sum, &bytes[..20]);
    bytes[20..24].copy_from_slice(&sum.to_le_bytes());
    fs.write_file(path(&name), bytes).unwrap();
    let before = everything(&fs);
    assert!(matches!(repair(&fs), Err(Error::UnsupportedFormat { found: 99, .. })));
    assert_eq!(everything(&fs), before);
}

#[test]
fn a_name_that_is_taken_in_lost_gets_a_suffix() {
    let (fs, _) = Course::new(5).live();
    let victim = of_kind(&fs, ".table").pop().unwrap();
    flip(&fs, &victim, 30);
    fs.write_file(Path::new("db/lost").join(&victim), "something else").unwrap();
    let report = repair(&fs).unwrap();
    let moved = report.lost[0].moved_to.clone().unwrap();
    assert_eq!(moved, format!("{victim}.1"));
    assert_eq!(fs.read_file(Path::new("db/lost").join(&victim)).unwrap(), b"something else");
    assert!(names(&fs, "db/lost").contains(&moved));
    // A number that leaves none above it keeps a database from opening.
    drop(reopened(&fs, "suffix"));
    fs.write_file(path("18446744073709551615.table"), "x").unwrap();
    assert!(small(&fs).open(DIR).is_err());
    let report = repair(&fs).unwrap();
    assert_eq!(report.lost[0].file, "18446744073709551615.table");
    drop(reopened(&fs, "beyond"));
}

#[test]
fn on_the_systems_files_a_database_is_repaired_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Db::open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.put("a", "1").unwrap();
    db.flush().unwrap();
    keyspace.put("b", "2").unwrap();
    db.close().unwrap();
    drop((db, keyspace));
    assert!(Db::repair(&path).unwrap().healthy);
    std::fs::write(path.join("CURRENT"), "x").unwrap();
    for entry in std::fs::read_dir(&path).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".manifest") {
            std::fs::remove_file(path.join(name)).unwrap();
        }
    }
    let report = Db::repair(&path).unwrap();
    assert_eq!(report.manifest, ManifestFound::Lost);
    assert!(path.join("lost").join("CURRENT").exists());
    let keyspace = Db::open(&path).unwrap().keyspace("k").unwrap();
    assert_eq!(keyspace.iter().count(), 2);
}
