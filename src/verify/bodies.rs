//! The bodies: are they there, and are they the bytes that were recorded?

use std::{collections::HashSet, path::PathBuf};

use super::{
    consistency::finding,
    finding::{Finding, FindingKind},
    hashing::{self, Task, What},
    registration::{Registrations, Seen},
};
use crate::{
    inventory::{Body, BodyFiles, Inventory, LocateError, Located, Source},
    store::{
        hash::{Hasher, NixHash},
        path::{StorePath, StorePathName},
    },
};

/// All findings about the bodies of `inventory`; `progress` is told of bytes as they are hashed.
pub(super) fn check(inventory: &Inventory, files: &BodyFiles, progress: &dyn Fn(u64)) -> Vec<Finding> {
    let mut plan = Plan::default();
    for (index, entry) in inventory.entries.iter().enumerate() {
        if let Some(body) = &entry.body {
            plan.add(index, body, files);
        }
    }
    let registrations = Registrations::of(plan.seen.iter().map(|seen| &seen.object), &files.stores);
    plan.found.extend(plan.seen.iter().filter_map(|seen| Some((seen.entry, seen.check(&registrations)?))));
    for task in &mut plan.tasks {
        task.registered = task.object.as_ref().and_then(|object| registrations.nar_hash(object));
    }
    // The largest first, so that no thread is left alone with it at the end.
    plan.tasks.sort_by_key(|task| std::cmp::Reverse(task.size));
    let hashed = hashing::run(&plan.tasks, progress);
    plan.found.into_iter().chain(hashed).map(|(index, kind)| finding(inventory, index, kind)).collect()
}

/// What makes two bodies one: source, its path or text, hash, size, name.
type Identity<'a> = (u8, &'a str, Option<NixHash>, Option<u64>, Option<&'a StorePathName>);

#[derive(Default)]
struct Plan<'a> {
    known: HashSet<Identity<'a>>,
    planned: HashSet<(PathBuf, NixHash, What)>,
    tasks: Vec<Task>,
    seen: Vec<Seen>,
    found: Vec<(usize, FindingKind)>,
}

impl<'a> Plan<'a> {
    /// Does the quick checks of the body of entry `index`, and plans the others. A body that an earlier entry has is
    /// left alone, but for what is missing in this one.
    fn add(&mut self, index: usize, body: &'a Body, files: &BodyFiles) {
        let missing = missing_pins(body);
        let is_pinned = missing.is_empty();
        if !is_pinned {
            self.found.push((index, FindingKind::NotPinned { missing }));
        }
        if let Source::StorePath { path, nar_hash: Some(nar_hash) } = &body.source {
            self.add_nar(index, path, *nar_hash, files);
        }
        if !self.known.insert(identity(body)) {
            return;
        }
        match files.locate(body) {
            Ok(Located::Text(text)) => self.found.extend(wrong_text(text, body).map(|kind| (index, kind))),
            Ok(Located::Store(path) | Located::Beside(path)) => self.add_file(index, path, body, files),
            // Said above, in better words.
            Err(LocateError::NoStorePath) if !is_pinned => {}
            Err(error) => self.found.push((index, FindingKind::BodyNotFound { reason: error.to_string() })),
        }
    }

    fn add_file(&mut self, index: usize, path: PathBuf, body: &Body, files: &BodyFiles) {
        let seen = Seen::new(index, body, &path, &files.stores);
        // What lies in a store path has no hash of its own there.
        let is_object = !matches!(body.source, Source::StorePath { .. });
        let object = seen.as_ref().map(|seen| seen.object.clone()).filter(|_| is_object);
        self.seen.extend(seen);
        match (files.check_size(body, &path), body.hash) {
            (Ok(size), Some(expected)) => {
                let remedy = files.remedy(body, &path);
                self.plan(Task {
                    entry: index,
                    path,
                    object,
                    size,
                    expected,
                    registered: None,
                    what: What::File,
                    remedy,
                });
            }
            (Ok(_), None) => {}
            (Err(LocateError::Size { path, size, expected, remedy }), _) => {
                let file = path.display().to_string();
                self.found.push((index, FindingKind::WrongSize { file, size, expected, remedy }));
            }
            (Err(error), _) => self.found.push((index, FindingKind::BodyUnreadable { reason: error.to_string() })),
        }
    }

