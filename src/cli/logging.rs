//! What is logged, in which form, and the access log.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, filter::ParseError};

use super::{Common, FAILED, USAGE, is_same_file, output};
use crate::{
    access_log::{AccessLog, Destination, LogFile},
    text::printable,
};

/// What to log, in the words of `RUST_LOG`.
const LOG_VARIABLE: &str = "BUILDPROXY_LOG";
/// The same, where the other is not set. It is the build's as well.
const COMMON_LOG_VARIABLE: &str = "RUST_LOG";
/// In which form.
pub const FORMAT_VARIABLE: &str = "BUILDPROXY_LOG_FORMAT";

/// How what is for people, or for programs that collect logs, is written to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// A JSON object a line
    Json,
}

/// Starts the log. Without a variable `-v` and `-q` say how much is logged.
pub fn start(common: &Common, is_quiet: bool) {
    output::set_format(common.log_format);
    let level = match (is_quiet, common.verbose) {
        (true, 0) => "error",
        (false, 0) => "warn",
        (_, 1) => "buildproxy=debug,warn",
        _ => "debug",
    };
    let is_said = common.quiet || common.verbose > 0;
    let filter = wanted(LOG_VARIABLE, "").or_else(|| if is_said { None } else { wanted(COMMON_LOG_VARIABLE, level) });
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(level)))
        .with_writer(|| output::Log);
    match common.log_format {
        LogFormat::Text => log.with_ansi(output::stderr_has_colour()).without_time().with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).init(),
    }
}

/// What the variable `name` says, on top of `base`. What it cannot mean is passed over, and said.
fn wanted(name: &str, base: &str) -> Option<EnvFilter> {
    let wanted = std::env::var_os(name).filter(|wanted| !wanted.is_empty())?;
    let filter = filter(base, &wanted.to_string_lossy());
    filter.inspect_err(|error| output::warning(printable(&format!("{name} is passed over: {error}")))).ok()
}

/// A filter of `wanted` that has `base` for all that `wanted` does not name. A build's variable names the build's programs,
/// and is no reason to say nothing of a miss.
fn filter(base: &str, wanted: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(wanted)?;
    EnvFilter::try_new([base, wanted].join(","))
}

/// The argument of the commands that have an access log.
#[derive(Args)]
pub struct AccessLogOption {
    /// Append a line for each request to this file, in the combined format of Apache and nginx; `-` is stderr
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
}

impl AccessLogOption {
    /// Opens the access log, where one is wanted. `has_stdout` says whether stdout is ours for as long as we run.
    ///
    /// # Errors
    /// The exit code, where it cannot be; what is wrong is said.
    pub fn start(&self, common: &Common, has_stdout: bool) -> Result<Option<AccessLog>, u8> {
        let Some(path) = &self.access_log else { return Ok(None) };
        let destination = if path == Path::new("-") {
            Destination::Printer(Box::new(output::access))
        } else {
            if is_same_file(path, &common.inventory) {
                output::error(&format!("{} is the inventory itself, which an access log would spoil", path.display()));
                output::hint("name another file");
                return Err(USAGE);
            }
            let file = LogFile::open(path).map_err(|error| {
                output::error(&format!("cannot write the access log {}: {error}", path.display()));
                output::hint("name a file in a folder that exists, a pipe, or `-` for stderr");
                USAGE
            })?;
            let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
            if !has_stdout && stdout.is_ok_and(|stdout| file.is_same(&stdout)) {
                output::error(&"a server in the background has no stdout for an access log");
                output::hint("name a file");
                return Err(USAGE);
            }
            Destination::File(file)
        };
        let log = AccessLog::start(destination, path.display().to_string()).map_err(|error| {
            output::error(&format!("cannot start the access log: {error}"));
            FAILED
        })?;
        Ok(Some(log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_wants_logged_of_itself_leaves_our_warnings_as_they_are() {
        let shown = |base, wanted| filter(base, wanted).map(|filter| filter.to_string()).unwrap_or_default();
        assert_eq!(shown("warn", "cargo=trace"), "cargo=trace,warn");
        assert_eq!(shown("warn", "debug"), "debug");
        assert_eq!(shown("warn", "off"), "off");
        assert_eq!(shown("", "hyper=debug"), "hyper=debug");
        assert!(filter("warn", "a=b=c").is_err());
    }
}
