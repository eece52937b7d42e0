//! The files of a database in memory, to be looked at and damaged.

use std::path::{Path, PathBuf};

use strandline::fs::Purpose;
use strandline::{Db, Fs, Keyspace, MemFs, Options};

pub(crate) const DIR: &str = "db";

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// The files of a directory, in order.
pub(crate) fn names(fs: &MemFs, dir: &str) -> Vec<String> {
    let listed = fs.list(Purpose::Directory, Path::new(dir)).unwrap_or_default();
    let mut names: Vec<_> = listed.into_iter().filter(|entry| entry.is_file).map(|entry| entry.name).collect();
    names.sort();
    names
}

/// The files with this extension, in order.
pub(crate) fn of_kind(fs: &MemFs, extension: &str) -> Vec<String> {
    names(fs, DIR).into_iter().filter(|name| name.ends_with(extension)).collect()
}

pub(crate) fn bytes_of(fs: &MemFs, name: &str) -> Vec<u8> {
    fs.read_file(path(name)).unwrap()
}

/// Durably.
pub(crate) fn remove(fs: &MemFs, name: &str) {
    fs.remove(Purpose::Directory, &path(name)).unwrap();
    fs.sync_dir(Purpose::Directory, Path::new(DIR)).unwrap();
}

pub(crate) fn remove_all(fs: &MemFs, extension: &str) {
    of_kind(fs, extension).iter().for_each(|name| remove(fs, name));
}

/// Changes one byte; the last one, if the file is shorter.
pub(crate) fn flip(fs: &MemFs, name: &str, at: usize) {
    let mut bytes = bytes_of(fs, name);
    let last = bytes.len() - 1;
    bytes[at.min(last)] ^= 0x41;
    fs.write_file(path(name), bytes).unwrap();
}

/// Where these bytes lie in a file.
pub(crate) fn find(fs: &MemFs, name: &str, wanted: &[u8]) -> usize {
    bytes_of(fs, name).windows(wanted.len()).position(|window| window == wanted).unwrap()
}

/// The files as they are when the process is killed: nothing that it has open is closed in order.
pub(crate) fn killed<T>(fs: &MemFs, open: T) -> MemFs {
    std::mem::forget(open);
    fs.kill()
}

/// Opens what was repaired: it must open and verify.
pub(crate) fn reopened(options: Options, context: &str) -> Db {
    let db = options.open(DIR).unwrap_or_else(|error| panic!("{context}: {error}"));
    db.verify().unwrap_or_else(|error| panic!("{context}: {error}"));
    db
}

/// The keys of a keyspace.
pub(crate) fn keys(keyspace: &Keyspace) -> Vec<String> {
    keyspace.iter().map(|pair| String::from_utf8(pair.unwrap().0.to_vec()).unwrap()).collect()
}
