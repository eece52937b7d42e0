//! A small database with everything in it, made from a seed: every kind of file, of block, of record and of change, and
//! files that say how it looked at earlier moments of its life.

use std::path::Path;
use std::sync::Arc;

use rand::RngExt;
use strandline::fs::Purpose;
use strandline::{
    Background, CommitOptions, Compression, Db, Durability, Fs, Keyspace, KeyspaceOptions, ManualTime, MemFs, Options,
    Retention, Timestamp, WriteBatch,
};

use super::Files;
use super::anatomy::Anatomy;
use super::state::State;
use crate::life::model::{Commit, Key, Keys, Model, Space, Write};
use crate::life::settings::{chance, pick};
use crate::life::write::add;
use crate::random::Random;

pub const DIR: &str = "db";

/// How the files were at a moment, and how many commits there were.
pub struct Moment {
    pub files: Files,
    pub commits: usize,
    pub floors: Vec<Timestamp>,
    pub last: Timestamp,
    pub closed: Timestamp,
    /// The keyspaces of the model that are there.
    pub live: Vec<usize>,
}

/// The database, whole.
pub struct Specimen {
    pub model: Model,
    /// Earlier ones, oldest first; the last is the database that is damaged.
    pub moments: Vec<Moment>,
    pub anatomy: Anatomy,
}

/// In all files together.
const MOST_BYTES: usize = 64 << 10;

/// What must be there, and how often at least.
const PARTS: &[(&str, usize)] = &[
    ("CURRENT", 1),
    ("LOCK", 1),
    ("manifest", 1),
    ("log", 4),
    ("table", 5),
    ("manifest frame 2", 1),
    ("manifest frame 3", 5),
    ("manifest change 0x1, frame 2", 3),
    ("manifest change 0x3, frame 2", 2),
    ("manifest change 0x5, frame 2", 1),
    ("manifest change 0x6, frame 2", 1),
    ("manifest change 0x7, frame 2", 1),
    ("manifest change 0x8, frame 2", 1),
    ("manifest change 0x9, frame 2", 1),
    ("manifest change 0xa, frame 2", 1),
    ("manifest change 0xb, frame 2", 1),
    ("manifest change 0xc, frame 2", 1),
    ("manifest change 0xd, frame 2", 1),
    ("manifest change 0xe, frame 2", 1),
    ("manifest change 0x1, frame 3", 1),
    ("manifest change 0x2, frame 3", 1),
    ("manifest change 0x3, frame 3", 1),
    ("manifest change 0x4, frame 3", 1),
    ("manifest change 0x6, frame 3", 1),
    ("manifest change 0x9, frame 3", 1),
    ("manifest change 0xa, frame 3", 1),
    ("manifest change 0xb, frame 3", 1),
    ("manifest change 0xd, frame 3", 1),
    ("log commit", 20),
    ("log late commit", 1),
    ("log mark", 3),
    ("log room", 1),
    ("torn bytes", 1),
    ("log operation 1", 10),
    ("log operation 2", 1),
    ("log operation 3", 1),
    ("log operation 4", 1),
    ("footer", 5),
    ("table of several partitions", 1),
    ("table of several history index blocks", 1),
    ("data block", 12),
    ("history block", 12),
    ("history index block", 2),
    ("ranges block", 1),
    ("filter block", 4),
    ("partition block", 6),
    ("top block", 5),
    ("properties block", 5),
    ("codec 0", 10),
    ("codec 1", 2),
    ("codec 2", 2),
];

impl Specimen {
    pub fn of_seed(seed: u64) -> Self {
        let mut life = Life::begin(seed);
        life.live();
        let anatomy = Anatomy::of(&life.moments.last().unwrap().files);
        let specimen = Self { model: life.model, moments: life.moments, anatomy };
        specimen.check();
        specimen
    }

    pub fn last(&self) -> &Moment {
        self.moments.last().unwrap()
    }

    pub fn files(&self) -> &Files {
        &self.last().files
    }

    pub fn bytes(&self) -> usize {
        self.files().values().map(|bytes| bytes.len()).sum()
    }

    /// Every part is there, and little of it.
    fn check(&self) {
        assert!(self.bytes() <= MOST_BYTES, "{} bytes", self.bytes());
        for (part, least) in PARTS {
            let there = self.anatomy.parts.get(*part).copied().unwrap_or_default();
            assert!(there >= *least, "{there} of {part:?}: {:#?}", self.anatomy.parts);
        }
        let deepest = Self::options(&disk(self.files())).read_only(true).open(DIR).unwrap().metrics();
        let levels = |space: &strandline::KeyspaceMetrics| space.levels.iter().filter(|level| level.files > 0).count();
        assert!(deepest.keyspaces.iter().any(|space| levels(space) > 1), "{deepest:?}");
    }

