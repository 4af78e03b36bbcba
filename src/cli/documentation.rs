//! docs/commands.md, made from the arguments themselves.

use std::{fmt::Write as _, fs, path::Path};

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::Cli;

/// What is below this line is made here.
const MARK: &str = "<!-- Below: made from the program's own arguments";

#[test]
fn the_documentation_has_every_command_with_its_options() {
    let page = include_str!("../../docs/commands.md");
    let by_hand = page.split_inclusive('\n').take_while(|line| !line.starts_with(MARK)).collect::<String>();
    let mark = page.lines().find(|line| line.starts_with(MARK)).expect("the mark");
    let made = format!("{by_hand}{mark}\n{}", reference());
    if made != page {
        let copy = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/commands.md");
        fs::write(&copy, made).unwrap();
        panic!("docs/commands.md is not what the arguments say: cp target/commands.md docs/commands.md");
    }
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let is_row = |row: &str| row.contains(&format!("| `{name}")) || row.contains(&format!("`buildproxy {name}`"));
        assert!(by_hand.lines().any(is_row), "the table at the top of docs/commands.md has no `{name}`");
    }
}

/// A section for the options of all commands, and one for each command.
fn reference() -> String {
    let mut all = Cli::command();
    all.build();
    let mut text = "\n## Options of every command\n\n".to_owned();
    text += &table(all.get_arguments().filter(|argument| argument.is_global_set() || is_meta(argument)));
    for command in all.get_subcommands_mut().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        text += &section(command);
    }
    text
}

fn section(command: &mut Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    let mut text = format!("\n## `{}`\n\n{about}.\n\n```text\n{usage}\n```\n", command.get_name());
    let own: Vec<&Arg> =
        command.get_arguments().filter(|argument| !argument.is_global_set() && !is_meta(argument)).collect();
    if !own.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{}", table(own.into_iter()));
    }
    if let Some(after) = command.get_after_help() {
        let _ = write!(text, "\n```text\n{}\n```\n", after.to_string().trim_end());
    }
    text
}

fn is_meta(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
}

fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let rows = arguments.filter(|argument| !argument.is_hide_set()).map(|argument| {
        format!("| `{}` | {} |\n", spelled(argument).replace('|', "\\|"), meaning(argument).replace('|', "\\|"))
    });
    format!("| option | does |\n| --- | --- |\n{}", rows.collect::<String>())
}

/// `-o, --output <FILE>`, or `<FILE>` for what has no name.
fn spelled(argument: &Arg) -> String {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names = [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let takes_values = argument.get_action().takes_values();
    let value =
        argument.get_value_names().filter(|_| takes_values).unwrap_or_default().iter().map(|name| format!("<{name}>"));
    let value = value.collect::<Vec<_>>().join(" ");
    let many = if argument.is_positional() && !matches!(argument.get_action(), ArgAction::Set) { "…" } else { "" };
    [names, value + many].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The help, the values that there are, the default and the variable that gives one.
fn meaning(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let shown: Vec<_> = if argument.get_action().takes_values() { argument.get_possible_values() } else { Vec::new() };
    if !shown.is_empty() {
        let value = |value: &clap::builder::PossibleValue| {
            let help = value.get_help().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("`{}`{help}", value.get_name())
        };
        let _ = write!(text, ": {}", shown.iter().map(value).collect::<Vec<_>>().join(", "));
    }
    let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !default.is_empty() {
        let _ = write!(text, " [default: `{}`]", default.join(" "));
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(text, " [variable: `{}`]", variable.to_string_lossy());
    }
    text
}
