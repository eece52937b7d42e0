//! A small file system of the operating system's, mounted for a round: what a full one does there is no simulation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use rand::RngExt;
use strandline::{Background, Db, Durability, Error, KeyspaceOptions, Options};

use crate::campaign::Counts;
use crate::random::Random;
use crate::story;

/// A file system that is unmounted when this goes.
pub struct SmallDisk {
    /// Holds the image and the mount point; dropped last.
    _home: tempfile::TempDir,
    dir: PathBuf,
}

/// What kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Tmpfs,
}

impl SmallDisk {
    /// Mounts one of so many mebibytes.
    ///
    /// # Errors
    /// Why it cannot be mounted here.
    pub fn mount(kind: Kind, mebibytes: u64) -> Result<Self, String> {
        let home = tempfile::tempdir().map_err(|error| error.to_string())?;
        let dir = home.path().join("mounted");
        fs::create_dir(&dir).map_err(|error| error.to_string())?;
        match kind {
            Kind::Ext4 => {
                let image = home.path().join("image");
                let made = fs::File::create(&image).and_then(|image| image.set_len(mebibytes << 20));
                made.map_err(|error| error.to_string())?;
                run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
                run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&dir))?;
            }
            Kind::Tmpfs => {
                let size = format!("size={mebibytes}m");
                run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&dir))?;
            }
        }
        Ok(Self { _home: home, dir })
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, if somebody has a file of it open still.
        if run(Command::new("umount").arg(&self.dir)).is_err()
            && let Err(error) = run(Command::new("umount").arg("-l").arg(&self.dir))
        {
            story::tell(format!("{} stays mounted: {error}", self.dir.display()));
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// One round on a real file system.
pub fn round(seed: u64, counts: &mut Counts) {
    let mut random = Random::of_seed(seed);
    let kind = if random.random() { Kind::Ext4 } else { Kind::Tmpfs };
    match SmallDisk::mount(kind, random.random_range(8..17)) {
        Ok(disk) => {
            fill(&disk, &mut random, counts);
            counts.add("small file systems", 1);
        }
        Err(reason) => {
            static ONCE: Once = Once::new();
            ONCE.call_once(|| eprintln!("no small file system: {reason}"));
            counts.add("small file systems skipped", 1);
        }
    }
}

/// What was acknowledged: the value of `n` is a function of `n`, so a count says it all.
struct Written {
    acknowledged: u64,
}

fn value(n: u64, bytes: usize) -> Vec<u8> {
    // Noise, which does not compress.
    let noise = (0..).map(|i: u64| ((n << 20) + i).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23));
    noise.flat_map(u64::to_le_bytes).take(bytes).collect()
}

fn key(n: u64) -> [u8; 8] {
    // Scattered, so that compactions have work.
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn is_full(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
        Error::Background(first) => is_full(first),
        _ => false,
    }
}

impl Written {
    /// All that was acknowledged is there, and nothing else but perhaps what was undecided.
    fn check(&self, db: &Db, bytes: usize) {
        let keyspace = db.keyspace("k").unwrap();
        for n in 0..self.acknowledged {
            let found = keyspace.get(key(n)).unwrap();
            assert!(found.is_some_and(|found| *found == *value(n, bytes)), "{n} of {}", self.acknowledged);
        }
        let count = keyspace.iter().map(Result::unwrap).count() as u64;
        assert!(count >= self.acknowledged && count <= self.acknowledged + 1, "{count}, not {}", self.acknowledged);
    }

    /// Writes until the disk is full, or so many more.
    fn write(&mut self, db: &Db, bytes: usize, most: u64) -> Option<Error> {
        let keyspace = db.keyspace("k").unwrap();
        for _ in 0..most {
            match keyspace.put(key(self.acknowledged), value(self.acknowledged, bytes)) {
                Ok(_) => self.acknowledged += 1,
                Err(error) => return Some(error),
            }
        }
        None
    }
}

fn fill(disk: &SmallDisk, random: &mut Random, counts: &mut Counts) {
    let dir = disk.path().join("db");
    let threads = random.random_range(0..3);
    let background = if threads == 0 { Background::Stepped } else { Background::Threads };
    let durability = if random.random() { Durability::Buffered } else { Durability::Synced };
    let memtable_bytes = 1 << random.random_range(16..20);
    let options = Options::new()
        .background(background)
        .background_threads(threads.max(1))
        .durability(durability)
        .memtable_bytes(memtable_bytes)
        .write_buffer_bytes(4 * memtable_bytes)
        .wal_segment_bytes(1 << random.random_range(14..20))
        .wal_bytes(1 << 21);
    let (bytes, ballast) = (random.random_range(100..4000), disk.path().join("ballast"));
    let mut written = Written { acknowledged: 0 };
    let mut db = options.clone().open(&dir).unwrap();
    let keyspace = KeyspaceOptions::new().target_file_bytes(1 << 18).level_base_bytes(1 << 20);
    db.keyspace_with("k", keyspace).unwrap();
    for _ in 0..3 {
        drop(written.write(&db, bytes, random.random_range(0..400)));
        // Somebody else takes all but a little.
        take(&ballast, random.random_range(0..1 << 19), disk.path());
        let Some(error) = written.write(&db, bytes, 1 << 20) else { panic!("the disk never gets full") };
        counts.add("full disks", 1);
        assert!(is_full(&error), "{error:?} is no word for a full disk");
        written.check(&db, bytes);
        for _ in 0..random.random_range(0..4) {
            if let Err(error) = db.resume() {
                assert!(is_full(&error), "resume: {error:?} is no word for a full disk");
            }
            written.check(&db, bytes);
        }
        if random.random() {
            // Closed and opened where there is no room at all.
            if let Err(error) = db.close() {
                assert!(is_full(&error), "close: {error:?}");
            }
            take(&ballast, 0, disk.path());
            let reader = options.clone().read_only(true).open(&dir).unwrap();
            written.check(&reader, bytes);
            reader.close().unwrap();
            db = options.clone().open(&dir).unwrap();
            counts.add("openings without room", 1);
            written.check(&db, bytes);
        }
        // What was undecided may be there after an opening, and is not written again.
        let there = db.keyspace("k").unwrap().contains(key(written.acknowledged)).unwrap();
        fs::remove_file(&ballast).unwrap();
        db.resume().unwrap();
        written.acknowledged += u64::from(there);
        written.check(&db, bytes);
    }
    drop(written.write(&db, bytes, 50));
    if db.background_error().is_some() {
        return; // Full without the ballast.
    }
    db.close().unwrap();
    let db = options.open(&dir).unwrap();
    written.check(&db, bytes);
    db.verify().unwrap();
}

/// Makes a file that takes all the room there is, but so many bytes.
fn take(ballast: &Path, spare: u64, disk: &Path) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(ballast).unwrap();
    for piece in [1 << 16, 1 << 12, 1] {
        let piece = vec![b'.'; piece];
        while file.write_all(&piece).is_ok() {}
    }
    let len = file.metadata().unwrap().len();
    file.set_len(len.saturating_sub(spare)).unwrap();
    drop(file.sync_all());
    drop(fs::File::open(disk).and_then(|dir| dir.sync_all()));
}
