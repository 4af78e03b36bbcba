//! Completions, by the shells that take them, and the manual pages, by what shows them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Outcome, Workdir, run};

/// What `shell` says to `script`, with the completions for it in the file `completions`, and `buildproxy` on the PATH.
fn in_shell(shell: &[&str], name: &str, script: &str) -> Outcome {
    let work = Workdir::new();
    let completions = run(work.buildproxy("completions").arg(name)).expect_code(0);
    work.write("completions", completions.stdout);
    run(work.command(shell[0]).args(&shell[1..]).arg(script)).expect_code(0)
}

fn lines(outcome: &Outcome) -> Vec<String> {
    String::from_utf8(outcome.stdout.clone()).unwrap().lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    let complete = |words: &str| {
        let script = format!(
            "source ./completions; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _buildproxy buildproxy \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        lines(&in_shell(&["bash", "-euc"], "bash", &script))
    };
    assert_eq!(complete("buildproxy rep"), ["replay", "report"]);
    assert_eq!(complete("buildproxy capture --allow-p"), ["--allow-private"]);
    assert!(complete("buildproxy export --to ''").contains(&"fetchurl".to_owned()));
}

#[test]
fn fish_completes_commands_with_what_they_do() {
    let completed = in_shell(&["fish", "-c"], "fish", "source ./completions; complete -C 'buildproxy rep'");
    let completed = lines(&completed);
    assert!(completed.iter().any(|line| line.starts_with("replay\tRun a command")), "{completed:?}");
    assert!(completed.iter().any(|line| line.starts_with("report\tMake a page")), "{completed:?}");
}

#[test]
fn zsh_takes_the_completions_as_they_are() {
    let script = "autoload -Uz compinit; compinit -u -d dump; source ./completions; print ${_comps[buildproxy]}";
    let taken = in_shell(&["zsh", "-fc"], "zsh", script);
    assert_eq!(lines(&taken), ["_buildproxy"]);
}

#[test]
fn there_is_a_manual_page_for_each_command_and_man_takes_it_as_it_is() {
    let work = Workdir::new();
    run(work.buildproxy("man").arg("absent"))
        .expect_code(3)
        .expect_stderr(&["cannot write the manual pages into absent"]);
    std::fs::create_dir(work.path("man")).unwrap();
    run(work.buildproxy("man").arg("man")).expect_code(0);
    let help = run(work.command(env!("CARGO_BIN_EXE_buildproxy")).arg("help")).expect_code(0);
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for command in commands.filter(|command| !command.is_empty() && *command != "help") {
        let page = run(work
            .command("man")
            .args(["--warnings=w", "-l", &format!("man/buildproxy-{command}.1")])
            .env("MANPAGER", "cat"))
        .expect_code(0);
        let text = String::from_utf8(page.stdout).unwrap();
        assert!(text.contains("OPTIONS") && text.contains("--inventory"), "{command}: {text}");
        assert!(page.stderr.is_empty(), "{command}: {}", page.stderr);
    }
}
