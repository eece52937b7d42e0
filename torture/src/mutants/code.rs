//! Faults in the engine's source, each with the program that must find it.

/// One place that is changed.
pub struct Change {
    pub file: &'static str,
    /// What stands there, exactly once.
    pub from: &'static str,
    pub to: &'static str,
}

impl Change {
    /// The text with the change.
    ///
    /// # Errors
    /// What is to be changed does not stand there, or more than once.
    pub fn apply(&self, text: &str) -> Result<String, String> {
        match text.matches(self.from).count() {
            1 => Ok(text.replacen(self.from, self.to, 1)),
            times => Err(format!("{} has {:?} {times} times", self.file, self.from)),
        }
    }
}

/// How long a program may look for it.
pub enum Until {
    Rounds(u64),
    Minutes(f64),
}

pub struct CodeMutant {
    pub name: &'static str,
    pub changes: &'static [Change],
    pub program: &'static str,
    pub until: Until,
}

/// A life of the power cuts is cut 12 times or a little more: some 2,000 cuts.
const CUTS: Until = Until::Rounds(165);
const SEEDS: Until = Until::Rounds(2000);
/// Some 3,000 kills.
const KILLS: Until = Until::Rounds(300);
/// Of two databases a part of all damage: some 9,000.
const DAMAGES: Until = Until::Rounds(32);
/// Some 300 databases.
const SETS: Until = Until::Rounds(32);
/// A round of the faults fails some 100 calls, of which those that matter are few.
const FAULTS: Until = Until::Rounds(120);
/// A life on a disk that gets full six times.
const FULL: Until = Until::Rounds(330);
/// A round has some 2,000 commits.
const THREADS: Until = Until::Rounds(60);
/// A round has some 1,000 transactions.
const ROUNDS: Until = Until::Rounds(200);
/// A round has eight images.
const IMAGES: Until = Until::Rounds(250);

macro_rules! mutants {
    ($($name:literal, $program:literal, $until:expr, [$($file:literal: $from:literal => $to:literal),+ $(,)?];)*) => {
        &[$(CodeMutant {
            name: $name,
            changes: &[$(Change { file: $file, from: $from, to: $to }),+],
            program: $program,
            until: $until,
        }),*]
    };
}

