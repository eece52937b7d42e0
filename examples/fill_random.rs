//! Writes many small pairs in random order at default options, then reads every one back in another random order.
//!
//! ```text
//! cargo run --release --example fill_random -- [PUTS] [--dir DIR] [--max-rss-mib MIB]
//! ```
//!
//! `PUTS` (default 10,000,000) keys of 16 bytes, each written once and alone, with values of 100 bytes that do not
//! compress. Every value read is compared. Fails on any difference, and if the peak memory of the process was above
//! `MIB` (default 1536; known on Linux only). Without `DIR` the database lies in a temporary directory.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "a program, not the library")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use strandline::{Db, Keyspace};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: fill_random [PUTS] [--dir DIR] [--max-rss-mib MIB]";

struct Arguments {
    puts: u64,
    dir: Option<PathBuf>,
    max_rss_mib: u64,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self { puts: 10_000_000, dir: None, max_rss_mib: 1536 };
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--dir" => arguments.dir = Some(given.next().ok_or(USAGE)?.into()),
                "--max-rss-mib" => arguments.max_rss_mib = given.next().ok_or(USAGE)?.parse()?,
                flag if flag.starts_with('-') => return Err(USAGE.into()),
                puts => arguments.puts = puts.replace('_', "").parse().map_err(|_| USAGE)?,
            }
        }
        Ok(arguments)
    }
}

/// A well-known mixer: every bit of the input moves every bit of the output (splitmix64).
fn mix(input: u64) -> u64 {
    let mut bits = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The numbers below `len` in a random order, each once, without holding them: a Feistel network over the next even
/// power of two, walked on until it lands below `len`.
struct Permutation {
    len: u64,
    half_bits: u32,
    seed: u64,
}

impl Permutation {
    fn new(len: u64, seed: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self { len, half_bits: bits.div_ceil(2).max(1), seed }
    }

    fn at(&self, index: u64) -> u64 {
        let half = (1 << self.half_bits) - 1;
        let mut number = index;
        loop {
            let (mut left, mut right) = (number >> self.half_bits, number & half);
            for round in 0..4 {
                (left, right) = (right, left ^ (mix(self.seed ^ (right << 8 | round)) & half));
            }
            number = left << self.half_bits | right;
            if number < self.len {
                return number;
            }
        }
    }
}

fn key(number: u64) -> String {
    format!("{number:016}")
}

fn value(number: u64) -> [u8; 100] {
    let mut value = [0; 100];
    for (part, chunk) in (0..).zip(value.chunks_mut(8)) {
        let bytes = mix(mix(number) ^ part).to_le_bytes();
        chunk.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    }
    value
}

/// How much memory the process has had at most, in MiB.
fn peak_rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib.div_ceil(1024))
}

/// Calls `each` with the numbers in order, says every tenth how it goes, and returns how long it took.
fn timed(what: &str, order: &Permutation, mut each: impl FnMut(u64) -> Result<()>) -> Result<Duration> {
    let (start, mut last) = (Instant::now(), Instant::now());
    let tenth = order.len.div_ceil(10).max(1);
    for index in 0..order.len {
        each(order.at(index))?;
        if (index + 1) % tenth == 0 {
            eprintln!("{} {what}, the last {tenth} at {:.0}/s", index + 1, rate(tenth, last.elapsed()));
            last = Instant::now();
        }
    }
    Ok(start.elapsed())
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

fn check(keyspace: &Keyspace, number: u64) -> Result<()> {
    match keyspace.get(key(number))? {
        Some(found) if found[..] == value(number) => Ok(()),
        Some(found) => Err(format!("key {number} has another value: {found:?}").into()),
        None => Err(format!("key {number} is missing").into()),
    }
}

fn run(puts: u64, dir: &Path) -> Result<()> {
    let db = Db::open(dir)?;
    let keyspace = db.keyspace("fill_random")?;
    let took = timed("puts", &Permutation::new(puts, 1), |number| {
        keyspace.put(key(number), value(number))?;
        Ok(())
    })?;
    println!("put    {puts} pairs in {:.1} s: {:.0}/s", took.as_secs_f64(), rate(puts, took));

    let start = Instant::now();
    db.flush()?;
    println!("flush  {:.1} s", start.elapsed().as_secs_f64());

    let took = timed("gets", &Permutation::new(puts, 2), |number| check(&keyspace, number))?;
    println!("get    {puts} pairs in {:.1} s: {:.0}/s, all equal", took.as_secs_f64(), rate(puts, took));

    let metrics = db.metrics();
    println!(
        "tables {} files, {} bytes ({} of pairs), write amplification {:.2}, writers stalled {:.1} s",
        metrics.table_files,
        metrics.table_bytes,
        puts * 116,
        metrics.write_amplification,
        metrics.stalled.as_secs_f64(),
    );
    db.close()?;
    Ok(())
}

fn start() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let temporary = tempfile::tempdir()?;
    run(arguments.puts, &arguments.dir.unwrap_or_else(|| temporary.path().join("db")))?;
    match peak_rss_mib() {
        None => println!("memory peak not known here"),
        Some(peak) => {
            println!("memory {peak} MiB at most");
            if peak > arguments.max_rss_mib {
                return Err(format!("the peak memory is above {} MiB", arguments.max_rss_mib).into());
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fill_random: {error}");
            ExitCode::FAILURE
        }
    }
}
