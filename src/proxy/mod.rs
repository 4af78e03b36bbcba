//! The proxy: everything between a client's socket and a service that answers HTTP requests.
//!
//! A request's way: `server` accepts, `connection` detects and decrypts, inside a tunnel once more, `exchange`
//! checks the request and gives it to the service. The service sees every request in one form, whichever way it
//! came: with an absolute URI and without hop-by-hop fields. Nothing here opens a connection to anywhere, and
//! nothing here knows what an inventory is.

mod apt;
mod authority;
mod batched;
mod ca;
mod connect;
mod connection;
pub mod control;
mod detect;
pub mod environment;
mod exchange;
mod export;
pub mod hop_by_hop;
mod java;
mod lifetime;
mod prefixed;
mod running;
#[cfg(target_os = "linux")]
mod sendfile;
mod server;
mod socket;
mod target;
mod tls;

#[cfg(test)]
mod tests;

pub use ca::{CaError, CertificateAuthority};
pub use environment::{ClientEnvironment, ProxyUrl};
pub use exchange::plain_text;
pub use export::{ExportError, Format};
pub use running::{HandshakeFailures, ListenOn, Running, StartError, StartOptions};
pub use server::Listener;
pub use tls::HandshakeFailure;
