//! `buildproxy env`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{DONE, FAILED, USAGE, output};
use crate::proxy::{ClientEnvironment, Format, ProxyUrl, environment};

/// Print the environment that sends clients through a proxy, for a shell, an image or a CI service
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eval \"$(buildproxy env --proxy http://127.0.0.1:8080 --ca ca.pem --dir files)\"
  buildproxy env --format github-actions >>\"$GITHUB_ENV\"
  buildproxy env --format dockerfile --proxy http://172.17.0.1:8080 --ca /ca.pem

In a shell behind a proxy, the proxy and the files are known. wget, Java and apt need files of their own, which \
`--dir` writes; without them, their variables are left out.")]
pub struct Env {
    /// The proxy: http://HOST:PORT
    #[arg(long, value_name = "URL", env = super::unless_empty("BUILDPROXY_PROXY_URL"), hide_env_values = true)]
    proxy: Option<ProxyUrl>,
    /// The file with the CA's certificate, where the clients will find it
    #[arg(long, value_name = "FILE", env = super::unless_empty("BUILDPROXY_CA_FILE"), hide_env_values = true)]
    ca: Option<PathBuf>,
    /// Write the files for wget, Java and apt there; the CA's certificate has to be there already
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Sh)]
    format: Format,
    /// Send requests to loopback through the proxy, too
    #[arg(long, env = "BUILDPROXY_PROXY_LOOPBACK", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    proxy_loopback: bool,
}

impl Env {
    pub fn run(self) -> u8 {
        let (Some(proxy), Some(ca)) = (&self.proxy, &self.ca) else {
            output::error(&"no proxy is known here: BUILDPROXY_PROXY_URL and BUILDPROXY_CA_FILE are not set");
            output::hint("run this behind `buildproxy capture` or `buildproxy replay`, or give --proxy and --ca");
            return USAGE;
        };
        match self.text(proxy, ca) {
            Ok(text) => {
                output::data(&text);
                DONE
            }
            Err(problem) => {
                output::error(&problem);
                FAILED
            }
        }
    }

    fn text(&self, proxy: &ProxyUrl, ca: &Path) -> Result<String, String> {
        let previous = |name: &str| std::env::var_os(name);
        // Shells go elsewhere.
        let absolute = |path: &Path| std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()));
        let ca = absolute(ca)?;
        let beside = ca.parent().filter(|folder| environment::has_files(folder)).map(Path::to_owned);
        let files = match &self.dir {
            Some(dir) => {
                let dir = absolute(dir)?;
                let trusted = fs::read_to_string(&ca)
                    .map_err(|error| format!("cannot read the CA's certificate {}: {error}", ca.display()))?;
                fs::create_dir_all(&dir)
                    .and_then(|()| environment::write_files(&dir, &ca, &trusted, proxy, &previous))
                    .map_err(|error| format!("cannot write the clients' files below {}: {error}", dir.display()))?;
                Some(dir)
            }
            None => beside,
        };
        if files.is_none() {
            output::warning(
                "wget, Java and apt need files of their own, which --dir writes: WGETRC, JAVA_TOOL_OPTIONS and APT_CONFIG are left out",
            );
        }
        let is_capture = previous("BUILDPROXY_CAPTURE").is_some_and(|value| value == "1");
        let environment =
            ClientEnvironment::describe(proxy, &ca, files.as_deref(), self.proxy_loopback, is_capture, &previous)
                .map_err(|error| error.to_string())?;
        self.format.write(&environment).map_err(|error| error.to_string())
    }
}
