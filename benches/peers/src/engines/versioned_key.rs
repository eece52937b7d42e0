//! Versions in the keys of an engine that has none of its own: the key, then the timestamp inverted, in 8 bytes of big
//! endian, so that the versions of a key lie together, newest first.
//!
//! So that no key lies among the versions of another, keys are of one length, or text: timestamps up to [`LATEST`] begin
//! with a byte that UTF-8 does not have.

/// What the timestamp takes.
pub const SUFFIX: usize = 8;

/// The highest timestamp, which none of the workloads comes near.
pub const LATEST: u64 = u64::MAX >> 8;

/// After how many versions a scan seeks where it wants to be instead of stepping there. A seek costs as much as some 20
/// steps.
#[cfg(feature = "rocksdb")]
pub const STEPS: usize = 20;

/// Into `into`, which is reused.
pub fn encode(key: &[u8], timestamp: u64, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(key);
    into.extend_from_slice(&(!timestamp).to_be_bytes());
}

/// The key and the timestamp; `None` for what [`encode`] has not made.
pub fn decode(versioned: &[u8]) -> Option<(&[u8], u64)> {
    let (key, inverted) = versioned.split_last_chunk::<SUFFIX>()?;
    Some((key, !u64::from_be_bytes(*inverted)))
}

/// What a compaction may drop below a floor: of each key all versions at or below it but the newest of those. It sees
/// versions in order; a key's newest may lie outside of what is compacted, then one version more is kept.
#[derive(Debug, Default)]
pub struct Obsolete {
    floor: u64,
    /// The key whose newest version at or below the floor was seen.
    kept: Option<Vec<u8>>,
}

impl Obsolete {
    pub fn below(floor: u64) -> Self {
        Self { floor, kept: None }
    }

    /// Whether this version is not needed to read at or above the floor.
    pub fn drops(&mut self, versioned: &[u8]) -> bool {
        let Some((key, timestamp)) = decode(versioned) else { return false };
        if timestamp > self.floor {
            return false;
        }
        let kept = self.kept.get_or_insert_default();
        if kept.as_slice() == key {
            return true;
        }
        kept.clear();
        kept.extend_from_slice(key);
        false
    }
}
