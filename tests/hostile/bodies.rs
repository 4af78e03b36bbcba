//! Where an inventory can say that a body's bytes are.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::{FileTypeExt, symlink},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{
    common::{
        Serving, Workdir,
        http1::Http1,
        process::{Guard, wait_for},
        run, sri, tree_of_files,
    },
    shows,
};

const SECRET: &str = "the reader's own secret\n";

/// A project with a secret beside it, one in its store's folder, and every way that leads to one of them.
struct Project {
    work: Workdir,
    places: Vec<String>,
}

impl Project {
    fn new() -> Self {
        let work = Workdir::new();
        let root = work.root().to_owned();
        let secret = root.join("secret");
        fs::write(&secret, SECRET).unwrap();
        let object = "0000000000000000000000000000000a-package";
        let package = work.store().join(object);
        fs::create_dir_all(package.join("share")).unwrap();
        fs::write(work.store().join(".tmp-secret"), SECRET).unwrap();
        fs::create_dir(work.path("inventory.bodies")).unwrap();
        for (target, link) in [
            ("../secret", work.path("link")),
            ("../../secret", work.path("inventory.bodies/link")),
            ("..", work.path("up")),
            (secret.to_str().unwrap(), work.path("absolute")),
            ("/proc/self/root", work.path("root")),
            ("../../../secret", package.join("link")),
            ("../../..", package.join("up")),
            ("../.tmp-secret", package.join("temporary")),
        ] {
            symlink(target, link).unwrap();
        }
        symlink("link", work.path("link-to-link")).unwrap();
        for pipe in [work.path("pipe"), package.join("pipe")] {
            assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            assert!(fs::metadata(pipe).unwrap().file_type().is_fifo());
        }
        symlink("/dev/zero", work.path("zeros")).unwrap();
        let secret = secret.display();
        let mut places: Vec<String> = [
            "../secret",
            "inventory.bodies/../../secret",
            "./../secret",
            "link",
            "link-to-link",
            "inventory.bodies/link",
            "up/secret",
            "absolute",
            "pipe",
            "zeros",
            "inventory.bodies",
            ".",
            "",
            "/dev/zero",
            "/proc/self/environ",
        ]
        .map(|file| format!("file = {file:?}"))
        .into();
        places.push(format!("file = \"{secret}\""));
        places.push(format!("file = \"root{secret}\""));
        places.push(format!("store-path = \"{secret}\""));
        let back = format!("../../{}/link", work.path("").file_name().unwrap().display());
        for below in ["link", "up/secret", "../../secret", "temporary", "pipe", "share", "../.tmp-secret", &back] {
            places.push(format!("store-path = \"/nix/store/{object}/{below}\""));
        }
        for path in [
            "/nix/store/../../etc/passwd",
            "/etc/passwd",
            "/nix/store/.tmp-secret",
            "/nix/store",
            "/nix/store/x/../../y",
        ] {
            places.push(format!("store-path = \"{path}\""));
        }
        Self { work, places }
    }

    /// An inventory in which the body of `/N` is at the Nth place.
    fn inventory(&self) -> String {
        let (hash, size) = (sri(SECRET.as_bytes()), SECRET.len());
        let body = |place: &String| format!("body = {{ hash = \"{hash}\", size = {size}, {place} }}");
        let entry = |(number, place)| format!("[[entry]]\nurl = \"http://h.test/{number}\"\n{}\n", body(place));
        self.places.iter().enumerate().map(entry).collect()
    }
}