pub const MUTANTS: &[CodeMutant] = mutants![
    // The log.
    "log: a record's checksum is not looked at", "power-cuts", CUTS, [
        "src/log/reader.rs": "Ok(header.fits(place, payload).then_some(record))" => "Ok(Some(record))"];
    "log: what a torn log has lost is not written down", "power-cuts", CUTS, [
        "src/db/open.rs": "if let Some(cut) = found.cut {" => "if let Some(cut) = found.cut.filter(|_| false) {"];
    "log: what was replayed counts as synced", "power-cuts", CUTS, [
        "src/log/plan.rs": "let end = reached.proved;" => "let end = reached.end;",
        "src/log/recovery.rs": "next: LogStart { ordinal: next_ordinal, position: proved }," => "next: LogStart { ordinal: next_ordinal, position: replayed.end },"];
    "log: a copied tail is not synced", "power-cuts", CUTS, [
        "src/log/recovery.rs": "    log.sync_through(log.end())\n}" => "    Ok(())\n}"];
    "log: segments behind a gap are replayed", "power-cuts", CUTS, [
        "src/log/recovery.rs": "if !plan.goes_on(index, replayed.end, expectation) {" => "if false {"];
    "log: the whole log is replayed, also what tables cover", "power-cuts", CUTS, [
        "src/db/open.rs": "if record.position.0 >= covered {" => "if covered < u64::MAX {"];
    "log: a segment goes although another keyspace needs it", "power-cuts", CUTS, [
        "src/db/flush.rs": "log.start_at(self.log_needed_from(unit))" => "log.start_at(unit.log_end)"];
    "log: a record says that all before it is synced", "power-cuts", CUTS, [
        "src/log/writer.rs": "let header = RecordHeader::of(kind, flags, self.synced(), place" => "let header = RecordHeader::of(kind, flags, self.end(), place"];
    "log: a flush covers what was logged after its memtable was sealed", "power-cuts", CUTS, [
        "src/db/flush.rs": "flat_map(|one| one.changes(unit.log_end))" => "flat_map(|one| one.changes(log.end()))"];
    // Commits.
    "commit: a synced commit returns before its sync", "power-cuts", CUTS, [
        "src/db/commit.rs": "                log.sync_through(end)" => "                let _ = (log, end);\n                Ok(())"];
    "commit: a flush gets ahead of the log", "power-cuts", CUTS, [
        "src/db/flush.rs": "if unsynced { log.proof() } else { self.sync_log(covered)? }" => "log.proof()"];
    "commit: a flush gets ahead of the log where it lets a part of it go", "power-cuts", CUTS, [
        "src/db/flush.rs": "let unsynced = covered <= start.position && log.is_much(spared);" => "let unsynced = log.is_much(spared);"];
    "log: segments stay of which nothing is proved but that nothing before is needed", "power-cuts", CUTS, [
        "src/log/plan.rs": "link.header.start < end && expectation.start.position < end" => "link.header.start < end",
        "src/log/recovery.rs": "segment.start < proved && self.start < proved" => "segment.start < proved"];
    "commit: keyspaces that share an unlogged batch are flushed apart", "power-cuts", CUTS, [
        "src/db/flush.rs": "waiting.extend(keyspace.active.links());" => ""];
    "commit: the last timestamp is not kept", "power-cuts", CUTS, [
        "src/db/flush.rs": "changes.push(Change::LastTimestamp { timestamp: unit.last_timestamp });" => ""];
    "commit: a closed time is not kept", "power-cuts", CUTS, [
        "src/db/retention.rs": "let changes = vec![Change::Closed { timestamp }, Change::LogProved" => "let changes = vec![Change::LogProved"];
    "commit: a late one is taken for one on time", "lives", SEEDS, [
        "src/db/pipeline.rs": "Ok(Admitted { timestamp, late })" => "Ok(Admitted { timestamp, late: late && timestamp == 0 })"];
    // Files.
    "files: a number is given out twice", "power-cuts", CUTS, [
        "src/db/open.rs": "next_file: self.state.file_number_bound.max(self.above_all)," => "next_file: self.above_all,"];
    "files: orphans stay", "power-cuts", CUTS, [
        "src/db/open.rs": "if orphan && entry.is_file {" => "if orphan && entry.is_file && !entry.name.contains(\"table\") {"];
    // What only real files and processes show.
    "process: a commit returns before the system has it", "kills", KILLS, [
        "src/fs/std_log.rs": "            write_all_at(file, bytes, self.appended)?;" => "            let (file, late, offset) = (file.try_clone()?, bytes.to_vec(), self.appended);
            std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(1));
                write_all_at(&file, &late, offset)
            });"];
    "process: the lock is not taken", "kills", KILLS, [
        "src/fs/std_fs.rs": "            file.try_lock()?;" => ""];
    "process: the lock of a killed process stays", "kills", KILLS, [
        "src/fs/std_fs.rs": "let file = open_regular(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?;" => "let new = open_regular(OpenOptions::new().read(true).write(true).create_new(true), path);
            let file = new.map_err(|_| io::Error::from(ErrorKind::WouldBlock))?;"];
    "process: closing loses what is in no log", "kills", KILLS, [
        "src/db/close.rs": "self.flush_where(|keyspace| keyspace.active.first_unlogged().is_some())?;" => ""];
    "process: segments go before the tables are named", "kills", KILLS, [
        "src/db/flush.rs": "        self.edit_in_living(changes, |world| {
            let mut next = world.clone();
            for one in &flushed {" => "        let _ = log.remove_before(start);
        self.edit_in_living(changes, |world| {
            let mut next = world.clone();
            for one in &flushed {"];
    // Retention.
    "R1: a floor is not kept", "power-cuts", CUTS, [
        "src/db/compaction_job.rs": "vec![Change::KeyspaceFloor { id: job.keyspace, floor: floor.floor }, Change::LogProved(proof)]" => "vec![Change::LogProved(proof)]",
        "src/db/flush.rs": "let floor = Change::KeyspaceFloor { id, floor: self.floor };" => "let floor = Change::KeyspaceFloor { id, floor: 0 * self.floor };"];
    "R1: a floor is kept although commits at or below it may be lost", "power-cuts", CUTS, [
        "src/db/retention.rs": "self.make_durable(reserved, to, |keyspace| keyspace.is_manual(), floor)?;" => "let _ = reserved;"];
    "R2: the floor does not count", "lives", SEEDS, [
        "src/merge/decide.rs": "newer.filter(|&newer| newer <= self.floor)" => "newer"];
    "R2: snapshots do not count", "lives", SEEDS, [
        "src/merge/decide.rs": "return if self.snapshot_within(timestamp, newer) { Verdict::Keep } else { Verdict::Drop };" => "return Verdict::Drop;"];
    "R3: snapshots do not count", "lives", SEEDS, [
        "src/merge/decide.rs": "if self.snapshot_within(0, dead_from) { Verdict::Keep } else { Verdict::DropIfLast }" => "let _ = dead_from; Verdict::DropIfLast"];
    "R3: of what expired, only snapshots below its timestamp count", "lives", SEEDS, [
        "src/merge/decide.rs": "=> expires_at.max(timestamp)," => "=> timestamp.max(expires_at.min(timestamp)),"];
    "R3: of what was dead from birth, only snapshots below its expiry count", "lives", SEEDS, [
        "src/merge/decide.rs": "=> expires_at.max(timestamp)," => "=> expires_at,"];
    "R3: what this merge keeps does not count", "lives", SEEDS, [
        "src/merge/decide.rs": "if self.snapshot_within(0, dead_from)" => "if self.snapshot_within(timestamp, dead_from)"];
    "R3: what expires above the floor counts as dead", "lives", SEEDS, [
        "src/merge/decide.rs": "if expires_at <= self.floor => " => "if expires_at > 0 => "];
    "R3: memtables outside the merge do not count", "lives", SEEDS, [
        "src/db/merge_job.rs": "Ok(self.late_mems(at_or_below).any(|mem| mem.entries.may_hold(key, at_or_below))" => "Ok(false"];
    "R3: level 0 outside the merge does not count", "lives", SEEDS, [
        "src/db/merge_job.rs": "|| self.tree.level(0).iter().any(in_level0)" => "|| self.tree.level(0).iter().filter(|_| false).any(in_level0)"];
    "R3: deeper levels do not count", "lives", SEEDS, [
        "src/db/merge_job.rs": "|| (1..LEVELS).any(in_level))" => "|| (1..1).any(in_level))"];
    "R3: late tables above do not count", "lives", SEEDS, [
        "src/db/merge_job.rs": "meta.min_timestamp <= at_or_below && (meta.late || level >= self.newer_levels)" => "meta.min_timestamp <= at_or_below && level >= self.newer_levels"];
    "R3: range tombstones go wherever they lie", "lives", SEEDS, [
        "src/db/merge_job.rs": "Ok(joined(spans))" => "Ok(joined(Vec::with_capacity(spans.len())))"];
    "R3: equal timestamps outside do not count", "lives", SEEDS, [
        "src/db/merge_job.rs": "meta.min_timestamp <= at_or_below && (" => "meta.min_timestamp < at_or_below && ("];
    "R3: range tombstones do not look at memtables", "lives", SEEDS, [
        "src/db/merge_job.rs": "|mem| mem.entries.any_key_in(start, end)" => "|mem| mem.entries.any_key_in(start, end) && at_or_below == 0"];
    "R3: range tombstones do not look at level 0", "lives", SEEDS, [
        "src/db/merge_job.rs": "for level in 0..LEVELS {" => "for level in 1..LEVELS {"];
    "R3: range tombstones do not look at deeper levels", "lives", SEEDS, [
        "src/db/merge_job.rs": "for level in 0..LEVELS {" => "for level in 0..1 {"];
    "R3: range tombstones pass over a table's last key", "lives", SEEDS, [
        "src/db/merge_job.rs": "after.push(0);" => ""];
    "R3: range tombstones do not wait for snapshots", "lives", SEEDS, [
        "src/merge/collect.rs": "Verdict::Keep => kept.push(*stamp)," => "Verdict::Keep if stamp.timestamp > self.rules.floor || newer.is_some_and(|newer| newer <= self.rules.floor) => kept.push(*stamp),",
        "src/merge/collect.rs": "Verdict::DropIfLast => last = Some(*stamp)," => "Verdict::Keep | Verdict::DropIfLast => last = Some(*stamp),"];
    // Reads.
    "reads: a lookup ends at the first version found", "lives", SEEDS, [
        "src/merge/lookup.rs": "let on_time = |stamp: Stamp| !stamp.late;" => "let on_time = |stamp: Stamp| stamp.timestamp > 0;"];
    "reads: what expires now is still there", "lives", SEEDS, [
        "src/merge/lookup.rs": "expires_at > now))" => "expires_at >= now))"];
    // File calls that fail.
    "L2: a sync of the log that failed is tried again", "faults", FAULTS, [
        "src/log/writer.rs": "if let Err(error) = segment.file.sync() {" => "if let Err(error) = segment.file.sync().or_else(|_| segment.file.sync()) {",
        "src/fs/fault/mod.rs": "self.failed.store(true, Ordering::Release);" => "self.failed.store(operation != Operation::Sync, Ordering::Release);"];
    "L2: a sync of the directory that failed is tried again", "faults", FAULTS, [
        "src/log/writer.rs": "let synced = self.env.fs.sync_dir(Purpose::Directory, &self.env.dir)" => "let synced = self.env.fs.sync_dir(Purpose::Directory, &self.env.dir).or_else(|_| self.env.fs.sync_dir(Purpose::Directory, &self.env.dir))",
        "src/fs/database.rs": "self.fs.sync_dir(purpose, dir).inspect_err(|_| *failed = true)" => "self.fs.sync_dir(purpose, dir).inspect_err(|_| *failed = false)"];
    "L2: a sync of the manifest that failed is tried again", "faults", FAULTS, [
        "src/manifest/writer.rs": "self.file.append(&frame).and_then(|()| self.file.sync());" => "self.file.append(&frame).and_then(|()| self.file.sync().or_else(|_| self.file.sync()));",
        "src/fs/fault/mod.rs": "self.failed.store(true, Ordering::Release);" => "self.failed.store(operation != Operation::Sync, Ordering::Release);"];
    "L2: the log goes on behind an append that failed", "faults", FAULTS, [
        "src/log/writer.rs": "return Err(self.failure.set(Error::io(FileKind::Log.path(&self.env.dir, active.number), error)));" => "return Err(Error::io(FileKind::Log.path(&self.env.dir, active.number), error));",
        "src/db/commit.rs": "&head.parts(operations)).map_err(|error| self.fail(error))?" => "&head.parts(operations))?",
        "src/fs/fault/mod.rs": "self.failed.store(true, Ordering::Release);" => "self.failed.store(operation != Operation::Append, Ordering::Release);"];
    "L2: a table is named though its sync has failed", "faults", FAULTS, [
        "src/table/block.rs": "and_then(|mut file| file.sync()).at_path" => "and_then(|mut file| file.sync().or(Ok(()))).at_path"];
    "L2: the names of tables count though their sync has failed", "faults", FAULTS, [
        "src/table/writer.rs": "self.fs.sync_dir(self.purpose, &self.dir).at_path(&self.dir)?;" => "drop(self.fs.sync_dir(self.purpose, &self.dir));",
        "src/fs/database.rs": "self.fs.sync_dir(purpose, dir).inspect_err(|_| *failed = true)" => "self.fs.sync_dir(purpose, dir).inspect_err(|_| *failed = false)"];
    "L3: what an undecided flush has written is removed", "faults", FAULTS, [
        "src/db/flush.rs": "        })?;
        if let Some(told) = told {" => "        }).inspect_err(|_| flushed.iter().for_each(|one| one.outcome.give_up()))?;
        if let Some(told) = told {"];
    "L3: what an undecided compaction has written is removed", "faults", FAULTS, [
        "src/db/compaction_job.rs": "self.replace_tables(job.keyspace, changes, &added, &removed)?;
        if took_late" => "self.replace_tables(job.keyspace, changes, &added, &removed).inspect_err(|_| outcome.give_up())?;
        if took_late"];
    "L3: what an undecided drop takes is removed", "faults", FAULTS, [
        "src/db/keyspaces.rs": "            Ok((world.without(core.id), snapshots))
        })" => "            Ok((world.without(core.id), snapshots))
        }).inspect_err(|_| world.get(core.id).into_iter().flat_map(|last| last.tree.iter()).for_each(|(_, table)| {
            drop(self.fs.remove(crate::fs::Purpose::Table, &crate::format::FileKind::Table.path(&self.dir, table.meta().number)));
        }))"];
    "resume: the failed segment is not covered", "faults", FAULTS, [
        "src/db/resume.rs": "let mut changes = vec![Change::LogStart { ordinal: start.ordinal, position: start.position.0 }];" => "let mut changes = Vec::new();",
        "src/db/resume.rs": "FileKind::Log => true," => "FileKind::Log => false,"];
    "resume: undecided commits are made durable", "faults", FAULTS, [
        "src/db/resume.rs": "flush_all(keyspace, horizon.sequence, start.position)" => "flush_all(keyspace, u64::MAX, start.position)"];
    "resume: what was flushed counts as logged still", "faults", FAULTS, [
        "src/db/resume.rs": "changes.push(Change::KeyspaceLog { id, position: start.position.0 });" => "",
        "src/db/resume.rs": "let mut changes = vec![Change::LogStart { ordinal: start.ordinal, position: start.position.0 }];" => "let mut changes = Vec::new();",
        "src/db/resume.rs": "FileKind::Log => true," => "FileKind::Log => false,"];
    "resume: the last timestamp is not named", "faults", FAULTS, [
        "src/db/resume.rs": "if horizon.last_timestamp > known.last_timestamp {" => "if horizon.last_timestamp == 0 {"];
    "close: a failure that stands is passed over", "faults", FAULTS, [
        "src/db/close.rs": "self.check_sound().and_then(|()| self.settle())" => "self.check_sound().map_or(Ok(()), |()| self.settle())"];
    "close: a failure of its own is passed over", "faults", FAULTS, [
        "src/db/close.rs": "self.check_sound().and_then(|()| self.settle())" => "self.check_sound().map(|()| drop(self.settle()))"];
    // A disk that is full.
    "full: an opening fails", "disk-full", FULL, [
        "src/db/open.rs": "Err(error) if is_full(&error) => drop(engine.fail(error))," => "Err(error) if is_full(&error) && engine.options.read_only => drop(engine.fail(error)),"];
    "full: what a merge has written stays", "disk-full", FULL, [
        "src/db/merge_job.rs": "self.last.filter(|number| !finished(*number))" => "self.last.filter(|number| finished(*number))"];
    "full: what an opening has copied stays", "disk-full", FULL, [
        "src/db/open.rs": "copied.inspect_err(|_| self.give_up_copy(&log, found))?;" => "copied?;"];
    "full: a manifest that could not be made stays", "disk-full", FULL, [
        "src/manifest/writer.rs": "write().inspect_err(|_| drop(fs.remove(Purpose::Manifest, &path)))?;" => "write()?;"];
    "full: what failures have left stays when it resumes", "disk-full", FULL, [
        "src/db/resume.rs": "        self.sweep(manifest);" => ""];
    "full: the failure does not say that it is for want of room", "disk-full", FULL, [
        "src/log/writer.rs": "let from_system = error.raw_os_error()" => "let error = &std::io::Error::other(error.to_string()); let from_system = error.raw_os_error()"];
    // Threads that commit while the power goes.
    "busy: a sync covers what was appended while it ran", "busy-cuts", IMAGES, [
        "src/log/writer.rs": "self.synced.store(target.0, Ordering::Release);" => "self.synced.store(self.end().0, Ordering::Release);"];
    "busy: who waits for a sync that another leads returns with it", "busy-cuts", IMAGES, [
        "src/log/group.rs": "                self.led.wait(&mut state);
                continue;" => "                self.led.wait(&mut state);
                return Ok(());"];
    // Threads that read while others write, merge and drop.
    "threads: a commit is published before it is applied", "stress", THREADS, [
        "src/db/commit.rs": "        let applied = apply(" => "        self.in_flight.publish(last_sequence, &self.current.published)?;
        let applied = apply("];
    "threads: a commit returns before it is published", "stress", THREADS, [
        "src/db/pipeline.rs": "        while published.horizon().sequence < sequence {
            if let" => "        while published.horizon().sequence < sequence.min(0) {
            if let"];
    "threads: a flush does not wait for those who are writing into its memtable", "stress", THREADS, [
        "src/db/flush.rs": "if !self.in_flight.wait_published(unit.sequence, &self.current.published) {" => "if self.in_flight.wait_published(0, &self.current.published) && unit.sequence == 0 {"];
    "threads: a merge does not look at the snapshots", "stress", THREADS, [
        "src/merge/decide.rs": "return if self.snapshot_within(timestamp, newer) { Verdict::Keep } else { Verdict::Drop };" => "return Verdict::Drop;"];
    "threads: the files of a table go though somebody reads it", "stress", THREADS, [
        "src/table/handle.rs": "        self.obsolete.store(true, Ordering::Release);" => "        drop(self.store.fs.remove(Purpose::Table, &FileKind::Table.path(&self.store.dir, self.meta.number)));
        self.slot.reader.store(None);"];
    "threads: a snapshot of a time does not look at the floors", "stress", THREADS, [
        "src/db/snapshot.rs": "let refused: Vec<_> = snapshot.floors().filter(|(_, floor)| *floor > timestamp).collect();" => "let refused: Vec<_> = snapshot.floors().filter(|(_, floor)| *floor > timestamp + u64::MAX / 2).collect();"];
    "threads: a keyspace that is dropped is gone for its snapshots too", "stress", THREADS, [
        "src/db/keyspaces.rs": "                snapshots.keep_dropped(last);" => ""];
    // What is read from a disk that is not what was written.
    "damage: a history block's checksum is not looked at", "corruption", DAMAGES, [
        "src/table/block.rs": "if checksum(kind as u8, self.number, handle.offset, &[covered]) != u32::from_le_bytes(*crc) {" => "if kind != BlockKind::History && checksum(kind as u8, self.number, handle.offset, &[covered]) != u32::from_le_bytes(*crc) {"];
    "damage: a filter's checksum is not looked at", "corruption", DAMAGES, [
        "src/table/block.rs": "if checksum(kind as u8, self.number, handle.offset, &[covered]) != u32::from_le_bytes(*crc) {" => "if kind != BlockKind::Filter && checksum(kind as u8, self.number, handle.offset, &[covered]) != u32::from_le_bytes(*crc) {"];
    "damage: a footer's checksum is not looked at", "corruption", DAMAGES, [
        "src/table/footer.rs": "if checksum(BlockKind::Footer as u8, source.number(), tail_at + start as u64, &[covered]) != crc {" => "if crc == 0 {"];
    "damage: checksums do not cover the offset", "corruption", DAMAGES, [
        "src/format/checksum.rs": "at.copy_from_slice(&offset.to_le_bytes());" => "at.copy_from_slice(&offset.wrapping_mul(0).to_le_bytes());"];
    "damage: CURRENT's checksum is not looked at", "corruption", DAMAGES, [
        "src/manifest/header.rs": "if checksum(self.kind, file, 0, &[covered]) != sum || magic != self.magic {" => "if covered.is_empty() || sum == 0 || magic != self.magic {"];
    "damage: a manifest is not held against the log", "corruption", DAMAGES, [
        "src/manifest/load.rs": "if number == self.number && len > self.len {" => "if number == self.number && len > self.len + u64::MAX / 2 {"];
    "damage: a whole log is blamed for what the manifest has lost", "corruption", DAMAGES, [
        "src/db/open.rs": "Ok(Some((number, len))) => loaded.check_proof(number, len).err().unwrap_or(error)," => "Ok(Some((number, len))) => loaded.check_proof(number, len).err().filter(|_| false).unwrap_or(error),"];
    "damage: a log may end below what is proved", "corruption", DAMAGES, [
        "src/log/plan.rs": "if reached.end < reached.proved || following <= expectation.proved.ordinal {" => "if following <= expectation.proved.ordinal {"];
    "damage: proofs behind damage are not looked for", "corruption", DAMAGES, [
        "src/log/reader.rs": "None => offset += 1," => "None => return Ok(proved),"];
    "damage: what records say is synced does not count", "corruption", DAMAGES, [
        "src/log/reader.rs": "proved = proved.max(header.synced);" => ""];
    "damage: a record's length is believed before its checksum", "corruption", DAMAGES, [
        "src/log/record.rs": "let crc = decoder.u32().ok()?;" => "let crc = decoder.u32().ok()?; std::hint::black_box(vec![0u8; len.min(1 << 28) as usize]);"];
    "damage: verify passes over long histories", "corruption", DAMAGES, [
        "src/table/verify.rs": "let Some(below) = levels.checked_sub(1) else {" => "if levels > 0 { return Ok(()); }\n        let Some(below) = levels.checked_sub(1) else {"];
    "damage: a merge passes over a table that it cannot read", "corruption", DAMAGES, [
        "src/db/merge_job.rs": ".filter(|table| numbers.contains(&table.meta().number))" => ".filter(|table| numbers.contains(&table.meta().number) && table.reader().and_then(|reader| reader.verify()).is_ok())"];
    "damage: a refused opening has written already", "corruption", DAMAGES, [
        "src/db/open.rs": "let log = log.map_err(|error| whose_fault(" => "if log.is_err() && !options.read_only { fs.create(Purpose::Manifest, &dir.join(\"999999.manifest\")).at_path(dir)?; }\n    let log = log.map_err(|error| whose_fault("];
    // What only some options show.
    "options: a block is held in its neighbour's slot", "options", SETS, [
        "src/table/index.rs": "self.source.visit((&partition.slots, at), BlockKind::Data," => "self.source.visit((&partition.slots, at & !1), BlockKind::Data,"];
    "options: zstd below level 0 loses a byte", "options", SETS, [
        "src/format/codec.rs": "Self::Zstd(level) => zstd(level, input, out)," => "Self::Zstd(level) => { let mut other = input.to_vec(); if let Some(last) = other.last_mut().filter(|_| level < 0) { *last ^= 1; } zstd(level, &other, out) }"];
    "options: filters of many bits deny keys", "options", SETS, [
        "src/table/filter.rs": "Ok(Self { seed, probes, lines: lines.iter().map(line).collect() })" => "Ok(Self { seed, probes: probes + u8::from(probes > 10), lines: lines.iter().map(line).collect() })"];
    "options: tables forget that there is something late in them", "options", SETS, [
        "src/table/writer.rs": "self.late |= version.stamp.late;" => "self.late |= version.stamp.late && version.stamp.timestamp == 0;"];
    "options: a long history is searched one entry too far", "options", SETS, [
        "src/table/history.rs": "is_some_and(|(oldest, _)| oldest > timestamp)" => "is_some_and(|(oldest, _)| oldest >= timestamp)"];
    "options: a version that was looked up ahead is given for another row", "options", SETS, [
        "src/table/cursor.rs": "Some(at) == place && time == timestamp" => "Some(at).is_some() && time == timestamp"];
    // What only transactions show.
    "isolation: what was reserved during a check is not looked at", "isolation", ROUNDS, [
        "src/db/condition/mod.rs": "let found = since.clone().find_map(written);" => "let found = since.clone().find_map(written).filter(|_| round == 0);"];
    "isolation: what is prepared locks nothing", "isolation", ROUNDS, [
        "src/db/commit.rs": "        if state.prepared.locks_anything() {" => "        if false && state.prepared.locks_anything() {"];
    "isolation: what is prepared does not lock what it has read", "isolation", ROUNDS, [
        "src/db/prepared/locks.rs": "self.writer.as_ref().or(self.readers.first())" => "self.writer.as_ref()"];
    "isolation: one is prepared that has read what another will write", "isolation", ROUNDS, [
        "src/db/prepared/table.rs": "met.or_else(|| self.met_by_reads(&pending.reads))" => "met"];
    "prepared: an outcome is named before the log is synced that has its operations", "power-cuts", CUTS, [
        "src/db/flush.rs": "covered.max(LogPosition(untold.log_position))" => "covered"];
    "prepared: what the manifest was told is taken from the log again", "power-cuts", CUTS, [
        "src/db/open.rs": "if record.position.0 >= self.state.prepared.log_position {" => "if record.position.0 >= self.state.log.start_position {"];
    "prepared: resume takes back nothing", "lives", SEEDS, [
        "src/db/resume.rs": "        state.prepared.take_back(self.current.horizon().sequence);\n" => ""];
    "isolation: ranges are not held against range deletes", "isolation", ROUNDS, [
        "src/db/condition/stored.rs": "range_tombstone_within((range.start, range.end), self.start, self.visible)" => "range_tombstone_within((range.start, range.end), u64::MAX, self.visible)"];
    "isolation: a walk counts as read to where it began", "isolation", ROUNDS, [
        "src/db/transaction/reads.rs": "Some(key) if from_front => walked.front = Some(key.clone())," => "Some(_) if from_front => {}"];
    "isolation: merges keep nothing for a transaction", "isolation", ROUNDS, [
        "src/merge/decide.rs": "if self.snapshot_within(0, dead_from) { Verdict::Keep } else { Verdict::DropIfLast }" => "Verdict::DropIfLast"];
    "options: a manual compaction leaves the last level as it is", "options", SETS, [
        "src/db/compaction_job.rs": "ManualStep::Run(pick) => {" => "ManualStep::Run(pick) if pick.inputs.len() == 1 => Ok(Some(None)),\n                ManualStep::Run(pick) => {"];
];

#[cfg(test)]
pub(super) fn assert_apply(name: &str, changes: &[Change]) {
    for change in changes {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(change.file);
        let text = std::fs::read_to_string(path).unwrap();
        assert_ne!(change.apply(&text).unwrap(), text, "{name}");
    }
}

#[test]
fn every_mutant_applies() {
    for mutant in MUTANTS {
        assert_apply(mutant.name, mutant.changes);
        assert!(crate::programs().iter().any(|(program, _)| program.name() == mutant.program), "{}", mutant.program);
    }
}
