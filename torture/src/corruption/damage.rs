//! All the damage that is done to a database, one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Files;
use super::specimen::Specimen;
use super::verdict::Damaged;
use crate::life::settings::pick;
use crate::random::Random;
use rand::RngExt;
use rand::seq::SliceRandom;

/// One thing that happens to the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A byte becomes another one.
    Flip {
        file: u16,
        at: u32,
        mask: u8,
    },
    /// Two bytes do, in two files or in one.
    FlipTwo {
        file: u16,
        at: u32,
        other: u16,
        other_at: u32,
    },
    Zero {
        file: u16,
        from: u32,
        to: u32,
    },
    Cut {
        file: u16,
        to: u32,
    },
    /// More bytes, those of another file (or its own).
    Extend {
        file: u16,
        with: u16,
    },
    ExtendByZeros {
        file: u16,
        count: u32,
    },
    /// A write that went to the wrong place.
    Copy {
        file: u16,
        at: u32,
        from: u16,
        from_at: u32,
        len: u32,
    },
    Swap {
        one: u16,
        other: u16,
    },
    /// As it was at an earlier moment.
    Stale {
        file: u16,
        moment: u16,
    },
    /// With what it was at an earlier moment behind it.
    ExtendByStale {
        file: u16,
        moment: u16,
    },
    Gone {
        file: u16,
    },
    /// A file that had gone is back.
    Back {
        moment: u16,
        nth: u16,
    },
    /// Every file as it was; some kinds of files only.
    Past {
        moment: u16,
        current_and_manifest: bool,
        logs: bool,
        tables: bool,
    },
    /// A byte of a table, while the database is open.
    WhileOpen {
        file: u16,
        at: u32,
    },
}

const SECTOR: u32 = 512;
/// So many pairs of bytes, of all that there are.
const PAIRS: usize = 4000;

/// Everything that is done to this specimen, shuffled: any part of it is a fair sample.
pub fn all(specimen: &Specimen, seed: u64) -> Vec<Damage> {
    let names: Vec<&String> = specimen.files().keys().collect();
    let mut random = Random::of_seed(seed ^ 0xda3a9e);
    let pieces_of = |name: &String| specimen.anatomy.pieces.get(name).map_or(&[][..], |pieces| pieces);
    let mut all = Vec::new();
    for (file, name) in (0..).zip(&names) {
        let len = len_of(&specimen.files()[*name]);
        all.push(Damage::ExtendByZeros { file, count: 1 });
        all.push(Damage::ExtendByZeros { file, count: SECTOR });
        all.push(Damage::Gone { file });
        for at in 0..len {
            if len < SECTOR {
                all.extend((1..7).map(|bit| Damage::Flip { file, at, mask: 1 << bit }));
            }
            let bit = 1 << random.random_range(1..7);
            all.extend([0x01, 0x80, 0xff, bit].map(|mask| Damage::Flip { file, at, mask }));
            all.push(Damage::Zero { file, from: at, to: at + 1 });
            all.push(Damage::Cut { file, to: at });
        }
        let sectors = (0..len).step_by(SECTOR as usize);
        for from in sectors.clone() {
            all.push(Damage::Zero { file, from, to: len.min(from + SECTOR) });
            all.push(Damage::Zero { file, from, to: len });
            for at in sectors.clone().filter(|at| *at != from) {
                all.push(Damage::Copy { file, at, from: file, from_at: from, len: SECTOR });
            }
        }
        for (with, other) in (0..).zip(&names) {
            all.push(Damage::Extend { file, with });
            if kind(name) == kind(other) && file != with {
                all.push(Damage::Swap { one: file, other: with });
                let copy = |at| Damage::Copy { file, at, from: with, from_at: at, len: SECTOR };
                all.extend(sectors.clone().map(copy));
            }
        }
        for (moment, past) in (0..).zip(&specimen.moments) {
            if past.files.get(*name).is_some_and(|bytes| *bytes != specimen.files()[*name]) {
                all.extend([Damage::Stale { file, moment }, Damage::ExtendByStale { file, moment }]);
            }
        }
        let pieces = pieces_of(name);
        for (nth, (from, to)) in pieces.iter().enumerate() {
            let (at, end) = (place(*from), place(*to));
            all.push(Damage::Zero { file, from: at, to: end });
            all.push(Damage::WhileOpen { file, at: (at + end) / 2 });
            // One block, record or frame in the place of another: of the next, and of all that are as long.
            for (with, other) in (0..).zip(&names).filter(|(_, other)| kind(name) == kind(other)) {
                let next = pieces.get(nth + 1).filter(|_| with == file);
                let alike = pieces_of(other).iter().filter(|(start, end)| end - start == to - from);
                for (start, end) in next.into_iter().chain(alike).filter(|(start, _)| with != file || start != from) {
                    let len = place((to - from).min(end - start));
                    all.push(Damage::Copy { file, at, from: with, from_at: place(*start), len });
                }
            }
        }
        if !name.ends_with(".table") {
            all.extend((0..len).step_by(37).map(|at| Damage::WhileOpen { file, at }));
        }
    }
    let bytes: Vec<(u16, u32)> = (0..)
        .zip(specimen.files().values())
        .flat_map(|(file, bytes)| (0..len_of(bytes)).map(move |at| (file, at)))
        .collect();
    for _ in 0..PAIRS {
        let [(file, at), (other, other_at)] = [0; 2].map(|_| pick(&mut random, &bytes));
        all.push(Damage::FlipTwo { file, at, other, other_at });
    }
    for (moment, past) in (0..).zip(&specimen.moments) {
        let gone = past.files.keys().filter(|name| !specimen.files().contains_key(*name)).count();
        all.extend((0..u16::try_from(gone).unwrap()).map(|nth| Damage::Back { moment, nth }));
        for kinds in 1..8 {
            let [current_and_manifest, logs, tables] = [1, 2, 4].map(|bit| kinds & bit != 0);
            all.push(Damage::Past { moment, current_and_manifest, logs, tables });
        }
    }
    all.shuffle(&mut random);
    all
}

