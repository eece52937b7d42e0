//! Directories that somebody has prepared, who knows the format and its checksums: opening gives the right answer or
//! an error that names the file. It never follows a link, waits for a pipe, panics, or takes memory without end. S27
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test"
)]

mod support;

use std::path::Path;

use strandline::fs::Purpose;
use strandline::{Error, Fs, MemFs, Options};
use support::forge::{self, change, varint};
use support::{Dice, settle, small, small_keyspace};

/// Three tables in two levels, a log behind them, and what the keyspaces hold.
fn some_database() -> MemFs {
    let fs = MemFs::new();
    let db = small(&fs).open("db").unwrap();
    for name in ["a", "b"] {
        let keyspace = db.keyspace_with(name, small_keyspace()).unwrap();
        for round in 0..3 {
            for n in 0..40 {
                keyspace.put(format!("{n:02}"), format!("{round}")).unwrap();
            }
            if round == 0 {
                db.compact().unwrap();
            } else if round == 1 {
                db.flush().unwrap();
            }
        }
    }
    settle(&db);
    db.close().unwrap();
    fs
}

/// Does everything with it that reads or rewrites something.
fn use_it(options: Options) -> Result<usize, Error> {
    let db = options.open("db")?;
    let mut found = 0;
    for name in ["a", "b"] {
        let keyspace = db.keyspace(name)?;
        for pair in keyspace.iter() {
            pair?;
            found += 1;
        }
        for pair in keyspace.iter().rev() {
            pair?;
        }
        for version in keyspace.history("07", ..)? {
            version?;
        }
        keyspace.put("07", "hostile")?;
    }
    let _ = db.metrics();
    db.flush()?;
    db.compact()?;
    db.verify()?;
    db.close()?;
    // And what was made of it can be opened again.
    Ok(found)
}

/// The error's text; which file it names is to be checked by the caller.
fn refused(fs: &MemFs, what: &str) -> String {
    let error = use_it(small(fs)).expect_err(what);
    assert!(matches!(error, Error::Corruption { .. } | Error::UnsupportedFormat { .. }), "{what}: {error}");
    error.to_string()
}

#[test]
fn current_names_a_manifest_by_number_and_nothing_else() {
    let good = some_database();
    let number = forge::current(&good);
    let proper = forge::current_bytes(number);
    assert_eq!(good.read_file("db/CURRENT").unwrap(), proper, "the forger knows the format");
    let long = vec![b'x'; 100_000];
    for bytes in [
        &b""[..],
        b"../../x",
        b"/etc/passwd",
        b"000001.manifest",
        b"000001.manifest\n",
        b"..\\..\\x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        &[0; 24],
        &long,
        &proper[..23],
        &[&proper[..], b"\0"].concat(),
    ] {
        let fs = good.kill();
        fs.write_file("db/CURRENT", bytes).unwrap();
        assert!(refused(&fs, "CURRENT").contains("CURRENT"), "{bytes:?}");
    }
    // Proper, but of no manifest that is there.
    for other in [0, number + 1, 7000, 1 << 62, u64::MAX] {
        let fs = good.kill();
        fs.write_file("db/CURRENT", forge::current_bytes(other)).unwrap();
        let text = refused(&fs, "CURRENT");
        assert!(text.contains(&format!("{other:06}.manifest")) || text.contains("CURRENT"), "{text}");
    }
}

