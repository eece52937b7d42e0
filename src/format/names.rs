//! Names of files. A manifest names files by number only, never by path.

use std::fmt;
use std::path::{Path, PathBuf};

/// The number of a file; never used twice in a database (S29).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct FileNumber(pub(crate) u64);

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// The kinds of numbered files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileKind {
    Log,
    Table,
    Manifest,
}

impl FileKind {
    const fn extension(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Table => "table",
            Self::Manifest => "manifest",
        }
    }

    /// Where the file of this kind and number lies.
    pub(crate) fn path(self, dir: &Path, number: FileNumber) -> PathBuf {
        dir.join(format!("{number}.{}", self.extension()))
    }
}

/// The kind and number that a name says, if it is exactly a name that [`FileKind::path`] gives.
pub(crate) fn parse_file_name(name: &str) -> Option<(FileKind, FileNumber)> {
    let (digits, extension) = name.split_once('.')?;
    let kind = [FileKind::Log, FileKind::Table, FileKind::Manifest].into_iter().find(|k| k.extension() == extension)?;
    let number = FileNumber(digits.parse().ok()?);
    (number.to_string() == digits).then_some((kind, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_parse() {
        for kind in [FileKind::Log, FileKind::Table, FileKind::Manifest] {
            for number in [0, 7, 123_456, 12_345_678, u64::MAX].map(FileNumber) {
                let path = kind.path(Path::new("x"), number);
                assert_eq!(parse_file_name(path.file_name().unwrap().to_str().unwrap()), Some((kind, number)));
            }
        }
        for bad in ["", "7.log", "000007.logs", "+00007.log", "000007", "000007.log.tmp", "CURRENT", "00000a.log"] {
            assert_eq!(parse_file_name(bad), None, "{bad}");
        }
    }
}