    /// Plans the NAR hash of the store path that `path` is in. An absent one is found when the body is looked for.
    fn add_nar(&mut self, index: usize, path: &str, expected: NixHash, files: &BodyFiles) {
        if let Ok(found) = files.stores.find_object(path) {
            let remedy = "correct `nar-hash`, or build the store path that it is of".to_owned();
            let is_in_nix = files.stores.nix_store_dir().is_some_and(|dir| found.starts_with(dir));
            let object = found.file_name().and_then(|name| StorePath::from_base_name(name.to_str()?).ok());
            let (object, size, what) = (object.filter(|_| is_in_nix), u64::MAX, What::Nar);
            self.plan(Task { entry: index, path: found, object, size, expected, registered: None, what, remedy });
        }
    }

    fn plan(&mut self, task: Task) {
        if self.planned.insert((task.path.clone(), task.expected, task.what)) {
            self.tasks.push(task);
        }
    }
}

fn identity(body: &Body) -> Identity<'_> {
    let (source, place) = match &body.source {
        Source::Fetch(_) => (0, ""),
        Source::File(path) => (1, path.as_str()),
        Source::Text(text) => (2, text.as_str()),
        Source::StorePath { path, .. } => (3, path.as_str()),
    };
    (source, place, body.hash, body.size, body.name.as_ref())
}

/// The keys that `body` cannot do without and lacks. What a `store-path` leads to can change with the package, so it
/// is not pinned.
fn missing_pins(body: &Body) -> Vec<&'static str> {
    let (needs_pin, needs_name) = match body.source {
        Source::Fetch(_) => (true, true),
        Source::File(_) | Source::Text(_) => (true, false),
        Source::StorePath { .. } => (false, false),
    };
    let missing = [
        ("hash", needs_pin && body.hash.is_none()),
        ("size", needs_pin && body.size.is_none()),
        ("name", needs_name && body.name.is_none()),
    ];
    missing.into_iter().filter(|(_, is_missing)| *is_missing).map(|(key, _)| key).collect()
}

