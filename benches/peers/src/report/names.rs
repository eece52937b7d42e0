//! Engines as readers know them, and their colours.

use super::targets::Table;
use crate::engine::Kind;

pub fn engine(engine: Kind, table: Table) -> &'static str {
    match engine {
        Kind::Strandline => "strandline",
        Kind::RocksDb if table == Table::Versions => "RocksDB, timestamps",
        Kind::RocksDb => "RocksDB",
        Kind::RocksDbTuned => "RocksDB, tuned",
        Kind::RocksDbKeys => "RocksDB, versions in keys",
        Kind::Fjall if table == Table::Versions => "fjall, versions in keys",
        Kind::Fjall => "fjall",
        Kind::SurrealKv => "SurrealKV",
        Kind::Redb => "redb",
        Kind::Lmdb => "LMDB",
    }
}

/// After Okabe and Ito: to be told apart by colour-blind readers too. RocksDB's are greys, as it is the measure.
pub fn colour(engine: Kind) -> &'static str {
    match engine {
        Kind::Strandline => "#0072b2",
        Kind::RocksDb => "#6e7781",
        Kind::RocksDbTuned => "#8c959f",
        Kind::RocksDbKeys => "#b1bac4",
        Kind::Fjall => "#009e73",
        Kind::SurrealKv => "#cc79a7",
        Kind::Redb => "#d55e00",
        Kind::Lmdb => "#e69f00",
    }
}
