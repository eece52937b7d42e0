//! What a crash leaves, over many seeds: nothing durable is ever missing, and everything else that can happen does.

use std::collections::BTreeSet;

use super::*;

const P: Purpose = Purpose::Table;
const SEEDS: u64 = 2000;

fn create(fs: &MemFs, path: &str) -> Box<dyn WriteFile> {
    fs.create(P, path.as_ref()).unwrap()
}

/// A file whose name and content are durable.
fn durable(fs: &MemFs, path: &str, bytes: &[u8]) -> Box<dyn WriteFile> {
    let mut file = create(fs, path);
    file.append(bytes).unwrap();
    file.sync().unwrap();
    fs.sync_dir(P, Path::new(path).parent().unwrap()).unwrap();
    file
}

fn names(fs: &MemFs, dir: &str) -> Vec<String> {
    fs.list(P, dir.as_ref()).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// What each seed leaves, each once.
fn outcomes<T: Ord>(fs: &MemFs, look: impl Fn(&MemFs) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(|seed| look(&fs.power_cut(seed))).collect()
}

fn contents(fs: &MemFs, path: &str) -> BTreeSet<Vec<u8>> {
    outcomes(fs, |image| image.read_file(path).unwrap())
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    // S21
    let fs = MemFs::new();
    fs.create_dir(P, "/db/deep".as_ref()).unwrap();
    let mut table = durable(&fs, "/db/1.table", &[1; 3000]);
    let log = fs.create_log(P, "/db/deep/2.log".as_ref(), 1 << 16).unwrap();
    log.append(&[2; 700]).unwrap();
    log.sync().unwrap();
    fs.sync_dir(P, "/db/deep".as_ref()).unwrap();
    for round in 0..20 {
        table.append(&[round; 300]).unwrap();
        log.append(&[round; 300]).unwrap();
    }
    drop(create(&fs, "/db/other"));
    for seed in 0..SEEDS {
        let image = fs.power_cut(seed);
        assert_eq!(image.read_file("/db/1.table").unwrap()[..3000], [1; 3000], "seed {seed}");
        assert_eq!(image.read_file("/db/deep/2.log").unwrap()[..700], [2; 700], "seed {seed}");
    }
}

#[test]
fn of_unsynced_writes_everything_can_be_left() {
    let fs = MemFs::new();
    let mut file = durable(&fs, "/f", b"ss");
    file.append(b"AAA").unwrap();
    file.append(b"BBB").unwrap();
    let seen = contents(&fs, "/f");
    let possible: &[&[u8]] = &[
        b"ss",       // lost
        b"ssAAABBB", // kept
        b"ssAAA",    // cut off between writes
        b"ssAA",     // cut off within one
        b"ssAAAB",
        b"ss\0\0\0BBB", // kept out of order
        b"ssA\0\0BBB",  // torn out of order
        b"ssAAA\0\0\0", // lost, with its length kept
        b"ssAAA\0",     // lost, with some length kept
        b"ss\0\0\0\0\0\0",
        b"ssA\0\0B\0\0",
    ];
    for bytes in possible {
        assert!(seen.contains(*bytes), "{:?} was never left", bytes.escape_ascii().to_string());
    }
    // And nothing that was never written.
    for bytes in seen {
        assert!(bytes.len() <= 8);
        assert!(bytes.iter().zip(b"ssAAABBB").enumerate().all(|(i, (got, was))| got == was || (*got == 0 && i >= 2)));
    }
}

#[test]
fn large_writes_tear_at_sectors() {
    let fs = MemFs::new();
    let mut file = durable(&fs, "/f", b"");
    file.append(&[b'x'; 2048]).unwrap();
    let whole_sectors = |bytes: &[u8]| -> Option<String> {
        let mut pattern = String::new();
        for sector in bytes.chunks(512) {
            match (sector.len(), sector.iter().all(|b| *b == b'x'), sector.iter().all(|b| *b == 0)) {
                (512, true, _) => pattern.push('x'),
                (512, _, true) => pattern.push('0'),
                _ => return None,
            }
        }
        Some(pattern)
    };
    let seen: BTreeSet<_> = contents(&fs, "/f").iter().filter_map(|bytes| whole_sectors(bytes)).collect();
    for pattern in ["", "x", "xx", "xxx", "xxxx", "0x", "x0x", "0xxx", "x0xx", "000x"] {
        assert!(seen.contains(pattern), "{pattern} was never left: {seen:?}");
    }
}

#[test]
fn a_log_is_left_with_any_length_up_to_its_room() {
    let fs = MemFs::new();
    let log = fs.create_log(P, "/l".as_ref(), 100).unwrap();
    fs.sync_dir(P, "/".as_ref()).unwrap();
    log.append(b"abc").unwrap();
    let lens = |fs: &MemFs| outcomes(fs, |image| image.read_file("/l").unwrap().len());
    assert!(lens(&fs).is_superset(&BTreeSet::from([0, 1, 2, 3, 100])));
    log.sync().unwrap();
    assert_eq!(lens(&fs), BTreeSet::from([3, 100]));
    log.truncate().unwrap();
    assert_eq!(lens(&fs), BTreeSet::from([3, 100]), "cutting off is not durable by itself");
    log.sync().unwrap();
    assert_eq!(lens(&fs), BTreeSet::from([3]));
}

#[test]
fn a_name_that_was_not_synced_may_be_lost_with_what_was() {
    let fs = MemFs::new();
    let mut file = create(&fs, "/f");
    file.append(b"synced").unwrap();
    file.sync().unwrap();
    let look = |image: &MemFs| image.read_file("/f").ok();
    assert_eq!(outcomes(&fs, look), BTreeSet::from([None, Some(b"synced".to_vec())]));
    fs.sync_dir(P, "/".as_ref()).unwrap();
    assert_eq!(outcomes(&fs, look), BTreeSet::from([Some(b"synced".to_vec())]));
}

#[test]
fn changes_of_names_are_kept_or_lost_each_on_its_own() {
    let fs = MemFs::new();
    drop(durable(&fs, "/old", b""));
    drop(create(&fs, "/a"));
    fs.remove(P, "/old".as_ref()).unwrap();
    drop(create(&fs, "/b"));
    assert_eq!(outcomes(&fs, |image| names(image, "/")).len(), 8);
    fs.sync_dir(P, "/".as_ref()).unwrap();
    assert_eq!(outcomes(&fs, |image| names(image, "/")), BTreeSet::from([vec!["a".to_owned(), "b".to_owned()]]));
}

#[test]
fn a_rename_leaves_the_old_or_the_new_never_neither() {
    let fs = MemFs::new();
    drop(durable(&fs, "/CURRENT", b"1"));
    for step in [&b"2"[..], b"3"] {
        let mut file = create(&fs, "/tmp");
        file.append(step).unwrap();
        file.sync().unwrap();
        fs.rename(P, "/tmp".as_ref(), "/CURRENT".as_ref()).unwrap();
    }
    assert_eq!(contents(&fs, "/CURRENT"), BTreeSet::from([b"1".to_vec(), b"2".to_vec(), b"3".to_vec()]));
    fs.sync_dir(P, "/".as_ref()).unwrap();
    assert_eq!(contents(&fs, "/CURRENT"), BTreeSet::from([b"3".to_vec()]));
    assert_eq!(outcomes(&fs, |image| names(image, "/")), BTreeSet::from([vec!["CURRENT".to_owned()]]));
}

#[test]
fn a_file_renamed_twice_is_left_under_one_name() {
    let fs = MemFs::new();
    drop(durable(&fs, "/a", b"it"));
    fs.rename(P, "/a".as_ref(), "/b".as_ref()).unwrap();
    fs.rename(P, "/b".as_ref(), "/c".as_ref()).unwrap();
    let seen = outcomes(&fs, |image| names(image, "/").concat());
    assert_eq!(seen, BTreeSet::from(["a".to_owned(), "b".to_owned(), "c".to_owned()]));
}

#[test]
fn a_directory_is_durable_when_made_but_not_what_is_in_it() {
    let fs = MemFs::new();
    fs.create_dir(P, "/x/y".as_ref()).unwrap();
    drop(create(&fs, "/x/y/f"));
    assert_eq!(outcomes(&fs, |image| names(image, "/x/y").len()), BTreeSet::from([0, 1]));

    // Removing it can be undone, with all that was in it.
    fs.sync_dir(P, "/x/y".as_ref()).unwrap();
    fs.remove(P, "/x/y/f".as_ref()).unwrap();
    fs.remove_dir(P, "/x/y".as_ref()).unwrap();
    let seen = outcomes(&fs, |image| image.list(P, "/x/y".as_ref()).map(|entries| entries.len()).ok());
    assert_eq!(seen, BTreeSet::from([None, Some(0), Some(1)]));
    fs.sync_dir(P, "/x".as_ref()).unwrap();
    assert_eq!(outcomes(&fs, |image| names(image, "/x").len()), BTreeSet::from([0]));
    assert_eq!(fs.shared.tree.read().dirs.len(), 2, "what cannot come back is forgotten");
}

/// All names and contents.
fn everything(fs: &MemFs) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| (name.clone(), fs.read_file(&name).unwrap());
    names(fs, "/").into_iter().map(read).collect()
}