#[test]
fn no_inventory_gets_at_a_file_outside_its_folder_and_the_store() {
    let Project { work, places } = {
        let project = Project::new();
        project.work.write("inventory.toml", format!("version = 1\n{}", project.inventory()));
        project
    };
    // Nothing is waited for, nothing is read to an end that there is not, nothing is told.
    for arguments in [
        &["verify"][..],
        &["verify", "--json"],
        &["export", "--to", "har"],
        &["fetch"],
        &["merge", "inventory.toml", "none.toml", "-o", "merged.toml"],
        &["move", "--to", "text", "http://h.test/*"],
        &["move", "--to", "file", "http://h.test/*"],
        &["move", "--to", "store-path", "http://h.test/*"],
        &["index", "-o", "inventory.bpx"],
    ] {
        work.write("none.toml", "version = 1\n");
        let mut command = work.buildproxy(arguments[0]);
        let outcome = run(command.args(&arguments[1..]));
        assert!(matches!(outcome.code, 0..=2), "{outcome}");
        let told = String::from_utf8_lossy(&outcome.stdout).into_owned() + &outcome.stderr;
        assert!(!told.contains(SECRET.trim()), "{told}");
        let found = (0..places.len()).filter(|number| told.contains(&format!("http://h.test/{number}: "))).count();
        if arguments == ["verify"] {
            assert_eq!(found, places.len(), "each is a finding: {told}");
        }
    }
    let inventory = String::from_utf8(work.read("inventory.toml")).unwrap();
    let serving = Serving::start_in(work, inventory.trim_start_matches("version = 1\n"), |command| {
        command.arg("--allow-misses").stderr(Stdio::null());
    });
    for (number, place) in places.iter().enumerate() {
        let mut client = Http1(serving.connect());
        let answer = client.ask(&format!("GET http://h.test/{number} HTTP/1.1\nHost: h.test\nConnection: close"));
        assert_eq!(answer.status, 500, "{place}: {answer:?}");
        assert!(!answer.text().contains(SECRET.trim()), "{place}");
    }
    let copies = files_with(&serving.work, SECRET);
    assert_eq!(copies, 2, "the two that were there");
    shows!(
        HostileInput,
        "every command and a replay, on paths, links, pipes and devices",
        "{} places, none read",
        places.len()
    );
}

fn files_with(work: &Workdir, text: &str) -> usize {
    tree_of_files(work.root())
        .into_iter()
        .filter(|file| fs::read(file).is_ok_and(|bytes| bytes == text.as_bytes()))
        .count()
}

/// So that the other thread ends where this one fails.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_link_that_is_put_in_while_a_replay_runs_leads_nowhere() {
    let work = Workdir::new();
    fs::write(work.root().join("secret"), SECRET).unwrap();
    for folder in ["bodies", "other"] {
        fs::create_dir(work.path(folder)).unwrap();
    }
    let honest = "a body of this project\n".to_owned() + " ";
    assert_eq!(honest.len(), SECRET.len());
    work.write("bodies/secret", &honest);
    let entry = format!(
        "[[entry]]\nurl = \"http://h.test/\"\nbody = {{ hash = \"{}\", size = {}, file = \"bodies/secret\" }}\n",
        sri(honest.as_bytes()),
        honest.len()
    );
    let serving = Serving::start_in(work, &entry, |command| {
        command.stderr(Stdio::null());
    });
    let (bodies, link) = (serving.work.path("bodies"), serving.work.path("other/link"));
    symlink(serving.work.root(), &link).unwrap();
    let done = AtomicBool::new(false);
    let (mut given, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        // The folder and a link to where the secret is take turns, as fast as they can.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &bodies, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _ended = SetWhenDropped(&done);
        let mut client = Http1(serving.connect());
        while given < 200 || refused < 200 {
            let answer = client.ask("GET http://h.test/ HTTP/1.1\nHost: h.test");
            match answer.status {
                200 => {
                    given += 1;
                    assert_eq!(answer.text(), honest);
                }
                500 => {
                    refused += 1;
                    assert!(!answer.text().contains(SECRET.trim()));
                }
                other => panic!("{other}"),
            }
        }
    });
    shows!(HostileInput, "a folder and a link that take turns", "{} requests, none told", given + refused);
}

#[test]
fn a_pipe_that_somebody_holds_open_does_not_hold_a_replay() {
    let Project { work, places } = Project::new();
    let place = places.iter().position(|place| place == "file = \"pipe\"").unwrap();
    let inventory = Project { work: Workdir::new(), places: vec![places[place].clone()] }.inventory();
    // A writer that never writes.
    let mut writer = Command::new("sh");
    writer.args(["-c", "exec 3<>pipe; echo ready; exec sleep 600"]).current_dir(work.path(".")).stdout(Stdio::piped());
    let mut writer = Guard(writer.spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(writer.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let serving = Serving::start_in(work, &inventory, |command| {
        command.stderr(Stdio::null());
    });
    let mut stream = serving.connect();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.flush().unwrap();
    let answer = Http1(stream).ask("GET http://h.test/0 HTTP/1.1\nHost: h.test");
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(answer.text().contains("no regular file"), "{answer:?}");
    wait_for("the writer", || writer.0.try_wait().unwrap().is_none().then_some(()));
}
