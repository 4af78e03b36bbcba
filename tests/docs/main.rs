//! The documentation: its links lead somewhere, what it shows of a terminal is what is printed, its inventories can be
//! read, and its recipes name tests that exist. CONTRIBUTING.md says how a page is written for that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod console;
mod examples;
mod page;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use common::{
    Workdir, run,
    sandbox::{Nix, Sandbox, nix_path, repository},
    tree_of_files,
};
use page::Page;

/// It has a test of its own.
const GUIDE: &str = "docs/guide.md";

/// Every page, in the order of their names.
fn pages() -> Vec<Page> {
    let mut names: Vec<String> = fs::read_dir(repository("docs"))
        .unwrap()
        .map(|file| format!("docs/{}", file.unwrap().file_name().into_string().unwrap()))
        .chain(["README.md", "benches/README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(str::to_owned))
        .filter(|name| name.ends_with(".md") && repository(name).exists())
        .collect();
    names.sort();
    assert!(names.len() > 8, "{names:?}");
    names.iter().map(|name| Page::read(name)).collect()
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        for (line, target) in page.links() {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            if target.contains(':') {
                assert!(target.starts_with("https://"), "{}:{line}: {target}", page.name);
                continue;
            }
            count += 1;
            let path = if file.is_empty() { page.name.clone() } else { page.resolve(file) };
            let leads = repository(&path).exists();
            let known =
                anchor.is_empty() || !repository(&path).exists() || Page::read(&path).anchors().contains(anchor);
            if !leads || !known {
                wrong.push(format!("{}:{line}: {target}", page.name));
            }
        }
    }
    assert!(count > 20, "only {count} links found: the search is broken");
    assert!(wrong.is_empty(), "these lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_page_of_the_documentation_is_in_the_readmes_list() {
    let readme = Page::read("README.md");
    let linked: BTreeSet<String> = readme.links().into_iter().map(|(_, target)| target).collect();
    for page in pages().iter().filter(|page| page.name != "README.md") {
        assert!(linked.contains(&page.name), "README.md does not link to {}", page.name);
    }
}

#[test]
fn what_is_shown_of_a_terminal_is_what_is_printed() {
    let is_shown = |page: &Page| page.name != GUIDE && page.blocks().iter().any(|block| block.language == "console");
    let shown: Vec<Page> = pages().into_iter().filter(is_shown).collect();
    assert!(shown.len() >= 2, "only {} pages with `console`: the search is broken", shown.len());
    thread::scope(|scope| {
        for page in &shown {
            scope.spawn(move || console::check(&Workdir::new(), &page.name, &page.session()));
        }
    });
}

/// The guide's commands, and then its package as it was committed, from what the capture has put into the store.
#[test]
fn the_guide_does_what_it_says_and_its_package_is_built_in_the_sandbox() {
    let (work, sandbox, guide) = (Workdir::new(), Sandbox::new(Nix::Newer), Page::read(GUIDE));
    console::check(&work, &guide.name, &guide.session());
    let world = work.path("world");
    run(work.command("git").args(["clone", "--quiet"]).arg(world.join("work")).arg("clone")).expect_code(0);
    fs::create_dir_all(work.path("data/buildproxy")).unwrap();
    fs::rename(world.join("store"), work.path("data/buildproxy/store")).unwrap();
    let mut fetch = within_environment(&sandbox.command("nix"), env!("CARGO_BIN_EXE_buildproxy"));
    fetch.args(["fetch", "-i"]).arg(work.path("clone/inventory.toml")).env("XDG_DATA_HOME", work.path("data"));
    run(&mut fetch).expect_code(0);
    // What the hook of nixpkgs' cmake does.
    let package = format!(
        "pkgs.callPackage {} {{
            inherit mkBuildproxy;
            cmake = pkgs.makeSetupHook {{ name = \"cmake\"; propagatedBuildInputs = [ pkgs.cmake ]; }} (pkgs.writeText \"hook\" ''
                configurePhase=cmakeConfigurePhase
                cmakeConfigurePhase() {{
                    runHook preConfigure
                    ${{noNetwork}}
                    cmake -B build -DCMAKE_INSTALL_PREFIX=$out
                    cd build
                    runHook postConfigure
                }}
            '');
        }}",
        nix_path(&work.path("clone/package.nix")),
    );
    let hello = sandbox.built(&package).join("bin/hello");
    let printed = run(&mut work.command(hello)).expect_code(0);
    assert!(guide.text.contains(&format!("$ build/hello\n{}", printed.text())), "{printed}");
}

/// `program` in the environment that `command` has.
fn within_environment(command: &Command, program: &str) -> Command {
    let mut other = Command::new(program);
    other.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other
}

/// The recorded session has its commands and their output as text elements, a line each.
#[test]
fn the_recorded_session_is_what_is_printed_today() {
    let svg = fs::read_to_string(repository("docs/session.svg")).unwrap();
    for outside in ["<script", "href", "url(", "@import", "<foreignObject"] {
        assert!(!svg.contains(outside), "docs/session.svg loads or runs something: {outside}");
    }
    console::check(&Workdir::new(), "docs/session.svg", &console::of_svg(&svg));
}

#[test]
fn what_is_not_run_says_why() {
    for page in pages() {
        if let Some(line) = page.indented_code() {
            panic!("{}:{line}: an indented block has no language: fence it", page.name);
        }
        for block in page.blocks() {
            let place = format!("{}:{}", page.name, block.line);
            assert!(!block.language.is_empty(), "{place}: a block without a language");
            let prompts = block.text.lines().any(|line| line.starts_with("$ "));
            assert!(!prompts || block.language == "console", "{place}: `$ ` belongs into a `console` block");
            if block.language == "sh" {
                let reason = page.not_run(&block);
                assert!(reason.is_some_and(|reason| reason.len() > 20), "{place}: needs `<!-- not run: REASON -->`");
            }
        }
    }
}

#[test]
fn every_inventory_that_is_shown_can_be_read() {
    let mut count = 0;
    for page in pages() {
        let is_inventory = |text: &str| text.contains("[[entry]]") || text.contains("[match]");
        for block in page.blocks().iter().filter(|block| block.language == "toml" && is_inventory(&block.text)) {
            count += 1;
            // A digest is rarely worth its place on a page.
            let text = block.text.replace("sha256-…", "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
            let text = if text.starts_with("version") { text } else { format!("version = 1\n{text}") };
            if let Err(error) = buildproxy::parse_inventory(&text) {
                panic!("{}:{}: {error}", page.name, block.line);
            }
        }
    }
    assert!(count >= 4, "only {count} inventories found: the search is broken");
}

/// A block is an expression, or attributes as they stand between braces.
#[test]
fn every_piece_of_nix_that_is_shown_can_be_read() {
    let mut count = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.language == "nix") {
            count += 1;
            // `with`: what a page does not define is no error of its own.
            let reads = |text: String| {
                let mut parse = Command::new("nix-instantiate");
                run(parse.env("NIX_REMOTE", "dummy://").args(["--parse", "-E"]).arg(format!("with {{}}; {text}")))
            };
            let attributes = reads(format!("{{\n{}\n}}", block.text));
            if attributes.code != 0 {
                let expression = reads(block.text.clone());
                assert_eq!(expression.code, 0, "{}:{}: {attributes}{expression}", page.name, block.line);
            }
        }
    }
    assert!(count > 20, "only {count} blocks found: the search is broken");
}

