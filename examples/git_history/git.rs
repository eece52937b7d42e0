//! A git repository, read through child processes: no more than one for each kind of question, however many commits.

use std::error::Error;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use sha1::{Digest, Sha1};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The name of an object: SHA-1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub [u8; 20]);

impl ObjectId {
    /// The name that git gives to a blob.
    pub fn of_blob(content: &[u8]) -> Self {
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {}\0", content.len()));
        hasher.update(content);
        Self(hasher.finalize().into())
    }

    fn parse(hex: &[u8]) -> Result<Self> {
        let mut id = [0; 20];
        if hex.len() != 40 {
            return Err(format!("git said {:?} for an object", String::from_utf8_lossy(hex)).into());
        }
        for (byte, digits) in id.iter_mut().zip(hex.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits)?, 16)?;
        }
        Ok(Self(id))
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What happened to the content at one path: `None` is no content (no file, or a submodule).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: Vec<u8>,
    pub from: Option<ObjectId>,
    pub to: Option<ObjectId>,
}

pub struct Repository {
    git_dir: PathBuf,
}

impl Repository {
    /// The repository that `path` lies in.
    pub fn open(path: &Path) -> Result<Self> {
        let ask = |question: &str| -> Result<String> {
            let output = Command::new("git").arg("-C").arg(path).args(["rev-parse", question]).output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
            }
            Ok(String::from_utf8(output.stdout)?.trim_end_matches('\n').to_owned())
        };
        let format = ask("--show-object-format")?;
        if format != "sha1" {
            return Err(format!("the repository names objects by {format}; this example knows sha1 only").into());
        }
        Ok(Self { git_dir: ask("--absolute-git-dir")?.into() })
    }

    pub fn path(&self) -> &Path {
        &self.git_dir
    }

    fn git(&self) -> Command {
        let mut command = Command::new("git");
        command.args(["--no-replace-objects", "--literal-pathspecs"]);
        command.arg("--git-dir").arg(&self.git_dir);
        command
    }

    /// The first-parent commits of `HEAD`, oldest first.
    pub fn commits(&self) -> Result<Vec<ObjectId>> {
        let mut lines = Output::of(self.git().args(["rev-list", "--first-parent", "--reverse", "HEAD"]), b'\n')?;
        let mut commits = Vec::new();
        while let Some(line) = lines.next()? {
            commits.push(ObjectId::parse(&line)?);
        }
        Ok(commits)
    }

    /// What each of `commits` changed against the one before it, the first against nothing.
    pub fn changes(&self, commits: &[ObjectId]) -> Result<Changes> {
        let mut git = self.git();
        git.args(["diff-tree", "--stdin", "--always", "--root", "-r", "--no-renames", "--raw", "-z", "--no-abbrev"]);
        let mut child = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut questions = BufWriter::new(child.stdin.take().ok_or("git has no input")?);
        let commits = commits.to_vec();
        // Asked from a thread of its own: git answers while it reads, and each side would wait for the other.
        thread::spawn(move || {
            let mut before = String::new();
            for commit in commits {
                // An error here is git that ended early, which the reader of its answers reports.
                if writeln!(questions, "{commit}{before}").is_err() {
                    return;
                }
                before = format!(" {commit}");
            }
        });
        Changes::new(Output::new(child, b'\0')?)
    }

    /// The blobs in the tree of `commit` and their paths, by path.
    pub fn tree(&self, commit: ObjectId) -> Result<Vec<(Vec<u8>, ObjectId)>> {
        let mut git = self.git();
        let mut entries = Output::of(git.args(["ls-tree", "-r", "-z", "--full-tree"]).arg(commit.to_string()), b'\0')?;
        let mut tree = Vec::new();
        while let Some(entry) = entries.next()? {
            let tab = entry.iter().position(|byte| *byte == b'\t').ok_or("an entry of a tree without a path")?;
            let (about, path) = entry.split_at(tab);
            let about: Vec<&[u8]> = about.split(|byte| *byte == b' ').collect();
            if let [_, b"blob", id] = about[..] {
                tree.push((path[1..].to_vec(), ObjectId::parse(id)?));
            }
        }
        tree.sort_unstable();
        Ok(tree)
    }

    /// The first-parent commits up to `tip` that changed the content at `path`, newest first.
    pub fn log(&self, tip: ObjectId, path: &[u8]) -> Result<Vec<(ObjectId, Change)>> {
        let mut git = self.git();
        git.args(["log", "--first-parent", "-m", "--no-renames", "--raw", "-z", "--no-abbrev", "--format=%H"]);
        git.arg(tip.to_string()).arg("--").arg(os_str(path)?);
        let mut log = Vec::new();
        let mut commits = Changes::new(Output::of(&mut git, b'\0')?)?;
        while let Some((commit, changes)) = commits.next()? {
            log.extend(changes.into_iter().filter(|change| change.path == path).map(|change| (commit, change)));
        }
        Ok(log)
    }

    /// A process that gives the contents of blobs.
    pub fn blobs(&self) -> Result<Blobs> {
        let mut child =
            self.git().args(["cat-file", "--batch"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let questions = child.stdin.take().ok_or("git has no input")?;
        let answers = BufReader::with_capacity(1 << 16, child.stdout.take().ok_or("git has no output")?);
        Ok(Blobs { child, questions: Some(questions), answers })
    }
}

#[cfg(unix)]
fn os_str(path: &[u8]) -> Result<&std::ffi::OsStr> {
    Ok(std::os::unix::ffi::OsStrExt::from_bytes(path))
}

#[cfg(not(unix))]
fn os_str(path: &[u8]) -> Result<&std::ffi::OsStr> {
    Ok(std::str::from_utf8(path)?.as_ref())
}

/// What a git process prints, piece by piece; at the end it must have succeeded.
struct Output {
    child: Child,
    bytes: BufReader<ChildStdout>,
    separator: u8,
}

impl Output {
    fn of(command: &mut Command, separator: u8) -> Result<Self> {
        Self::new(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?, separator)
    }

    fn new(mut child: Child, separator: u8) -> Result<Self> {
        let bytes = BufReader::with_capacity(1 << 16, child.stdout.take().ok_or("git has no output")?);
        Ok(Self { child, bytes, separator })
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut piece = Vec::new();
        self.bytes.read_until(self.separator, &mut piece)?;
        if piece.pop_if(|last| *last == self.separator).is_some() {
            return Ok(Some(piece));
        }
        let status = self.child.wait()?;
        if status.success() && piece.is_empty() { Ok(None) } else { Err(format!("git ended with {status}").into()) }
    }
}

/// Commits and what they changed, as `git diff-tree --raw -z` and `git log --raw -z` print them.
pub struct Changes {
    output: Output,
    /// The commit whose changes come next.
    commit: Option<ObjectId>,
}

impl Changes {
    fn new(mut output: Output) -> Result<Self> {
        let commit = output.next()?.map(|piece| ObjectId::parse(&piece)).transpose()?;
        Ok(Self { output, commit })
    }

    /// The next commit, and the paths whose content it changed: neither modes nor submodules count.
    pub fn next(&mut self) -> Result<Option<(ObjectId, Vec<Change>)>> {
        let Some(commit) = self.commit.take() else { return Ok(None) };
        let mut changes = Vec::new();
        while let Some(piece) = self.output.next()? {
            let piece = piece.strip_prefix(b"\n").unwrap_or(&piece);
            let Some(about) = piece.strip_prefix(b":") else {
                self.commit = Some(ObjectId::parse(piece)?);
                break;
            };
            let about: Vec<&[u8]> = about.split(|byte| *byte == b' ').collect();
            let [mode_before, mode_after, before, after, _] = about[..] else {
                return Err(format!("git said {:?} of a change", String::from_utf8_lossy(piece)).into());
            };
            let path = self.output.next()?.ok_or("a change without a path")?;
            let (from, to) = (content(mode_before, before)?, content(mode_after, after)?);
            if from != to {
                changes.push(Change { path, from, to });
            }
        }
        Ok(Some((commit, changes)))
    }
}

/// The blob that an entry of a tree names, if it names one.
fn content(mode: &[u8], id: &[u8]) -> Result<Option<ObjectId>> {
    match mode {
        b"000000" | b"160000" => Ok(None),
        _ => ObjectId::parse(id).map(Some),
    }
}

/// A running `git cat-file --batch`.
pub struct Blobs {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Blobs {
    /// Questions that are asked before their answers are read. They must fit into a pipe: git does not read on while
    /// nobody takes what it answers.
    const AT_ONCE: usize = 64;

    /// Gives the content of each of `ids`, in order, to `take`.
    pub fn read(&mut self, ids: &[ObjectId], mut take: impl FnMut(usize, Vec<u8>) -> Result<()>) -> Result<()> {
        for (group, ids) in ids.chunks(Self::AT_ONCE).enumerate() {
            let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
            let questions = self.questions.as_mut().ok_or("git was told to end")?;
            questions.write_all(lines.as_bytes())?;
            questions.flush()?;
            for (i, id) in ids.iter().enumerate() {
                take(group * Self::AT_ONCE + i, self.answer(*id)?)?;
            }
        }
        Ok(())
    }

    fn answer(&mut self, id: ObjectId) -> Result<Vec<u8>> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let len = line.trim_end().strip_prefix(&format!("{id} blob ")).and_then(|len| len.parse::<usize>().ok());
        let len = len.ok_or_else(|| format!("git said {line:?} of blob {id}"))?;
        let mut content = vec![0; len + 1];
        self.answers.read_exact(&mut content)?;
        if content.pop() != Some(b'\n') {
            return Err(format!("blob {id} is longer than git said").into());
        }
        Ok(content)
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        self.questions = None;
        // It only read: how it ends does not matter.
        let _ = self.child.wait();
    }
}