/// Some files in all states of durability.
fn unsettled() -> MemFs {
    let fs = MemFs::new();
    for name in ["a", "b", "c", "d"] {
        let mut file = durable(&fs, &format!("/{name}"), &[1; 600]);
        file.append(&[2; 600]).unwrap();
        file.append(&[3; 600]).unwrap();
    }
    for name in ["a2", "b2", "c2"] {
        create(&fs, &format!("/{name}")).append(&[4; 600]).unwrap();
    }
    fs.remove(P, "/a".as_ref()).unwrap();
    fs.rename(P, "/a2".as_ref(), "/b".as_ref()).unwrap();
    fs
}

#[test]
fn the_same_seed_leaves_the_same() {
    let (one, two) = (unsettled(), unsettled());
    for seed in 0..100 {
        assert_eq!(everything(&one.power_cut(seed)), everything(&two.power_cut(seed)), "seed {seed}");
    }
    assert!(outcomes(&one, everything).len() > 100);
}

#[test]
fn all_can_be_lost_or_kept_at_will() {
    let fs = unsettled();
    assert_eq!(everything(&fs.power_cut(PowerCut::Keep)), everything(&fs));
    let lost: Vec<_> = ["a", "b", "c", "d"].map(|name| (name.to_owned(), vec![1; 600])).into();
    assert!(everything(&fs.power_cut(PowerCut::Lose)) == lost);
}

