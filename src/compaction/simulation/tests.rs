//! What must hold for whole runs of the picker.

use super::*;

#[test]
fn parallel_compactions_that_end_in_any_order_keep_the_order_of_arrival() {
    // S19, S20
    for seed in 0..16usize {
        let mut tree = Tree::new(seed as u64);
        tree.memtable_bytes = [20_000, 1000][seed / 4 % 2];
        tree.latest = seed % 3 > 0;
        let keys = [500, 3000, 20_000][seed / 2 % 3];
        let deletes = [0.05, 0.5][seed % 2];
        // Writes keep to a window for a while, so that files of level 0 overlap some others, not all.
        let (mut from, mut width) = (0, keys);
        for round in 0..24_000 {
            if tree.random.random_bool(40.0 / tree.memtable_bytes as f64) {
                width = keys >> tree.random.random_range(0..8);
                from = tree.random.random_range(0..=keys - width);
                // The base level moves up and down.
                tree.options.level_base_bytes = [20_000, 60_000, 200_000, 1_000_000][tree.random.random_range(0..4)];
            }
            let key = from + tree.random.random_range(0..width);
            let dead = tree.random.random_bool(deletes);
            tree.write(key, dead);
            if tree.random.random_bool(0.005) {
                tree.flush();
            }
            if tree.random.random_bool(0.02) {
                tree.quiet = tree.random.random_bool(0.1);
                tree.detour_bytes = tree.random.random_range(0..100_000);
                tree.start_some(6);
            }
            if tree.random.random_bool(0.02) {
                tree.finish_one();
            }
            if tree.random.random_bool(0.0005) {
                if tree.latest {
                    let now = tree.now;
                    tree.snapshots.insert(now);
                } else {
                    tree.floor = tree.random.random_range(tree.floor..=tree.now);
                }
            }
            if tree.random.random_bool(0.0005)
                && let Some(snapshot) = tree.snapshots.first().copied()
            {
                tree.release(snapshot);
            }
            if round % 4000 == 0 {
                tree.check();
            }
        }
        for quiet in [false, true] {
            tree.quiet = quiet;
            tree.drain(4);
            tree.check();
        }
        println!("{:?} {:?}", tree.level_bytes(), tree.reasons);
    }
}

#[test]
fn parallel_compactions_into_empty_levels_do_not_meet() {
    // T3: where a level holds nothing yet, no busy file tells that something is on its way there.
    for seed in 100..160 {
        let mut tree = Tree::new(seed);
        tree.memtable_bytes = 300;
        for _ in 0..600 {
            let from = tree.random.random_range(0..20_000);
            for at in 0..3 {
                tree.write(from + at * 20, false);
            }
            if tree.random.random_bool(0.1) {
                tree.options.level_base_bytes = [1000, 10_000, 1_000_000][tree.random.random_range(0..3)];
            }
            tree.start_some(6);
            if tree.random.random_bool(0.3) {
                tree.finish_one();
            }
        }
        tree.drain(6);
        tree.check();
    }
}

#[test]
fn uniform_overwrites_cost_and_take_a_sane_amount() {
    for (seed, workers) in [(1, 1), (2, 3)] {
        let mut tree = Tree::new(seed);
        let keys = 20_000;
        let mut most_level0 = 0;
        for key in 0..keys {
            tree.write_beside(workers, key, false);
        }
        (tree.flushed_bytes, tree.compacted_bytes) = (0, 0);
        let mut most_space = 0.0f64;
        for round in 0..6 * keys {
            let key = tree.random.random_range(0..keys);
            tree.write(key, false);
            if round % 64 == 0 {
                tree.step(workers);
                most_level0 = most_level0.max(tree.levels[0].len());
                most_space = most_space.max(tree.bytes() as f64 / tree.live_bytes() as f64);
            }
        }
        let write = (tree.compacted_bytes + tree.flushed_bytes) as f64 / tree.flushed_bytes as f64;
        tree.drain(workers);
        let space = tree.bytes() as f64 / tree.live_bytes() as f64;
        println!("write {write:.2} space {space:.3}, at most {most_space:.3}; level 0 at most {most_level0}");
        println!("{:?} {:?}", tree.level_bytes(), tree.reasons);
        assert_eq!(tree.shape().debt_bytes(&tree.shape().targets()), 0);
        assert!(space <= 1.2 && most_space <= 1.35 && write <= 15.0 && most_level0 <= 8);
        tree.check();
    }
}