    /// With which the specimen is opened, whole or damaged.
    pub fn options(fs: &MemFs) -> Options {
        Options::new()
            .memtable_bytes(1 << 20)
            .wal_segment_bytes(4096)
            .wal_bytes(1 << 20)
            .block_cache_bytes(256 << 10)
            .late_commits(true)
            .background(Background::Stepped)
            .fs(fs.clone())
            .time(ManualTime::new(0))
    }

    /// What must be read if the first `commits` commits have survived.
    pub fn state(&self, moment: &Moment, commits: usize, last: Timestamp) -> State {
        let survivors = self.model.commits[..commits].iter().cloned();
        let mut model = self.model.with_only(survivors, last);
        model.closed = moment.closed;
        State::of(&self.model, &model, &moment.live, &moment.floors, last)
    }
}

/// Files on a disk of their own.
pub fn disk(files: &Files) -> MemFs {
    let fs = MemFs::new();
    for (name, bytes) in files {
        fs.write_file(Path::new(DIR).join(name), bytes.to_vec()).unwrap();
    }
    fs
}

pub fn files_of(fs: &MemFs) -> Files {
    let entries = fs.list(Purpose::Directory, Path::new(DIR)).unwrap();
    let bytes = |name: &str| Arc::new(fs.read_file(Path::new(DIR).join(name)).unwrap());
    entries.into_iter().map(|entry| (entry.name.clone(), bytes(&entry.name))).collect()
}

/// How it comes about.
struct Life {
    random: Random,
    fs: MemFs,
    db: Option<Db>,
    handles: Vec<Option<Keyspace>>,
    model: Model,
    moments: Vec<Moment>,
    closed_in_order: bool,
}

const KEYS: [&[u8]; 14] =
    [b"", b"a", b"a\0", b"ab", b"abc", b"b", b"ba", b"c", b"d\xff", b"e", b"f", b"longer-than-others", b"x", b"\xff"];

impl Life {
    fn begin(seed: u64) -> Self {
        let fs = MemFs::new();
        let db = Some(Specimen::options(&fs).open(DIR).unwrap());
        Self {
            random: Random::of_seed(seed),
            fs,
            db,
            handles: Vec::new(),
            model: Model::default(),
            moments: Vec::new(),
            closed_in_order: seed.is_multiple_of(2),
        }
    }

