//! What was measured and by which compiler is known when it is built: the results name both.

use std::process::Command;

fn main() {
    for path in ["src", "Cargo.lock", "../../src", "../../Cargo.toml"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let engine = ["../../src", "../../Cargo.toml"];
    let commit = output("git", ["log", "-1", "--format=%h", "--"].into_iter().chain(engine));
    let changes = output("git", ["status", "--porcelain", "--"].into_iter().chain(engine));
    let source = match (commit.as_deref(), changes.as_deref()) {
        (Some(commit), Some("")) => commit.to_owned(),
        (Some(commit), _) => format!("{commit}, changed"),
        (None, _) => "no commit".to_owned(),
    };
    println!("cargo::rustc-env=PEERS_STRANDLINE_SOURCE={source}");
    println!("cargo::rustc-env=PEERS_RUSTC={}", output(&compiler, ["--version"]).unwrap_or_default());
}

fn output<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
