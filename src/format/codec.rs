//! Stand-in until the codecs land.

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
    /// The zstd format, at this level.
    Zstd(i32),
}
