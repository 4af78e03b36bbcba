//! Nix in its real sandbox, with a store of its own: what is built here has no network but its own loopback.
//!
//! Expressions see the tests' nixpkgs (`nix/tests/stub`) as `pkgs`, what `nix/` makes of it as `buildproxy` and
//! `mkBuildproxy`, and `noNetwork`, a shell command that fails where there is a network. To try all of it with the real
//! `nixpkgs.lib`, name its folder by `BUILDPROXY_TEST_NIXPKGS_LIB`; the newer Nix takes it, 2.8 is too old for it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Outcome, run};

/// One of the two Nix that everything has to work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nix {
    /// The one in PATH, Debian's.
    Installed,
    /// The one that `fixtures/nix.sh` has put into `target/tools/nix`.
    Newer,
}

impl Nix {
    pub const BOTH: [Self; 2] = [Self::Installed, Self::Newer];

    /// The folder of its programs; none for those in PATH.
    pub fn folder(self) -> Option<PathBuf> {
        let folder = repository("target/tools/nix/bin");
        (self == Self::Newer).then(|| {
            let is_there = folder.join("nix-store").exists();
            assert!(is_there, "{} is missing: run ./test, or fixtures/nix.sh, which installs it", folder.display());
            folder
        })
    }

    /// One of its programs.
    pub fn program(self, name: &str) -> PathBuf {
        self.folder().unwrap_or_default().join(name)
    }

    /// PATH for what calls Nix itself.
    fn path(self) -> String {
        let path = std::env::var("PATH").unwrap();
        self.folder().map_or(path.clone(), |folder| format!("{}:{path}", folder.display()))
    }

    /// Its version, such as `[2, 8, 0]`.
    pub fn version(self) -> Vec<u32> {
        let printed = run(Command::new(self.program("nix")).arg("--version")).expect_code(0);
        let number = printed.text().trim().rsplit(' ').next().unwrap_or_default();
        number.split('.').map_while(|part| part.parse().ok()).collect()
    }
}

/// `path` of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// `path` as an expression.
pub fn nix_path(path: &Path) -> String {
    format!("(/. + {})", nix_string(path.to_str().unwrap()))
}

/// `text` as an expression: what is in it means nothing to Nix, but `${` of a case that wants it.
pub fn nix_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What of the machine a build sees, where it is there: the programs that the stub's packages are links to, and what
/// they need. Not all of /etc/ssl: newer Nix mounts its own certificates into fixed outputs, and empties the file that it
/// mounts them on.
const MACHINE: [&str; 8] = [
    "/bin",
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ssl/openssl.cnf",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
];

/// Ends a shell with 90 to 93 where there is a route, an outside address that answers or could, or a name that is known.
pub const NO_NETWORK: &str = r#"
    if [ "$(wc -l </proc/net/route)" -gt 1 ]; then echo "there is a route" >&2; exit 90; fi
    if reason=$( (exec 3<>/dev/tcp/192.0.2.1/80) 2>&1); then echo "an outside address answers" >&2; exit 91; fi
    case "$reason" in *"Network is unreachable"*) ;; *) echo "an outside address: $reason" >&2; exit 92 ;; esac
    if /usr/bin/getent hosts example.org; then echo "names can be looked up" >&2; exit 93; fi
"#;

/// A store, with the configuration and the temporary folders that go with it; gone when dropped.
pub struct Sandbox {
    pub nix: Nix,
    root: tempfile::TempDir,
}

