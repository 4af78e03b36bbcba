use super::*;
use crate::capture::exchange::{LeftOut, Outcome};

fn exchange(arrival: u64) -> Exchange {
    Exchange {
        arrival,
        answered: arrival + 1,
        method: http::Method::GET,
        url: "http://h/a".parse().unwrap(),
        bared_of: vec![],
        request_body: vec![],
        accept: None,
        outcome: Outcome::LeftOut(LeftOut::NotWhole(206)),
    }
}

fn folder() -> (tempfile::TempDir, JournalFolder, EmbeddedStore) {
    let dir = tempfile::tempdir().unwrap();
    let folder = JournalFolder::create(&dir.path().join("inventory.toml")).unwrap();
    let store = EmbeddedStore::new(dir.path().join("store"));
    (dir, folder, store)
}

#[test]
fn a_dead_journal_is_taken_over_without_its_half_written_line() {
    let (_dir, folder, store) = folder();
    let lock = folder.lock().unwrap();
    let journal = folder.start(&store, &lock).unwrap();
    journal.append(&exchange(0)).unwrap();
    journal.file.lock().unwrap().write_all(b"{\"arrival\":1,").unwrap();
    drop(journal);
    let taken = folder.take_over(&lock).unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].exchanges().unwrap(), [exchange(0)]);
}

#[test]
fn a_damaged_line_takes_no_other_with_it() {
    let (_dir, folder, store) = folder();
    let lock = folder.lock().unwrap();
    let journal = folder.start(&store, &lock).unwrap();
    journal.append(&exchange(0)).unwrap();
    journal.file.lock().unwrap().write_all(b"{\"arrival\":1}\n").unwrap();
    journal.append(&exchange(2)).unwrap();
    assert_eq!(journal.exchanges().unwrap(), [exchange(0), exchange(2)]);
}

#[test]
fn dead_journals_come_in_the_order_of_their_captures_and_foreign_ones_stay() {
    let (dir, folder, store) = folder();
    let lock = folder.lock().unwrap();
    for started in [3u32, 1, 2] {
        let mut journal = folder.start(&store, &lock).unwrap();
        let text = fs::read_to_string(&journal.path).unwrap();
        journal.started = started.into();
        let (before, rest) = text.split_once("\"started\":").unwrap();
        let (_, rest) = rest.split_once(',').unwrap();
        fs::write(&journal.path, format!("{before}\"started\":{started},{rest}")).unwrap();
    }
    let spool = dir.path().join("store/spool");
    fs::create_dir_all(&spool).unwrap();
    // The lines of version 1 are no exchanges any more.
    let version = |version: u32| {
        let heading = Heading { version, started: 4, inventory: "inventory.toml".to_owned(), spool: spool.clone() };
        format!("{}\n{{\"arrival\":0,\"request_body\":null}}\n", serde_json::to_string(&heading).unwrap())
    };
    let foreign = [("earlier", version(1)), ("later", version(VERSION + 1)), ("no", "{\"version\":9}\n".to_owned())];
    let foreign = foreign.map(|(name, text)| (dir.path().join(format!(".buildproxy/journal-{name}.jsonl")), text));
    for (path, text) in &foreign {
        fs::write(path, text).unwrap();
    }
    let started: Vec<_> = folder.take_over(&lock).unwrap().iter().map(|journal| journal.started).collect();
    assert_eq!(started, [1, 2, 3]);
    for (path, text) in &foreign {
        assert_eq!(fs::read_to_string(path).unwrap(), *text);
    }
    assert!(spool.exists());
}

#[test]
fn a_clock_that_was_set_back_does_not_change_the_order() {
    let (_dir, folder, store) = folder();
    let lock = folder.lock().unwrap();
    let first = folder.start(&store, &lock).unwrap();
    let text = fs::read_to_string(&first.path).unwrap();
    let future = first.started + 1_000_000_000;
    fs::write(&first.path, text.replace(&first.started.to_string(), &future.to_string())).unwrap();
    let second = folder.start(&store, &lock).unwrap();
    assert_eq!(second.started, future + 1);
    let third = folder.start(&store, &lock).unwrap();
    assert_eq!(third.started, future + 2);
}

#[test]
fn a_build_that_cleans_the_folder_takes_no_exchange_with_it() {
    let (dir, folder, store) = folder();
    let journal = folder.start(&store, &folder.lock().unwrap()).unwrap();
    journal.append(&exchange(0)).unwrap();
    fs::remove_dir_all(dir.path().join(".buildproxy")).unwrap();
    journal.append(&exchange(1)).unwrap();
    let _lock = folder.lock().unwrap();
    assert_eq!(journal.exchanges().unwrap(), [exchange(0), exchange(1)]);
    journal.remove().unwrap();
}

#[test]
fn a_live_journal_and_another_inventorys_are_left_alone() {
    let (dir, folder, store) = folder();
    let other = JournalFolder::create(&dir.path().join("other.toml")).unwrap();
    let lock = folder.lock().unwrap();
    let live = folder.start(&store, &lock).unwrap();
    drop(other.start(&store, &lock).unwrap());
    assert_eq!(folder.take_over(&lock).unwrap().len(), 0);
    live.remove().unwrap();
    assert_eq!(other.take_over(&lock).unwrap().len(), 1);
}
