//! What is wrong with the arguments, as the other errors are said: what, and behind it what to do.

use std::env;

use clap::{
    Command, CommandFactory, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    Cli,
    logging::{FORMAT_VARIABLE, LogFormat},
    output,
};

/// Says what clap found; help and versions that were asked for go to stdout.
pub fn say(mut error: Error) {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A closed output is no reason to change the exit code.
        let _ = error.print();
        return;
    }
    // Clap lists commands that are not for people, too.
    if error.get(ContextKind::ValidSubcommand).is_some() {
        let command = Cli::command();
        let names = command.get_subcommands().filter(|command| !command.is_hide_set()).map(|name| name.get_name());
        error.insert(ContextKind::ValidSubcommand, ContextValue::Strings(names.map(str::to_owned).collect()));
    }
    let text = error.render().to_string();
    let (what, mut hints) = taken_apart(&text);
    let mut meant = meant();
    let name = meant.get_bin_name().unwrap_or("buildproxy").to_owned();
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
        && error.kind() == ErrorKind::UnknownArgument
        && meant.get_positionals().any(|argument| argument.is_last_set())
        && !word.starts_with('-')
    {
        hints.push(format!("put `--` before the command: `{name} -- {word}`"));
    }
    hints.push(format!("`{name} --help` explains all options"));
    if wants_json() {
        output::set_format(LogFormat::Json);
        output::error(&format!("{what}\n\nhint: {}", hints.join("; ")));
        return;
    }
    output::error(&what);
    output::say(format!("\n{}", meant.render_usage()));
    output::hint(&hints.join("; "));
}

/// Whether the arguments say that stderr is for programs. Clap, which would know, does not understand them.
fn wants_json() -> bool {
    let arguments: Vec<_> = env::args_os().collect();
    let named = arguments.windows(2).rfind(|pair| pair[0] == "--log-format").map(|pair| pair[1].clone());
    let named = named.or_else(|| {
        let spelled = arguments.iter().rev().find_map(|argument| argument.to_str()?.strip_prefix("--log-format="));
        spelled.map(Into::into).or_else(|| env::var_os(FORMAT_VARIABLE))
    });
    named.is_some_and(|format| format == "json")
}

/// What is wrong in `text`, which clap made, and its tips. Its usage lines have the arguments that were given, and those
/// of variables that are set, instead of those that there are.
fn taken_apart(text: &str) -> (String, Vec<String>) {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let end = ["\n\nUsage: ", "\n\nFor more information"].iter().filter_map(|mark| text.find(mark)).min();
    let (tips, what): (Vec<&str>, Vec<&str>) =
        text[..end.unwrap_or(text.len())].lines().partition(|line| line.starts_with("  tip: "));
    let tips = tips.into_iter().filter_map(|tip| tip.strip_prefix("  tip: ")).map(str::to_owned).collect();
    (what.join("\n").trim_end().to_owned(), tips)
}

/// The command that was meant.
fn meant() -> Command {
    let mut all = Cli::command();
    all.build();
    let mut given = env::args_os().skip(1).take_while(|word| word != "--");
    let meant = given.find_map(|word| all.find_subcommand(&word).filter(|found| !found.is_hide_set()));
    meant.unwrap_or(&all).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tips_are_hints_and_usage_lines_are_left_out() {
        let text = "error: unexpected argument '--refech' found\n\n  tip: a similar argument exists: '--refetch'\n\n\
                    Usage: buildproxy verify --refetch\n\nFor more information, try '--help'.\n";
        let tips = vec!["a similar argument exists: '--refetch'".to_owned()];
        assert_eq!(taken_apart(text), ("unexpected argument '--refech' found".to_owned(), tips));
        let text = "error: it is missing:\n  --to <FORMAT>\n\nFor more information, try '--help'.\n";
        assert_eq!(taken_apart(text), ("it is missing:\n  --to <FORMAT>".to_owned(), Vec::new()));
    }
}
