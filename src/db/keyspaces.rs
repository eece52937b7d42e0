//! Making and dropping keyspaces.

use super::engine::Engine;
use super::keyspace::KeyspaceCore;
use super::world::{KeyspaceVersion, Mem};
use crate::log::{LogPosition, Proof};
use crate::manifest::{Change, Edit, KeyspaceId, ManifestState};
use crate::options::{KeyspaceOptions, Retention};
use crate::sync::{Arc, Ordering};
use crate::{Error, Result};

/// As for keys. The name stands in the manifest, in the log and in every table of the keyspace.
const MAX_NAME_BYTES: usize = 65_535;

impl Engine {
    /// The keyspace of this name, made if there is none.
    pub(crate) fn open_keyspace(&self, name: &str, options: &KeyspaceOptions) -> Result<Arc<KeyspaceCore>> {
        self.check_open()?;
        if name.is_empty() {
            return Err(Error::invalid("a keyspace needs a name"));
        }
        if name.len() > MAX_NAME_BYTES {
            let (len, max) = (name.len() as u64, MAX_NAME_BYTES as u64);
            return Err(Error::TooLarge { what: "a keyspace's name", len, max });
        }
        let settings = options.resolve()?;
        let find = || {
            let world = self.world();
            let found = world.by_name(name)?;
            Some(options.check_against(&found.core.options).map(|()| Arc::clone(&found.core)))
        };
        // One that is there is opened without the lock, which is held over syncs.
        if let Some(found) = find() {
            return found;
        }
        let _one_at_a_time = self.keyspaces.lock();
        if let Some(found) = find() {
            return found;
        }
        if self.options.read_only {
            return Err(Error::UnknownKeyspace { name: name.into() });
        }
        self.check_writable()?;
        let id = self.manifest.lock().state().next_keyspace_id;
        let manual = settings.retention == Retention::Manual;
        let created_at = self.current.horizon().last_timestamp;
        let create =
            Change::CreateKeyspace { id, name: name.to_owned(), options: Box::new(settings.clone()), created_at };
        let core = Arc::new(KeyspaceCore::new(id, name.to_owned(), settings, 0));
        self.edit(
            |_| Ok(Edit::from(vec![create])),
            |world| {
                if manual {
                    core.raise_admission_floor(self.manual_admission_floor.load(Ordering::SeqCst));
                    core.raise_floor(self.manual_floor.load(Ordering::SeqCst), LogPosition(0));
                }
                let version = KeyspaceVersion {
                    core: Arc::clone(&core),
                    active: Arc::new(Mem::new()),
                    sealed: Vec::new(),
                    tree: Arc::default(),
                };
                Ok((world.with(version), ()))
            },
        )?;
        Ok(core)
    }

    /// Drops the keyspace of this name.
    pub(crate) fn drop_keyspace(&self, name: &str) -> Result<()> {
        self.check_writable()?;
        let _one_at_a_time = self.keyspaces.lock();
        let world = self.world();
        let Some(keyspace) = world.by_name(name) else {
            return Err(Error::UnknownKeyspace { name: name.into() });
        };
        let core = &keyspace.core;
        let state = self.commit.lock();
        if state.prepared.uses(core.id) {
            let reason = format!("a prepared transaction has read or written keyspace {name:?}");
            return Err(Error::Busy { reason: reason.into() });
        }
        core.mark_dropped(true);
        let (reserved, log_end) = (state.reserved(), self.log()?.end());
        drop(state);
        self.counters.dropped_names.lock().insert(core.id, name.to_owned());
        if !self.in_flight.wait_published(reserved, &self.current.published) {
            self.check_sound()?;
        }
        // The log goes first: a commit that also touched other keyspaces must not be missing after a crash that keeps
        // the drop.
        self.sync_log(log_end)?;
        // What it held unlogged goes with it, but not the timestamps.
        let timestamp = self.current.horizon().last_timestamp;
        self.edit_in_living(vec![Change::DropKeyspace { id: core.id }, Change::LastTimestamp { timestamp }], |world| {
            let snapshots = self.snapshots.lock();
            if let Some(last) = world.get(core.id) {
                snapshots.keep_dropped(last);
                self.counters.buffered_bytes.fetch_sub(last.active.charged() as u64, Ordering::Relaxed);
                for (_, table) in last.tree.iter() {
                    table.mark_obsolete();
                }
            }
            Ok((world.without(core.id), snapshots))
        })
    }

    /// An edit about keyspaces of which some may have been dropped meanwhile: what is said of those is left out.
    pub(crate) fn edit_in_living<Held>(
        &self,
        changes: Vec<Change>,
        install: impl FnOnce(&super::world::World) -> Result<(super::world::World, Held)>,
    ) -> Result<()> {
        self.edit(
            |known| {
                Ok(Edit::from(changes.into_iter().filter_map(|change| sensible(change, known)).collect::<Vec<_>>()))
            },
            install,
        )
    }
}

/// What is left of a change when it was overtaken by others.
fn sensible(change: Change, known: &ManifestState) -> Option<Change> {
    let lives = |id: &KeyspaceId| known.keyspaces.contains_key(id);
    match &change {
        Change::AddTable { keyspace: id, .. }
        | Change::RemoveTable { keyspace: id, .. }
        | Change::KeyspaceLog { id, .. } => lives(id).then_some(change),
        Change::KeyspaceFloor { id, floor } => {
            known.keyspaces.get(id).is_some_and(|keyspace| keyspace.floor < *floor).then_some(change)
        }
        Change::LogStart { position, .. } => (*position > known.log.start_position).then_some(change),
        Change::LogProved(proof) => {
            let ordinal = proof.ordinal.max(known.log.proved.ordinal);
            Some(Change::LogProved(Proof { ordinal, position: proof.position.max(known.log.proved.position) }))
        }
        Change::Closed { timestamp } => (*timestamp > known.closed).then_some(change),
        Change::LastTimestamp { timestamp } => (*timestamp > known.last_timestamp).then_some(change),
        _ => Some(change),
    }
}
