//! What one keyspace is made with. The options that were given are remembered as given, so that opening a keyspace that
//! is already there compares those and no others.

use std::time::Duration;

use crate::{Compression, Error, Result};

/// The largest block that a keyspace may ask for, in bytes.
const MAX_BLOCK_BYTES: usize = 16 << 20;

/// How long versions stay readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Retention {
    /// What no live snapshot needs may go. The floor follows flushes and compactions.
    #[default]
    Latest,
    /// Everything that could be read in the last so many timestamps stays, counted back from the last timestamp.
    Window(u64),
    /// Everything above the floor that `Db::retain_from` sets stays. All such keyspaces share that floor.
    Manual,
}

impl Retention {
    /// A window as long as `duration` in a database under [`Clock::Hybrid`](crate::Clock::Hybrid), where a millisecond
    /// is 65,536 timestamps. Parts of a millisecond count as a whole one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use strandline::Retention;
    ///
    /// assert_eq!(Retention::window_of(Duration::from_secs(1)), Retention::Window(1000 << 16));
    /// ```
    #[must_use]
    pub fn window_of(duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Self::Window(u64::try_from(millis.saturating_mul(1 << 16)).unwrap_or(u64::MAX))
    }
}

/// How a keyspace stores and keeps what is in it. Kept with the keyspace from when it is made.
///
/// ```
/// use strandline::{Compression, KeyspaceOptions, Retention};
///
/// let options = KeyspaceOptions::new().retention(Retention::Manual).compression(Compression::Zstd(3));
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use]
pub struct KeyspaceOptions {
    pub(crate) retention: Option<Retention>,
    pub(crate) compression: Option<Compression>,
    pub(crate) compression_per_level: Option<Vec<Compression>>,
    pub(crate) block_bytes: Option<usize>,
    pub(crate) filter_bits_per_key: Option<f64>,
    pub(crate) separate_values_from: Option<usize>,
    pub(crate) target_file_bytes: Option<u64>,
    pub(crate) level_base_bytes: Option<u64>,
    pub(crate) digest: Option<bool>,
}

