//! What a seed decides before the first operation: how small everything is, which keys there are, how the clock runs.

use rand::RngExt;
use strandline::{
    Background, Clock, Compression, Durability, FaultFs, KeyspaceOptions, ManualTime, Options, Retention,
};

use super::model::Key;
use crate::disk::Disk;
use crate::random::Random;

#[derive(Debug, Clone)]
pub struct Settings {
    /// So many threads work in the background; none: it is done when the life says so.
    pub threads: usize,
    pub clock: Clock,
    pub late_commits: bool,
    pub durability: Durability,
    pub keys: Vec<Key>,
    /// What a life on a device that fails does more often than others, if anything: so what is rare otherwise fails in
    /// all circumstances too.
    pub favourite: Option<u32>,
    memtable_bytes: usize,
    write_buffer_bytes: usize,
    wal_segment_bytes: usize,
    wal_bytes: u64,
    block_cache_bytes: usize,
    max_open_files: usize,
}

/// A draw from a list.
pub fn pick<T: Clone>(random: &mut Random, from: &[T]) -> T {
    from[random.random_range(0..from.len())].clone()
}

/// A number of which small ones are as likely as large ones.
pub fn of_any_size(random: &mut Random, least: u64, most: u64) -> u64 {
    let scale = (most / least).ilog2();
    (least << random.random_range(0..=scale)) + random.random_range(0..least)
}

/// True so many times of so many.
pub fn chance(random: &mut Random, times: u32, of: u32) -> bool {
    random.random_ratio(times, of)
}

impl Settings {
    pub fn draw(random: &mut Random) -> Self {
        Self {
            threads: 0,
            clock: pick(random, &[Clock::Counter, Clock::Counter, Clock::Hybrid]),
            late_commits: random.random(),
            durability: pick(
                random,
                &[Durability::Buffered, Durability::Buffered, Durability::Synced, Durability::Unlogged],
            ),
            keys: keys(random),
            memtable_bytes: of_any_size(random, 256, 8192) as usize,
            write_buffer_bytes: of_any_size(random, 2048, 32_768) as usize,
            wal_segment_bytes: of_any_size(random, 256, 16_384) as usize,
            wal_bytes: of_any_size(random, 2048, 65_536),
            block_cache_bytes: pick(random, &[0, 1000, 16_384, 1 << 20]),
            max_open_files: pick(random, &[1, 2, 5, 100]),
            favourite: None,
        }
    }

    /// The same with caches in which everything has room: reading everything then takes few file calls.
    pub fn with_room(&self) -> Self {
        Self { block_cache_bytes: 1 << 24, max_open_files: 1000, ..self.clone() }
    }

    /// Whether reading everything takes many file calls.
    pub fn is_tight(&self) -> bool {
        self.max_open_files < 10 || self.block_cache_bytes < 10_000
    }

    pub fn options(&self, fs: &FaultFs<Disk>, time: &ManualTime) -> Options {
        let background = if self.threads == 0 { Background::Stepped } else { Background::Threads };
        let options = self.sizes().background(background).background_threads(self.threads.max(1));
        options.fs(fs.clone()).time(time.clone())
    }

    /// Options on whatever files there are.
    pub fn sizes(&self) -> Options {
        Options::new()
            .clock(self.clock)
            .late_commits(self.late_commits)
            .durability(self.durability)
            .memtable_bytes(self.memtable_bytes)
            .write_buffer_bytes(self.write_buffer_bytes)
            .wal_segment_bytes(self.wal_segment_bytes)
            .wal_bytes(self.wal_bytes)
            .block_cache_bytes(self.block_cache_bytes)
            .max_open_files(self.max_open_files)
    }
}

/// Keys that are prefixes of each other, with the least and the greatest byte in them; a few are long.
fn keys(random: &mut Random) -> Vec<Key> {
    let mut keys =
        vec![Key::new(), b"a".to_vec(), b"a\0".to_vec(), b"ab".to_vec(), b"a\xff".to_vec(), b"\xff".to_vec()];
    let wanted = of_any_size(random, 8, 160) as usize;
    while keys.len() < wanted {
        let len = random.random_range(1..5);
        let key: Key = (0..len).map(|_| pick(random, &[0, b'a', b'b', 0xff])).collect();
        let long = if chance(random, 1, 15) { vec![b'l'; random.random_range(100..700)] } else { Key::new() };
        keys.push([long, key].concat());
    }
    keys.sort();
    keys.dedup();
    keys
}

/// Options for a new keyspace, all of them small.
pub fn keyspace(random: &mut Random, retention: Retention) -> KeyspaceOptions {
    let codecs = [Compression::None, Compression::Lz4, Compression::Zstd(1)];
    let mut options = KeyspaceOptions::new()
        .retention(retention)
        .compression(pick(random, &codecs))
        .block_bytes(random.random_range(64..512))
        .filter_bits_per_key(pick(random, &[0.0, 4.0, 10.0]))
        .target_file_bytes(of_any_size(random, 128, 4096))
        .level_base_bytes(of_any_size(random, 256, 16_384));
    if chance(random, 1, 3) {
        let levels: Vec<Compression> = (0..random.random_range(1..4)).map(|_| pick(random, &codecs)).collect();
        options = options.compression_per_level(levels);
    }
    options
}

/// A key as the log of operations shows it.
pub fn shown(key: &Key) -> String {
    if key.len() < 20 { key.escape_ascii().to_string() } else { format!("({} bytes)", key.len()) }
}
