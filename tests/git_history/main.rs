//! The example `git_history` over made-up repositories: a history that git keeps too, and that git checks.
#![allow(
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test"
)]

#[path = "../../examples/git_history/check.rs"]
mod check;
#[path = "../../examples/git_history/git.rs"]
mod git;
#[path = "../../examples/git_history/load.rs"]
mod load;
#[path = "../../examples/git_history/run.rs"]
mod run;
mod stream;

use std::io::BufWriter;
use std::path::Path;
use std::process::{Command, Stdio};

use strandline::{KeyspaceOptions, MemFs, Options};

use crate::git::{Repository, Result};
use crate::run::{Settings, Summary, run};

fn made_up(dir: &Path, seed: u64, commits: usize) -> Result<Repository> {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(dir).args(arguments);
        git
    };
    assert!(git(&["init", "--quiet", "--bare", "--object-format=sha1", "--initial-branch=main"]).status()?.success());
    let mut import = git(&["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn()?;
    stream::write(&mut BufWriter::new(import.stdin.take().ok_or("no input")?), seed, commits)?;
    assert!(import.wait()?.success(), "seed {seed}");
    Repository::open(dir)
}

fn checked(repository: &Repository, samples: usize, commits: usize) -> Result<Summary> {
    let settings = Settings {
        options: Options::new().fs(MemFs::new()).memtable_bytes(256 << 10).wal_segment_bytes(256 << 10),
        keyspace: KeyspaceOptions::new().block_bytes(1024).target_file_bytes(256 << 10).level_base_bytes(1 << 20),
        samples,
        commits,
    };
    let summary = run(repository, Path::new("db"), settings, &mut |_| {})?;
    println!("{summary}");
    assert_eq!(summary.differences, [""; 0]);
    Ok(summary)
}

// S2, S4, S16
#[test]
fn five_thousand_commits_agree_with_git_before_and_after_retention() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let repository = made_up(dir.path(), 1, 5000)?;
    let summary = checked(&repository, 24, usize::MAX)?;
    assert!(summary.loaded.commits.len() >= 5000);
    assert!(summary.history > 50, "the busiest path has {} versions", summary.history);
    assert!(summary.loaded.deletes > 100 && summary.table_bytes_after < summary.table_bytes_before);
    Ok(())
}

#[test]
fn short_and_shallow_histories_agree_with_git() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let repository = made_up(dir.path(), 2, 60)?;
    for commits in [1, 2, 3, 59] {
        assert_eq!(checked(&repository, 5, commits)?.loaded.commits.len(), commits);
    }
    let shallow = tempfile::tempdir()?;
    let source = format!("file://{}", dir.path().display());
    let clone = ["clone", "--quiet", "--bare", "--depth=7", &source];
    assert!(Command::new("git").args(clone).arg(shallow.path()).status()?.success());
    assert_eq!(checked(&Repository::open(shallow.path())?, 5, usize::MAX)?.loaded.commits.len(), 7);
    Ok(())
}
