//! The proxy: everything between a client's socket and a service that answers HTTP requests.
//!
//! A request's way: `server` accepts, `connection` detects and decrypts, inside a tunnel once more, `exchange`
//! checks the request and gives it to the service. The service sees every request in one form, whichever way it
//! came: with an absolute URI and without hop-by-hop fields. Nothing here opens a connection to anywhere, and
//! nothing here knows what an inventory is.

mod account;
mod apt;
mod authority;
mod batched;
mod ca;
mod connect;
mod connection;
pub mod control;
mod descriptors;
mod detect;
pub mod environment;
mod exchange;
mod export;
pub mod hop_by_hop;
mod java;
mod lifetime;
mod prefixed;
mod proxy_url;
mod running;
#[cfg(target_os = "linux")]
mod sendfile;
mod server;
mod socket;
mod target;
mod tls;
mod trust;
mod upload;

#[cfg(test)]
mod tests;

pub use account::{AnswerCallback, Answered};
pub use ca::{CaError, CertificateAuthority};
pub use descriptors::raise_limit as raise_descriptor_limit;
pub use environment::ClientEnvironment;
pub use exchange::plain_text;
pub use export::Format;
pub use proxy_url::ProxyUrl;
pub use running::{HandshakeFailures, ListenOn, Running, StartError, StartOptions};
pub use server::Listener;
pub use tls::HandshakeFailure;
pub use upload::{Upload, UploadError};
