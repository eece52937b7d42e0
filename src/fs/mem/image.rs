//! What a crash leaves: copies of all names and files that share nothing with the living.
//!
//! A killed process leaves everything as it is, what is not durable included. A power cut leaves what was durable, and
//! of the rest whatever it likes:
//! * each change of names since its directory's sync is kept or undone on its own; a rename is kept or undone as a
//!   whole;
//! * each write since its file's sync is kept, lost or torn on its own, at a sector's edge or anywhere;
//! * a file that has grown has any length from its last kept byte to its greatest, zeros where its data were lost.

use std::collections::BTreeMap;

use super::file::{Content, File, Space};
use super::random::Random;
use super::tree::{Change, Dir, DirId, Node, ROOT, Tree};
use crate::sync::Arc;

/// What becomes of all that is not durable when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PowerCut {
    /// All of it is lost.
    Lose,
    /// All of it is kept.
    Keep,
    /// Each bit of it is kept, lost or torn as chance will have it. The same seed on the same files leaves the same.
    Random(u64),
}

impl From<u64> for PowerCut {
    fn from(seed: u64) -> Self {
        Self::Random(seed)
    }
}

const SECTOR_BYTES: usize = 512;

/// A copy of everything, durable or not.
pub(super) fn killed(tree: &Tree, space: &Arc<Space>) -> Tree {
    let mut files = BTreeMap::new();
    let mut copy = |node: &Node| match node {
        Node::Dir(id) => Node::Dir(*id),
        Node::File(file) => {
            let content = || file.content.read().clone();
            Node::File(Arc::clone(
                files.entry(file.id).or_insert_with(|| Arc::new(File::new(file.id, content(), space))),
            ))
        }
    };
    let mut dirs = BTreeMap::new();
    for (id, dir) in &tree.dirs {
        let names = dir.names.iter().map(|(name, node)| (name.clone(), copy(node))).collect();
        let durable = dir.durable.iter().map(|(name, node)| (name.clone(), copy(node))).collect();
        let pending = dir.pending.iter().map(|change| match change {
            Change::Create { name, node } => Change::Create { name: name.clone(), node: copy(node) },
            Change::Rename { from, to, node } => {
                Change::Rename { from: from.clone(), to: to.clone(), node: copy(node) }
            }
            Change::Remove { name } => Change::Remove { name: name.clone() },
        });
        let pending = pending.collect();
        dirs.insert(*id, Dir { names, durable, pending, stuck: dir.stuck });
    }
    Tree { dirs, next_id: tree.next_id }
}

/// A copy of what survives a power cut, all of it durable.
pub(super) fn without_power(tree: &Tree, cut: PowerCut, space: &Arc<Space>) -> Tree {
    let mut fate = Fate::new(cut);
    let mut image = Tree::new();
    copy_dir(tree, ROOT, ROOT, &mut image, &mut fate, space);
    image
}

fn copy_dir(tree: &Tree, from: DirId, to: DirId, image: &mut Tree, fate: &mut Fate, space: &Arc<Space>) {
    let Some(dir) = tree.dirs.get(&from) else { return };
    let mut names = BTreeMap::new();
    for (name, node) in fate.names(dir) {
        let id = image.take_id();
        let node = match node {
            Node::File(file) => {
                let content = fate.content(&file.content.read());
                Node::File(Arc::new(File::new(id, content, space)))
            }
            Node::Dir(child) => {
                copy_dir(tree, child, id, image, fate, space);
                Node::Dir(id)
            }
        };
        names.insert(name, node);
    }
    image.dirs.insert(to, Dir { durable: names.clone(), names, ..Dir::default() });
}

/// Decides what is kept.
enum Fate {
    Lose,
    Keep,
    /// `luck` of four changes of names are kept.
    Random {
        random: Random,
        luck: u64,
    },
}

impl Fate {
    fn new(cut: PowerCut) -> Self {
        match cut {
            PowerCut::Lose => Self::Lose,
            PowerCut::Keep => Self::Keep,
            PowerCut::Random(seed) => {
                let mut random = Random::new(seed);
                let luck = random.next() % 5;
                Self::Random { random, luck }
            }
        }
    }

    fn names(&mut self, dir: &Dir) -> BTreeMap<String, Node> {
        match self {
            Self::Lose => dir.durable.clone(),
            Self::Keep => dir.names.clone(),
            Self::Random { random, luck } => {
                let mut names = dir.durable.clone();
                for change in &dir.pending {
                    if random.chance(*luck, 4) {
                        change.apply(&mut names);
                    }
                }
                names
            }
        }
    }

    fn content(&mut self, content: &Content) -> Content {
        match self {
            Self::Lose => content.durable_prefix(content.synced, content.synced_reserved),
            Self::Keep => content.durable_prefix(content.bytes.len(), content.reserved),
            Self::Random { random, .. } => torn(content, random),
        }
    }
}

/// Some of the writes since the last sync, and some length.
fn torn(content: &Content, random: &mut Random) -> Content {
    let (synced, len) = (content.synced, content.bytes.len());
    let reserved = match random.between(0, 3) {
        0 => content.settled,
        1 => content.reserved,
        _ => content.synced_reserved,
    };
    if synced == len {
        return content.durable_prefix(len, reserved);
    }
    // Cut off at one point, as a file system does that writes in order.
    let cut = match random.between(0, 6) {
        0 => Some(synced),
        1 => Some(len),
        2 => content.unsynced.get(random.between(0, content.unsynced.len().saturating_sub(1))).copied(),
        3 => Some(random.between(synced, len)),
        4 => Some((random.between(synced, len) / SECTOR_BYTES * SECTOR_BYTES).max(synced)),
        _ => None,
    };
    if let Some(cut) = cut
        && (cut == len || random.chance(1, 2))
    {
        return content.durable_prefix(cut, reserved);
    }
    // Kept out of order, or cut off with zeros behind.
    let mut bytes = content.bytes.get(..synced).unwrap_or_default().to_vec();
    let mut keep = |start: usize, end: usize| {
        bytes.resize(bytes.len().max(end), 0);
        if let (Some(to), Some(from)) = (bytes.get_mut(start..end), content.bytes.get(start..end)) {
            to.copy_from_slice(from);
        }
    };
    if let Some(cut) = cut {
        keep(synced, cut);
    } else {
        let by_write = random.chance(1, 2);
        let mut start = synced;
        let mut writes = content.unsynced.iter().copied();
        while start < len {
            let sector_end = (start / SECTOR_BYTES + 1) * SECTOR_BYTES;
            let end = if by_write { writes.next().unwrap_or(len) } else { sector_end.min(len) };
            match random.between(0, 4) {
                0 | 1 => keep(start, end),
                2 => keep(start, random.between(start, end)),
                _ => {}
            }
            start = end;
        }
    }
    let grown = if random.chance(1, 2) { random.between(bytes.len(), len) } else { bytes.len() };
    bytes.resize(grown, 0);
    Content::durable(bytes, reserved)
}
