//! The real Nix on a store of the test's own: nothing here touches `/nix`.

use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use super::{Awkward, Outcome, Workdir, process::run, sandbox, workdir::in_empty_network};

/// A version of Nix, and a store of its own below a folder of the test's.
pub struct Nix<'a> {
    pub work: &'a Workdir,
    /// What comes first in `PATH`.
    first: Vec<PathBuf>,
    /// The store's files are in `nix/store` below it.
    pub root: PathBuf,
    /// `NIX_REMOTE`.
    remote: String,
}

impl<'a> Nix<'a> {
    /// Runs `test` with either Nix, each time in a place of its own.
    pub fn each(test: impl Fn(&Nix)) {
        for version in sandbox::Nix::BOTH {
            let work = Workdir::new();
            let nix = Nix::new(&work, version.folder());
            let version = run(nix.command("nix-store").arg("--version").env("NIX_REMOTE", "dummy://")).expect_code(0);
            eprintln!("with {}", version.text().trim());
            test(&nix);
        }
    }

    /// Debian's, on a new store.
    pub fn of(work: &'a Workdir) -> Self {
        Self::new(work, None)
    }

    fn new(work: &'a Workdir, first: Option<PathBuf>) -> Self {
        let conf = work.root().join("nix-conf");
        fs::create_dir(&conf).unwrap();
        fs::write(conf.join("nix.conf"), "sandbox = false\nbuild-users-group =\nsubstituters =\n").unwrap();
        let root = work.root().join("nix-root");
        Self { work, first: first.into_iter().collect(), remote: format!("local?root={}", root.display()), root }
    }

    /// The same Nix on another, empty store.
    pub fn with_root(&self, name: &str) -> Nix<'a> {
        let root = self.work.root().join(name);
        let remote = format!("local?root={}", root.display());
        Nix { work: self.work, first: self.first.clone(), remote, root }
    }

    /// The same store by another `NIX_REMOTE`.
    pub fn with_remote(&self, remote: &str) -> Nix<'a> {
        Nix { work: self.work, first: self.first.clone(), remote: remote.to_owned(), root: self.root.clone() }
    }

    /// The same with a program called `name` in front of Nix's own: a shell script. `$next` is the one that it hides.
    pub fn with_program(&self, name: &str, script: &str) -> Nix<'a> {
        let folder = tempfile::Builder::new().prefix("programs-").tempdir_in(self.work.root()).unwrap().keep();
        let program = folder.join(name);
        let next = run(self.command("sh").args(["-c", &format!("command -v {name}")])).expect_code(0);
        fs::write(&program, format!("#!/bin/sh\nnext='{}'\n{script}\n", next.text().trim())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let first = [vec![folder], self.first.clone()].concat();
        Nix { work: self.work, first, remote: self.remote.clone(), root: self.root.clone() }
    }

    /// `program` in this environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.work.command(program);
        let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).unwrap();
        let path: Vec<PathBuf> = self.first.iter().cloned().chain(std::env::split_paths(path)).collect();
        command.env("PATH", std::env::join_paths(path).unwrap());
        command.env("NIX_REMOTE", &self.remote);
        command.env("NIX_CONF_DIR", self.work.root().join("nix-conf"));
        command
    }

    /// `buildproxy SUBCOMMAND`, to be completed, on this Nix store and the embedded store in the test's home.
    pub fn buildproxy(&self, subcommand: &str) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_buildproxy"));
        command.arg(subcommand);
        command
    }

    /// `buildproxy capture`, to be completed.
    pub fn capturing(&self, origin: &Awkward) -> Command {
        let file = self.work.root().join("origin-ca.pem");
        fs::write(&file, &origin.ca.pem).unwrap();
        let mut command = self.buildproxy("capture");
        command.arg("--proxy-loopback").env("SSL_CERT_FILE", file);
        command
    }

    /// Captures a shell script, which ends at its first failure.
    #[track_caller]
    pub fn capture_sh(&self, origin: &Awkward, script: &str) -> Outcome {
        run(self.capturing(origin).args(["--", "sh", "-euc", script]))
    }

    /// Replays a shell script where there is no network.
    #[track_caller]
    pub fn replay_sh(&self, script: &str) -> Outcome {
        let mut command = self.buildproxy("replay");
        run(&mut in_empty_network(command.args(["--proxy-loopback", "--", "sh", "-euc", script])))
    }

    /// What `nix-store` prints, line by line.
    #[track_caller]
    pub fn nix_store<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Vec<String> {
        let outcome = run(self.command("nix-store").args(arguments)).expect_code(0);
        outcome.text().lines().map(str::to_owned).collect()
    }

    /// Collects garbage.
    #[track_caller]
    pub fn collect_garbage(&self) {
        run(&mut self.command("nix-collect-garbage")).expect_code(0);
    }

    /// Where the store path `path` is.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Those of `paths` that are valid.
    pub fn valid(&self, paths: &[String]) -> Vec<String> {
        let invalid =
            self.nix_store(["--check-validity", "--print-invalid"].into_iter().chain(paths.iter().map(String::as_str)));
        paths.iter().filter(|path| !invalid.contains(path)).cloned().collect()
    }

    /// Captures `count` bodies of 1000 to 3000 bytes, and one that is spooled to a file. Gives their store paths.
    #[track_caller]
    pub fn captured(&self, origin: &Awkward, count: usize) -> Vec<String> {
        let url = |n| origin.url(&format!("/plain/{n}.bin?size={}", 1000 + n * 2000 / count));
        let urls: Vec<String> = (0..count).map(|n| format!("-o /dev/null '{}'", url(n))).collect();
        let large = origin.tls_url("/plain/large.bin?size=300000");
        let script = format!("curl -sSf {} -o /dev/null '{large}'", urls.join(" "));
        let outcome = self.capture_sh(origin, &script).expect_code(0);
        assert!(!outcome.stderr.contains("warning"), "{outcome}");
        let paths = self.fetched();
        assert_eq!(paths.len(), count + 1);
        paths
    }

    /// The store paths of the bodies that are fetched, in the order of the file.
    #[track_caller]
    pub fn fetched(&self) -> Vec<String> {
        let outcome = run(self.buildproxy("paths").arg("--json")).expect_code(0);
        let rows: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
        let rows = rows.as_array().unwrap().iter().filter(|row| row["source"] == "fetch");
        rows.map(|row| row["store-path"].as_str().unwrap().to_owned()).collect()
    }

    /// `buildproxy verify --json`.
    #[track_caller]
    pub fn verify(&self) -> Outcome {
        run(self.buildproxy("verify").arg("--json"))
    }

    /// Changes what Nix has registered.
    #[track_caller]
    pub fn sql(&self, statement: &str) {
        let script =
            "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as db: print(db.execute(sys.argv[2]).rowcount)";
        let mut python = self.work.command("/usr/bin/python3");
        let changed = run(python.args(["-c", script]).arg(self.file("/nix/var/nix/db/db.sqlite")).arg(statement));
        assert_eq!(changed.expect_code(0).text(), "1\n", "{statement}");
    }

    /// The embedded store's folder.
    pub fn embedded(&self) -> PathBuf {
        self.work.root().join("home/.local/share/buildproxy/store")
    }

    /// The names of the bodies in the embedded store.
    pub fn embedded_bodies(&self) -> Vec<String> {
        let entries = fs::read_dir(self.embedded()).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    }
}

/// The findings of [`Nix::verify`], each as its kind.
pub fn kinds(outcome: &Outcome) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let kind = |finding: &serde_json::Value| finding["kind"].as_str().unwrap().to_owned();
    json["findings"].as_array().unwrap().iter().map(kind).collect()
}
