//! The help of every command: a page each, with an example that can be typed.

use std::fs;

use crate::{
    common::{Workdir, run},
    page,
};

/// The commands, as the program itself lists them.
fn commands() -> Vec<String> {
    let help = help(&["--help"]);
    let list = help.split_once("\nCommands:\n").unwrap().1.split("\n\n").next().unwrap();
    let name = |line: &str| {
        line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split(' ').next().map(str::to_owned)
    };
    list.lines().filter_map(name).filter(|name| name != "help").collect()
}

fn help(arguments: &[&str]) -> String {
    let outcome = run(Workdir::new().command(env!("CARGO_BIN_EXE_buildproxy")).args(arguments)).expect_code(0);
    outcome.text().to_owned()
}

/// Where pages are written anew, that of a new command is, too.
#[test]
fn the_help_of_every_command_is_a_page() {
    let commands = commands();
    assert!(commands.len() > 15, "only {commands:?} found: the search is broken");
    for command in commands.iter().map(|name| format!("buildproxy {name}")).chain(["buildproxy".to_owned()]) {
        let name = format!("help/{}", command.split(' ').next_back().unwrap());
        let asked = ["-h", "--help"].map(|option| format!("$ {command} {option}\n"));
        if page::is_written() && !page::path(&name).exists() {
            fs::create_dir_all(page::path(&name).parent().unwrap()).unwrap();
            let text = format!("# {command}\n\n```console\n{}```\n", asked.join(""));
            fs::write(page::path(&name), text).unwrap();
            page::check(&name).unwrap();
        }
        let page = page::read(&name);
        assert!(asked.iter().all(|command| page.contains(command.as_str())), "{name} has not both helps");
    }
}

#[test]
fn every_help_has_an_example_of_its_command() {
    for name in commands() {
        for option in ["-h", "--help"] {
            let help = help(&[&name, option]);
            let examples = help.split_once("\nExample").unwrap_or_else(|| panic!("{name} {option} has no example")).1;
            let is_typed = |line: &str| line.starts_with("  ") && line.contains(&format!("buildproxy {name}"));
            assert!(examples.lines().any(is_typed), "the examples of {name} {option} do not have it:\n{examples}");
        }
    }
}
