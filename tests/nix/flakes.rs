//! The flake, and a packager's own flake with the two lines in it, evaluated and built by either Nix.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

use crate::common::{
    Nginx, Workdir, run,
    sandbox::{Nix, Sandbox, nix_path, repository},
    sri, tree,
};

crate::with_either_nix! {
    the_flake_passes_all_of_its_checks
    the_flake_evaluates_for_every_system
    the_flake_and_the_file_for_those_without_flakes_have_the_program
    a_packagers_flake_needs_two_lines
    what_git_does_not_track_is_said
}

/// This repository as a flake: what git tracks of it, with changes that are not committed yet.
fn this_flake() -> String {
    format!("git+file://{}", repository("").to_str().unwrap().trim_end_matches('/'))
}

/// The system of this machine as Nix calls it.
fn system() -> String {
    format!("{}-linux", std::env::consts::ARCH)
}

/// A command of Nix about this flake, with the stub in the place of nixpkgs, to be completed.
fn about_this_flake(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.command("nix");
    command.args(arguments).args(["--no-write-lock-file", "--override-input", "nixpkgs"]);
    command.arg(format!("path:{}", sandbox.stub_for_flakes().display()));
    command
}

fn the_flake_passes_all_of_its_checks(nix: Nix) {
    let sandbox = Sandbox::new(nix);
    let mut check = about_this_flake(&sandbox, &["flake", "check", "--print-build-logs"]);
    // What is built is the checks: at least the hook at work, and the patches.
    run(check.arg(this_flake()))
        .expect_code(0)
        .expect_stderr(&["-buildproxy-check-hook.drv", "-buildproxy-check-changed.drv"]);
}

fn the_flake_evaluates_for_every_system(nix: Nix) {
    let sandbox = Sandbox::new(nix);
    let of_each = |output: &str, value: &str| -> BTreeMap<String, BTreeMap<String, String>> {
        let mut eval = about_this_flake(&sandbox, &["eval", "--json"]);
        let apply = format!("builtins.mapAttrs (_: builtins.mapAttrs (_: it: {value}))");
        let printed = run(eval.args([&format!("{}#{output}", this_flake()), "--apply", &apply])).expect_code(0);
        serde_json::from_slice(&printed.stdout).unwrap()
    };
    let outputs = [
        ("packages", "it.drvPath", "buildproxy"),
        ("checks", "it.drvPath", "hook"),
        ("devShells", "it.drvPath", "default"),
        ("apps", "it.program", "default"),
    ];
    for (output, value, name) in outputs {
        let systems = of_each(output, value);
        let all = ["aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux"];
        assert!(systems.keys().eq(all.iter()), "{output}: {systems:?}");
        let values: BTreeSet<_> = systems.values().map(|of_one| &of_one[name]).collect();
        assert_eq!(values.len(), all.len(), "each system has its own {name}: {values:?}");
    }
}

fn the_flake_and_the_file_for_those_without_flakes_have_the_program(nix: Nix) {
    let sandbox = Sandbox::new(nix);
    let program = fs::read(env!("CARGO_BIN_EXE_buildproxy")).unwrap();
    let mut app = about_this_flake(&sandbox, &["run"]);
    let version = run(app.arg(this_flake()).args(["--", "--version"])).expect_code(0);
    assert_eq!(version.text().trim(), concat!("buildproxy ", env!("CARGO_PKG_VERSION")));
    let mut classic = sandbox.command("nix-build");
    classic.arg(repository("default.nix")).args(["--no-out-link", "-A", "buildproxy", "--arg", "pkgs"]);
    let built = run(classic.arg(format!("import {} {{ }}", nix_path(&repository("nix/tests/stub"))))).expect_code(0);
    let output = sandbox.real(built.text().trim());
    assert_eq!(fs::read(output.join("bin/buildproxy")).unwrap(), program);
    for (file, words) in [
        ("man/man1/buildproxy.1", "buildproxy"),
        ("man/man1/buildproxy-capture.1", "allow"),
        ("bash-completion/completions/buildproxy", "complete -F _buildproxy"),
        ("zsh/site-functions/_buildproxy", "#compdef buildproxy"),
        ("fish/vendor_completions.d/buildproxy.fish", "complete -c buildproxy"),
        ("elvish/lib/buildproxy.elv", "arg-completer[buildproxy]"),
        ("nushell/vendor/autoload/buildproxy.nu", "export extern buildproxy"),
    ] {
        let text = fs::read_to_string(output.join("share").join(file)).unwrap();
        assert!(text.contains(words), "{file}: {text}");
    }
}

