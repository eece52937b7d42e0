//! Write skew: two doctors are on call, and each may leave if the other one stays. Both look, both leave. Snapshot
//! isolation permits that, since each wrote another row; serializable transactions do not.
//!
//! ```text
//! cargo run --example on_call
//! ```

#![allow(clippy::print_stdout, reason = "a program, not the library")]

use strandline::{Db, Error, Isolation, Keyspace, MemFs, Options, Result, Transaction};

/// Has `who` leave if anybody else is on call. The range is read too: a third doctor who comes would matter as well.
fn leave(tx: &mut Transaction, on_call: &Keyspace, who: &str) -> Result<()> {
    let mut others = 0;
    for pair in tx.iter(on_call) {
        others += usize::from(*pair?.0 != *who.as_bytes());
    }
    if others > 0 {
        tx.delete(on_call, who)?;
    }
    Ok(())
}

/// Both look before either has left; how many stay, and whether one was told to try again.
fn both_leave(db: &Db, on_call: &Keyspace, isolation: Isolation) -> Result<(usize, bool)> {
    on_call.put("ann", "")?;
    on_call.put("bob", "")?;
    let (mut ann, mut bob) = (db.begin(isolation)?, db.begin(isolation)?);
    leave(&mut ann, on_call, "ann")?;
    leave(&mut bob, on_call, "bob")?;
    ann.commit()?;
    let told = match bob.commit() {
        Err(Error::Conflict { .. }) => true,
        result => result.map(|_| false)?,
    };
    if told {
        // He looks again, and stays.
        db.transact(isolation, |tx| leave(tx, on_call, "bob"))?;
    }
    Ok((on_call.iter().count(), told))
}

fn main() -> Result<()> {
    let db = Options::new().fs(MemFs::new()).open("hospital")?;
    let on_call = db.keyspace("on call")?;
    let (stay, told) = both_leave(&db, &on_call, Isolation::Snapshot)?;
    println!("snapshot isolation: {stay} on call, conflict: {told}");
    assert_eq!((stay, told), (0, false));
    let (stay, told) = both_leave(&db, &on_call, Isolation::Serializable)?;
    println!("serializable: {stay} on call, conflict: {told}");
    assert_eq!((stay, told), (1, true));
    db.close()
}
