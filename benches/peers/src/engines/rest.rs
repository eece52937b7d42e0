//! Waiting until an engine's background threads have nothing to do, for engines that have no call for it.
//!
//! Linux tells for each thread whether it waits for an event (`S`), and for how long and how often it has run. Threads
//! that wait, and have not run from one look to the next, several times in a row, do nothing and have nothing due: work
//! that is due wakes them at once. A thread that waits for the disk is in another state (`D`).

use std::fs;
use std::time::{Duration, Instant};

use crate::engine::Result;

/// Between two looks.
pub const POLL: Duration = Duration::from_millis(10);
/// In so many looks in a row nothing ran.
const STILL: usize = 6;
/// A thread has its name a moment after it was started.
const APPEAR: Duration = Duration::from_secs(1);
/// No drain of these workloads takes as long.
const BOUND: Duration = Duration::from_secs(1800);

/// Returns when all threads of this process that are named `name` rest; there has to be one.
pub fn wait(name: &str) -> Result<()> {
    let started = Instant::now();
    let mut before = Vec::new();
    let mut still = 0;
    while still < STILL {
        if started.elapsed() > BOUND {
            return Err(format!("the threads {name} did not come to rest in {BOUND:?}").into());
        }
        std::thread::sleep(POLL);
        let now = threads(name)?;
        if now.is_empty() && started.elapsed() > APPEAR {
            return Err(format!("there are no threads {name}").into());
        }
        let rest = !now.is_empty() && now.iter().all(|thread| thread.waits) && now == before;
        still = if rest { still + 1 } else { 0 };
        before = now;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Thread {
    id: String,
    waits: bool,
    ran: String,
}

/// A thread that ends meanwhile is passed over.
fn threads(name: &str) -> Result<Vec<Thread>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).ok();
        if read("comm").is_none_or(|comm| comm.trim_end() != name) {
            continue;
        }
        let (Some(stat), Some(schedule)) = (read("stat"), read("schedstat")) else { continue };
        // The state follows the name, which is in parentheses and may hold any others.
        let waits = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'));
        found.push(Thread { id: entry.file_name().to_string_lossy().into_owned(), waits, ran: schedule });
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_works_is_waited_for_and_one_that_waits_is_not() {
        let (stop, stopped) = mpsc::channel::<()>();
        let work = Duration::from_millis(200);
        let thread = std::thread::Builder::new().name("worker-of-test".into()).spawn(move || {
            let started = Instant::now();
            while started.elapsed() < work {
                std::hint::spin_loop();
            }
            let _ = stopped.recv();
        });
        let started = Instant::now();
        wait("worker-of-test").unwrap();
        assert!(started.elapsed() >= work);
        drop(stop);
        thread.unwrap().join().unwrap();
        assert!(wait("worker-of-test").is_err());
    }
}
