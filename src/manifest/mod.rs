//! What the database knows of itself: which keyspaces there are, which tables hold them, from where the log counts.
//!
//! That knowledge is a [`ManifestState`]. It changes by [`Edit`]s, which are appended to a file of their own, the
//! manifest, and synced one by one; `CURRENT` names the manifest that counts.
//!
//! An open reads the state back with [`load()`], and writes on only in a new manifest, which begins with a snapshot of
//! that state. Before it has made that one it deletes nothing: the last edit may not have been synced, and be gone
//! after a power cut. For the same reason a failed [`Manifest`] leaves its last edit undecided until there is a new one
//! (L2).

mod current;
mod edit;
mod file;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod header;
mod load;
mod options;
mod prepared;
mod salvage;
mod state;
mod tree;
mod writer;

pub(crate) use current::{CURRENT, CURRENT_TEMPORARY};
pub(crate) use edit::{Change, Edit};
pub(crate) use load::{Loaded, load};
pub(crate) use options::{decode as decode_options, encode as encode_options};
pub use prepared::Outcome;
pub(crate) use prepared::{InDoubt, Known, PreparedState, TransactionId};
pub(crate) use salvage::{Testimony, Witnesses, salvage};
pub(crate) use state::{EditError, KeyspaceId, KeyspaceState, LogState, ManifestState};
pub(crate) use tree::{LEVELS, Tree};
pub(crate) use writer::Manifest;

#[cfg(test)]
mod tests;
