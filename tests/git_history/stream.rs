//! A made-up history as a `git fast-import` stream, from a seed.
//!
//! Its trees have what real ones have and what breaks importers: empty, binary and large files, symlinks, submodules,
//! changes of mode only, files that become directories and back, paths that are prefixes of each other, paths that are
//! not UTF-8, commits that change nothing, merges.

use std::collections::BTreeMap;
use std::io::{self, Write};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const FILE: &str = "100644";
const PROGRAM: &str = "100755";
const SYMLINK: &str = "120000";
const SUBMODULE: &str = "160000";

/// Names of directories and files, chosen so that `/` sorts between them.
const NAMES: [&[u8]; 12] =
    [b"a", b"ab", b"a.txt", b"a-b", b"a b", b"b", b"b0", b"\xc3\xa4", b"\xff\xfe", b"\"quoted\"", b"tab\t", b"src"];

type Tree = BTreeMap<Vec<u8>, (&'static str, Vec<u8>)>;

/// Writes `commits` commits to `refs/heads/main`.
pub fn write(out: &mut impl Write, seed: u64, commits: usize) -> io::Result<()> {
    let mut history = History { random: StdRng::seed_from_u64(seed), tree: Tree::new(), marks: 0 };
    let mut side: Option<usize> = None;
    for i in 0..commits {
        match (i, side) {
            (10.., None) if history.random.random_ratio(1, 200) => {
                // A branch of two commits; what it does to its own tree does not matter to the first parents.
                let kept = history.tree.clone();
                let from = history.marks;
                let first = history.commit(out, "side", Some(from), None)?;
                side = Some(history.commit(out, "side", Some(first), None)?);
                history.tree = kept;
                history.commit(out, "main", Some(from), None)?;
            }
            (_, Some(merged)) if history.random.random_ratio(1, 5) => {
                history.commit(out, "main", None, Some(merged))?;
                side = None;
            }
            _ => {
                history.commit(out, "main", None, None)?;
            }
        }
    }
    out.flush()
}

struct History {
    random: StdRng,
    tree: Tree,
    marks: usize,
}

impl History {
    fn commit(
        &mut self,
        out: &mut impl Write,
        branch: &str,
        from: Option<usize>,
        merged: Option<usize>,
    ) -> io::Result<usize> {
        self.marks += 1;
        writeln!(out, "commit refs/heads/{branch}\nmark :{}", self.marks)?;
        writeln!(out, "committer A <a@example.org> {} +0000\ndata 0", 1_000_000 + self.marks)?;
        if let Some(from) = from {
            writeln!(out, "from :{from}")?;
        }
        if let Some(merged) = merged {
            writeln!(out, "merge :{merged}")?;
        }
        for _ in 0..self.random.random_range(0..6) {
            self.change(out)?;
        }
        writeln!(out)?;
        Ok(self.marks)
    }

    fn change(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self.random.random_range(0..100) {
            0..30 => {
                let path = self.new_path();
                let content = self.content();
                self.put(out, path, FILE, content)
            }
            30..65 => {
                let Some(path) = self.some_path() else { return Ok(()) };
                let content = self.content();
                self.put(out, path, FILE, content)
            }
            65..75 => match self.some_path() {
                Some(path) => self.delete(out, &path),
                None => Ok(()),
            },
            75..82 => {
                let Some(path) = self.some_path() else { return Ok(()) };
                let (mode, content) = self.tree[&path].clone();
                match mode {
                    FILE => self.put(out, path, PROGRAM, content),
                    PROGRAM => self.put(out, path, FILE, content),
                    _ => Ok(()),
                }
            }
            82..89 => {
                let path = if self.random.random() { self.new_path() } else { self.some_path().unwrap_or_default() };
                let target = self.some_path().unwrap_or_default();
                if path.is_empty() { Ok(()) } else { self.put(out, path, SYMLINK, [b"../", &target[..]].concat()) }
            }
            89..92 => {
                // A file becomes a directory.
                let Some(mut path) = self.some_path() else { return Ok(()) };
                path.extend(b"/inside");
                let content = self.content();
                self.put(out, path, FILE, content)
            }
            92..94 => {
                // A directory becomes a file.
                let Some(path) = self.some_path() else { return Ok(()) };
                let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { return Ok(()) };
                let content = self.content();
                self.put(out, path[..slash].to_vec(), FILE, content)
            }
            94..97 => {
                let path = if self.random.random() { self.new_path() } else { self.some_path().unwrap_or_default() };
                if path.is_empty() { Ok(()) } else { self.put(out, path, SUBMODULE, Vec::new()) }
            }
            _ => {
                // A move: the same content elsewhere.
                let Some(path) = self.some_path() else { return Ok(()) };
                let (mode, content) = self.tree[&path].clone();
                self.delete(out, &path)?;
                let to = self.new_path();
                self.put(out, to, mode, content)
            }
        }
    }

    /// Puts a file where it takes the place of what was there: a file, a whole directory, or files on the way to it.
    fn put(&mut self, out: &mut impl Write, path: Vec<u8>, mode: &'static str, content: Vec<u8>) -> io::Result<()> {
        let replaced: Vec<Vec<u8>> = self.tree.keys().filter(|other| is_inside(other, &path)).cloned().collect();
        let above: Vec<Vec<u8>> = self.tree.keys().filter(|other| is_inside(&path, other)).cloned().collect();
        for other in replaced.into_iter().chain(above) {
            self.delete(out, &other)?;
        }
        if mode == SUBMODULE {
            let id: String = (0..40).map(|_| char::from(self.random.random_range(b'1'..=b'9'))).collect();
            writeln!(out, "M {mode} {id} {}", quoted(&path))?;
        } else {
            writeln!(out, "M {mode} inline {}\ndata {}", quoted(&path), content.len())?;
            out.write_all(&content)?;
            writeln!(out)?;
        }
        self.tree.insert(path, (mode, content));
        Ok(())
    }

    fn delete(&mut self, out: &mut impl Write, path: &[u8]) -> io::Result<()> {
        self.tree.remove(path);
        writeln!(out, "D {}", quoted(path))
    }

    /// A path where nothing is, and that takes no file's place; after some tries, any path.
    fn new_path(&mut self) -> Vec<u8> {
        let mut path = Vec::new();
        for _ in 0..10 {
            let depth = self.random.random_range(1..5);
            let parts: Vec<&[u8]> = (0..depth).map(|_| NAMES[self.random.random_range(0..NAMES.len())]).collect();
            path = parts.join(&b'/');
            let taken = |other: &Vec<u8>| *other == path || is_inside(other, &path) || is_inside(&path, other);
            if !self.tree.keys().any(taken) {
                break;
            }
        }
        path
    }

    fn some_path(&mut self) -> Option<Vec<u8>> {
        // A few paths are changed far more often than the others.
        let among = if self.random.random_ratio(1, 4) { 3 } else { self.tree.len() }.min(self.tree.len());
        if among == 0 { None } else { self.tree.keys().nth(self.random.random_range(0..among)).cloned() }
    }

    fn content(&mut self) -> Vec<u8> {
        match self.random.random_range(0..20) {
            0 => Vec::new(),
            1..5 => (0..self.random.random_range(1..3000)).map(|_| self.random.random()).collect(),
            5 if self.random.random_ratio(1, 20) => vec![self.random.random(); 300_000],
            _ => {
                let lines = self.random.random_range(1..60);
                (0..lines).flat_map(|_| format!("line {}\n", self.random.random_range(0..1000)).into_bytes()).collect()
            }
        }
    }
}

fn is_inside(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
}

/// As `fast-import` wants a path with any bytes in it.
fn quoted(path: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(*byte)),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\{byte:03o}"),
    };
    format!("\"{}\"", path.iter().map(escape).collect::<String>())
}
