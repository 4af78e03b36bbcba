//! docs/commands.md, made from the arguments themselves.

use std::{fmt::Write as _, fs, path::Path};

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::{
    Cli,
    manual::{blocks, is_example},
};

/// How long the lines of the page are.
const WIDTH: usize = 130;

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

#[test]
fn the_help_of_every_command_is_readable_in_eighty_columns_and_in_a_hundred() {
    for width in [80, 100] {
        let mut all = Cli::command().term_width(width);
        all.build();
        fits(&mut all, width);
    }
}

/// Fails where a help has a line wider than `width`, a line of an example that does not stay in one, or a paragraph that
/// is broken by hand: such is broken again where the terminal is narrower.
fn fits(command: &mut Command, width: usize) {
    let name = command.get_bin_name().unwrap_or_default().to_owned();
    let helps = [command.render_help().to_string(), command.render_long_help().to_string()];
    for help in &helps {
        let wide = help.lines().find(|line| line.chars().count() > width);
        assert_eq!(wide, None, "a line of `{name} --help` is wider than {width} columns");
    }
    for block in blocks(command) {
        for line in block.lines().filter(|line| line.starts_with("  ")) {
            assert!(helps.iter().all(|help| help.lines().any(|shown| shown == line)), "`{name}`: {line} is too long");
        }
        assert!(is_example(&block) || block.lines().count() <= 1, "`{name}` breaks lines by hand: {block}");
    }
    command.get_subcommands_mut().filter(|command| command.get_name() != "help").for_each(|one| fits(one, width));
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
    for block in blocks(command) {
        let _ = match is_example(&block) {
            true => write!(text, "\n```text\n{block}\n```\n"),
            false => write!(text, "\n{}\n", wrapped(&block)),
        };
    }
    text
}

/// A paragraph in lines as long as those of the page.
fn wrapped(paragraph: &str) -> String {
    let mut text = String::new();
    let mut room = WIDTH;
    for word in paragraph.split(' ') {
        let length = word.chars().count() + 1;
        if length > room && !text.is_empty() {
            (text, room) = (text.trim_end().to_owned() + "\n", WIDTH);
        }
        text += &format!("{word} ");
        room = room.saturating_sub(length);
    }
    text.trim_end().to_owned()
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
