//! Where there are no namespaces, nothing can be isolated.

use std::{convert::Infallible, ffi::OsString, io, net::SocketAddr, path::Path};

use super::Running;
use crate::proxy::{ClientEnvironment, ListenOn};

/// Why a command cannot be isolated.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The system has no namespaces.
    #[error("--isolate needs the namespaces of Linux\n\nhint: run without it")]
    NoNamespaces,
}

/// A command that waits in its own network: there is none.
pub enum Isolated {}

impl Isolated {
    /// Nothing.
    ///
    /// # Errors
    /// Always.
    pub fn start(_command: &[OsString], _listen: SocketAddr, _keep: &[String]) -> Result<Self, IsolationError> {
        Err(IsolationError::NoNamespaces)
    }

    /// Where the proxy listens.
    pub fn listen_on(&self) -> ListenOn {
        match *self {}
    }

    /// Why what goes past the proxy cannot be seen.
    pub fn unseen(&self) -> Option<&str> {
        match *self {}
    }

    /// Lets the command run.
    ///
    /// # Errors
    /// There is no command.
    pub fn run(self, _environment: &ClientEnvironment) -> io::Result<Running> {
        match self {}
    }
}

/// Nothing.
///
/// # Errors
/// Always.
pub fn keep(_folder: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing.
///
/// # Errors
/// Always.
pub fn go_inside(_listen: SocketAddr, _command: &[OsString]) -> Result<Infallible, Option<io::Error>> {
    Err(None)
}