impl KeyspaceOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long versions stay readable. Default: [`Retention::Latest`].
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// How blocks are compressed. Default: [`Compression::Lz4`].
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// How blocks are compressed in each level, from level 0 on; the last one counts for all deeper levels. Overrides
    /// [`compression`](Self::compression). An empty list is `InvalidArgument`.
    pub fn compression_per_level(mut self, levels: impl Into<Vec<Compression>>) -> Self {
        self.compression_per_level = Some(levels.into());
        self
    }

    /// The size of a block before compression, in bytes, from 1 to 16 MiB. Larger ones compress better and are slower
    /// to read a single key from. Default: 4096.
    pub fn block_bytes(mut self, bytes: usize) -> Self {
        self.block_bytes = Some(bytes);
        self
    }

    /// How many bits of filter are kept in memory for each key of an open table, from 0 (no filter) to 100. With 10,
    /// one in a hundred lookups of an absent key reads a block in vain. Default: 10.
    pub fn filter_bits_per_key(mut self, bits: f64) -> Self {
        self.filter_bits_per_key = Some(bits);
        self
    }

    /// Keeps values of at least this many bytes apart from their keys. Not built yet: `InvalidArgument`.
    pub fn separate_values_from(mut self, bytes: usize) -> Self {
        self.separate_values_from = Some(bytes);
        self
    }

    /// The size that compactions aim at for a table, in bytes. A key's versions are never split over tables of one
    /// level, so a key with a long history can make a larger one. Default: 64 MiB.
    pub fn target_file_bytes(mut self, bytes: u64) -> Self {
        self.target_file_bytes = Some(bytes);
        self
    }

    /// The size of the first level below level 0, in bytes; each deeper one is ten times larger. Default: 256 MiB.
    pub fn level_base_bytes(mut self, bytes: u64) -> Self {
        self.level_base_bytes = Some(bytes);
        self
    }

    /// Whether a digest of the state is kept by every commit. `true` is not built yet: `InvalidArgument`. Default:
    /// `false`.
    pub fn digest(mut self, yes: bool) -> Self {
        self.digest = Some(yes);
        self
    }

    /// What a new keyspace is made with: what was given, and the defaults. Refuses what makes no sense and what is not
    /// built.
    pub(crate) fn resolve(&self) -> Result<KeyspaceSettings> {
        if self.separate_values_from.is_some() {
            return Err(Error::invalid("separate_values_from is not built yet"));
        }
        if self.digest == Some(true) {
            return Err(Error::invalid("digest is not built yet"));
        }
        if self.compression_per_level.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::invalid("compression_per_level must name a level"));
        }
        let defaults = KeyspaceSettings::default();
        let settings = KeyspaceSettings {
            retention: self.retention.unwrap_or(defaults.retention),
            compression: self.compression.unwrap_or(defaults.compression),
            compression_per_level: self.compression_per_level.clone().unwrap_or_default(),
            block_bytes: self.block_bytes.unwrap_or(defaults.block_bytes),
            filter_bits_per_key: self.filter_bits_per_key.unwrap_or(defaults.filter_bits_per_key),
            target_file_bytes: self.target_file_bytes.unwrap_or(defaults.target_file_bytes),
            level_base_bytes: self.level_base_bytes.unwrap_or(defaults.level_base_bytes),
        };
        settings.check().map_err(Error::invalid)?;
        Ok(settings)
    }

    /// Refuses options that were given and that differ from what the keyspace is `kept` with.
    pub(crate) fn check_against(&self, kept: &KeyspaceSettings) -> Result<()> {
        let asked = self.resolve()?;
        let differing = [
            ("retention", self.retention.is_some() && asked.retention != kept.retention),
            ("compression", self.compression.is_some() && asked.compression != kept.compression),
            (
                "compression_per_level",
                self.compression_per_level.is_some() && asked.compression_per_level != kept.compression_per_level,
            ),
            ("block_bytes", self.block_bytes.is_some() && asked.block_bytes != kept.block_bytes),
            (
                "filter_bits_per_key",
                self.filter_bits_per_key.is_some() && asked.filter_bits_per_key != kept.filter_bits_per_key,
            ),
            (
                "target_file_bytes",
                self.target_file_bytes.is_some() && asked.target_file_bytes != kept.target_file_bytes,
            ),
            ("level_base_bytes", self.level_base_bytes.is_some() && asked.level_base_bytes != kept.level_base_bytes),
        ];
        match differing.iter().find(|(_, differs)| *differs) {
            Some((name, _)) => Err(Error::invalid(format!("the keyspace was made with another {name}"))),
            None => Ok(()),
        }
    }
}

/// What a keyspace is kept with: every option has a value that was checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyspaceSettings {
    pub(crate) retention: Retention,
    pub(crate) compression: Compression,
    /// Empty: `compression` in every level.
    pub(crate) compression_per_level: Vec<Compression>,
    pub(crate) block_bytes: usize,
    pub(crate) filter_bits_per_key: f64,
    pub(crate) target_file_bytes: u64,
    pub(crate) level_base_bytes: u64,
}

impl KeyspaceSettings {
    /// What makes no sense, if anything: asked of new keyspaces, and of what a manifest says.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if !(1..=MAX_BLOCK_BYTES).contains(&self.block_bytes) {
            return Err("block_bytes must be from 1 to 16 MiB");
        }
        if !(0.0..=100.0).contains(&self.filter_bits_per_key) {
            return Err("filter_bits_per_key must be from 0 to 100");
        }
        if self.target_file_bytes == 0 {
            return Err("target_file_bytes must not be 0");
        }
        if self.level_base_bytes == 0 {
            return Err("level_base_bytes must not be 0");
        }
        Ok(())
    }

    /// How blocks of tables in `level` are compressed.
    pub(crate) fn compression_at(&self, level: usize) -> Compression {
        let per_level = &self.compression_per_level;
        per_level.get(level).or(per_level.last()).copied().unwrap_or(self.compression)
    }
}

