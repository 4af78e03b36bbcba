//! Completions, by pressing Tab in the shells that have them, and the manual pages, by what shows them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{Tmux, Workdir, run};

/// What the Nix package installs, by the lines with which it does.
fn package(work: &Workdir) -> PathBuf {
    let package = work.root().join("package");
    fs::create_dir_all(package.join("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_buildproxy"), package.join("bin/buildproxy")).unwrap();
    let expression = include_str!("../../nix/package.nix");
    let (_, rest) = expression.split_once("postInstall = ").unwrap();
    let script = rest.split("''").nth(1).unwrap();
    run(work.command("bash").env("out", &package).args(["-euc", script])).expect_code(0);
    package
}

/// `program`, where the package is installed as in a profile of Nix.
fn shell(work: &Workdir, package: &Path, program: &str) -> Command {
    let mut shell = work.command(program);
    let path = format!("{}:{}", package.join("bin").display(), std::env::var("PATH").unwrap());
    shell.env("PATH", path).env("XDG_DATA_DIRS", format!("{}:/usr/share", package.join("share").display()));
    work.write("other.toml", "version = 1\n");
    shell
}

/// Types what is on the left and presses Tab, once or twice; then what is on the right is on the screen.
fn press_tab(tmux: &Tmux, tabs: usize, cases: &[(&str, &[&str])]) {
    tmux.wait_for_text("ready>");
    for (typed, expected) in cases {
        // Nothing of the case before is left. A shell that is about to show its prompt can lose what is typed.
        let mut looks = 0;
        tmux.wait_for("a cleared screen", |screen| {
            if looks % 32 == 0 {
                tmux.keys(&["C-c"]);
                tmux.line("clear");
            }
            looks += 1;
            looks > 1 && screen.trim() == "ready>"
        });
        tmux.keys(&[typed]);
        tmux.wait_for_text(typed.trim());
        tmux.keys(&["Tab"; 2][..tabs]);
        let screen = tmux.wait_for(&format!("{expected:?} after `{typed}`"), |screen| {
            expected.iter().all(|text| screen.contains(text))
        });
        assert!(!screen.contains("isolated-keeper"), "what is hidden is offered: {screen}");
        // Out of what lists candidates.
        tmux.keys(&["C-c"]);
    }
}

/// What every shell completes.
const EVERYWHERE: &[(&str, &[&str])] = &[
    ("buildproxy rep", &["replay", "report"]),
    ("buildproxy capture --allow-p", &["--allow-private"]),
    ("buildproxy export --to ", &["fetchurl", "har"]),
    ("buildproxy verify -i oth", &["verify -i other.toml"]),
    ("buildproxy diff other.toml oth", &["diff other.toml other.toml"]),
];

/// What those do that know commands after `--`.
const COMMANDS: &[(&str, &[&str])] = &[
    ("buildproxy replay -- chmo", &["replay -- chmod"]),
    ("buildproxy capture -- cat oth", &["capture -- cat other.toml"]),
    ("buildproxy ", &["capture", "replay", "verify", "completions"]),
];

#[test]
fn bash_completes_by_itself_and_with_its_package() {
    let work = Workdir::new();
    let package = package(&work);
    for setup in [". <(buildproxy completions bash)", ". /usr/share/bash-completion/bash_completion"] {
        work.write("rc", format!("PS1='ready> '; {setup}\n"));
        let tmux = Tmux::start(&work, 100, 40, shell(&work, &package, "bash").args(["--rcfile", "rc", "-i"]));
        press_tab(&tmux, 2, EVERYWHERE);
        press_tab(&tmux, 2, COMMANDS);
    }
}

#[test]
fn zsh_completes_with_what_each_is_for() {
    let work = Workdir::new();
    let package = package(&work);
    fs::write(
        work.root().join("home/.zshrc"),
        format!(
            "PS1='ready> '; fpath=({}/share/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u\n",
            package.display()
        ),
    )
    .unwrap();
    let tmux = Tmux::start(&work, 100, 40, shell(&work, &package, "zsh").arg("-i"));
    press_tab(&tmux, 1, EVERYWHERE);
    press_tab(&tmux, 1, COMMANDS);
    press_tab(&tmux, 1, &[("buildproxy rep", &["-- Run a command", "-- Make a page"])]);
    let script =
        "autoload -Uz compinit; compinit -u -d dump; . <(buildproxy completions zsh); print ${_comps[buildproxy]}";
    let taken = run(shell(&work, &package, "zsh").args(["-fc", script])).expect_code(0);
    assert_eq!(taken.text(), "_buildproxy\n", "as it is, from a start-up file");
}

