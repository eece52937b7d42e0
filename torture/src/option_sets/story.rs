//! What is done to all databases alike, and what they are asked.

use rand::RngExt;
use strandline::{Retention, Timestamp};

use super::database::Database;
use super::question::{About, Answer, Question};
use super::set::Set;
use crate::campaign::Counts;
use crate::life::model::{Key, Write};
use crate::life::settings::{chance, pick, shown};
use crate::life::write::value;
use crate::random::Random;
use crate::story;

/// What holds for all sets.
pub struct Plan {
    /// There are late commits, so every set allows them.
    pub late: bool,
    /// Timestamps begin so high that no clock gives any of its own.
    pub high: bool,
    /// All retain the same.
    pub alike: bool,
    pub spaces: Vec<SpacePlan>,
    keys: Vec<Key>,
}

pub struct SpacePlan {
    name: &'static str,
    /// Those that a set may choose from.
    pub retentions: Vec<Retention>,
}

pub struct Story {
    random: Random,
    plan: Plan,
    databases: Vec<Database>,
    last: Timestamp,
    manual_floor: Timestamp,
    closed: Timestamp,
    /// Whether a fourth keyspace is there.
    extra: bool,
    operations: Vec<String>,
    answers: u64,
}

const OPERATIONS: usize = 220;
const EXTRA: &str = "x";

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.operations.drain(..).for_each(story::tell);
            self.databases.iter().for_each(|database| story::tell(database.set.name.clone()));
        }
    }
}

