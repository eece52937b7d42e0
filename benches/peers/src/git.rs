//! Real data: the history of a git repository. A key is the path of a file, a version its contents after a commit;
//! commits are those of the first-parent line, oldest first. As every put has a timestamp of its own, a commit is a
//! stretch of timestamps; as of a commit is as of its last.
//!
//! git is read once, into a file of changes that every engine then reads alike.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read as _, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use crate::engine::{Result, Versions};
use crate::keys::{Random, SEED};
use crate::measure::on_this_thread;
use crate::record::Record;
use crate::workloads::{Start, VERSIONED, Work as AnyWork, Workload};

pub const WORKLOADS: &[Workload] = &[
    Workload { name: "gitfill", start: Start::Empty, data: VERSIONED, work: AnyWork::Git(Work::Fill) },
    Workload { name: "gitreadasof", start: Start::Filled("gitfill"), data: VERSIONED, work: AnyWork::Git(Work::GetAt) },
];

#[derive(Debug, Clone, Copy)]
pub enum Work {
    Fill,
    /// A random file as of a random commit that has it, or had it before.
    GetAt,
}

/// What is in a file of changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exported {
    pub commits: u64,
    pub changes: u64,
    pub paths: u64,
    pub bytes: u64,
    /// Contents above [`LONGEST`], which are left out.
    pub too_long: u64,
}

const LONGEST: u64 = 1 << 20;
const SUBMODULE: &str = "160000";

/// Writes the changes of a repository's oldest `commits` commits. A file that was deleted has no contents from then on.
pub fn export(repository: &Path, commits: u64, file: &Path) -> Result<Exported> {
    let git = || {
        let mut git = Command::new("git");
        git.arg("-C").arg(repository).stdin(Stdio::null()).stdout(Stdio::piped());
        git
    };
    let mut log = git()
        .args(["-c", "log.showroot=true", "log", "--first-parent", "-m", "--reverse", "--raw", "-z"])
        .args(["--no-abbrev", "--no-renames", "--format=%x00%H"])
        .spawn()?;
    let mut contents = git().args(["cat-file", "--batch"]).stdin(Stdio::piped()).spawn()?;
    let mut blobs = Blobs {
        ask: contents.stdin.take().ok_or("no stdin")?,
        answer: BufReader::new(contents.stdout.take().ok_or("no stdout")?),
    };
    let mut output = BufWriter::new(File::create(file)?);
    let mut tokens = BufReader::new(log.stdout.take().ok_or("no stdout")?).split(0);
    let mut paths = HashMap::new();
    let mut exported = Exported::default();
    let mut begins_commit = false;
    while let Some(token) = tokens.next().transpose()? {
        let token = String::from_utf8_lossy(token.trim_ascii_start());
        let Some(change) = token.strip_prefix(':') else {
            if !token.is_empty() {
                if exported.commits == commits {
                    break;
                }
                exported.commits += 1;
                begins_commit = true;
            }
            continue;
        };
        let path = tokens.next().ok_or("git log: a change without a path")??;
        let fields: Vec<_> = change.split(' ').collect();
        let [_, mode, _, blob, status] = fields[..] else { return Err(format!("git log: {token}").into()) };
        if mode == SUBMODULE {
            continue;
        }
        let value = if status == "D" { Some(Vec::new()) } else { blobs.get(blob)? };
        let Some(value) = value else {
            exported.too_long += 1;
            continue;
        };
        output.write_all(&[begins_commit.into()])?;
        for part in [&path, &value] {
            output.write_all(&u32::try_from(part.len())?.to_le_bytes())?;
            output.write_all(part)?;
        }
        begins_commit = false;
        exported.changes += 1;
        exported.bytes += value.len() as u64;
        paths.entry(path).or_insert(());
    }
    output.flush()?;
    exported.paths = paths.len() as u64;
    drop(tokens);
    drop(blobs);
    contents.wait()?;
    // If all it had to say was not read, it ends by a broken pipe.
    let status = log.wait()?;
    if !status.success() && exported.commits < commits {
        return Err(format!("git log: {status}").into());
    }
    Ok(exported)
}

/// `git cat-file --batch`.
struct Blobs {
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Blobs {
    /// `None` if it is too long.
    fn get(&mut self, blob: &str) -> Result<Option<Vec<u8>>> {
        writeln!(self.ask, "{blob}")?;
        let mut head = String::new();
        self.answer.read_line(&mut head)?;
        let length = head.trim().strip_prefix(blob).and_then(|rest| rest.strip_prefix(" blob ")?.parse::<u64>().ok());
        let length = length.ok_or_else(|| format!("git cat-file: {head}"))?;
        let mut bytes = Vec::new();
        // A line feed follows.
        (&mut self.answer).take(length + 1).read_to_end(&mut bytes)?;
        bytes.pop();
        if bytes.len() as u64 != length {
            return Err(format!("git cat-file ended within {blob}").into());
        }
        Ok((length <= LONGEST).then_some(bytes))
    }
}

/// A file of changes, one after the other.
struct Changes {
    input: BufReader<File>,
    path: Vec<u8>,
    value: Vec<u8>,
    timestamp: u64,
}

impl Changes {
    fn open(file: &Path) -> Result<Self> {
        let input = BufReader::with_capacity(1 << 18, File::open(file)?);
        Ok(Self { input, path: Vec::new(), value: Vec::new(), timestamp: 0 })
    }