#[test]
fn edits_that_make_no_sense_are_refused_with_the_manifests_name() {
    let good = some_database();
    let add = |level: u64, meta: Vec<u8>| change(3, &[&varint(1), &varint(level), &meta]);
    let table = |number: u64, smallest: &[u8], greatest: &[u8]| forge::meta(number, 1000, smallest, greatest, 10);
    let options = forge::options(4096, 10.0, 1 << 20, 1 << 20);
    let create = |id: u64, name: &[u8], options: &[u8]| {
        change(1, &[&varint(id), &varint(0), &varint(name.len() as u64), name, options])
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a keyspace id that was given out", create(0, b"new", &options), "given out before"),
        ("a name that is taken", create(77, b"a", &options), "empty or taken"),
        ("no name", create(77, b"", &options), "empty or taken"),
        ("a name that is no text", create(77, b"\xff\xfe", &options), "UTF-8"),
        ("the last keyspace id", create(u64::from(u32::MAX), b"new", &options), "used up"),
        ("a keyspace id beyond all", create(1 << 40, b"new", &options), "too large"),
        ("blocks of nothing", create(77, b"new", &forge::options(0, 10.0, 1, 1)), "block_bytes"),
        ("endless blocks", create(77, b"new", &forge::options(u64::MAX, 10.0, 1, 1)), "block_bytes"),
        ("filters without end", create(77, b"new", &forge::options(4096, 1e300, 1, 1)), "filter_bits_per_key"),
        ("filters that are no number", create(77, b"new", &forge::options(4096, f64::NAN, 1, 1)), "filter bits"),
        ("tables of nothing", create(77, b"new", &forge::options(4096, 10.0, 0, 1)), "target_file_bytes"),
        ("levels of nothing", create(77, b"new", &forge::options(4096, 10.0, 1, 0)), "level_base_bytes"),
        ("another retention", create(77, b"new", &forge::option(1, &[9])), "retention of unknown kind 0x09"),
        ("another codec", create(77, b"new", &forge::option(2, &[7])), "compression of unknown kind 0x07"),
        ("another option", create(77, b"new", &forge::option(0x3f, &[7])), "format 63"),
        ("a keyspace that is not there", change(2, &[&varint(900)]), "no keyspace 900"),
        (
            "one table twice",
            [add(1, table(40, b"x", b"y")), add(2, table(40, b"x", b"y"))].concat(),
            "is there already",
        ),
        ("tables that overlap", [add(3, table(40, b"x", b"z")), add(3, table(41, b"y", b"zz"))].concat(), "overlaps"),
        ("a level below all", add(7, table(40, b"x", b"y")), "no level 7"),
        ("a level beyond all", add(u64::MAX, table(40, b"x", b"y")), "no level"),
        ("a table of a number not given out", add(1, table(1 << 50, b"x", b"y")), "not below the bound"),
        ("bounds that are inverted", add(1, table(40, b"y", b"x")), "inverted"),
        ("a table without end", add(1, forge::meta(40, u64::MAX, b"x", b"y", 10)), "no table is so large"),
        ("versions without end", add(1, forge::meta(40, 1000, b"x", b"y", u64::MAX)), "no table is so large"),
        ("another property", add(1, forge::property(0x22)), "property of unknown kind 0x22"),
        ("properties without end", add(1, varint(u64::MAX)), "ends too early"),
        ("a table that is not there", change(4, &[&varint(1), &varint(1), &varint(9999)]), "not in level"),
        ("a position beyond all", change(6, &[&varint(1), &varint(u64::MAX)]), "too large"),
        ("a position that nothing proves", change(6, &[&varint(1), &varint(1 << 61)]), "more of the log than"),
        ("numbers beyond all", change(8, &[&varint(u64::MAX)]), "too large"),
        ("numbers that fall", change(8, &[&varint(1)]), "would fall"),
        ("a log beyond all", change(0xc, &[&varint(1 << 62), &varint(1)]), "too large"),
        ("a cut beyond all", change(0xe, &[&varint(1), &varint(1 << 63), &varint(9)]), "too large"),
        ("a cut of what is proved", change(0xe, &[&varint(1), &varint(0), &varint(900)]), "makes no sense"),
        ("another change", change(0x20, &[b"x"]), "format 32"),
        ("a change that goes on", change(9, &[&varint(u64::MAX - 1), b"more"]), "longer than its kind"),
        ("a change that ends early", vec![9, 200, 1], "ends too early"),
        ("a long form of a short number", vec![9, 0x81, 0x80, 0x00], "shortest form"),
    ];
    for (what, edit, reason) in cases {
        let fs = good.kill();
        let manifest = forge::append_edit(&fs, 3, &edit);
        let text = refused(&fs, what);
        assert!(text.contains(reason) && text.contains(&manifest), "{what}: {text}");
    }
    // A frame of another role: it says something that this build does not know, and is no torn edit.
    let fs = good.kill();
    let manifest = forge::append_edit(&fs, 9, &change(9, &[&varint(1)]));
    let text = refused(&fs, "another role");
    assert!(text.contains("format 9") && text.contains(&manifest), "{text}");
    // What may be passed over is.
    let fs = good.kill();
    forge::append_edit(&fs, 3, &change(0xa0, &[b"from the future"]));
    assert_eq!(use_it(small(&fs)).unwrap(), 80);
}

