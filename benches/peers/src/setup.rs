//! What a file of results was measured on, and with which settings: its first line.

use std::fs::read_to_string;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::engine::{Kind, Result};
use crate::engines;
use crate::keys::SEED;
use crate::record::Setup;
use crate::workloads::{VALUE_BYTES, VERSIONED, VERSIONS, settings};

/// Of this machine, with data below `directory`.
pub fn setup(keys: u64, directory: &Path) -> Result<Setup> {
    let settings = settings();
    let engines = engines::compiled().into_iter().map(|(kind, version)| {
        let source = if kind == Kind::Strandline { concat!(" (", env!("PEERS_STRANDLINE_SOURCE"), ")") } else { "" };
        (kind.name().to_owned(), format!("{version}{source}"))
    });
    Ok(Setup {
        keys,
        value_bytes: VALUE_BYTES,
        versioned_keys: keys / VERSIONED.one_in,
        versions: VERSIONS,
        date: today()?,
        machine: machine()?,
        kernel: read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        file_system: file_system(directory)?,
        rustc: env!("PEERS_RUSTC").to_owned(),
        engines: engines.collect(),
        memtable_bytes: settings.memtable_bytes,
        cache_bytes: settings.cache_bytes,
        block_bytes: settings.block_bytes,
        filter_bits: settings.filter_bits,
        background_threads: settings.background_threads,
        codec: if settings.compression { "LZ4" } else { "none" }.to_owned(),
        seed: SEED,
    })
}

/// In what a file's setup differs from another, the date apart.
pub fn differences(file: &Setup, now: &Setup) -> Result<Vec<String>> {
    let (file, now) = (serde_json::to_value(file)?, serde_json::to_value(now)?);
    let fields = now.as_object().into_iter().flatten().filter(|(name, _)| *name != "date");
    let different = fields.filter(|(name, value)| file.get(name) != Some(value));
    Ok(different.map(|(name, value)| format!("{name}: {} there, {value} here", file[name.as_str()])).collect())
}

/// The type of the file system that a directory is on.
pub fn file_system(directory: &Path) -> Result<String> {
    let directory = directory.canonicalize()?;
    let mounts = read_to_string("/proc/self/mountinfo")?;
    let mut found = (0, "unknown".to_owned());
    for mount in mounts.lines() {
        let Some((mount, of_type)) = mount.split_once(" - ") else { continue };
        let (Some(point), Some(of_type)) = (mount.split(' ').nth(4), of_type.split(' ').next()) else { continue };
        // A later mount at the same point hides the earlier one.
        if directory.starts_with(point) && point.len() >= found.0 {
            found = (point.len(), of_type.to_owned());
        }
    }
    Ok(found.1)
}

fn machine() -> Result<String> {
    let processors = read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = read_to_string("/proc/meminfo")?;
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    Ok(format!(
        "{}, {} cores, {} GiB",
        model.map_or("unknown processor", |(_, model)| model),
        std::thread::available_parallelism()?,
        (kib.unwrap_or(0_u64) + (1 << 19)) >> 20,
    ))
}

/// In UTC, as year-month-day.
fn today() -> Result<String> {
    let days = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86_400;
    Ok(date(days))
}

/// Days are counted from the first of March of year 0, so that a leap day is the last of its year.
fn date(days_since_1970: u64) -> String {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let cases = [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_454, "2026-01-01")];
        for (days, expected) in cases {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn a_setup_of_another_day_is_the_same_and_one_of_other_settings_is_not() {
        let here = setup(1000, Path::new("/")).unwrap();
        assert!(!here.machine.is_empty() && here.rustc.starts_with("rustc "), "{here:?}");
        let another_day = Setup { date: "1999-12-31".into(), ..here.clone() };
        assert!(differences(&another_day, &here).unwrap().is_empty());
        let other = Setup { cache_bytes: 1, keys: 2, ..here.clone() };
        assert_eq!(
            differences(&other, &here).unwrap(),
            ["cache_bytes: 1 there, 536870912 here", "keys: 2 there, 1000 here"]
        );
    }

    #[test]
    fn proc_has_a_file_system_of_its_own() {
        assert_eq!(file_system(Path::new("/proc/sys")).unwrap(), "proc");
    }
}