    /// Whether the next begins a commit; it is in the fields then.
    fn next(&mut self) -> Result<Option<bool>> {
        let mut flag = [0];
        match self.input.read_exact(&mut flag) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        for part in [&mut self.path, &mut self.value] {
            let mut length = [0; 4];
            self.input.read_exact(&mut length)?;
            part.resize(u32::from_le_bytes(length) as usize, 0);
            self.input.read_exact(part)?;
        }
        self.timestamp += 1;
        Ok(Some(flag[0] != 0))
    }
}

impl Work {
    pub fn run(self, engine: &dyn Versions, changes: &Path) -> Result<Option<Record>> {
        match self {
            Self::Fill => fill(engine, Changes::open(changes)?),
            Self::GetAt => reads(engine, Changes::open(changes)?),
        }
    }
}

fn fill(engine: &dyn Versions, mut changes: Changes) -> Result<Option<Record>> {
    let mut measured = on_this_thread(|latencies| {
        while changes.next()?.is_some() {
            engine.put(&changes.path, changes.timestamp, &changes.value)?;
            latencies.operation_ends();
        }
        Ok(())
    })?;
    measured.drain(|| engine.settle())?;
    let record = measured.record(changes.timestamp)?;
    match engine.scan_versions()? {
        Some(versions) if versions != changes.timestamp => {
            Err(format!("versions after the fill: {versions}, not {}", changes.timestamp).into())
        }
        _ => Ok(Some(record)),
    }
}

fn reads(engine: &dyn Versions, mut changes: Changes) -> Result<Option<Record>> {
    // Of each path its first timestamp; of each commit its last.
    let (mut first, mut commits) = (HashMap::new(), Vec::new());
    while let Some(begins_commit) = changes.next()? {
        if begins_commit && changes.timestamp > 1 {
            commits.push(changes.timestamp - 1);
        }
        first.entry(changes.path.clone()).or_insert(changes.timestamp);
    }
    commits.push(changes.timestamp);
    let mut paths: Vec<_> = first.into_iter().collect();
    paths.sort_unstable();
    let mut random = Random::new(SEED);
    let mut read = || -> Result<()> {
        let (path, first) = &paths[random.below(paths.len() as u64) as usize];
        let earliest = commits.partition_point(|last| last < first);
        let commit = earliest + random.below((commits.len() - earliest) as u64) as usize;
        if engine.get_at(path, commits[commit])? {
            return Ok(());
        }
        Err(format!("{} as of commit {commit} is not there", String::from_utf8_lossy(path)).into())
    };
    let operations = changes.timestamp.clamp(10_000, 1_000_000);
    (0..operations / 4).try_for_each(|_| read())?;
    let measured = on_this_thread(|latencies| {
        (0..operations).try_for_each(|_| {
            read()?;
            latencies.operation_ends();
            Ok(())
        })
    })?;
    measured.record(operations).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_of_a_repository_is_exported_commit_by_commit() {
        let directory = tempfile::tempdir().unwrap();
        let repository = directory.path().join("repository");
        std::fs::create_dir(&repository).unwrap();
        let git = |arguments: &[&str]| {
            let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
            let git = Command::new("git").arg("-C").arg(&repository).args(identity).args(arguments).output().unwrap();
            assert!(git.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&git.stderr));
        };
        let write = |path: &str, text: &str| std::fs::write(repository.join(path), text).unwrap();
        git(&["init", "-q"]);
        write("a", "a1");
        write("b: ü", "b1\0\n");
        git(&["add", "."]);
        git(&["commit", "-qm", "first"]);
        git(&["commit", "-qm", "nothing", "--allow-empty"]);
        write("a", "");
        std::fs::remove_file(repository.join("b: ü")).unwrap();
        write("long", &"x".repeat(LONGEST as usize + 1));
        git(&["add", "-A"]);
        git(&["commit", "-qm", "second"]);

        let file = directory.path().join("changes");
        let exported = export(&repository, u64::MAX, &file).unwrap();
        assert_eq!(exported, Exported { commits: 3, changes: 4, paths: 2, bytes: 6, too_long: 1 });
        let mut changes = Changes::open(&file).unwrap();
        let mut seen = Vec::new();
        while let Some(begins_commit) = changes.next().unwrap() {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            seen.push((begins_commit, text(&changes.path), text(&changes.value)));
        }
        let expected = [(true, "a", "a1"), (false, "b: ü", "b1\0\n"), (true, "a", ""), (false, "b: ü", "")];
        assert_eq!(seen, expected.map(|(begins, path, value)| (begins, path.to_owned(), value.to_owned())));

        assert_eq!(export(&repository, 1, &file).unwrap().commits, 1);
        assert!(export(directory.path(), 1, &file).is_err());
    }
}
