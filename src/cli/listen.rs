//! Where a proxy listens.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;

use super::{USAGE, output};

/// The arguments of the commands that listen.
#[derive(Args)]
pub struct Listen {
    /// Where to listen: ADDRESS:PORT, or a port on loopback [default: a free port on 127.0.0.1]
    #[arg(long, value_name = "ADDR", value_parser = parse)]
    listen: Option<SocketAddr>,
    /// Allow --listen on an address that other machines can reach: they can then use this proxy
    #[arg(long)]
    allow_remote: bool,
    /// Send requests to loopback through the proxy, too
    #[arg(long, env = "BUILDPROXY_PROXY_LOOPBACK", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub proxy_loopback: bool,
}

impl Listen {
    /// The address to listen on.
    ///
    /// # Errors
    /// The exit code, where other machines could reach it and `--allow-remote` is not given.
    pub fn address(&self) -> Result<SocketAddr, u8> {
        let address = self.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        if address.ip().is_loopback() || self.allow_remote {
            return Ok(address);
        }
        output::error(&format!("other machines can reach {address}, and could use this proxy"));
        output::hint(
            "listen on 127.0.0.1, or add --allow-remote if that is what you want: through a capture whoever reaches it \
             reaches what you reach, and is recorded; a replay gives everybody what the inventory has",
        );
        Err(USAGE)
    }
}

fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.replace("localhost", "127.0.0.1")
        .parse()
        .map_err(|_| "expected ADDRESS:PORT, for example 127.0.0.1:8080".to_owned())
}
