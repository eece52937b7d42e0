//! What the manifest says of prepared transactions: those in doubt, and outcomes that were not forgotten.
//!
//! ```text
//! in doubt  id bytes, start varint, above varint, then to the end what it locks and does (see db/prepared/pending.rs)
//! ```
//!
//! The log has them in the same bytes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::edit::Change;
use super::state::EditError;
use crate::Timestamp;
use crate::format::{DecodeError, Decoder, Encode};
use crate::sync::Arc;

/// The name by which a coordinator calls a transaction.
pub(crate) type TransactionId = Box<[u8]>;

/// What became of a prepared transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was committed at this timestamp.
    Committed(Timestamp),
    /// It was aborted.
    Aborted,
}

/// A transaction that was prepared and neither committed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InDoubt {
    pub(crate) id: TransactionId,
    pub(crate) start: Timestamp,
    /// It can be committed above this; not below the start.
    pub(crate) above: Timestamp,
    /// What it locks and does, as `db` encodes it.
    pub(crate) rest: Bytes,
}

impl InDoubt {
    pub(crate) fn encode_head(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.id);
        out.put_varint(self.start);
        out.put_varint(self.above);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (id, start) = (from.bytes()?.into(), from.varint()?);
        let at = *from;
        let above = from.varint()?;
        if above < start {
            return Err(at.error("a transaction could be committed below its start"));
        }
        let rest = from.take(from.rest().len())?;
        Ok(Self { id, start, above, rest: Bytes::copy_from_slice(rest) })
    }
}

/// What is known of one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    InDoubt(Arc<InDoubt>),
    Decided(Outcome),
}

impl Known {
    /// Whether both are of one prepare and say the same.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::InDoubt(one), Self::InDoubt(other)) => Arc::ptr_eq(one, other) || one == other,
            _ => self == other,
        }
    }
}

/// All ids that are not free.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PreparedState {
    /// What the log says of prepared transactions before this position is in here (L5).
    pub(crate) log_position: u64,
    /// Shared, for a state is copied with every edit.
    pub(crate) transactions: Arc<BTreeMap<TransactionId, Known>>,
}

impl PreparedState {
    /// The changes that make this out of nothing.
    pub(super) fn snapshot(&self) -> Vec<Change> {
        let all = self.transactions.iter().map(|(id, known)| (id.clone(), Some(known.clone())));
        Self::default().changes_to(all, self.log_position)
    }

    /// The changes after which these ids are known so (`None`: are free), and the others as they are here. What the log
    /// says up to `log_position` must be among them.
    pub(crate) fn changes_to(
        &self,
        ids: impl IntoIterator<Item = (TransactionId, Option<Known>)>,
        log_position: u64,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, now) in ids {
            let before = self.transactions.get(&id);
            let goes_on = match (before, &now) {
                (None, _) | (Some(Known::InDoubt(_)), Some(Known::Decided(_))) => true,
                (Some(_), None) => false,
                (Some(before), Some(now)) if before.is(now) => continue,
                (Some(_), Some(_)) => false,
            };
            if !goes_on {
                changes.push(Change::Forget { id: id.clone() });
            }
            changes.extend(now.map(|now| match now {
                Known::InDoubt(in_doubt) => Change::Prepare(in_doubt),
                Known::Decided(outcome) => Change::Decide { id, outcome },
            }));
        }
        if log_position > self.log_position {
            changes.push(Change::PreparedLog { position: log_position });
        }
        changes
    }

    pub(super) fn prepare(&mut self, in_doubt: &Arc<InDoubt>) -> Result<(), EditError> {
        if self.transactions.contains_key(&in_doubt.id) {
            return Err(EditError::TransactionIdUsed(in_doubt.id.escape_ascii().to_string()));
        }
        Arc::make_mut(&mut self.transactions).insert(in_doubt.id.clone(), Known::InDoubt(Arc::clone(in_doubt)));
        Ok(())
    }

    /// Also of one that was prepared since the last edit.
    pub(super) fn decide(&mut self, id: &TransactionId, outcome: Outcome) -> Result<(), EditError> {
        if let Some(Known::Decided(_)) = self.transactions.get(id) {
            return Err(EditError::TransactionIdUsed(id.escape_ascii().to_string()));
        }
        Arc::make_mut(&mut self.transactions).insert(id.clone(), Known::Decided(outcome));
        Ok(())
    }

    pub(super) fn forget(&mut self, id: &TransactionId) -> Result<(), EditError> {
        if !self.transactions.contains_key(id) {
            return Err(EditError::UnknownTransaction(id.escape_ascii().to_string()));
        }
        Arc::make_mut(&mut self.transactions).remove(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::edit::Edit;
    use super::super::state::ManifestState;
    use super::*;

    fn in_doubt(id: &str, start: Timestamp) -> Known {
        Known::InDoubt(Arc::new(InDoubt {
            id: id.as_bytes().into(),
            start,
            above: start + 1,
            rest: Bytes::from_static(b"rest"),
        }))
    }

    /// Every pair of states of one id, reused or not: the changes lead from one to the other, also through their bytes.
    #[test]
    fn changes_lead_from_any_state_to_any_other() {
        let committed = |timestamp| Some(Known::Decided(Outcome::Committed(timestamp)));
        let aborted = Some(Known::Decided(Outcome::Aborted));
        let each = [None, Some(in_doubt("a", 1)), Some(in_doubt("a", 2)), committed(5), committed(6), aborted];
        let state = |of_a: &Option<Known>, log_position| {
            let mut prepared = PreparedState { log_position, ..PreparedState::default() };
            let transactions = Arc::make_mut(&mut prepared.transactions);
            transactions.insert(b"b"[..].into(), in_doubt("b", 7));
            of_a.iter().for_each(|known| drop(transactions.insert(b"a"[..].into(), known.clone())));
            prepared
        };
        for from in &each {
            for to in &each {
                let (from, to) = (state(from, 10), state(to, 20));
                let made = Edit::from(from.snapshot());
                let known = ManifestState::default().after(&made).unwrap();
                assert_eq!(known.prepared, from);
                let mut bytes = Vec::new();
                let ids = [b"a", b"b"].map(|id| (TransactionId::from(&id[..]), to.transactions.get(&id[..]).cloned()));
                Edit::from(from.changes_to(ids, to.log_position)).encode(&mut bytes);
                let edit = Edit::decode(&bytes).unwrap();
                assert_eq!(known.after(&edit).unwrap().prepared, to, "from {from:?}");
                let all = to.transactions.iter().map(|(id, known)| (id.clone(), Some(known.clone())));
                assert!(to.changes_to(all, to.log_position).is_empty());
            }
        }
    }
}
