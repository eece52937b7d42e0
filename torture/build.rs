//! Puts a hash of each part of the engine's source into the program, so that the ledger knows which code was tested.
//! Files of tests are left out: they test, and are not what is tested.

use std::path::Path;
use std::{env, fs, io};

/// FNV-1a: stable over releases of Rust, and enough to tell one version of the source from another.
struct Hash(u64);

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn add_all(&mut self, path: &Path) -> io::Result<()> {
        if path.file_stem().is_some_and(|name| name.as_encoded_bytes().ends_with(b"tests")) {
            return Ok(());
        }
        self.add(path.file_name().unwrap_or_default().as_encoded_bytes());
        if path.is_dir() {
            let mut inside: Vec<_> = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
            inside.sort();
            inside.iter().try_for_each(|path| self.add_all(path))
        } else {
            self.add(&fs::read(path)?);
            Ok(())
        }
    }
}

fn main() -> io::Result<()> {
    let source = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../src");
    println!("cargo::rerun-if-changed={}", source.display());
    let mut parts: Vec<_> = fs::read_dir(source)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    parts.sort();
    let mut hashes = String::new();
    for part in parts {
        let mut hash = Hash(0xcbf2_9ce4_8422_2325);
        hash.add_all(&part)?;
        let name = part.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        hashes.push_str(&format!("{name}={:016x} ", hash.0));
    }
    println!("cargo::rustc-env=STRANDLINE_SOURCE={hashes}");
    Ok(())
}