impl Sandbox {
    pub fn new(nix: Nix) -> Self {
        let root = tempfile::Builder::new().prefix("nix-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for folder in ["conf", "home", "tmp", "prebuilt"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_buildproxy"), root.path().join("prebuilt/buildproxy")).unwrap();
        let machine: Vec<_> = MACHINE.into_iter().filter(|path| Path::new(path).exists()).collect();
        // The fallback would be a build without a sandbox.
        let configuration = format!(
            "sandbox = true\nsandbox-fallback = false\nsandbox-paths = {}\nbuild-users-group =\n\
             substituters =\nexperimental-features = nix-command flakes\nflake-registry =\n",
            machine.join(" ")
        );
        fs::write(root.path().join("conf/nix.conf"), configuration).unwrap();
        Self { nix, root }
    }

    /// A program of Nix on this store, to be completed.
    pub fn command(&self, program: &str) -> Command {
        let root = self.root.path();
        let mut command = Command::new(self.nix.program(program));
        command.env_clear().env("PATH", self.nix.path()).env("LANG", "C.UTF-8");
        command.env("NIX_REMOTE", format!("local?root={}", root.display())).env("NIX_CONF_DIR", root.join("conf"));
        command.env("HOME", root.join("home")).env("TMPDIR", root.join("tmp")).current_dir(root);
        command.env("BUILDPROXY_TEST_PREBUILT", root.join("prebuilt"));
        if let Some(lib) = std::env::var_os("BUILDPROXY_TEST_NIXPKGS_LIB").filter(|_| self.nix == Nix::Newer) {
            command.env("BUILDPROXY_TEST_NIXPKGS_LIB", lib);
        }
        command
    }

    /// `nix-build` of an expression, to be completed.
    pub fn building(&self, expression: &str) -> Command {
        let mut command = self.command("nix-build");
        command.args(["--no-out-link", "--expr", &self.in_scope(expression)]);
        command
    }

    /// Builds an expression: the log is on stderr, the store paths are on stdout.
    #[track_caller]
    pub fn build(&self, expression: &str) -> Outcome {
        run(&mut self.building(expression))
    }

    /// Builds an expression that has to succeed, and gives the place of its output.
    #[track_caller]
    pub fn built(&self, expression: &str) -> PathBuf {
        let outcome = self.build(expression).expect_code(0);
        self.real(outcome.text().trim())
    }

    /// The log of an expression that has to fail, here (1) or in a builder (100 and more, for the reason).
    #[track_caller]
    pub fn fails(&self, expression: &str) -> Outcome {
        let outcome = self.build(expression);
        assert!(matches!(outcome.code, 1 | 100..=104), "{outcome}");
        outcome
    }

    /// What an expression that has to succeed evaluates to, as JSON.
    #[track_caller]
    pub fn value(&self, expression: &str) -> serde_json::Value {
        let mut command = self.command("nix-instantiate");
        command.args(["--eval", "--strict", "--json", "--expr", &self.in_scope(expression)]);
        serde_json::from_slice(&run(&mut command).expect_code(0).stdout).unwrap()
    }

    /// Runs the program of a package outside of the sandbox, where `/nix/store` is that of this store: to be completed.
    pub fn running(&self, package: &str) -> Command {
        let mut command = self.command("nix");
        command.args(["run", "--impure", "--expr", &self.in_scope(package), "", "--"]);
        command
    }

    fn in_scope(&self, expression: &str) -> String {
        format!(
            "let pkgs = import {stub} {{ }}; inherit (pkgs) lib;\n\
             scope = import {nix} {{ inherit pkgs; }}; inherit (scope) buildproxy mkBuildproxy mkBuildproxyShell;\n\
             noNetwork = ''{NO_NETWORK}'';\nin {expression}",
            stub = repository("nix/tests/stub").display(),
            nix = repository("nix").display(),
        )
    }

    /// Where the store path really is.
    pub fn real(&self, store_path: &str) -> PathBuf {
        assert!(store_path.starts_with("/nix/store/"), "`{store_path}` is no store path");
        self.root.path().join(store_path.trim_start_matches('/'))
    }

    /// A copy of the stub with the program in it, as a flake can have it.
    pub fn stub_for_flakes(&self) -> PathBuf {
        let stub = self.root.path().join("stub");
        if stub.exists() {
            return stub;
        }
        let copy = |from: &Path| {
            run(Command::new("cp").arg("-r").arg(from).arg(&stub)).expect_code(0);
        };
        copy(&repository("nix/tests/stub"));
        copy(&self.root.path().join("prebuilt"));
        stub
    }

    /// What builds have left behind in the folder for temporary files.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        // Nix before 2.27 builds below TMPDIR, newer ones below their state.
        let folders = [self.root.path().join("tmp"), self.root.path().join("nix/var/nix/builds")];
        let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        files.map(|file| file.unwrap().path()).collect()
    }

    /// The folder that everything of it is in.
    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Folders of a store cannot be written, and so not be emptied, by those who are not root.
        make_writable(self.root.path());
    }
}

fn make_writable(folder: &Path) {
    let Ok(items) = fs::read_dir(folder) else { return };
    let _changed = fs::set_permissions(folder, fs::Permissions::from_mode(0o755));
    for item in items.flatten() {
        if item.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&item.path());
        }
    }
}

/// Runs each test with either Nix: `with_either_nix! { name_of_a_function_of_a_nix … }`.
#[macro_export]
macro_rules! with_either_nix {
    ($($test:ident)*) => {
        mod with_the_installed_nix { $( #[test] fn $test() { super::$test($crate::common::sandbox::Nix::Installed); } )* }
        mod with_a_newer_nix { $( #[test] fn $test() { super::$test($crate::common::sandbox::Nix::Newer); } )* }
    };
}
