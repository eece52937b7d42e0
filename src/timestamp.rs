//! Commit timestamps.

/// The commit time of a version.
///
/// `0` is "before everything" and `u64::MAX` is reserved: nothing is ever committed at either. What the number means is
/// the clock's affair ([`Clock`](crate::Clock)) or the caller's ([`CommitOptions::at`](crate::CommitOptions::at)).
pub type Timestamp = u64;
