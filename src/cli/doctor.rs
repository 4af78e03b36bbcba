//! `buildproxy doctor`.

use super::{Common, DONE, FOUND, block_on, output};
use crate::{
    doctor::{self, Finding, State},
    text::printable_lines,
};

/// Check what this machine has: Nix, stores, a port, and whether each client goes through the proxy
#[derive(clap::Args)]
#[command(after_help = "Example:
  buildproxy doctor

Each client that is found on PATH (curl, wget, git, Python, pip, uv, Node, npm, cargo, Go, aria2, Java, Nix) fetches a \
page from a proxy that runs for that alone; nothing leaves this machine. Exit code 1 where no capture or replay would \
work; a client that does not come is a warning.")]
pub struct Doctor {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub fn run(self, common: &Common) -> u8 {
        let stores = common.stores();
        let findings = match block_on(async { Ok(doctor::check(&common.inventory, &stores).await) }) {
            Ok(findings) => findings,
            Err(code) => return code,
        };
        if self.json {
            output::json(&findings);
        } else {
            output::data(&findings.iter().map(line).collect::<String>());
        }
        if findings.iter().any(|finding| finding.state == State::Bad) { FOUND } else { DONE }
    }
}

fn line(finding: &Finding) -> String {
    let (mark, colour) = match finding.state {
        State::Good => ("ok   ", "32"),
        State::Warning => ("warn ", "33"),
        State::Bad => ("BAD  ", "31"),
    };
    let hint = finding.hint.as_ref().map(|hint| format!("     hint: {hint}\n")).unwrap_or_default();
    let text = printable_lines(&finding.text).replace('\n', "\n     ");
    format!("{}{text}\n{hint}", output::in_data(mark, colour))
}
