//! A set of options, and of habits: how often a database under it flushes, compacts and begins anew.

use rand::RngExt;
use strandline::{
    Background, Clock, Compression, Durability, KeyspaceOptions, ManualTime, MemFs, Options, Retention, StdFs,
};

use super::story::Plan;
use crate::life::settings::{chance, of_any_size, pick};
use crate::random::Random;

/// Where the files are.
pub enum Files {
    Memory(MemFs),
    Disk(tempfile::TempDir),
}

pub struct Set {
    /// For who reads of a difference.
    pub name: String,
    pub files: Files,
    pub time: ManualTime,
    pub clock: Clock,
    pub late_commits: bool,
    pub durability: Durability,
    /// `None`: stepped.
    pub threads: Option<usize>,
    /// One of each plan's keyspaces.
    pub retentions: Vec<Retention>,
    sizes: Sizes,
    plain: bool,
    /// Out of a thousand operations so many are followed by it.
    pub flushes: u32,
    pub compactions: u32,
    pub steps: u32,
    pub reopenings: u32,
}

#[derive(Debug)]
struct Sizes {
    memtable: usize,
    write_buffer: usize,
    segment: usize,
    log: u64,
    cache: usize,
    open_files: usize,
    compaction_rate: Option<u64>,
}

impl Set {
    /// Everything in memtables, until it is reopened.
    pub fn plain(plan: &Plan) -> Self {
        let defaults = 64 << 20;
        Self {
            name: "plain".to_owned(),
            files: Files::Memory(MemFs::new()),
            time: ManualTime::new(0),
            clock: Clock::Counter,
            late_commits: plan.late,
            durability: Durability::Buffered,
            threads: None,
            retentions: plan.spaces.iter().map(|space| space.retentions[0]).collect(),
            sizes: Sizes {
                memtable: defaults,
                write_buffer: defaults,
                segment: defaults,
                log: 1 << 30,
                cache: defaults,
                open_files: 100,
                compaction_rate: None,
            },
            plain: true,
            flushes: 0,
            compactions: 0,
            steps: 0,
            reopenings: 0,
        }
    }

    pub fn draw(random: &mut Random, plan: &Plan, nth: usize) -> Self {
        let on_disk = nth == 1 && chance(random, 1, 2);
        let threads = (nth == 1 || chance(random, 1, 3)).then(|| random.random_range(1..4));
        let sizes = Sizes {
            memtable: of_any_size(random, 256, 65_536) as usize,
            write_buffer: of_any_size(random, 1024, 65_536) as usize,
            segment: of_any_size(random, 256, 65_536) as usize,
            log: of_any_size(random, 2048, 1 << 20),
            cache: pick(random, &[0, 0, 1000, 16_384, 1 << 20]),
            open_files: pick(random, &[1, 2, 5, 100]),
            compaction_rate: pick(random, &[None, None, Some(1 << 20)]),
        };
        let clock = if plan.high { pick(random, &[Clock::Counter, Clock::Hybrid]) } else { Clock::Counter };
        let durability = pick(random, &[Durability::Buffered, Durability::Synced, Durability::Unlogged]);
        let durability = if on_disk { Durability::Buffered } else { durability };
        let often = |random: &mut Random, most| pick(random, &[0, 0, most / 8, most / 2, most]);
        let mut set = Self {
            name: String::new(),
            files: if on_disk { Files::Disk(tempfile::tempdir().unwrap()) } else { Files::Memory(MemFs::new()) },
            time: ManualTime::new(0),
            clock,
            late_commits: plan.late || random.random(),
            durability,
            threads,
            retentions: plan.spaces.iter().map(|space| pick(random, &space.retentions)).collect(),
            sizes,
            plain: false,
            flushes: often(random, 200),
            compactions: often(random, 60),
            steps: often(random, 900),
            reopenings: if on_disk { 5 } else { often(random, 60) },
        };
        if plan.alike {
            set.retentions = plan.spaces.iter().map(|space| space.retentions[0]).collect();
        }
        set.name = format!(
            "set {nth}: {:?}, {:?}, threads {threads:?}, late {}, on disk {on_disk}, {:?}, {:?}",
            set.clock, set.durability, set.late_commits, set.retentions, set.sizes
        );
        set
    }

    pub fn options(&self) -> Options {
        let sizes = &self.sizes;
        let background = if self.threads.is_some() { Background::Threads } else { Background::Stepped };
        let options = Options::new()
            .clock(self.clock)
            .late_commits(self.late_commits)
            .durability(self.durability)
            .memtable_bytes(sizes.memtable)
            .write_buffer_bytes(sizes.write_buffer)
            .wal_segment_bytes(sizes.segment)
            .wal_bytes(sizes.log)
            .block_cache_bytes(sizes.cache)
            .max_open_files(sizes.open_files)
            .compaction_bytes_per_second(sizes.compaction_rate)
            .background_threads(self.threads.unwrap_or(1))
            .background(background)
            .time(self.time.clone());
        match &self.files {
            Files::Memory(fs) => options.fs(fs.clone()),
            Files::Disk(_) => options.fs(StdFs),
        }
    }

    /// Options for a new keyspace.
    pub fn keyspace(&self, random: &mut Random, retention: Retention) -> KeyspaceOptions {
        let options = KeyspaceOptions::new().retention(retention);
        if self.plain {
            return options;
        }
        let codecs = [Compression::None, Compression::Lz4, Compression::Zstd(1), Compression::Zstd(-3)];
        let options = options
            .compression(pick(random, &codecs))
            .block_bytes(pick(random, &[1, 64, 200, 500, 4096]))
            .filter_bits_per_key(pick(random, &[0.0, 1.0, 4.0, 10.0, 20.0]))
            .target_file_bytes(of_any_size(random, 128, 65_536))
            .level_base_bytes(of_any_size(random, 256, 65_536));
        if chance(random, 1, 2) {
            let levels: Vec<_> = (0..random.random_range(1..8)).map(|_| pick(random, &codecs)).collect();
            return options.compression_per_level(levels);
        }
        options
    }

    pub fn dir(&self) -> std::path::PathBuf {
        match &self.files {
            Files::Memory(_) => "db".into(),
            Files::Disk(dir) => dir.path().join("db"),
        }
    }

    /// Goes over to what a process killed now would leave. Whether it did.
    pub fn kill(&mut self) -> bool {
        // What was not logged would be gone.
        if self.durability == Durability::Unlogged {
            return false;
        }
        match &mut self.files {
            Files::Memory(fs) => *fs = fs.kill(),
            Files::Disk(_) => return false,
        }
        true
    }
}
