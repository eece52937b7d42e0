//! The engines behind the traits of [`crate::engine`], a file each. The head of each file says how the engine was set
//! so that it stands beside the others, and what could not be made equal.
//!
//! Alike in all of them: the codec, 10 bits of filter a key, blocks of 4 KiB, the bytes of cache and of a memtable, the
//! background threads and the durability come from [`Settings`]; everything else is what the engine has by default,
//! because that is what most of its users run. A read sees every write that returned before it began: where an engine
//! reads through transactions, each read takes a fresh one.

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "fjall")]
mod fjall_transactions;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
mod rest;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "rocksdb")]
mod rocksdb_transactions;
#[cfg(feature = "rocksdb")]
mod rocksdb_versions;
mod strandline;
#[cfg(feature = "surrealkv")]
mod surrealkv;
#[cfg(test)]
mod tests;
#[cfg(any(feature = "fjall", feature = "rocksdb"))]
mod versioned_key;

use std::path::Path;

use crate::engine::{Kind, Map, Result, Settings, Transactions, Versions};

/// `None` where the engine is not compiled in, or is there for versions only.
pub fn open_map(kind: Kind, dir: &Path, settings: &Settings) -> Result<Option<Box<dyn Map>>> {
    std::fs::create_dir_all(dir)?;
    Ok(match kind {
        Kind::Strandline => Some(Box::new(strandline::Store::open(dir, settings)?)),
        #[cfg(feature = "rocksdb")]
        Kind::RocksDb => Some(Box::new(rocksdb::Store::open(dir, settings, false)?)),
        #[cfg(feature = "rocksdb")]
        Kind::RocksDbTuned => Some(Box::new(rocksdb::Store::open(dir, settings, true)?)),
        #[cfg(feature = "fjall")]
        Kind::Fjall => Some(Box::new(fjall::Store::open(dir, settings)?)),
        #[cfg(feature = "surrealkv")]
        Kind::SurrealKv => Some(Box::new(surrealkv::Store::open(dir, settings, false)?)),
        #[cfg(feature = "redb")]
        Kind::Redb => Some(Box::new(redb::Store::open(dir, settings)?)),
        #[cfg(feature = "lmdb")]
        Kind::Lmdb => Some(Box::new(lmdb::Store::open(dir, settings)?)),
        _ => None,
    })
}

/// `None` where the engine is not compiled in, or its users would not keep versions in it.
pub fn open_versions(kind: Kind, dir: &Path, settings: &Settings) -> Result<Option<Box<dyn Versions>>> {
    std::fs::create_dir_all(dir)?;
    Ok(match kind {
        Kind::Strandline => Some(Box::new(strandline::History::open(dir, settings)?)),
        #[cfg(feature = "rocksdb")]
        Kind::RocksDb => Some(Box::new(rocksdb_versions::Timestamps::open(dir, settings)?)),
        #[cfg(feature = "rocksdb")]
        Kind::RocksDbKeys => Some(Box::new(rocksdb_versions::Keys::open(dir, settings)?)),
        #[cfg(feature = "fjall")]
        Kind::Fjall => Some(Box::new(fjall::History::open(dir, settings)?)),
        #[cfg(feature = "surrealkv")]
        Kind::SurrealKv => Some(Box::new(surrealkv::Store::open(dir, settings, true)?)),
        _ => None,
    })
}

/// `None` where the engine is not compiled in, or has no optimistic transactions.
pub fn open_transactions(kind: Kind, dir: &Path, settings: &Settings) -> Result<Option<Box<dyn Transactions>>> {
    std::fs::create_dir_all(dir)?;
    Ok(match kind {
        Kind::Strandline => Some(Box::new(strandline::Store::open(dir, settings)?)),
        #[cfg(feature = "rocksdb")]
        Kind::RocksDb => Some(Box::new(rocksdb_transactions::Store::open(dir, settings)?)),
        #[cfg(feature = "fjall")]
        Kind::Fjall => Some(Box::new(fjall_transactions::Store::open(dir, settings)?)),
        #[cfg(feature = "surrealkv")]
        Kind::SurrealKv => Some(Box::new(surrealkv::Store::open(dir, settings, false)?)),
        _ => None,
    })
}

/// The kinds that are compiled in, with the version of the engine in the lock file. Of RocksDB that is its own, not
/// that of the crate around it.
pub fn compiled() -> Vec<(Kind, &'static str)> {
    Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let package = match kind {
                Kind::Strandline => "strandline",
                Kind::RocksDb | Kind::RocksDbTuned | Kind::RocksDbKeys if cfg!(feature = "rocksdb") => "librocksdb-sys",
                Kind::Fjall if cfg!(feature = "fjall") => "fjall",
                Kind::SurrealKv if cfg!(feature = "surrealkv") => "surrealkv",
                Kind::Redb if cfg!(feature = "redb") => "redb",
                Kind::Lmdb if cfg!(feature = "lmdb") => "heed",
                _ => return None,
            };
            Some((kind, locked_version(package)))
        })
        .collect()
}

fn locked_version(package: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let named = format!("name = \"{package}\"");
    let version = lock.lines().skip_while(|line| *line != named).nth(1);
    let version = version.and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    let version = version.unwrap_or("not in the lock file");
    version.split_once('+').map_or(version, |(_, wrapped)| wrapped)
}
