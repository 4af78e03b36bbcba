//! What is on the disk: read and checked by nothing of the program's own.

use std::{fs, path::Path, process::Command};

use crate::common::{Awkward, Entries, Workdir, pattern, run, sri};

/// A place in which there is an inventory with two bodies already. `again` is a file that a capture will replace.
pub fn with_inventory(origin: &Awkward) -> Workdir {
    let work = Workdir::new();
    let (old, again) = (origin.url("/plain/old?size=70000"), origin.url("/gzip-always"));
    work.capture_sh(origin, &format!("curl -sSf -o /dev/null '{old}' -o /dev/null '{again}'")).expect_code(0);
    // As if the origin had given something else.
    let file = work.inventory().one(&again).body("file").unwrap().to_owned();
    let (hash, size) = (work.inventory().one(&again).body("hash").unwrap().to_owned(), bytes(&work.path(&file)).len());
    let text = String::from_utf8(work.read("inventory.toml")).unwrap();
    let changed = text.replace(&file, "inventory.bodies/before").replace(&hash, &sri(b"before"));
    work.write("inventory.toml", changed.replace(&format!("size = {size}"), "size = 6"));
    fs::remove_file(work.path(&file)).unwrap();
    work.write("inventory.bodies/before", "before");
    work
}

/// The same files in another place.
pub fn copied(from: &Workdir) -> Workdir {
    let work = Workdir::new();
    run(Command::new("cp").arg("-a").arg(from.root().join(".")).arg(work.root())).expect_code(0);
    work
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The inventory, of which every body is where it has to be, with its bytes.
#[track_caller]
pub fn whole(work: &Workdir) -> Entries {
    let inventory = work.inventory();
    let stored: Vec<_> = fs::read_dir(work.store()).unwrap().map(|item| item.unwrap().path()).collect();
    for entry in &inventory.0 {
        let (Some(hash), url) = (entry.body("hash"), entry.text("url")) else { continue };
        let has_hash = |path: &Path| sri(&bytes(path)) == hash;
        let is_there = match entry.source() {
            "text" => sri(entry.body("text").unwrap().as_bytes()) == hash,
            "file" => has_hash(&work.path(entry.body("file").unwrap())),
            "store-path" => has_hash(&work.store().join(entry.body("store-path").unwrap().rsplit('/').next().unwrap())),
            _ => {
                let ending = format!("-{}", entry.body("name").unwrap());
                let named = |path: &&std::path::PathBuf| {
                    let name = path.file_name().unwrap().to_str().unwrap();
                    !name.starts_with('.') && name.ends_with(&ending)
                };
                stored.iter().filter(named).any(|path| has_hash(path))
            }
        };
        assert!(is_there, "the bytes of {url} are not there: {:?} {:?}", entry.source(), work.root());
    }
    inventory
}

/// That `inventory` has the pattern of this size for `url`.
#[track_caller]
pub fn expect_pattern(inventory: &Entries, url: &str, size: usize) {
    assert_eq!(inventory.one(url).body("hash"), Some(sri(&pattern(size)).as_str()), "{url}");
}

/// What is left of captures, live or dead: journals, and folders of unfinished bodies.
pub fn left_over(work: &Workdir) -> Vec<String> {
    let names = |folder: &Path| -> Vec<String> {
        let items = fs::read_dir(folder).into_iter().flatten();
        items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
    };
    let journals = names(&work.path(".buildproxy")).into_iter().filter(|name| name.starts_with("journal-"));
    // One without bodies takes no room, and may be one that is just being made.
    let has_bodies = |name: &String| {
        let inside = names(&work.store().join(".spool").join(name));
        inside.iter().any(|name| !name.starts_with(".owner-"))
    };
    let spools = names(&work.store().join(".spool")).into_iter().filter(has_bodies);
    journals.chain(spools).collect()
}