#[test]
fn a_log_that_is_not_where_the_manifest_says_is_an_error() {
    let good = some_database();
    for (what, edit) in [
        ("proved beyond its end", change(0xd, &[&varint(1), &varint(1 << 40)])),
        ("proved segments that are not there", change(0xd, &[&varint(1 << 40), &varint(1 << 30)])),
        ("needed from beyond its end", change(0xc, &[&varint(1), &varint(1 << 40)])),
    ] {
        let fs = good.kill();
        forge::append_edit(&fs, 3, &edit);
        refused(&fs, what);
    }
    // Nothing of it is needed, says the manifest: then nothing of it is read.
    let fs = good.kill();
    forge::append_edit(&fs, 3, &change(0xc, &[&varint(1 << 40), &varint(1 << 40)]));
    use_it(small(&fs)).unwrap();
    use_it(small(&fs)).unwrap();
}

#[test]
fn records_that_make_no_sense_are_refused_by_name() {
    let good = some_database();
    let commit = |timestamp: u64, operations: &[&[u8]]| [&timestamp.to_le_bytes(), &operations.concat()[..]].concat();
    let long = [&[1, 1][..], &varint(65_536), &vec![0; 65_536], &[0]].concat();
    let cases: Vec<(&str, u8, u8, Vec<u8>, &str)> = vec![
        ("no timestamp", 1, 0, vec![1, 2, 3], "too short"),
        ("timestamp 0", 1, 0, commit(0, &[]), "no commit has this timestamp"),
        ("the last timestamp", 1, 0, commit(u64::MAX, &[]), "no commit has this timestamp"),
        ("unknown flags", 1, 0x82, commit(9, &[]), "unknown flags 0x82"),
        ("another operation", 1, 0, commit(9, &[&[9, 1, 1, b'k']]), "operation of unknown kind 0x09"),
        ("a blob", 1, 0, commit(9, &[&[5, 1, 1, b'k']]), "operation 0x05"),
        ("a key that is too long", 1, 0, commit(9, &[&long]), "key is too long"),
        ("a key that is not there", 1, 0, commit(9, &[&[1, 1, 200]]), "ends too early"),
        ("a value without end", 1, 0, commit(9, &[&[1, 1, 1, b'k'], &varint(u64::MAX)]), "ends too early"),
        ("a keyspace that never was", 1, 0, commit(9, &[&[3], &varint(900), &[1, b'k']]), "never was"),
        ("a keyspace beyond all", 1, 0, commit(9, &[&[3], &varint(1 << 40), &[1, b'k']]), "too large"),
        ("a range of nothing", 1, 0, commit(9, &[&[4, 1, 1, b'k', 1, 1, b'k']]), "range is empty"),
        ("a range that ends somehow", 1, 0, commit(9, &[&[4, 1, 1, b'k', 7]]), "end of unknown kind 0x07"),
        ("another record", 9, 0, vec![1, 2, 3], "format 9"),
        ("a mark of another length", 0x82, 0, vec![0; 100], "too long"),
    ];
    for (what, kind, flags, payload, reason) in cases {
        let fs = good.kill();
        let segment = forge::append_record(&fs, kind, flags, &payload);
        let text = refused(&fs, what);
        assert!(text.contains(reason) && text.contains(&segment), "{what}: {text}");
    }
    for (kind, payload) in [(0x90, vec![7; 100]), (1, commit(1 << 40, &[&[0x89, 2, 7, 7], &[3, 1, 1, b'k']]))] {
        let fs = good.kill();
        forge::append_record(&fs, kind, 0, &payload);
        assert_eq!(use_it(small(&fs)).unwrap(), 80, "may be passed over");
    }
}

#[test]
fn segments_from_beyond_every_log_are_refused() {
    for (ordinal, start) in [(u64::MAX, 0), (1 << 62, 0), (5, u64::MAX), (5, u64::MAX - 100), (1 << 61, 1 << 61)] {
        let fs = some_database();
        let before = use_it(small(&fs.kill())).unwrap();
        fs.write_file("db/000900.log", forge::segment_header(900, ordinal, start)).unwrap();
        match use_it(small(&fs)) {
            Ok(found) => assert_eq!(found, before, "it is no part of the log"),
            Err(Error::Corruption { path, .. }) => assert!(path.ends_with("000900.log"), "{}", path.display()),
            Err(other) => panic!("{ordinal} {start}: {other}"),
        }
    }
}

