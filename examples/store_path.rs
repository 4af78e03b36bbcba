//! The hashes of a file and the store paths that Nix gives it, without Nix: as `fetchurl` has it (flat), and as
//! `nix-store --add` has it (its archive).
//!
//! ```sh
//! cargo run --example store_path -- FILE
//! ```

use std::{env, error::Error, fs::File, path::PathBuf};

use buildproxy::{FileIngestionMethod, HashAlgo, StorePathName, build_ca_path, hash_file, nar};

fn main() -> Result<(), Box<dyn Error>> {
    let file = PathBuf::from(env::args_os().nth(1).ok_or("usage: store_path FILE")?);
    let name = file.file_name().and_then(|name| name.to_str()).ok_or("the file has no name that Nix allows")?;
    let name = StorePathName::new(name)?;

    let hash = hash_file(&File::open(&file)?, HashAlgo::Sha256, |_| {})?;
    println!("{hash} {}", build_ca_path(&name, FileIngestionMethod::Flat, &hash).to_absolute_path());
    let nar_hash = nar::hash(&file)?;
    println!("{nar_hash} {}", build_ca_path(&name, FileIngestionMethod::Recursive, &nar_hash).to_absolute_path());
    Ok(())
}
