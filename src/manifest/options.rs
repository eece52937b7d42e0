//! The options of a keyspace as the manifest keeps them.
//!
//! ```text
//! options  fields, each once and in any order
//! field    number u8, length varint, payload
//!    1  retention              0 latest | 1 window, its timestamps varint | 2 manual
//!    2  compression            a codec
//!    3  compression per level  codecs, from level 0 down; none: that of field 2 everywhere
//!    4  block bytes            varint
//!    5  filter bits per key    the bits of an f64, u64
//!    6  target file bytes      varint
//!    7  level base bytes       varint
//!    8  reserved: values from this size on are kept apart
//!    9  reserved: a digest is kept
//! codec    0 none | 1 lz4 | 2 zstd, its level as two's complement u32
//! ```
//!
//! A field that is not known is passed over if its number has the bit `MAY_SKIP`, and refused otherwise (F1).