    fn live(&mut self) {
        let none = vec![Compression::None];
        let every = vec![Compression::Zstd(1), Compression::Lz4, Compression::Lz4];
        self.make("deep", Retention::Manual, none);
        self.make("wide", Retention::Manual, every);
        self.make("late", Retention::Latest, vec![Compression::Zstd(1)]);
        self.make("gone", Retention::Manual, vec![Compression::Lz4]);
        // What lies at the bottom: long histories, too.
        for _ in 0..70 {
            self.deepen();
        }
        self.spread();
        self.commits(16);
        self.db().compact().unwrap();
        self.retain(12);
        self.close_until(10);
        self.db().drop_keyspace("gone").unwrap();
        self.model.spaces[3].dropped = true;
        self.handles[3] = None;
        self.keep();
        self.commits(12);
        self.db().flush().unwrap();
        while self.db().step_background().unwrap() {}
        self.keep();
        self.commits(8);
        self.db().flush().unwrap();
        self.keep();
        // A log that was closed, one that was torn, and one that goes on.
        self.commits(6);
        self.close();
        self.open();
        self.keep();
        self.commits(6);
        self.db().sync().unwrap();
        // These prove what is before them, and not themselves: they are written anew.
        self.commits(3);
        self.tear();
        self.open();
        self.keep();
        self.commits(6);
        self.close_until(20);
        self.handle(1).compact(..).unwrap();
        self.keep();
        self.retain(25);
        self.make("new", Retention::Manual, vec![Compression::None]);
        self.commits(4);
        let brief = self.make("brief", Retention::Latest, vec![Compression::None]);
        self.db().drop_keyspace("brief").unwrap();
        self.model.spaces[brief].dropped = true;
        self.handles[brief] = None;
        let segments = self.db().metrics().log_segments;
        while self.db().metrics().log_segments == segments {
            self.commits(4);
        }
        self.db().sync().unwrap();
        self.keep();
        self.commits(5);
        self.keep();
        self.commits(5);
        if self.closed_in_order {
            self.close();
        }
        self.keep();
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn handle(&self, space: usize) -> &Keyspace {
        self.handles[space].as_ref().unwrap()
    }

    fn make(&mut self, name: &str, retention: Retention, codecs: Vec<Compression>) -> usize {
        let options = KeyspaceOptions::new()
            .retention(retention)
            .compression_per_level(codecs)
            .block_bytes(self.random.random_range(110..170))
            .filter_bits_per_key(pick(&mut self.random, &[6.0, 10.0]))
            .target_file_bytes(2500)
            .level_base_bytes(1500);
        self.handles.push(Some(self.db().keyspace_with(name, options).unwrap()));
        self.model.spaces.push(Space::new(name, retention));
        self.handles.len() - 1
    }

    fn value(&mut self) -> Vec<u8> {
        let number: u64 = self.random.random();
        let len = pick(&mut self.random, &[0, 3, 12, 20, 40, 60]);
        number.to_be_bytes()[..3].iter().copied().chain(std::iter::repeat(b'.')).take(len).collect()
    }

    /// One more version of the key with the long history.
    fn deepen(&mut self) {
        let value = self.value();
        self.commit(None, vec![(0, Write::Put { key: b"deep".to_vec(), value, expires_at: None })]);
    }

    /// Many keys: more blocks than one block of the index can name.
    fn spread(&mut self) {
        for batch in 0..4 {
            let writes = (0..16).map(|nth| {
                let key = format!("k{batch}{nth:02}").into_bytes();
                (1, Write::Put { key, value: self.value(), expires_at: None })
            });
            let writes = writes.collect();
            self.commit(None, writes);
        }
    }

    fn commits(&mut self, count: usize) {
        for nth in 0..count {
            let spaces: Vec<usize> = (0..self.handles.len()).filter(|space| self.handles[*space].is_some()).collect();
            let last = self.model.last;
            let late = nth % 5 == 3;
            let writes = (0..self.random.random_range(1..4)).map(|_| {
                let space = if late { 1 } else { pick(&mut self.random, &spaces) };
                (space, self.write(last))
            });
            let mut writes: Vec<_> = writes.collect();
            if nth % 6 == 5 {
                let (from, to) = pick(&mut self.random, &[(b"a", b"c"), (b"b", b"d"), (b"c", b"f")]);
                let keys =
                    Keys::Between(std::ops::Bound::Included(from.to_vec()), std::ops::Bound::Excluded(to.to_vec()));
                writes.push((1, Write::DeleteRange(keys)));
            }
            let at = last.saturating_sub(self.random.random_range(0..3));
            self.commit(late.then_some(at), writes);
        }
    }

    fn write(&mut self, last: Timestamp) -> Write {
        let key: Key = pick(&mut self.random, &KEYS).to_vec();
        match self.random.random_range(0..10) {
            0 => Write::Delete { key },
            1 | 2 => {
                let expires_at = Some(last + self.random.random_range(1..40));
                Write::Put { key, value: self.value(), expires_at }
            }
            _ => Write::Put { key, value: self.value(), expires_at: None },
        }
    }

    fn commit(&mut self, at: Option<Timestamp>, writes: Vec<(usize, Write)>) {
        let mut batch = WriteBatch::new();
        writes.iter().for_each(|(space, write)| add(&mut batch, self.handle(*space), write));
        let durability = if chance(&mut self.random, 1, 12) { Durability::Synced } else { Durability::Buffered };
        let options = CommitOptions::new().durability(durability);
        let options = at.map_or(options.clone(), |at| options.at(at));
        let timestamp = self.db().commit_with(batch, options).unwrap();
        let commit = Commit { timestamp, writes, durability, marked: None, durable: true, undecided: false };
        self.model.commit(commit);
    }

    fn retain(&mut self, floor: Timestamp) {
        self.model.manual_floor = self.db().retain_from(floor).unwrap();
    }

    fn close_until(&mut self, until: Timestamp) {
        self.db().close_until(until).unwrap();
        self.model.closed = until;
    }

    fn close(&mut self) {
        self.handles.iter_mut().for_each(|handle| *handle = None);
        self.db.take().unwrap().close().unwrap();
    }

    fn open(&mut self) {
        self.db = Some(Specimen::options(&self.fs).open(DIR).unwrap());
        for (space, handle) in self.model.spaces.iter().zip(&mut self.handles) {
            *handle = (!space.dropped).then(|| self.db.as_ref().unwrap().keyspace(&space.name).unwrap());
        }
    }

    /// The process is killed while it appends to the log.
    fn tear(&mut self) {
        self.handles.iter_mut().for_each(|handle| *handle = None);
        let fs = self.fs.kill();
        self.db = None;
        self.fs = fs;
        let files = files_of(&self.fs);
        let segments = Anatomy::of(&files).segments;
        let last = segments.last().unwrap();
        let mut bytes = files[&last.name].to_vec();
        let end = last.records_end();
        // The beginning of a commit: kind, flags, and a part of a length.
        bytes[end..end + 5].copy_from_slice(&[1, 0, 50, 0, 7]);
        self.fs.write_file(Path::new(DIR).join(&last.name), bytes).unwrap();
    }

    /// Remembers how the files are now.
    fn keep(&mut self) {
        let files = files_of(&self.fs);
        let db = Specimen::options(&self.fs).read_only(true).open(DIR).unwrap();
        let live = self.model.live();
        let floors =
            live.iter().map(|space| db.keyspace(&self.model.spaces[*space].name).unwrap().retained_from()).collect();
        let (last, closed) = (db.last_timestamp(), db.closed_timestamp());
        assert_eq!((last, closed), (self.model.last, self.model.closed));
        self.moments.push(Moment { files, commits: self.model.commits.len(), floors, last, closed, live });
    }
}
