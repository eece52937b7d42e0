//! Faults that only another order of steps shows, each with the tests that must find it.

use super::code::Change;

pub struct OrderMutant {
    pub name: &'static str,
    pub changes: &'static [Change],
    /// What stands behind the engine's locks, atomics and threads: `loom` or `shuttle`.
    pub checker: &'static str,
    /// What the names of the tests begin with.
    pub tests: &'static str,
}

macro_rules! mutants {
    ($($name:literal, $checker:literal, $tests:literal, [$($file:literal: $from:literal => $to:literal),+ $(,)?];)*) => {
        &[$(OrderMutant {
            name: $name,
            changes: &[$(Change { file: $file, from: $from, to: $to }),+],
            checker: $checker,
            tests: $tests,
        }),*]
    };
}

pub const MUTANTS: &[OrderMutant] = mutants![
    // Views and horizons.
    "V1: a view does not look whether the world has changed", "loom", "loom_a_memtable_leaves", [
        "src/db/current.rs": "            if Arc::ptr_eq(&world, &self.world.load()) {\n                return View" => "            if Arc::ptr_eq(&world, &world) {\n                return View"];
    "V1: a read does not look whether the world has changed", "loom", "loom_a_view_shows", [
        "src/db/current.rs": "            if Arc::ptr_eq(&world, &self.world.load()) {\n                return read" => "            if Arc::ptr_eq(&world, &world) {\n                return read"];
    "V1: the count of horizons is stored without order", "loom", "loom_a_horizon_is_whole", [
        "src/db/current.rs": "self.count.store(count, Ordering::Release);" => "self.count.store(count, Ordering::Relaxed);"];
    "V1: a memtable is flushed before all in it is published", "shuttle", "shuttle_every_view", [
        "src/db/flush.rs": "if !self.in_flight.wait_published(unit.sequence, &self.current.published) {" => "if self.in_flight.wait_published(0, &self.current.published) && unit.sequence == 0 {"];
    "V1: memtables are sealed without the commit lock", "shuttle", "shuttle_every_view", [
        "src/db/flush.rs": "        let mems = self.current.change(|world| {\n            let mut together" => "        let mems = MutexGuard::unlocked(state, || self.current.change(|world| {\n            let mut together",
        "src/db/flush.rs": "            Ok((next, mems))\n        })?;" => "            Ok((next, mems))\n        }))?;"];
    "V2: what is not done is published", "loom", "loom_commits_are_published", [
        "src/db/pipeline.rs": "if front.state != EntryState::Done || " => "if front.state == EntryState::Abandoned || "];
    "V2: a commit returns before it is published", "loom", "loom_commits_are_published", [
        "src/db/pipeline.rs": "        while published.horizon().sequence < sequence {\n            if let" => "        while published.horizon().sequence < sequence.min(0) {\n            if let"];
    "V2: a commit is published before it is applied", "shuttle", "shuttle_every_view", [
        "src/db/commit.rs": "        let applied = apply(" => "        self.in_flight.publish(last_sequence, &self.current.published)?;\n        let applied = apply("];
    // The memtable's list.
    "V1: an entry is linked without order", "loom", "loom_a_reader_meets_whole", [
        "src/memtable/skiplist/mod.rs": "linked.to_link(), Ordering::Release, Ordering::Relaxed)" => "linked.to_link(), Ordering::Relaxed, Ordering::Relaxed)"];
    "V1: a landmark is shown without order", "loom", "loom_a_search_from_a_landmark", [
        "src/memtable/skiplist/landmarks.rs": "range.store(entry.to_link(), Ordering::Release);" => "range.store(entry.to_link(), Ordering::Relaxed);"];
    "list: who links does not look whether another has", "loom", "loom_two_inserts_of_neighbours", [
        "src/memtable/skiplist/mod.rs": "                    if behind\n                        .compare_exchange(after.to_link(), linked.to_link(), Ordering::Release, Ordering::Relaxed)\n                        .is_ok()\n                    {\n                        break;\n                    }" => "                    behind.store(linked.to_link(), Ordering::Release);\n                    break;"];
    "list: two take the same piece of a chunk", "loom", "loom_pieces_are_apart", [
        "src/memtable/skiplist/arena.rs": "let at = chunk.used.fetch_add(bytes, Ordering::Relaxed);" => "let at = chunk.used.load(Ordering::Relaxed);\n                chunk.used.store(at + bytes, Ordering::Relaxed);"];
    "T1: of equal timestamps the earlier arrival comes first", "shuttle", "shuttle_writers_and_readers", [
        "src/memtable/skiplist/entry.rs": "place.sequence.cmp(&self.sequence())" => "self.sequence().cmp(&place.sequence)"];
    // Conditions.
    "S8: what was reserved during a check is not looked at", "shuttle", "shuttle_of_conditions", [
        "src/db/condition/mod.rs": "let found = since.clone().find_map(written);" => "let found = since.clone().find_map(written).filter(|_| round == 0);"];
    "S8: a check does not look at what waits to be published", "shuttle", "shuttle_of_conditions", [
        "src/db/condition/mod.rs": "if let Some(found) = self.check_stored(condition, watcher.seen)? {" => "if let Some(found) = self.check_stored(condition, self.current.horizon().sequence)? {"];
    "S15: a transaction does not wait for late commits on their way", "shuttle", "shuttle_nothing_comes_in", [
        "src/db/snapshot.rs": "            if let Some(reserved) = reserved {" => "            if let Some(reserved) = reserved.filter(|reserved| *reserved == 0) {"];
    "S15: late commits do not look for transactions", "shuttle", "shuttle_nothing_comes_in", [
        "src/db/commit.rs": "if admitted.late && is_seen() {" => "if admitted.late && admitted.timestamp == 0 && is_seen() {"];
    "S15: nobody looks for what is prepared", "shuttle", "shuttle_what_is_prepared", [
        "src/db/commit.rs": "        if state.prepared.locks_anything() {" => "        if false && state.prepared.locks_anything() {"];
    "S15: who prepares does not look for what is prepared", "shuttle", "shuttle_what_is_prepared", [
        "src/db/prepared/table.rs": "self.met_by(pending).map_or(Ok(()), |met| Err(Refused::Met(met)))" => "Ok(())"];
    "prepared: an outcome is told before it is published", "shuttle", "shuttle_of_those_who_decide", [
        "src/db/prepared/mod.rs": "            if sequence <= published {\n" => "            if sequence > 0 {\n"];
    "S8: what waits for its sync counts as applied before it is", "loom", "loom_who_waits_for_what_is_applied", [
        "src/db/pipeline.rs": "take_while(before).any(|entry| entry.state == EntryState::Applying)" => "take_while(before).skip(1).any(|entry| entry.state == EntryState::Applying)"];
    // Floors.
    "R1: a snapshot looks at the floors before it registers", "shuttle", "shuttle_a_snapshot_is_in_the_list", [
        "src/db/snapshot.rs": "            let snapshot = Self::registered(session, last, engine.now(last), false);" => "            let floors = engine.world().keyspaces().iter().map(|one| one.core.floor()).max().unwrap_or(0);\n            let snapshot = Self::registered(session, last, engine.now(last), false);",
        "src/db/snapshot.rs": "then newer commits are there as well.\n            if snapshot.is_above_floors() {" => "then newer commits are there as well.\n            if floors <= last {"];
    "R1: a snapshot of a time looks at the floors before it registers", "shuttle", "shuttle_a_snapshot_is_in_the_list", [
        "src/db/snapshot.rs": "        let snapshot = Self::registered(session, timestamp, timestamp, false);\n" => "        let world = engine.world();\n        let floors = world.keyspaces().iter().map(|one| (one.core.id, one.core.floor()));\n        let refused: Vec<_> = floors.filter(|(_, floor)| *floor > timestamp).collect();\n        let snapshot = Self::registered(session, timestamp, timestamp, false);\n",
        "src/db/snapshot.rs": "        let refused: Vec<_> = snapshot.floors().filter(|(_, floor)| *floor > timestamp).collect();\n" => ""];
    "R1: a merge raises the floor after it has looked at the snapshots", "shuttle", "shuttle_a_snapshot_is_in_the_list", [
        "src/db/retention.rs": "        core.raise_floor(floor, settled.log_end);\n        Ok(MergeFloor" => "        Ok(MergeFloor",
        "src/db/flush.rs": "&|_| self.check_sound())?;" => "&|_| self.check_sound())?;\n            core.raise_floor(floor.floor, floor.log_end);"];
    "R1: a flush looks at the world before it raises the floor", "shuttle", "shuttle_a_merge_knows_every_memtable", [
        "src/db/flush.rs": "            let floor = self.raise_merge_floor(&core, Some((mem, unit.settles())))?;" => "            let world = self.world();\n            let floor = self.raise_merge_floor(&core, Some((mem, unit.settles())))?;",
        "src/db/flush.rs": "            let world = self.world();\n            let Some(keyspace) = world.get(*id) else { continue };" => "            let Some(keyspace) = world.get(*id) else { continue };"];
    "R1: a compaction looks at the world before it raises the floor", "shuttle", "shuttle_a_merge_knows_every_memtable", [
        "src/db/compaction_job.rs": "        let floor = self.raise_merge_floor(&core, None)?;\n        // Looked at after the floor was raised (R1).\n        let world = self.world();" => "        let world = self.world();\n        let floor = self.raise_merge_floor(&core, None)?;"];
    "R1: a merge does not wait for what was admitted at or below its floor", "shuttle", "shuttle_nothing_dead_is_revived", [
        "src/db/retention.rs": "        if !self.in_flight.wait_published(reserved, &self.current.published) {\n            self.check_sound()?;\n            return Err(Error::Closed);\n        }\n        core.raise_floor" => "        core.raise_floor"];
    "R1: commits are admitted below a floor that rises", "shuttle", "shuttle_nothing_dead_is_revived", [
        "src/db/retention.rs": "        core.raise_admission_floor(floor);\n        let reserved" => "        let reserved"];
    // Group sync.
    "group sync: two lead at once", "loom", "loom_all_who_wait_for_a_sync", [
        "src/log/group.rs": "            state.leading = true;\n" => ""];
    "group sync: who has led wakes nobody", "loom", "loom_all_who_wait_for_a_sync", [
        "src/log/group.rs": "            self.led.notify_all();\n" => ""];
];

#[test]
fn every_mutant_applies_and_its_tests_are_there() {
    let tests = [
        "src/db/loom_tests.rs",
        "src/log/loom_tests.rs",
        "src/db/shuttle_tests.rs",
        "src/db/shuttle_tests/conditions.rs",
        "src/db/shuttle_tests/floors.rs",
        "src/db/shuttle_tests/prepared.rs",
        "src/memtable/skiplist/loom_tests.rs",
        "src/memtable/skiplist/shuttle_tests.rs",
    ];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tests: String = tests.iter().map(|file| std::fs::read_to_string(root.join(file)).unwrap()).collect();
    for mutant in MUTANTS {
        super::code::assert_apply(mutant.name, mutant.changes);
        assert!(mutant.tests.starts_with(mutant.checker) && tests.contains(&format!("fn {}", mutant.tests)));
    }
}