#[test]
fn an_image_is_durable_and_lives_by_itself() {
    let fs = unsettled();
    let image = fs.power_cut(7);
    let left = everything(&image);
    drop(create(&fs, "/later"));
    fs.write_file("/c", *b"changed").unwrap();
    assert_eq!(everything(&image), left);
    assert_eq!(everything(&image.power_cut(PowerCut::Lose)), left);
    drop(create(&image, "/theirs"));
    assert!(fs.read_file("/theirs").is_err());
}

#[test]
fn a_killed_process_leaves_everything_as_durable_as_it_was_and_no_lock() {
    // S30
    let fs = unsettled();
    let log = fs.create_log(P, "/log".as_ref(), 10_000).unwrap();
    log.append(b"written, not synced").unwrap();
    let _held = fs.lock(P, "/LOCK".as_ref()).unwrap();
    let killed = fs.kill();
    assert_eq!(everything(&killed), everything(&fs));
    for seed in 0..100 {
        assert_eq!(everything(&killed.power_cut(seed)), everything(&fs.power_cut(seed)), "seed {seed}");
    }
    log.append(b"too late").unwrap();
    assert!(killed.read_file("/log").unwrap()[19..].iter().all(|byte| *byte == 0));
    let _lock = killed.lock(P, "/LOCK".as_ref()).unwrap();
    assert_eq!(fs.lock(P, "/LOCK".as_ref()).err().unwrap().kind(), ErrorKind::WouldBlock);
    let _lock = fs.power_cut(PowerCut::Keep).lock(P, "/LOCK".as_ref()).unwrap();
}

#[test]
fn a_full_disk_refuses_until_there_is_room() {
    // S26
    let full = |result: io::Result<()>| result.unwrap_err().kind() == ErrorKind::StorageFull;
    let fs = MemFs::new();
    fs.set_capacity(Some(100));
    let mut file = create(&fs, "/a");
    file.append(&[1; 60]).unwrap();
    assert_eq!(fs.create_log(P, "/log".as_ref(), 50).err().unwrap().kind(), ErrorKind::StorageFull);
    assert_eq!(names(&fs, "/"), ["a"]);
    let log = fs.create_log(P, "/log".as_ref(), 30).unwrap();
    log.append(&[2; 30]).unwrap();
    assert!(full(log.append(&[3; 11])));
    assert_eq!(fs.read_file("/log").unwrap().len(), 40, "what had room was written");
    assert!(log.sync().is_err(), "L2: a file that failed stays failed");
    assert!(full(file.append(b"x")));

    fs.remove(P, "/a".as_ref()).unwrap();
    let mut file = create(&fs, "/b");
    file.append(&[1; 50]).unwrap();
    let image = fs.power_cut(PowerCut::Keep);
    create(&image, "/c").append(&[1; 10]).unwrap();
    assert!(full(create(&image, "/d").append(b"x")));
    fs.rename(P, "/b".as_ref(), "/log".as_ref()).unwrap();
    file.append(&[1; 50]).unwrap();
    assert!(full(file.append(b"x")));
    fs.set_capacity(None);
    create(&fs, "/e").append(&[1; 500]).unwrap();
}