fn wrong_text(text: &str, body: &Body) -> Option<FindingKind> {
    let file = || "text".to_owned();
    let remedy = || "correct the text, or its hash and size".to_owned();
    let size = text.len() as u64;
    if let Some(expected) = body.size.filter(|&expected| expected != size) {
        return Some(FindingKind::WrongSize { file: file(), size, expected, remedy: remedy() });
    }
    let expected = body.hash?;
    let mut hasher = Hasher::new(expected.algo());
    hasher.update(text.as_bytes());
    let hash = hasher.finish();
    (hash != expected).then(|| FindingKind::WrongHash { file: file(), hash, expected, remedy: remedy() })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use super::*;
    use crate::{
        inventory::Entry,
        store::{Stores, embedded::EmbeddedStore, nar},
    };

    struct Fixture {
        folder: tempfile::TempDir,
        files: BodyFiles,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let embedded = EmbeddedStore::new(folder.path().join("store"));
        embedded.prepare().unwrap();
        let stores = Stores::new(None, embedded);
        Fixture { files: BodyFiles { inventory_dir: folder.path().to_owned(), stores }, folder }
    }

    fn body(bytes: &str, source: Source) -> Body {
        let hash = NixHash::sha256(bytes.as_bytes());
        Body { hash: Some(hash), size: Some(bytes.len() as u64), name: StorePathName::new("b").ok(), source }
    }

    fn fetched(bytes: &str) -> Body {
        body(bytes, Source::Fetch(None))
    }

    impl Fixture {
        /// Puts `content` where the store has `body`.
        fn store(&self, body: &Body, content: &str) -> PathBuf {
            let path = self.files.stores.embedded().path_of(&body.store_path().unwrap());
            fs::write(&path, content).unwrap();
            path
        }

        /// The messages about bodies, by entry.
        fn check(&self, bodies: Vec<Body>) -> Vec<(Option<usize>, String)> {
            let entry = |body| Entry { body: Some(body), ..Entry::get("http://h/".parse().unwrap()) };
            let entries = bodies.into_iter().map(entry).collect();
            let findings = check(&Inventory { entries, ..Inventory::default() }, &self.files, &|_| {});
            let mut found: Vec<_> = findings.iter().map(|found| (found.entry, found.kind.to_string())).collect();
            found.sort();
            found
        }

        /// The only message about `body`; empty where it is good.
        fn message(&self, body: Body) -> String {
            let found = self.check(vec![body]);
            assert!(found.len() < 2, "{found:?}");
            found.into_iter().map(|(_, message)| message).collect()
        }
    }

    #[test]
    fn missing_short_and_altered_files_are_told_apart() {
        let fixture = fixture();
        let message = fixture.message(fetched("body"));
        assert!(message.contains("is missing") && message.contains("buildproxy fetch"), "{message}");
        let path = fixture.store(&fetched("body"), "bo");
        let message = fixture.message(fetched("body"));
        assert!(message.starts_with(&format!("{} is short: 2 of 4 bytes; remove it", path.display())), "{message}");
        fixture.store(&fetched("body"), "ybod");
        let message = fixture.message(fetched("body"));
        assert!(message.starts_with(&format!("{} has hash sha256-", path.display())), "{message}");
        fixture.store(&fetched("body"), "body");
        assert_eq!(fixture.message(fetched("body")), "");
    }

    #[test]
    fn texts_and_files_beside_the_inventory_are_checked_too() {
        let fixture = fixture();
        let text = |recorded: &str, text: &str| fixture.message(body(recorded, Source::Text(text.to_owned())));
        assert_eq!(text("é", "é"), "");
        assert!(text("é", "e").starts_with("text is short: 1 of 2 bytes"));
        assert!(text("a", "b").starts_with("text has hash"));
        fs::write(fixture.folder.path().join("b"), "altered").unwrap();
        let message = fixture.message(body("content", Source::File("b".to_owned())));
        assert!(message.contains("restore it from version control"), "{message}");
    }

    #[test]
    fn what_pins_a_body_must_be_there_unless_a_package_provides_it() {
        let fixture = fixture();
        let bare = |source| Body { hash: None, size: None, name: None, source };
        assert!(fixture.message(bare(Source::Fetch(None))).starts_with("the body has no hash and no size and no name"));
        assert!(fixture.message(bare(Source::Text("a".to_owned()))).starts_with("the body has no hash and no size:"));
        let object = "0000000000000000000000000000000a-package";
        fs::create_dir(fixture.files.stores.embedded().dir().join(object)).unwrap();
        fs::write(fixture.files.stores.embedded().dir().join(object).join("b"), "b").unwrap();
        let packaged = |nar_hash| bare(Source::StorePath { path: format!("/nix/store/{object}/b"), nar_hash });
        assert_eq!(fixture.message(packaged(None)), "");
        let nar_hash = nar::hash(&fixture.files.stores.embedded().dir().join(object)).unwrap();
        assert_eq!(fixture.message(packaged(Some(nar_hash))), "");
        let message = fixture.message(packaged(Some(NixHash::sha256(b""))));
        assert!(message.contains(&format!("has NAR hash {nar_hash} instead of {}", NixHash::sha256(b""))), "{message}");
    }

    #[test]
    fn a_shared_body_is_reported_and_hashed_once() {
        let fixture = fixture();
        let found = fixture.check(vec![fetched("a"), fetched("b"), fetched("a")]);
        assert_eq!(found.iter().map(|(entry, _)| *entry).collect::<Vec<_>>(), [Some(0), Some(1)]);
        let large = "x".repeat((3 << 20) + 5);
        fixture.store(&fetched(&large), &large);
        let entry = || Entry { body: Some(fetched(&large)), ..Entry::get("http://h/".parse().unwrap()) };
        let inventory = Inventory { entries: vec![entry(), entry()], ..Inventory::default() };
        let hashed = Cell::new(0);
        assert_eq!(check(&inventory, &fixture.files, &|count| hashed.set(hashed.get() + count)), []);
        assert_eq!(hashed.get(), large.len() as u64);
    }

    #[test]
    fn many_bodies_on_many_threads_give_every_finding() {
        let fixture = fixture();
        let bodies: Vec<Body> = (0..200).map(|n| fetched(&format!("body {n:03}"))).collect();
        for (n, body) in bodies.iter().enumerate() {
            fixture.store(body, &format!("body {:03}", if n % 7 == 0 { 999 } else { n }));
        }
        let found = fixture.check(bodies);
        let entries: Vec<_> = found.iter().filter_map(|(entry, _)| *entry).collect();
        assert_eq!(entries, (0..200).step_by(7).collect::<Vec<_>>());
    }
}