#[test]
fn a_tree_grows_from_its_last_level_upwards_and_shrinks_again() {
    let mut tree = Tree::new(3);
    let mut base = LEVELS - 1;
    for round in 0..60_000u32 {
        tree.write_beside(1, round.wrapping_mul(2_654_435_761) % 60_000, false);
        let targets = tree.shape().targets();
        assert!(targets.base_level <= base, "the base sinks while the tree grows");
        base = targets.base_level;
    }
    tree.drain(1);
    assert_eq!(base, 4);
    let bytes = tree.level_bytes();
    assert_eq!(bytes[1..4], [0, 0, 0]);
    assert!(bytes[6] > 8 * bytes[5] && bytes[5] > 5 * bytes[4], "{bytes:?}");
    for key in 0..60_000 {
        tree.write_beside(1, key, key % 50 > 0);
    }
    tree.flush();
    tree.quiet = true;
    tree.drain(1);
    let bytes = tree.level_bytes();
    println!("{bytes:?}");
    assert_eq!(tree.shape().targets().base_level, 5);
    assert_eq!(bytes[1..5], [0; 4]);
    tree.check();
}

#[test]
fn rising_keys_are_moved_not_rewritten_and_small_flushes_leave_no_small_files() {
    let mut tree = Tree::new(4);
    for key in 0..50_000 {
        tree.write_beside(2, key, false);
    }
    tree.drain(2);
    println!("{:?}", tree.reasons);
    assert_eq!(tree.compacted_bytes, 0);
    // Of a third of the size that files are cut at: not so small that they were worth a rewrite.
    let mut tree = Tree::new(5);
    tree.memtable_bytes = tree.options.target_file_bytes / 3;
    for key in 0..50_000 {
        tree.write_beside(2, key, false);
    }
    tree.drain(2);
    assert_eq!(tree.compacted_bytes, 0);
    let mut tree = Tree::new(5);
    tree.memtable_bytes = 1000;
    for key in 0..50_000 {
        tree.write_beside(2, key, false);
    }
    tree.drain(2);
    println!("{:?} files {}", tree.reasons, tree.levels[6].len());
    assert!(tree.compacted_bytes <= 2 * tree.flushed_bytes);
    assert!(tree.levels[6].len() < 1300);
}

#[test]
fn a_floor_that_moves_brings_space_back() {
    // S18
    let mut tree = Tree::new(6);
    tree.latest = false;
    for _ in 0..5 {
        for key in 0..10_000 {
            tree.write_beside(2, key, false);
        }
    }
    tree.flush();
    tree.drain(2);
    assert_eq!(tree.bytes(), 5 * tree.live_bytes());
    let before = tree.compacted_bytes;
    tree.floor = tree.now / 2;
    tree.drain(2);
    assert!(tree.bytes() < 4 * tree.live_bytes());
    tree.floor = tree.now;
    tree.drain(2);
    println!("{} of {}, rewritten {}", tree.bytes(), tree.live_bytes(), tree.compacted_bytes - before);
    assert!(tree.bytes() * 3 <= tree.live_bytes() * 4);
    assert!(tree.reasons.contains_key("Garbage"));
    tree.check();
}

#[test]
fn what_a_snapshot_pins_is_tried_once_and_goes_when_the_snapshot_does() {
    // S18, S20
    let mut tree = Tree::new(7);
    tree.latest = false;
    for key in 0..10_000 {
        tree.write_beside(2, key, false);
    }
    let snapshot = tree.now;
    tree.snapshots.insert(snapshot);
    for key in 0..10_000 {
        tree.write_beside(2, key, key % 2 == 0);
    }
    tree.flush();
    tree.floor = tree.now;
    tree.quiet = true;
    tree.drain(2);
    tree.check();
    let (bytes, compacted) = (tree.bytes(), tree.compacted_bytes);
    // The floor moves on with other writes; nothing is tried again.
    for key in 20_000..20_100 {
        tree.write(key, false);
    }
    tree.floor = tree.now;
    tree.drain(2);
    assert_eq!(tree.compacted_bytes, compacted);
    tree.release(snapshot);
    tree.drain(2);
    assert!(tree.bytes() * 2 < bytes);
    assert_eq!(tree.tombstones(), 0);
    tree.check();
}

