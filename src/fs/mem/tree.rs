//! Names in memory: what they are now, what they were at the last sync of their directory, and what happened between.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use super::file::File;
use crate::sync::Arc;

pub(super) type DirId = u64;

/// The directory that is always there.
pub(super) const ROOT: DirId = 0;

/// What a name stands for.
#[derive(Clone)]
pub(super) enum Node {
    File(Arc<File>),
    Dir(DirId),
}

impl Node {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(a), Self::File(b)) => Arc::ptr_eq(a, b),
            (Self::Dir(a), Self::Dir(b)) => a == b,
            _ => false,
        }
    }
}

/// A change of names that a power cut may undo.
#[derive(Clone)]
pub(super) enum Change {
    Create { name: String, node: Node },
    Rename { from: String, to: String, node: Node },
    Remove { name: String },
}

impl Change {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Create { name, node } => drop(names.insert(name.clone(), node.clone())),
            Self::Remove { name } => drop(names.remove(name)),
            Self::Rename { to, node, .. } => {
                // Wherever the changes that were kept have left it, usually at its old name.
                names.retain(|_, found| !found.is_same(node));
                names.insert(to.clone(), node.clone());
            }
        }
    }

    /// Whether it says of a name what `later` says otherwise.
    fn is_overtaken_by(&self, later: &Self) -> bool {
        self.names().any(|name| later.names().any(|other| other == name))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let (one, other) = match self {
            Self::Create { name, .. } | Self::Remove { name } => (name, None),
            Self::Rename { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(one).chain(other).map(String::as_str)
    }
}

#[derive(Clone, Default)]
pub(super) struct Dir {
    pub(super) names: BTreeMap<String, Node>,
    /// The names at the last sync.
    pub(super) durable: BTreeMap<String, Node>,
    /// What was changed since then, in order.
    pub(super) pending: Vec<Change>,
    /// How many of those, the first ones, met a sync that failed: no later one makes them durable (see file.rs).
    pub(super) stuck: usize,
}

/// All directories. Removed ones stay as long as a power cut could bring them back.
pub(super) struct Tree {
    pub(super) dirs: BTreeMap<DirId, Dir>,
    /// The next number for a file or directory.
    pub(super) next_id: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { dirs: BTreeMap::from([(ROOT, Dir::default())]), next_id: ROOT + 1 }
    }

    pub(super) fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    pub(super) fn dir(&self, path: &Path) -> io::Result<&Dir> {
        let id = self.dir_id(&names_of(path)?)?;
        self.dirs.get(&id).ok_or_else(not_found)
    }

    /// The directory that holds the last name of `path`, and that name.
    pub(super) fn place<'a>(&mut self, path: &'a Path) -> io::Result<(&mut Dir, &'a str)> {
        let names = names_of(path)?;
        let (name, above) = names.split_last().ok_or(ErrorKind::IsADirectory)?;
        let id = self.dir_id(above)?;
        Ok((self.dirs.get_mut(&id).ok_or_else(not_found)?, name))
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<&Arc<File>> {
        let names = names_of(path)?;
        let (name, above) = names.split_last().ok_or(ErrorKind::IsADirectory)?;
        let dir = self.dirs.get(&self.dir_id(above)?).ok_or_else(not_found)?;
        dir.file(name)
    }

    /// Makes the directories of `path` that are missing, durably.
    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let names = names_of(path)?;
        for depth in 0..names.len() {
            let (above, rest) = names.split_at(depth);
            let (Some(&name), id) = (rest.first(), self.dir_id(above)?) else { break };
            let fresh = self.next_id;
            let dir = self.dirs.get_mut(&id).ok_or_else(not_found)?;
            match dir.names.get(name) {
                Some(Node::Dir(_)) => {}
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => {
                    dir.create(name, Node::Dir(fresh));
                    self.next_id += 1;
                    self.dirs.insert(fresh, Dir::default());
                }
            }
            self.sync_dir(id);
        }
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        if !self.dir(path)?.names.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let (above, name) = self.place(path)?;
        above.remove(name);
        Ok(())
    }

    /// Makes the names of a directory durable, and forgets directories that now cannot come back.
    pub(super) fn sync_dir(&mut self, id: DirId) {
        let Some(dir) = self.dirs.get_mut(&id) else { return };
        if dir.pending.len() == dir.stuck {
            return;
        }
        let mut gone = dir.dirs_that_may_come_back();
        let written = dir.pending.split_off(dir.stuck);
        written.iter().for_each(|change| change.apply(&mut dir.durable));
        dir.pending.retain(|stuck| !written.iter().any(|change| stuck.is_overtaken_by(change)));
        dir.stuck = dir.pending.len();
        for child in dir.dirs_that_may_come_back() {
            gone.remove(&child);
        }
        for child in gone {
            self.forget(child);
        }
    }

    pub(super) fn sync_path(&mut self, path: &Path) -> io::Result<()> {
        let id = self.dir_id(&names_of(path)?)?;
        self.sync_dir(id);
        Ok(())
    }

    /// A sync of the file or directory at `path`, if there is one, has failed.
    pub(super) fn sync_failed(&mut self, path: &Path) {
        if let Ok(file) = self.file(path) {
            file.content.write().sync_failed = true;
        } else if let Ok(id) = names_of(path).and_then(|names| self.dir_id(&names))
            && let Some(dir) = self.dirs.get_mut(&id)
        {
            dir.stuck = dir.pending.len();
        }
    }

    fn forget(&mut self, id: DirId) {
        if let Some(dir) = self.dirs.remove(&id) {
            for child in dir.dirs_that_may_come_back() {
                self.forget(child);
            }
        }
    }

    fn dir_id(&self, names: &[&str]) -> io::Result<DirId> {
        let mut id = ROOT;
        for name in names {
            match self.dirs.get(&id).and_then(|dir| dir.names.get(*name)) {
                Some(Node::Dir(child)) => id = *child,
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => return Err(not_found()),
            }
        }
        Ok(id)
    }
}