#[test]
fn every_option_of_mk_buildproxy_is_documented_and_no_other() {
    let code = fs::read_to_string(repository("nix/mk-buildproxy.nix")).unwrap();
    let arguments = code.split_once("  make =\n").unwrap().1.split_once("    }:").unwrap().0;
    let name = |line: &str| {
        let line = line.strip_prefix("      ")?.strip_suffix(',')?;
        Some(line.split(" ? ").next()?.to_owned()).filter(|name| name.chars().all(char::is_alphabetic))
    };
    let options: BTreeSet<String> = arguments.lines().filter_map(name).collect();
    assert!(options.len() > 8, "{options:?}");
    let page = Page::read("docs/nix.md").text;
    let table = page.split_once("## Options\n").unwrap().1.split_once("\n\nURLs").unwrap().0;
    let of_row = |row: &str| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2).map(first_word).collect();
    fn first_word(code: &str) -> String {
        code.chars().take_while(|c| c.is_alphabetic()).collect()
    }
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")).map(of_row).collect::<Vec<Vec<String>>>();
    assert_eq!(rows.into_iter().flatten().collect::<BTreeSet<_>>(), options);
}

#[test]
fn every_room_of_the_library_is_in_the_list() {
    let page = Page::read("docs/how-it-works.md").text;
    let library = fs::read_to_string(repository("src/lib.rs")).unwrap();
    let rooms: Vec<&str> = library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert!(rooms.len() > 20, "{rooms:?}");
    for room in rooms {
        let is_listed = [format!("`{room}/`"), format!("`{room}.rs`")].iter().any(|name| page.contains(name.as_str()));
        assert!(is_listed, "docs/how-it-works.md has no row for src/{room}");
    }
}

