//! `buildproxy export`.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use clap::ValueEnum;

use super::{Common, DONE, FAILED, FOUND, output};
use crate::{
    export::{har, nix},
    inventory::{self, current_system},
    text::printable,
};

/// Write an inventory for other programs: as HAR, or as a Nix expression
#[derive(clap::Args)]
#[command(after_help = "Examples:
  buildproxy export --to har -o build.har
  buildproxy export --to fetchurl > sources.nix

What the format cannot say is listed on stderr. Bodies are in the HAR file, as text or base64; exit code 1 where one \
is missing.")]
pub struct Export {
    /// The format
    #[arg(long, value_name = "FORMAT")]
    to: Format,
    /// Where it goes [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave the bodies out of a HAR file
    #[arg(long)]
    no_bodies: bool,
    /// The Nix system whose answers are written, if not this one
    #[arg(long, value_name = "SYSTEM")]
    system: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// HAR 1.2, which browsers and mitmproxy read
    Har,
    /// `{ fetchurl }: { "URL" = fetchurl { … }; }`
    Fetchurl,
}

impl Export {
    pub fn run(self, common: &Common) -> u8 {
        self.try_run(common).unwrap_or_else(|code| code)
    }

    fn try_run(self, common: &Common) -> Result<u8, u8> {
        if let Some(output) = &self.output {
            common.spare_the_inventory(output)?;
        }
        let inventory = common.read_inventory()?;
        let system = self.system.clone().unwrap_or_else(current_system);
        let remarks = match self.to {
            Format::Fetchurl => {
                let (text, remarks) = nix::to_fetchurl(&inventory, &system);
                self.write(|output| {
                    output.write_all(text.as_bytes()).map_err(har::ExportError::Write).map(|()| remarks)
                })
            }
            Format::Har => {
                let files = common.body_files();
                let files = (!self.no_bodies).then_some(&files);
                self.write(|output| har::write(output, &inventory, &system, files))
            }
        }?;
        if !common.quiet {
            for remark in remarks {
                output::warning(printable(&format!("not exported: {remark}")));
            }
        }
        Ok(DONE)
    }

    /// Writes to the file, which is there only once it is whole, or to stdout.
    fn write(
        &self,
        work: impl FnOnce(&mut dyn Write) -> Result<Vec<String>, har::ExportError>,
    ) -> Result<Vec<String>, u8> {
        let failed = |error: har::ExportError| {
            output::error(&error);
            if matches!(error, har::ExportError::Bodies(_)) { FOUND } else { FAILED }
        };
        let whole = |output: &mut dyn Write| {
            let mut output = BufWriter::new(output);
            let remarks = work(&mut output)?;
            output.flush()?;
            Ok(remarks)
        };
        match &self.output {
            None => match whole(&mut io::stdout().lock()) {
                // A reader that has enough closes the pipe; that is no error of ours.
                Err(har::ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Vec::new()),
                result => result.map_err(failed),
            },
            Some(path) => inventory::write_output(path, |mut file| whole(&mut file)).map_err(|error| match error {
                har::ExportError::Write(error) => {
                    output::error(&format!("cannot write {}: {error}", path.display()));
                    FAILED
                }
                other => failed(other),
            }),
        }
    }
}