/// A packager's flake, with an inventory of two bodies: one that Nix fetches, and a text.
struct Packager {
    work: Workdir,
    sandbox: Sandbox,
    origin: Nginx,
}

impl Packager {
    fn new(nix: Nix) -> Self {
        let packager = Self { work: Workdir::new(), sandbox: Sandbox::new(nix), origin: Nginx::start("") };
        fs::write(packager.origin.www().join("tool"), "a tool\n").unwrap();
        packager.work.write("inventory.toml", packager.inventory());
        packager.work.write("flake.nix", packager.flake());
        run(packager.work.command("git").args(["init", "--quiet"])).expect_code(0);
        packager
    }

    fn inventory(&self) -> String {
        format!(
            "version = 1\n\n[[entry]]\nurl = \"https://example.org/note\"\n\
             body = {{ hash = {:?}, size = 5, name = \"note\", text = \"note\\n\" }}\n\n\
             [[entry]]\nurl = \"https://example.org/tool\"\n\
             body = {{ hash = {:?}, size = 7, name = \"tool\", fetch = {:?} }}\n",
            sri(b"note\n"),
            sri(b"a tool\n"),
            self.origin.url("/tool")
        )
    }

    fn flake(&self) -> String {
        format!(
            "{{
  inputs.nixpkgs.url = \"path:{stub}\";
  inputs.buildproxy.url = \"{this}\";
  inputs.buildproxy.inputs.nixpkgs.follows = \"nixpkgs\";
  outputs = {{ nixpkgs, buildproxy, ... }}:
    let
      system = \"{system}\";
      pkgs = import nixpkgs {{ inherit system; overlays = [ buildproxy.overlays.default ]; }};
      package = {{ runCommand, curl, mkBuildproxy }}: runCommand \"package\" {{
        nativeBuildInputs = [ curl (mkBuildproxy ./inventory.toml) ];
      }} ''
        mkdir $out
        curl -sSf https://example.org/note >$out/note
        curl -sSf https://example.org/tool >$out/tool
      '';
    in
    {{
      packages.${{system}} = {{
        by-overlay = pkgs.callPackage package {{ }};
        by-lib = pkgs.callPackage package {{ inherit (buildproxy.lib.${{system}}) mkBuildproxy; }};
        by-own-packages = pkgs.callPackage package {{ inherit (buildproxy.lib.withPkgs pkgs) mkBuildproxy; }};
      }};
    }};
}}
",
            stub = self.sandbox.stub_for_flakes().display(),
            this = this_flake(),
            system = system(),
        )
    }

    /// Tells git of `files`.
    fn track(&self, files: &[&str]) {
        run(self.work.command("git").arg("add").args(files)).expect_code(0);
    }

    fn build(&self, package: &str) -> Command {
        let mut command = self.sandbox.command("nix");
        command.args(["build", "--print-build-logs", "--no-link", "--json", "--no-write-lock-file"]);
        command.arg(format!("git+file://{}#{package}", self.work.path("").display().to_string().trim_end_matches('/')));
        command
    }

    /// The output of a package that was built.
    fn output(&self, printed: &str) -> PathBuf {
        let built: serde_json::Value = serde_json::from_str(printed).unwrap();
        self.sandbox.real(built[0]["outputs"]["out"].as_str().unwrap())
    }
}

fn a_packagers_flake_needs_two_lines(nix: Nix) {
    let packager = Packager::new(nix);
    packager.track(&["flake.nix", "inventory.toml"]);
    for package in ["by-overlay", "by-lib", "by-own-packages"] {
        let built = run(&mut packager.build(package)).expect_code(0);
        let files = tree(&packager.output(built.text()));
        assert_eq!(files.into_values().collect::<Vec<_>>(), ["note\n", "a tool\n"], "{package}");
    }
}

fn what_git_does_not_track_is_said(nix: Nix) {
    let packager = Packager::new(nix);
    packager.track(&["flake.nix"]);
    run(&mut packager.build("by-overlay"))
        .expect_code(1)
        .expect_stderr(&["there is no inventory", "git add inventory.toml"]);
}
