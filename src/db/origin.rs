//! What tables and log say of keyspaces. Nothing reads it but a repair, to which the manifest is lost.
//!
//! ```text
//! keyspace  id varint, name bytes, options bytes (manifest/options.rs)
//! origin    keyspace as above
//!           floor varint         by which the merge that wrote the table may have dropped something (R1)
//!           job varint           the number of the first table that this merge wrote
//!           part varint          how many tables it had written before
//!           last u8              1 if it wrote none behind this one
//!           inputs               count varint, then the numbers of the tables it read, varints
//! ```
//!
//! Every table says it in its properties. The log says of a keyspace when it is made, and when it is dropped (flag 1,
//! the id alone); and what it said of one that no table speaks of is said again before it goes.

use crate::Timestamp;
use crate::format::{DecodeError, Decoder, Encode, FileNumber};
use crate::manifest::{Change, Edit, KeyspaceId, ManifestState, decode_options, encode_options};
use crate::options::KeyspaceSettings;

/// The flag of a keyspace's log record: it was dropped.
pub(crate) const DROPPED: u8 = 1;

/// A keyspace, as far as it can be made again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Identity {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) name: String,
    pub(crate) options: KeyspaceSettings,
}

impl Identity {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut options = Vec::new();
        encode_options(&self.options, &mut options);
        out.put_varint(self.keyspace.0.into());
        out.put_bytes(self.name.as_bytes());
        out.put_bytes(&options);
    }

    fn take(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let start = *from;
        let keyspace = KeyspaceId(id(from)?);
        let name = std::str::from_utf8(from.bytes()?).map_err(|_| start.error("name is not UTF-8"))?.to_owned();
        let options = decode_options(&mut Decoder::new(from.bytes()?));
        let options = options.map_err(|_| start.error("options are not understood"))?;
        Ok(Self { keyspace, name, options })
    }
}

fn id(from: &mut Decoder<'_>) -> Result<u32, DecodeError> {
    let start = *from;
    u32::try_from(from.varint()?).map_err(|_| start.error("keyspace id is too large"))
}

/// What the log is to say of keyspaces once an edit is made that has led to `state`: flags and payloads.
pub(crate) fn keyspace_records(edit: &Edit, state: &ManifestState) -> Vec<(u8, Vec<u8>)> {
    let mut records = Vec::new();
    for change in &edit.changes {
        match change {
            Change::CreateKeyspace { id, .. } => records.extend(record_of(*id, state)),
            Change::DropKeyspace { id } => {
                let mut payload = Vec::new();
                payload.put_varint(id.0.into());
                records.push((DROPPED, payload));
            }
            // What the log said before may go with its segment.
            Change::LogStart { .. } => records.extend(records_of_unwritten(state)),
            // The last table that spoke of it may be gone.
            Change::RemoveTable { keyspace, .. } if is_unwritten(*keyspace, state) => {
                records.extend(record_of(*keyspace, state));
            }
            _ => {}
        }
    }
    records.dedup();
    records
}

/// The records of all keyspaces that no table speaks of.
pub(crate) fn records_of_unwritten(state: &ManifestState) -> impl Iterator<Item = (u8, Vec<u8>)> {
    let ids = state.keyspaces.keys().copied().filter(|id| is_unwritten(*id, state));
    ids.filter_map(|id| record_of(id, state))
}

fn is_unwritten(id: KeyspaceId, state: &ManifestState) -> bool {
    state.keyspaces.get(&id).is_some_and(|keyspace| keyspace.tables.iter().next().is_none())
}

fn record_of(id: KeyspaceId, state: &ManifestState) -> Option<(u8, Vec<u8>)> {
    let keyspace = state.keyspaces.get(&id)?;
    let identity = Identity { keyspace: id, name: keyspace.name.clone(), options: keyspace.options.clone() };
    let mut payload = Vec::new();
    identity.encode(&mut payload);
    Some((0, payload))
}

/// What a log record says of a keyspace: what it is, or that it was dropped.
pub(crate) fn read_record(flags: u8, payload: &[u8]) -> Result<Result<Identity, KeyspaceId>, DecodeError> {
    let mut from = Decoder::new(payload);
    if flags & DROPPED != 0 {
        return id(&mut from).map(|id| Err(KeyspaceId(id)));
    }
    Identity::take(&mut from).map(Ok)
}

/// Where a table comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Origin {
    pub(crate) of: Identity,
    pub(crate) floor: Timestamp,
    /// Names the merge: the number of its first table. `None` until that one is begun.
    pub(crate) job: Option<FileNumber>,
    /// Which of its tables it is. Where all are there, from the first to the last, they hold all that retention has kept
    /// of the inputs.
    pub(crate) part: u64,
    pub(crate) last: bool,
    pub(crate) inputs: Vec<FileNumber>,
}

impl Origin {
    /// What the tables of a merge in a keyspace begin with.
    pub(crate) fn of_merge(
        keyspace: KeyspaceId,
        (name, options): (&str, &KeyspaceSettings),
        floor: Timestamp,
        inputs: Vec<FileNumber>,
    ) -> Self {
        let of = Identity { keyspace, name: name.to_owned(), options: options.clone() };
        Self { of, floor, job: None, part: 0, last: false, inputs }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.of.encode(&mut out);
        out.put_varint(self.floor);
        out.put_varint(self.job.unwrap_or_default().0);
        out.put_varint(self.part);
        out.put_u8(u8::from(self.last));
        out.put_varint(self.inputs.len() as u64);
        self.inputs.iter().for_each(|input| out.put_varint(input.0));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let of = Identity::take(&mut from)?;
        let (floor, job, part) = (from.varint()?, FileNumber(from.varint()?), from.varint()?);
        let last = from.u8()? == 1;
        let mut inputs = Vec::new();
        for _ in 0..from.varint()? {
            inputs.push(FileNumber(from.varint()?));
        }
        if !from.is_empty() {
            return Err(from.error("origin is longer than it says"));
        }
        Ok(Self { of, floor, job: Some(job), part, last, inputs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_back_and_cut_or_changed_ones_never_panic() {
        // S27
        let origin = Origin {
            of: Identity { keyspace: KeyspaceId(7), name: "accounts".to_owned(), options: KeyspaceSettings::default() },
            floor: 300,
            job: Some(FileNumber(401)),
            part: 2,
            last: true,
            inputs: [3, 400, 1].map(FileNumber).to_vec(),
        };
        let bytes = origin.encode();
        assert_eq!(Origin::decode(&bytes), Ok(origin));
        for at in 0..bytes.len() {
            assert!(Origin::decode(&bytes[..at]).is_err(), "cut to {at}");
            for value in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = Origin::decode(&changed);
            }
        }
        assert!(Origin::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