// Whatever stands behind a proper checksum: no panic, no hang.
#[test]
fn random_bytes_behind_proper_checksums_are_answered_or_refused() {
    let good = some_database();
    let (mut answered, mut denied) = (0, 0);
    for seed in 0..600 {
        let mut dice = Dice::new(seed);
        let fs = good.kill();
        let forge_one = if dice.one_in(2) { forge::scramble_manifest } else { forge::scramble_log };
        forge_one(&fs, &mut |bound| dice.below(bound));
        match use_it(small(&fs)) {
            Ok(_) => answered += 1,
            Err(_) => denied += 1,
        }
        // As it is now, too.
        let _ = use_it(small(&fs));
        let _ = use_it(small(&fs).read_only(true));
    }
    assert!(answered > 20 && denied > 100, "{answered} answered, {denied} refused");
}

#[test]
fn a_directory_full_of_other_names_is_opened_and_left_alone() {
    let fs = some_database();
    for n in 0..20_000 {
        fs.write_file(format!("db/{n}.theirs"), *b"theirs").unwrap();
    }
    for n in 100_000..105_000 {
        fs.write_file(format!("db/{n:06}.table"), *b"an orphan").unwrap();
        fs.write_file(format!("db/{n:06}.manifest"), *b"an orphan").unwrap();
    }
    assert_eq!(use_it(small(&fs)).unwrap(), 80);
    let names = fs.list(Purpose::Directory, Path::new("db")).unwrap();
    assert_eq!(names.iter().filter(|entry| entry.name.ends_with(".theirs")).count(), 20_000);
    assert!(names.len() < 20_100, "{}", names.len());
    // No number is left above this one.
    fs.write_file("db/18446744073709551615.table", *b"").unwrap();
    assert!(refused(&fs, "the last number").contains("18446744073709551615.table"));
}

#[cfg(unix)]
mod on_disk {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    use strandline::{Error, Options};

    fn options() -> Options {
        Options::new().wal_segment_bytes(64 << 10)
    }

    fn make(dir: &Path) {
        let db = options().open(dir).unwrap();
        let keyspace = db.keyspace("k").unwrap();
        keyspace.put("in a table", "1").unwrap();
        db.flush().unwrap();
        keyspace.put("in the log", "2").unwrap();
        db.close().unwrap();
    }

    /// Opens it and reads everything, elsewhere: a hang is no end of the test.
    fn read(dir: &Path, options: Options) -> Result<usize, Error> {
        let (done, is_done) = mpsc::channel();
        let dir = dir.to_owned();
        std::thread::spawn(move || {
            let read = || -> Result<usize, Error> {
                let db = options.open(dir)?;
                let mut found = 0;
                for pair in db.keyspace("k")?.iter() {
                    pair?;
                    found += 1;
                }
                db.close()?;
                Ok(found)
            };
            done.send(read())
        });
        is_done.recv_timeout(Duration::from_secs(60)).expect("opening waits for something")
    }

    fn name_of(dir: &Path, extension: &str) -> PathBuf {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<_> = names.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
        found.sort();
        // Of several, the last: the log's end, and the manifest that counts.
        found.pop().unwrap()
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Link,
        LinkToNothing,
        LinkInACircle,
        Pipe,
        Socket,
        Directory,
        Device,
    }

    const KINDS: [Kind; 7] =
        [Kind::Link, Kind::LinkToNothing, Kind::LinkInACircle, Kind::Pipe, Kind::Socket, Kind::Directory, Kind::Device];