#[test]
fn tombstones_go_when_all_is_quiet() {
    // S18
    for seed in [8, 9] {
        let mut tree = Tree::new(seed);
        for key in 0..20_000 {
            tree.write_beside(2, key, false);
        }
        for key in 0..20_000 {
            tree.write_beside(2, key, key != 7);
        }
        tree.flush();
        tree.quiet = true;
        tree.drain(2);
        assert_eq!((tree.tombstones(), tree.bytes()), (0, 100));
        tree.check();
    }
}

#[test]
fn tombstones_of_an_idle_range_go_while_another_is_busy() {
    // S18
    let mut tree = Tree::new(9);
    for key in 0..20_000 {
        tree.write_beside(2, key, false);
    }
    for key in (0..20_000).step_by(100) {
        tree.write(key, true);
    }
    tree.flush();
    let idle = |tree: &Tree| {
        tree.levels.iter().flatten().flat_map(|file| &file.rows).filter(|(key, _)| **key < 20_000).count()
    };
    assert!(idle(&tree) > 19_800);
    let compacted = |tree: &Tree| (tree.compacted_bytes, tree.flushed_bytes);
    let before = compacted(&tree);
    for _ in 0..200_000 {
        let key = 30_000 + tree.random.random_range(0..5_000);
        tree.write(key, false);
        if tree.now.is_multiple_of(20) {
            tree.step(2);
        }
    }
    let after = compacted(&tree);
    println!("write {:.2} {:?}", (after.0 - before.0) as f64 / (after.1 - before.1) as f64, tree.reasons);
    assert_eq!((idle(&tree), tree.tombstones()), (19_800, 0));
    tree.check();
}

#[test]
fn a_manual_compaction_ends_with_everything_at_the_bottom() {
    // S16
    for seed in 10..20usize {
        let mut tree = Tree::new(seed as u64);
        let (keys, loaded, workers) = (15_000, seed % 2 == 0, 1 + seed % 3);
        for _ in 0..40_000 {
            let key = tree.random.random_range(0..keys);
            let dead = tree.random.random_bool(0.2);
            tree.write(key, dead);
            if tree.random.random_bool(0.01) {
                tree.step(workers);
            }
        }
        tree.flush();
        let key = |key: u32| Slice::copy_of(&key.to_be_bytes());
        let (from, to) = if seed % 3 == 0 { (4000, 9000) } else { (0, keys) };
        let range = KeyRange { start: key(from), end: UpperBound::Excluded(key(to)) };
        let began = tree.now;
        let mut manual = ManualProgress::new(&tree.shape(), range);
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 5000);
            let step = manual.next(&tree.shape());
            match step {
                ManualStep::Run(pick) => tree.start(pick),
                ManualStep::Wait => assert!(tree.finish_one(), "waits for nothing"),
                ManualStep::Done => break,
            }
            if tree.jobs.len() >= workers {
                tree.finish_one();
            }
            if loaded {
                for _ in 0..20 {
                    let key = tree.random.random_range(0..keys);
                    tree.write(key, false);
                }
                if let Some(pick) = pick(&tree.shape()) {
                    tree.start(pick);
                }
            }
        }
        println!("{steps} steps {:?} {:?}", tree.level_bytes(), tree.reasons);
        tree.check();
        let above = tree.levels[..6].iter().flatten().flat_map(|file| &file.rows);
        let left = above.filter(|(key, _)| (from..to).contains(key)).flat_map(|(_, versions)| versions);
        assert!(left.into_iter().all(|version| version.timestamp > began), "something of the start is left above");
        for (key, versions) in tree.levels[6].iter().flat_map(|file| &file.rows) {
            let older = versions.iter().filter(|version| version.timestamp <= began);
            let in_range = (from..to).contains(key);
            assert!(!in_range || (older.clone().count() <= 1 && older.clone().all(|version| !version.dead)), "{key}");
        }
        assert!(loaded || matches!(manual.next(&tree.shape()), ManualStep::Done));
    }
}
