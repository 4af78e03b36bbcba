//! Running Nix's own commands, with the environment as it is: which store they work on is the user's to say.

use std::{
    fmt,
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    process::{Command, Stdio},
};

/// The most that is given to one command, in arguments and in bytes of them: far below what any system takes.
const MOST_ARGUMENTS: usize = 500;
const MOST_BYTES: usize = 96 << 10;

/// Lines of Nix's message that are shown.
const MOST_LINES: usize = 6;

/// Why Nix did not do what it was asked.
#[derive(Debug)]
pub struct NixError {
    /// What was run.
    program: &'static str,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    /// It cannot be started, or not be talked to.
    Start(io::Error),
    /// It failed, and said this.
    Failed(String),
    /// It did something else.
    Unexpected(String),
}

impl NixError {
    /// `program` succeeded, but `what` is not as it has to be.
    pub(super) fn unexpected(program: &'static str, what: impl Into<String>) -> Self {
        Self { program, problem: Problem::Unexpected(what.into()) }
    }

    pub(super) fn failed(program: &'static str, message: String) -> Self {
        Self { program, problem: Problem::Failed(message) }
    }

    pub(super) fn io(program: &'static str, error: io::Error) -> Self {
        Self { program, problem: Problem::Start(error) }
    }
}

impl fmt::Display for NixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Start(error) => write!(f, "cannot run `{}`: {error}", self.program),
            Problem::Failed(message) => write!(f, "`{}`: {message}", self.program),
            Problem::Unexpected(what) => write!(f, "`{}` succeeded, but {what}", self.program),
        }
    }
}

impl std::error::Error for NixError {}

/// Runs `command` and gives what it printed, also where it failed in the middle. It gets `input` on stdin.
pub(super) fn output(program: &'static str, command: &mut Command, input: &str) -> (String, Result<(), NixError>) {
    let failed = |error| NixError::io(program, error);
    let stdin = match input {
        "" => Ok(Stdio::null()),
        input => file_with(input).map(Stdio::from),
    };
    let ran = stdin.and_then(|stdin| command.stdin(stdin).output());
    match ran {
        Err(error) => (String::new(), Err(failed(error))),
        Ok(output) => {
            let message = || message(&String::from_utf8_lossy(&output.stderr), &output.status.to_string());
            let result = match output.status.success() {
                true => Ok(()),
                false => Err(NixError { program, problem: Problem::Failed(message()) }),
            };
            (String::from_utf8_lossy(&output.stdout).into_owned(), result)
        }
    }
}

/// The same, where what a failing command printed is of no use.
pub(super) fn run(program: &'static str, command: &mut Command, input: &str) -> Result<String, NixError> {
    let (printed, result) = output(program, command, input);
    result.map(|()| printed)
}

/// A file that goes when it is closed: unlike a pipe it needs nobody who writes while the other reads.
fn file_with(text: &str) -> io::Result<File> {
    let mut file = tempfile::tempfile().map_err(|error| {
        let folder = std::env::temp_dir();
        io::Error::new(error.kind(), format!("cannot make a temporary file in {}: {error}", folder.display()))
    })?;
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// What a command said from its first error on, without what it warned of before.
fn message(stderr: &str, status: &str) -> String {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let from_error: Vec<&str> = lines().skip_while(|line| !line.starts_with("error:")).take(MOST_LINES).collect();
    let lines = if from_error.is_empty() { lines().take(MOST_LINES).collect() } else { from_error };
    if lines.is_empty() { status.to_owned() } else { lines.join(" ").trim_start_matches("error: ").to_owned() }
}

/// Splits `arguments` so that no command gets too many; none are no command.
pub(super) fn batches<T>(arguments: &[T], length: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (end, argument) in arguments.iter().enumerate() {
        if end > start && (end - start == MOST_ARGUMENTS || bytes + length(argument) > MOST_BYTES) {
            batches.push(&arguments[start..end]);
            (start, bytes) = (end, 0);
        }
        bytes += length(argument) + 1;
    }
    batches.extend(Some(&arguments[start..]).filter(|rest| !rest.is_empty()));
    batches
}

/// Whether `program` is in `PATH`.
pub(super) fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |file: &Path| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok();
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_is_in_one_batch_and_no_batch_is_too_large() {
        let lengths: Vec<usize> = (0..2345).map(|n| if n % 100 == 0 { 60_000 } else { n % 300 }).collect();
        let batches = batches(&lengths, |length| *length);
        assert_eq!(batches.concat(), lengths);
        for batch in &batches {
            let bytes: usize = batch.iter().map(|length| length + 1).sum();
            assert!(!batch.is_empty() && batch.len() <= MOST_ARGUMENTS && bytes <= MOST_BYTES + 1, "{bytes}");
        }
        assert!(super::batches::<usize>(&[], |length| *length).is_empty());
        let oversized = [MOST_BYTES * 2, 1];
        assert_eq!(super::batches(&oversized, |length| *length).len(), 2);
    }

    #[test]
    fn what_is_shown_of_a_failure_starts_with_the_error() {
        let said =
            message("warning: old\nerror: opening lock file '/nix/x':\n   Permission denied\n", "exit status: 1");
        assert_eq!(said, "opening lock file '/nix/x': Permission denied");
        assert_eq!(message("oops\n", "exit status: 1"), "oops");
        assert_eq!(message("", "signal: 9"), "signal: 9");
    }

    #[test]
    fn a_command_gets_its_input_and_is_heard_also_when_it_fails() {
        let (printed, result) = output("sh", Command::new("sh").args(["-c", "cat; echo >&2 error: no; exit 3"]), "in");
        assert_eq!(printed, "in");
        assert_eq!(result.unwrap_err().to_string(), "`sh`: no");
        let error = run("no-such-program", &mut Command::new("/no-such-program"), "").unwrap_err();
        assert!(error.to_string().starts_with("cannot run `no-such-program`: "), "{error}");
    }
}