#[test]
fn fish_completes_with_what_each_is_for() {
    let work = Workdir::new();
    let package = package(&work);
    let mut fish = shell(&work, &package, "fish");
    fish.args([
        "-C",
        "function fish_prompt; echo 'ready> '; end; set fish_greeting; set fish_autosuggestion_enabled 0",
    ]);
    let tmux = Tmux::start(&work, 100, 40, &fish);
    press_tab(&tmux, 1, EVERYWHERE);
    press_tab(&tmux, 1, COMMANDS);
    press_tab(&tmux, 1, &[("buildproxy rep", &["(Run a command", "(Make a page"])]);
}

#[test]
fn elvish_completes_with_the_module_of_the_package_and_without() {
    let work = Workdir::new();
    let package = package(&work);
    for setup in ["use buildproxy", "eval (buildproxy completions elvish | slurp)"] {
        work.write("rc.elv", format!("{setup}; set edit:prompt = {{ put 'ready> ' }}; set edit:rprompt = {{ }}"));
        let tmux = Tmux::start(&work, 100, 40, shell(&work, &package, "elvish").args(["-rc", "rc.elv"]));
        press_tab(&tmux, 1, EVERYWHERE);
        press_tab(&tmux, 1, COMMANDS);
    }
}

#[test]
fn nushell_completes_and_runs_what_it_knows_the_options_of() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/npm/node_modules/@nushell");
    let platform =
        fs::read_dir(&tools).unwrap_or_else(|_| panic!("{tools:?} is missing: run ./test, which installs it"));
    let nu = platform.into_iter().next().unwrap().unwrap().path().join("bin/nu");
    let work = Workdir::new();
    let package = package(&work);
    work.write(
        "config.nu",
        "$env.config.show_banner = false; $env.PROMPT_COMMAND = 'ready'; $env.PROMPT_COMMAND_RIGHT = ''\n\
         $env.PROMPT_INDICATOR = '> '\n",
    );
    work.write("env.nu", "");
    let arguments = ["--config", "config.nu", "--env-config", "env.nu"];
    let tmux = Tmux::start(&work, 100, 60, shell(&work, &package, nu.to_str().unwrap()).args(arguments));
    press_tab(&tmux, 1, EVERYWHERE);
    // Nushell checks what is given to a command whose options it knows.
    tmux.line("clear");
    tmux.line("buildproxy replay -q -i other.toml -- sh -c 'echo through; exit 7'");
    tmux.wait_for("the command's output", |screen| screen.lines().any(|line| line == "through"));
}

#[test]
fn there_is_a_manual_page_for_each_command_and_man_takes_it_as_it_is() {
    let work = Workdir::new();
    run(work.buildproxy("man").arg("absent"))
        .expect_code(3)
        .expect_stderr(&["cannot write the manual pages into absent"]);
    let pages = package(&work).join("share/man/man1");
    let help = run(work.command(env!("CARGO_BIN_EXE_buildproxy")).arg("help")).expect_code(0);
    let commands = help.text().split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let mut commands: Vec<_> = commands.filter(|command| !command.is_empty() && *command != "help").collect();
    assert!(commands.len() > 15, "{commands:?}");
    commands.push("");
    for command in commands {
        let name = format!("buildproxy-{command}.1").replace("-.1", ".1");
        let mut man = work.command("man");
        man.args(["--warnings=w", "-l"]).arg(pages.join(name)).env("MANPAGER", "cat").env("MANWIDTH", "80");
        let page = run(&mut man).expect_code(0);
        let text = page.text();
        assert!(text.contains("OPTIONS") && text.contains("--inventory"), "{command}: {text}");
        assert!(text.contains("BUILDPROXY_STORE"), "{command} does not name the variable: {text}");
        assert!(!text.contains("buildproxy-help(1)"), "{command} names a page that is not there: {text}");
        assert!(page.stderr.is_empty(), "{command}: {}", page.stderr);
        let wide = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{command}: a line is wider than the terminal");
    }
}
