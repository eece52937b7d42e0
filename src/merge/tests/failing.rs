//! Sources that fail.

use std::cell::Cell;
use std::ops::Bound;
use std::rc::Rc;

use super::source::TestSource;
use super::world::World;
use crate::Error;
use crate::merge::{AsOfCursor, Changes, History, MergingCursor, Scan};

fn world() -> World {
    let mut world = World::new(7, true);
    for _ in 0..30 {
        world.commit();
        if world.chance(15) {
            world.seal();
        }
    }
    world
}

fn failing_after(world: &World, calls: usize) -> Vec<TestSource> {
    let left = Rc::new(Cell::new(calls));
    let mut sources = world.cursors();
    for source in &mut sources {
        source.calls_left = Some(Rc::clone(&left));
    }
    sources
}

#[test]
fn after_an_error_a_cursor_is_off_the_end() {
    let world = world();
    let mut failed = 0;
    for calls in 0..400 {
        let mut keys = MergingCursor::new(failing_after(&world, calls));
        let sought = keys.seek(b"a").is_ok();
        let mut steps = 0..40;
        let mut failing_step = |i: usize| {
            let moved = if i % 5 < 3 { keys.next() } else { keys.prev() };
            moved.and_then(|()| keys.is_live_at(9, 9).map(drop)).is_err()
        };
        if sought && steps.any(&mut failing_step) {
            assert!(keys.key().is_none() && keys.prev().is_ok() && keys.next().is_ok() && keys.key().is_none());
        }
        let keys = MergingCursor::new(failing_after(&world, calls));
        let mut cursor = AsOfCursor::new(keys, world.last, world.last, Bound::Unbounded, Bound::Unbounded);
        let mut moved = cursor.seek_to_first();
        for step in 0..40 {
            if moved.is_err() {
                failed += 1;
                assert!(cursor.entry().is_none() && cursor.next().is_ok() && cursor.prev().is_ok());
                assert!(cursor.entry().is_none());
                break;
            }
            moved = if step % 5 < 3 { cursor.next() } else { cursor.prev() };
        }
    }
    assert!(failed > 50, "{failed}");
}

#[test]
fn iterators_are_fused_after_an_error() {
    let world = world();
    let mut failed = 0;
    let mut check = |mut next: Box<dyn FnMut() -> Option<Result<(), Error>> + '_>| {
        for _ in 0..1000 {
            match next() {
                Some(Ok(())) => {}
                ended => {
                    failed += usize::from(ended.is_some());
                    assert!(next().is_none() && next().is_none());
                    return;
                }
            }
        }
        panic!("no end");
    };
    for calls in 0..200 {
        let make = || Ok(MergingCursor::new(failing_after(&world, calls)));
        let mut scan = Scan::new(make, world.last, world.last, Bound::Unbounded, Bound::Unbounded);
        let mut turn = 0;
        check(Box::new(|| {
            turn += 1;
            let next = if turn % 3 == 0 { scan.next_back() } else { scan.next_front() };
            next.map(|entry| entry.map(drop))
        }));
        let mut changes = Changes::new(failing_after(&world, calls), world.ranges(), 1, world.last);
        check(Box::new(|| changes.next().map(|change| change.map(drop))));
        if let Ok(mut history) = History::new(failing_after(&world, calls), crate::Slice::empty(), 0, u64::MAX, 0) {
            check(Box::new(|| history.next().map(|version| version.map(drop))));
        }
    }
    assert!(failed > 100, "{failed}");
}
