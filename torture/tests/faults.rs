//! Short forms of the programs about devices that fail and disks that are full, as tests.

use std::sync::mpsc;
use std::time::Duration;

use strandline_torture::campaign::{Counts, Program};
use strandline_torture::disk_full::DiskFull;
use strandline_torture::faults::Faults;
use strandline_torture::story;

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Rounds of some seeds; what they have done.
fn rounds(program: impl Program + 'static, seeds: impl IntoIterator<Item = u64> + Send + 'static) -> Counts {
    let (done, is_done) = mpsc::channel();
    let name = program.name();
    let rounds = std::thread::spawn(move || {
        let mut counts = Counts::default();
        for seed in seeds {
            if let Err((message, told)) = story::listen(|| program.round(seed, &mut counts)) {
                told.iter().for_each(|line| eprintln!("{line}"));
                panic!("{} --first-seed {seed} --rounds 1: {message}", program.name());
            }
        }
        done.send(()).unwrap_or_default();
        counts
    });
    if is_done.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("{name} hangs");
    }
    rounds.join().unwrap()
}

// S24 S25 S26 S38
#[test]
fn any_file_call_may_fail_once_or_from_then_on() {
    let counts = rounds(Faults, (16..16 * 8).step_by(17));
    assert!(counts.get("fault points") > 100 && counts.get("resumed") > 20, "{counts}");
}

// S24 S38
#[test]
fn any_file_call_may_fail_under_threads() {
    let counts = rounds(Faults, [8, 16]);
    assert!(counts.get("fault points") > 10, "{counts}");
}

// S24
#[test]
fn destroying_may_fail_at_any_call() {
    let counts = rounds(Faults, [31]);
    assert!(counts.get("fault points in destroy") > 20, "{counts}");
}

// S26
#[test]
fn a_full_disk_is_survived_at_any_amount_and_moment() {
    let counts = rounds(DiskFull, 1..20);
    assert!(counts.get("full disks") > 50 && counts.get("openings without room") > 50, "{counts}");
}

// S26
#[test]
fn a_real_file_system_that_is_full_is_survived() {
    let counts = rounds(DiskFull, [20, 40]);
    assert_eq!(counts.get("small file systems") + counts.get("small file systems skipped"), 2, "{counts}");
}
