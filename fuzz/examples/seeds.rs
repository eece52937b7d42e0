//! Writes inputs to begin with: `<directory>/<target>/<number>`.
//!
//! ```text
//! RUSTFLAGS="--cfg fuzzing" cargo run --manifest-path fuzz/Cargo.toml --example seeds -- <directory>
//! ```

#[cfg(fuzzing)]
fn main() -> std::io::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "fuzz/corpus".to_owned());
    let seeds = strandline::fuzzing::seeds();
    let bytes: usize = seeds.iter().map(|seed| seed.bytes.len()).sum();
    for (number, seed) in seeds.iter().enumerate() {
        let dir = std::path::Path::new(&dir).join(seed.target);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("seed-{number:03}")), &seed.bytes)?;
    }
    println!("{} inputs, {bytes} bytes, in {dir}", seeds.len());
    Ok(())
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("build with RUSTFLAGS=\"--cfg fuzzing\"");
    std::process::exit(1);
}