impl Default for KeyspaceSettings {
    fn default() -> Self {
        Self {
            retention: Retention::Latest,
            compression: Compression::Lz4,
            compression_per_level: Vec::new(),
            block_bytes: 4096,
            filter_bits_per_key: 10.0,
            target_file_bytes: 64 << 20,
            level_base_bytes: 256 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_time_is_counted_in_hybrid_timestamps_and_saturates() {
        assert_eq!(Retention::window_of(Duration::ZERO), Retention::Window(0));
        assert_eq!(Retention::window_of(Duration::from_nanos(1)), Retention::Window(1 << 16));
        assert_eq!(Retention::window_of(Duration::from_millis(3)), Retention::Window(3 << 16));
        assert_eq!(Retention::window_of(Duration::MAX), Retention::Window(u64::MAX));
    }

    #[test]
    fn what_is_not_given_has_its_default() {
        assert_eq!(KeyspaceOptions::new().resolve().unwrap(), KeyspaceSettings::default());
        assert_eq!(KeyspaceOptions::new().digest(false).resolve().unwrap(), KeyspaceSettings::default());
        let settings = KeyspaceOptions::new().block_bytes(64).filter_bits_per_key(0.0).resolve().unwrap();
        assert_eq!((settings.block_bytes, settings.filter_bits_per_key), (64, 0.0));
    }

    #[test]
    fn nonsense_and_what_is_not_built_are_refused() {
        let new = KeyspaceOptions::new;
        for (options, word) in [
            (new().block_bytes(0), "block_bytes"),
            (new().block_bytes(MAX_BLOCK_BYTES + 1), "block_bytes"),
            (new().filter_bits_per_key(f64::NAN), "filter_bits_per_key"),
            (new().filter_bits_per_key(-0.1), "filter_bits_per_key"),
            (new().filter_bits_per_key(100.1), "filter_bits_per_key"),
            (new().filter_bits_per_key(f64::INFINITY), "filter_bits_per_key"),
            (new().target_file_bytes(0), "target_file_bytes"),
            (new().level_base_bytes(0), "level_base_bytes"),
            (new().compression_per_level(vec![]), "compression_per_level"),
            (new().separate_values_from(4096), "separate_values_from"),
            (new().digest(true), "digest"),
        ] {
            let error = options.resolve().unwrap_err();
            assert!(matches!(error, Error::InvalidArgument(_)) && error.to_string().contains(word), "{error}");
            let error = options.check_against(&KeyspaceSettings::default()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn only_options_that_are_given_are_compared() {
        let new = KeyspaceOptions::new;
        let kept = new()
            .retention(Retention::Window(7))
            .compression(Compression::None)
            .compression_per_level(vec![Compression::Lz4])
            .block_bytes(512)
            .filter_bits_per_key(7.5)
            .target_file_bytes(1000)
            .level_base_bytes(2000)
            .resolve()
            .unwrap();
        for same in [
            new(),
            new().retention(Retention::Window(7)),
            new().compression(Compression::None),
            new().compression_per_level([Compression::Lz4]),
            new().block_bytes(512),
            new().filter_bits_per_key(7.5),
            new().target_file_bytes(1000),
            new().level_base_bytes(2000),
        ] {
            same.check_against(&kept).unwrap();
        }
        for (other, word) in [
            (new().retention(Retention::Window(8)), "retention"),
            (new().compression(Compression::Lz4), "compression"),
            (new().compression_per_level([Compression::Lz4, Compression::Lz4]), "compression_per_level"),
            (new().block_bytes(4096), "block_bytes"),
            (new().filter_bits_per_key(10.0), "filter_bits_per_key"),
            (new().target_file_bytes(64 << 20), "target_file_bytes"),
            (new().level_base_bytes(256 << 20), "level_base_bytes"),
        ] {
            let error = other.check_against(&kept).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument(_)) && error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn the_last_compression_named_counts_for_all_deeper_levels() {
        let settings = KeyspaceOptions::new()
            .compression(Compression::None)
            .compression_per_level([Compression::Lz4, Compression::Zstd(3)])
            .resolve()
            .unwrap();
        let levels: Vec<Compression> = (0..4).map(|level| settings.compression_at(level)).collect();
        assert_eq!(levels, [Compression::Lz4, Compression::Zstd(3), Compression::Zstd(3), Compression::Zstd(3)]);
        assert_eq!(KeyspaceSettings::default().compression_at(6), Compression::Lz4);
    }
}