#[test]
fn room_that_a_log_does_not_need_comes_back() {
    let fs = MemFs::new();
    fs.set_capacity(Some(100));
    let log = fs.create_log(P, "/log".as_ref(), 100).unwrap();
    log.append(b"12345").unwrap();
    log.truncate().unwrap();
    create(&fs, "/a").append(&[1; 95]).unwrap();
    assert!(create(&fs, "/b").append(b"x").is_err());
}

#[test]
fn bytes_put_in_from_outside_are_seen_and_last() {
    let fs = MemFs::new();
    fs.write_file("/new/dir/f", *b"first").unwrap();
    let reader = fs.open(P, "/new/dir/f".as_ref()).unwrap();
    fs.write_file("new/./dir/f", *b"2nd").unwrap();
    let mut bytes = [0; 3];
    reader.read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"2nd");
    assert_eq!(fs.power_cut(PowerCut::Lose).read_file("/new/dir/f").unwrap(), b"2nd");
    assert!(fs.write_file("/new/dir", *b"").is_err());
}

#[test]
fn an_image_is_of_one_moment() {
    // A file is synced before the next one is written: no image may hold the second without the first.
    let fs = MemFs::new();
    let (mut first, mut second) = (durable(&fs, "/z", b""), durable(&fs, "/a", b""));
    let writer = crate::sync::spawn("writer", move || {
        for _ in 0..3000 {
            first.append(b"x").unwrap();
            first.sync().unwrap();
            second.append(b"x").unwrap();
            second.sync().unwrap();
        }
    });
    loop {
        let image = fs.power_cut(PowerCut::Lose);
        let (first, second) = (image.read_file("/z").unwrap().len(), image.read_file("/a").unwrap().len());
        assert!(first == second || first == second + 1, "{first} {second}");
        if second == 3000 {
            break;
        }
    }
    writer.unwrap().join().unwrap();
}

#[test]
fn after_a_failed_sync_a_later_one_succeeds_and_writes_nothing() {
    // S25
    let fs = MemFs::new();
    let mut file = durable(&fs, "/f", b"before ");
    file.append(b"lost").unwrap();
    fs.sync_failed("/f".as_ref());
    let fs = fs.kill();
    assert_eq!(fs.read_file("/f").unwrap(), b"before lost", "who asks sees it");
    fs.sync_file(P, "/f".as_ref()).unwrap();
    assert_eq!(fs.power_cut(PowerCut::Lose).read_file("/f").unwrap(), b"before ");
    assert!(contents(&fs, "/f").len() > 2, "some of it may have been written all the same");
    // Written anew it lasts.
    drop(durable(&fs, "/g", b"lost"));
    assert_eq!(fs.power_cut(PowerCut::Lose).read_file("/g").unwrap(), b"lost");
}

#[test]
fn after_a_failed_sync_of_a_directory_a_later_one_makes_only_later_names_durable() {
    // S25
    let fs = MemFs::new();
    drop(durable(&fs, "/CURRENT", b"1"));
    let renamed = |to: &[u8]| {
        let mut file = create(&fs, "/tmp");
        file.append(to).unwrap();
        file.sync().unwrap();
        fs.rename(P, "/tmp".as_ref(), "/CURRENT".as_ref()).unwrap();
    };
    drop(create(&fs, "/a"));
    renamed(b"2");
    fs.sync_failed("/".as_ref());
    drop(create(&fs, "/b"));
    fs.sync_dir(P, "/".as_ref()).unwrap();
    let lost = fs.kill().power_cut(PowerCut::Lose);
    assert_eq!(names(&lost, "/"), ["CURRENT", "b"]);
    assert_eq!(lost.read_file("/CURRENT").unwrap(), b"1");
    assert_eq!(outcomes(&fs, |image| names(image, "/")).len(), 4, "with and without a, and the name of 2");

    renamed(b"3");
    fs.sync_dir(P, "/".as_ref()).unwrap();
    assert_eq!(contents(&fs, "/CURRENT"), BTreeSet::from([b"3".to_vec()]), "nothing older comes back over it");
}