fn len_of(bytes: &[u8]) -> u32 {
    place(bytes.len())
}

fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap()
}

fn kind(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

impl Damage {
    /// What the files are like afterwards, where they are otherwise than before.
    pub fn apply(self, specimen: &Specimen) -> Damaged {
        let files = specimen.files();
        let name = |file: u16| files.keys().nth(usize::from(file)).unwrap();
        let bytes = |file: u16| &files[name(file)];
        let past = |moment: u16| &specimen.moments[usize::from(moment)].files;
        let changed = |file: u16, change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = bytes(file).to_vec();
            change(&mut bytes);
            Damaged::from([(name(file).clone(), Some(Arc::new(bytes)))])
        };
        match self {
            Self::Flip { file, at, mask } => changed(file, &|bytes| bytes[at as usize] ^= mask),
            Self::FlipTwo { file, at, other, other_at } => {
                let mut both = Self::Flip { file, at, mask: 1 }.apply(specimen);
                let bytes = both.get(name(other)).cloned().flatten().unwrap_or_else(|| bytes(other).clone());
                let mut bytes = bytes.to_vec();
                bytes[other_at as usize] ^= 2;
                both.insert(name(other).clone(), Some(Arc::new(bytes)));
                both
            }
            Self::WhileOpen { file, at } => changed(file, &|bytes| bytes[at as usize] ^= 0x10),
            Self::Zero { file, from, to } => changed(file, &|bytes| bytes[from as usize..to as usize].fill(0)),
            Self::Cut { file, to } => changed(file, &|bytes| bytes.truncate(to as usize)),
            Self::Extend { file, with: from } => changed(file, &|to| to.extend_from_slice(bytes(from))),
            Self::ExtendByZeros { file, count } => {
                changed(file, &|bytes| bytes.resize(bytes.len() + count as usize, 0))
            }
            Self::Copy { file, at, from, from_at, len } => changed(file, &|to| {
                let (at, from_at) = (at as usize, from_at as usize);
                let piece = &bytes(from)[from_at.min(bytes(from).len())..];
                let len = (len as usize).min(piece.len()).min(to.len() - at);
                to[at..at + len].copy_from_slice(&piece[..len]);
            }),
            Self::Swap { one, other } => Damaged::from([
                (name(one).clone(), Some(bytes(other).clone())),
                (name(other).clone(), Some(bytes(one).clone())),
            ]),
            Self::Stale { file, moment } => {
                Damaged::from([(name(file).clone(), Some(past(moment)[name(file)].clone()))])
            }
            Self::ExtendByStale { file, moment } => {
                changed(file, &|bytes| bytes.extend_from_slice(&past(moment)[name(file)]))
            }
            Self::Gone { file } => Damaged::from([(name(file).clone(), None)]),
            Self::Back { moment, nth } => {
                let mut gone = past(moment).iter().filter(|(name, _)| !files.contains_key(*name));
                let (name, bytes) = gone.nth(usize::from(nth)).unwrap();
                Damaged::from([(name.clone(), Some(bytes.clone()))])
            }
            Self::Past { moment, current_and_manifest, logs, tables } => {
                let chosen = |name: &str| match kind(name) {
                    "log" => logs,
                    "table" => tables,
                    "LOCK" => false,
                    _ => current_and_manifest,
                };
                in_the_place_of(files, past(moment), &chosen)
            }
        }
    }
}

/// Those of `past` that are chosen instead of those of `files`.
fn in_the_place_of(files: &Files, past: &Files, chosen: &dyn Fn(&str) -> bool) -> Damaged {
    let names: BTreeSet<&String> = files.keys().chain(past.keys()).filter(|name| chosen(name)).collect();
    let other = names.into_iter().filter(|name| files.get(*name) != past.get(*name));
    other.map(|name| (name.clone(), past.get(name).cloned())).collect()
}