impl Story {
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::of_seed(seed);
        let window = 5 + random.random_range(0..60);
        let spaces = vec![
            SpacePlan { name: "manual", retentions: vec![Retention::Manual, Retention::Window(u64::MAX)] },
            SpacePlan {
                name: "window",
                retentions: vec![Retention::Window(window), Retention::Window(3 * window), Retention::Manual],
            },
            SpacePlan { name: "latest", retentions: vec![Retention::Latest, Retention::Window(9), Retention::Manual] },
        ];
        let plan = Plan {
            late: random.random(),
            high: random.random(),
            alike: random.random(),
            spaces,
            keys: keys(&mut random),
        };
        let count = random.random_range(8..12);
        let mut sets = vec![Set::plain(&plan)];
        sets.extend((1..count).map(|nth| Set::draw(&mut random, &plan, nth)));
        let databases =
            sets.into_iter().map(|set| Database::new(set, Random::of_seed(random.random::<u64>()))).collect();
        let last = if plan.high { 1 << 40 } else { 0 };
        let operations = vec![format!("late {}, high {}, alike {}", plan.late, plan.high, plan.alike)];
        let mut story =
            Self { random, plan, databases, last, manual_floor: 0, closed: 0, extra: false, operations, answers: 0 };
        for (nth, space) in story.plan.spaces.iter().enumerate() {
            for database in &mut story.databases {
                let retention = database.set.retentions[nth];
                database.make(space.name, retention);
            }
        }
        // There is a last timestamp from the start.
        story.commit_at(Some(last + 1), vec![("manual".to_owned(), Write::Delete { key: Key::new() })]);
        story
    }

    pub fn run(mut self, counts: &mut Counts) {
        counts.add("sets", self.databases.len() as u64);
        for _ in 0..OPERATIONS {
            self.step();
            let habits: u64 = self.databases.iter_mut().map(Database::live).sum();
            counts.add("flushes, compactions, reopenings", habits);
        }
        self.let_go();
        self.ask_everything();
        for nth in 0..self.databases.len() {
            let gently = self.random.random();
            self.databases[nth].reopen(gently);
        }
        self.ask_everything();
        self.compact();
        self.ask_everything();
        for database in &self.databases {
            database.db().verify().unwrap();
            database.db().close().unwrap();
        }
        counts.add("operations", OPERATIONS as u64 * self.databases.len() as u64);
        counts.add("answers", self.answers);
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..62 => self.commit(),
            62..88 => self.ask(),
            88..92 => self.hold(),
            92..94 => self.let_go(),
            94..96 => self.retain(),
            96 => self.close_time(),
            97 => self.change_keyspaces(),
            98 => self.ask_everything(),
            _ => self.sync(),
        }
    }

    /// No floor lies above it.
    fn bound(&self, space: &str) -> Timestamp {
        let retentions = &self.plan.spaces.iter().find(|plan| plan.name == space).map(|plan| &plan.retentions);
        let retentions = retentions.map_or(&[Retention::Manual][..], |retentions| retentions);
        let highest = |retention: &Retention| match retention {
            Retention::Manual => self.manual_floor,
            Retention::Window(length) => self.last.saturating_sub(*length),
            _ => self.last,
        };
        retentions.iter().map(highest).max().unwrap_or_default()
    }

    fn spaces(&self) -> Vec<&'static str> {
        let mut spaces: Vec<_> = self.plan.spaces.iter().map(|space| space.name).collect();
        spaces.extend(self.extra.then_some(EXTRA));
        spaces
    }

    fn some_space(&mut self) -> &'static str {
        let spaces = self.spaces();
        pick(&mut self.random, &spaces)
    }

    fn commit(&mut self) {
        let late = self.plan.late && chance(&mut self.random, 1, 4) && self.last > self.manual_floor + 1;
        let least = self.manual_floor.max(self.closed) + 1;
        let at = match self.random.random_range(0..3) {
            _ if late && least < self.last => {
                Some(self.random.random_range(least.max(self.last.saturating_sub(40))..=self.last))
            }
            0 => None,
            _ => Some(self.last.max(self.closed) + self.random.random_range(1..4)),
        };
        let is_late = at.is_some_and(|at| at <= self.last);
        let most = pick(&mut self.random, &[3, 3, 10, 40]);
        let mut writes = Vec::new();
        for _ in 0..self.random.random_range(1..most) {
            // Where a floor may rise by itself a late commit might be refused by some.
            let space = if is_late { "manual" } else { self.some_space() };
            writes.push((space.to_owned(), self.write()));
        }
        self.commit_at(at, writes);
    }

    fn commit_at(&mut self, at: Option<Timestamp>, writes: Vec<(String, Write)>) {
        let shown: Vec<String> = writes.iter().map(|(space, write)| format!("{space}: {}", brief(write))).collect();
        self.operations.push(format!("commit at {at:?}: {}", shown.join(", ")));
        let timestamps: Vec<_> = self.databases.iter().map(|database| database.commit(at, &writes)).collect();
        self.last = self.last.max(timestamps[0]);
        assert!(timestamps.iter().all(|one| *one == timestamps[0]), "{timestamps:?}");
    }

    fn write(&mut self) -> Write {
        let key = pick(&mut self.random, &self.plan.keys);
        match self.random.random_range(0..20) {
            0..12 => Write::Put { key, value: value(&mut self.random), expires_at: None },
            12..15 => {
                let expires_at = Some((self.last + self.random.random_range(0..40)).saturating_sub(5));
                Write::Put { key, value: value(&mut self.random), expires_at }
            }
            15..18 => Write::Delete { key },
            _ => {
                let about = About { keys: &self.plan.keys, space: "", bound: 0, last: 0 };
                Write::DeleteRange(about.keys(&mut self.random))
            }
        }
    }

    fn ask(&mut self) {
        let space = self.some_space();
        let about = About { keys: &self.plan.keys, space, bound: self.bound(space), last: self.last };
        let question = about.question(&mut self.random);
        self.compare(&question);
    }

    fn ask_everything(&mut self) {
        self.compare(&Question::Names);
        self.compare(&Question::LastTimestamp);
        for space in self.spaces() {
            let about = About { keys: &self.plan.keys, space, bound: self.bound(space), last: self.last };
            about.everything().iter().for_each(|question| self.compare(question));
        }
    }

    fn compare(&mut self, question: &Question) {
        let answers: Vec<Answer> = self.databases.iter().map(|database| question.ask(database)).collect();
        self.same(&format!("{question:?}"), &answers);
    }

    fn same(&mut self, what: &str, answers: &[Answer]) {
        self.answers += answers.len() as u64;
        for (database, answer) in self.databases.iter().zip(answers) {
            assert!(
                *answer == answers[0],
                "{what}\n{}\nsays {answer:?}\nand the first says {:?}",
                database.set.name,
                answers[0]
            );
        }
    }

    fn hold(&mut self) {
        let space = self.some_space();
        let about = About { keys: &self.plan.keys, space, bound: self.bound(space), last: self.last };
        let hold = about.hold(&mut self.random);
        self.operations.push(format!("hold {hold:?}"));
        for database in &mut self.databases {
            let held = hold.take(database);
            database.held.push(held);
        }
    }

    fn let_go(&mut self) {
        self.operations.push("let go".to_owned());
        while !self.databases[0].held.is_empty() {
            let end = |database: &mut Database| {
                let held = database.held.pop();
                held.map(|held| held.end(database))
            };
            let answers: Vec<Answer> = self.databases.iter_mut().filter_map(end).collect();
            self.same("something that was held", &answers);
        }
    }

    fn retain(&mut self) {
        let floor = self.manual_floor + (self.last - self.manual_floor) / self.random.random_range(1..6);
        if floor == 0 {
            return;
        }
        self.operations.push(format!("retain from {floor}"));
        for database in &self.databases {
            assert_eq!(database.db().retain_from(floor).unwrap(), floor.max(self.manual_floor));
        }
        self.manual_floor = floor;
    }

    fn close_time(&mut self) {
        let until = self.last.saturating_sub(self.random.random_range(0..30));
        self.operations.push(format!("close until {until}"));
        self.databases.iter().for_each(|database| database.db().close_until(until).unwrap());
        self.closed = self.closed.max(until);
    }

    fn change_keyspaces(&mut self) {
        // What is held may be of it.
        self.let_go();
        self.extra = !self.extra;
        self.operations.push(format!("extra keyspace: {}", self.extra));
        for database in &mut self.databases {
            if self.extra { database.make(EXTRA, Retention::Manual) } else { database.drop_keyspace(EXTRA) }
        }
    }

    fn sync(&mut self) {
        self.databases.iter().for_each(|database| database.db().sync().unwrap());
    }

    /// S16: afterwards exactly what is promised is there, so the same everywhere if all promise the same.
    fn compact(&mut self) {
        self.operations.push("compact".to_owned());
        let versions = |database: &Database| {
            database.db().flush().unwrap();
            database.db().compact().unwrap();
            let spaces = database.db().metrics().keyspaces;
            let sum = |space: &strandline::KeyspaceMetrics| {
                let (keys, versions) = space
                    .levels
                    .iter()
                    .fold((0, 0), |(keys, versions), level| (keys + level.keys, versions + level.versions));
                (space.name.clone(), keys, versions)
            };
            spaces.iter().map(sum).collect::<Vec<_>>()
        };
        let left: Vec<_> = self.databases.iter().map(versions).collect();
        if self.plan.alike {
            for (database, left_here) in self.databases.iter().zip(&left) {
                assert_eq!(left_here, &left[0], "keys and versions that {} has kept", database.set.name);
            }
        }
    }
}

fn brief(write: &Write) -> String {
    match write {
        Write::Put { key, value, expires_at } => {
            format!(
                "{} = {} bytes {}",
                shown(key),
                value.len(),
                expires_at.map_or(String::new(), |at| format!("until {at}"))
            )
        }
        Write::Delete { key } => format!("{} deleted", shown(key)),
        Write::DeleteRange(keys) => format!("{keys:?} deleted"),
    }
}

/// Some that are prefixes of each other, and many neighbours.
fn keys(random: &mut Random) -> Vec<Key> {
    let mut keys: Vec<Key> =
        [&b""[..], b"a", b"a\0", b"ab", b"a\xff", b"b", b"\xff", b"\xff\xff"].map(Vec::from).into();
    for _ in 0..random.random_range(4..40) {
        let first = pick(random, b"abcd");
        keys.push(format!("{}{:03}", char::from(first), random.random_range(0..60)).into_bytes());
    }
    keys.push([&vec![b'l'; 300][..], b"ong"].concat());
    keys.sort();
    keys.dedup();
    keys
}
