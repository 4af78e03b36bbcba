//! Lists what an inventory would have to download: the bodies that anyone can fetch again and that no store has yet.
//!
//! ```sh
//! cargo run --example downloads -- inventory.toml
//! ```

use std::{env, error::Error, path::PathBuf};

use buildproxy::{BodyFiles, Source, Stores, read_inventory};

fn main() -> Result<(), Box<dyn Error>> {
    let file = PathBuf::from(env::args_os().nth(1).ok_or("usage: downloads INVENTORY")?);
    let inventory = read_inventory(&file)?;
    let folder = file.parent().unwrap_or(&file);
    let files = BodyFiles::new(folder, Stores::open(env::var_os("BUILDPROXY_STORE").map(PathBuf::from), true));
    let mut total = 0;
    for entry in &inventory.entries {
        let Some(body) = &entry.body else { continue };
        let (Source::Fetch(from), Some(path)) = (&body.source, body.store_path()) else { continue };
        if files.locate(body).is_ok() {
            continue;
        }
        let url = from.as_deref().unwrap_or(entry.url.as_str());
        println!("{url}\n    as {}, {} bytes", path.to_absolute_path(), body.size.unwrap_or(0));
        total += body.size.unwrap_or(0);
    }
    println!("{total} bytes in all");
    Ok(())
}