    /// Puts something else in place of a file, whose bytes are in `kept` from then on. `false`: not possible here.
    fn replace(path: &Path, kept: &Path, kind: Kind) -> bool {
        match fs::rename(path, kept) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => fs::write(kept, "theirs").unwrap(),
            renamed => renamed.unwrap(),
        }
        match kind {
            Kind::Link => symlink(kept, path).is_ok(),
            Kind::LinkToNothing => symlink(kept.with_extension("nothing"), path).is_ok(),
            Kind::LinkInACircle => symlink(path, path).is_ok(),
            Kind::Pipe => Command::new("mkfifo").arg(path).status().unwrap().success(),
            Kind::Socket => UnixListener::bind(path).is_ok(),
            Kind::Directory => fs::create_dir(path).is_ok(),
            // Only root may.
            Kind::Device => Command::new("mknod").arg(path).args(["c", "1", "5"]).output().unwrap().status.success(),
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_by_name_and_neither_followed_nor_waited_for() {
        for file in ["CURRENT", "LOCK", "manifest", "log", "table"] {
            for kind in KINDS {
                let root = tempfile::tempdir().unwrap();
                let (dir, kept) = (root.path().join("db"), root.path().join("kept"));
                make(&dir);
                let path = if ["CURRENT", "LOCK"].contains(&file) { dir.join(file) } else { name_of(&dir, file) };
                let before = fs::read(&path).unwrap();
                if !replace(&path, &kept, kind) {
                    assert_eq!(kind, Kind::Device);
                    continue;
                }
                for read_only in [true, false] {
                    let context = format!("{kind:?} in place of {}, read only: {read_only}", path.display());
                    match read(&dir, options().read_only(read_only)) {
                        Err(error) => {
                            let text = error.to_string();
                            assert!(text.contains(path.to_str().unwrap()), "{context}: {text}");
                        }
                        // Who only reads takes no lock.
                        Ok(found) => assert!(read_only && file == "LOCK" && found == 2, "{context}"),
                    }
                }
                assert_eq!(fs::read(&kept).unwrap(), before, "{kind:?} in place of {file}");
                assert!(!kept.with_extension("nothing").exists(), "{file}: nothing is made through a link");
                // Put back, it is the database that it was.
                if kind == Kind::Directory {
                    fs::remove_dir(&path).unwrap()
                } else {
                    fs::remove_file(&path).unwrap()
                }
                fs::rename(&kept, &path).unwrap();
                assert_eq!(read(&dir, options()).unwrap(), 2, "{kind:?} in place of {file}");
            }
        }
    }

    #[test]
    fn what_stands_where_files_are_to_be_made_is_not_written_through() {
        for kind in KINDS {
            let root = tempfile::tempdir().unwrap();
            let (dir, kept) = (root.path().join("db"), root.path().join("kept"));
            make(&dir);
            if !replace(&dir.join("CURRENT.tmp"), &kept, kind) {
                continue;
            }
            match read(&dir, options()) {
                Ok(found) => assert!(found == 2 && kind != Kind::Directory, "{kind:?}"),
                Err(error) => assert!(kind == Kind::Directory && error.to_string().contains("CURRENT.tmp"), "{error}"),
            }
            assert_eq!(fs::read(&kept).unwrap(), b"theirs", "{kind:?}");
        }
    }

    #[test]
    fn the_directory_may_be_a_link_and_must_be_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        make(&real);
        symlink(&real, &link).unwrap();
        assert_eq!(read(&link, options()).unwrap(), 2);
        for kind in KINDS.into_iter().filter(|kind| !matches!(kind, Kind::Link | Kind::Directory)) {
            let path = root.path().join("other");
            if replace(&path, &root.path().join("kept"), kind) {
                for read_only in [true, false] {
                    assert!(read(&path, options().read_only(read_only)).is_err(), "{kind:?}");
                }
                fs::remove_file(&path).unwrap();
            }
        }
        assert!(!root.path().join("kept.nothing").exists());
    }

    const DIR: &str = "STRANDLINE_TEST_UMASK_DIR";

    /// Not a test of its own: what runs under another umask.
    #[test]
    #[ignore = "run by the test below, as another process"]
    fn child_that_makes_files_without_a_umask() {
        if let Some(dir) = std::env::var_os(DIR) {
            make(Path::new(&dir));
            let db = options().open(dir).unwrap();
            db.keyspace("k").unwrap().put("more", "3").unwrap();
            db.compact().unwrap();
            // Not closed.
            std::mem::forget(db);
        }
    }

    #[test]
    fn files_are_for_their_owner_only_whatever_the_umask() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("above/db");
        let status = Command::new("sh")
            .args(["-c", "umask 000; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "on_disk::child_that_makes_files_without_a_umask"])
            .env(DIR, &dir)
            .output()
            .unwrap()
            .status;
        assert!(status.success());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!([mode(dir.parent().unwrap()), mode(&dir)], [0o700; 2]);
        let mut seen = 0;
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 5, "{seen}");
    }
}