#[test]
fn every_recipe_names_tests_that_exist() {
    let tests = tree_of_files(&repository("tests"));
    for recipe in Page::read("docs/recipes.md").text.split("\n## ").skip(1) {
        let title = recipe.lines().next().unwrap_or_default();
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let pairs = recipe.split('`').filter_map(|code| code.split_once("::"));
        let named: Vec<_> = pairs.filter(|(file, test)| is_name(file) && is_name(test)).collect();
        assert!(!named.is_empty(), "{title} has no test");
        for (file, test) in named {
            let is_in = |source: &PathBuf| {
                source.components().any(|part| Path::new(part.as_os_str()).file_stem() == Some(file.as_ref()))
            };
            let sources: Vec<PathBuf> = tests.iter().filter(|source| is_in(source)).cloned().collect();
            let is_there = |source: &PathBuf| fs::read_to_string(source).unwrap().contains(&format!("fn {test}("));
            assert!(sources.iter().any(is_there), "{title}: no {test} in {sources:?}");
        }
    }
}

#[test]
fn examples_are_on_the_host_for_examples() {
    for name in ["docs/recipes.md", "docs/guide.md", "docs/inventory.md"] {
        let text = Page::read(name).text;
        let host = |rest: &str| rest.replace('\\', "").split(['/', ' ', '`', '"', '?', ')']).next().unwrap().to_owned();
        let hosts: Vec<_> = text.split("https://").skip(1).map(host).collect();
        let is_example =
            |host: &String| ["", "…", "example.org"].contains(&host.as_str()) || host.ends_with(".example.org");
        assert!(!hosts.is_empty() && hosts.iter().all(is_example), "{name}: {hosts:?}");
    }
}

#[test]
fn a_difference_between_page_and_terminal_is_found() {
    let shown = ["captured 3 answers, … B", "…", "wrote inventory.toml (3 entries)"].map(str::to_owned);
    for (printed, same) in [
        ("captured 3 answers, 836 B\nwrote inventory.toml (3 entries)\n", true),
        ("captured 3 answers, 836 B\none\ntwo\nwrote inventory.toml (3 entries)\n\n", true),
        ("captured 2 answers, 836 B\nwrote inventory.toml (3 entries)\n", false),
        ("captured 3 answers, 836 B\nwrote inventory.toml (3 entries)\nand more\n", false),
        ("captured 3 answers, 836 B\n", false),
    ] {
        let lines: Vec<&str> = printed.trim_end().lines().collect();
        assert_eq!(console::same(&shown, &lines), same, "{printed}");
    }
    for (text, differs) in
        [("$ echo one\none\n$ false\n$ echo $?\n1", false), ("$ echo one\ntwo", true), ("$ false", true)]
    {
        let page = Page { name: "a page".to_owned(), text: format!("```console\n{text}\n```\n") };
        let found = thread::spawn(move || console::check(&Workdir::new(), &page.name, &page.session())).join();
        assert_eq!(found.is_err(), differs, "{text}");
    }
}