impl Dir {
    pub(super) fn file(&self, name: &str) -> io::Result<&Arc<File>> {
        match self.names.get(name) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(not_found()),
        }
    }

    pub(super) fn create(&mut self, name: &str, node: Node) {
        self.names.insert(name.to_owned(), node.clone());
        self.pending.push(Change::Create { name: name.to_owned(), node });
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Node> {
        self.pending.push(Change::Remove { name: name.to_owned() });
        self.names.remove(name)
    }

    /// Renames a file; returns what had the name before.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<Option<Node>> {
        let node = Node::File(Arc::clone(self.file(from)?));
        match self.names.get(to) {
            Some(Node::Dir(_)) => return Err(ErrorKind::IsADirectory.into()),
            Some(target) if target.is_same(&node) => return Ok(None),
            _ => {}
        }
        self.names.remove(from);
        let replaced = self.names.insert(to.to_owned(), node.clone());
        self.pending.push(Change::Rename { from: from.to_owned(), to: to.to_owned(), node });
        Ok(replaced)
    }

    fn dirs_that_may_come_back(&self) -> BTreeSet<DirId> {
        let created = self.pending.iter().filter_map(|change| match change {
            Change::Create { node, .. } => Some(node),
            Change::Rename { .. } | Change::Remove { .. } => None,
        });
        let nodes = self.names.values().chain(self.durable.values()).chain(created);
        nodes.filter_map(|node| if let Node::Dir(id) = node { Some(*id) } else { None }).collect()
    }
}

pub(super) fn not_found() -> io::Error {
    ErrorKind::NotFound.into()
}

/// The names on the way to `path`; relative paths start at the root.
fn names_of(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
            Component::ParentDir => drop(names.pop()),
            Component::Normal(name) => names.push(name.to_str().ok_or(ErrorKind::InvalidFilename)?),
        }
    }
    Ok(names)
}
