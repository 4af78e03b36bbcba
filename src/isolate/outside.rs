//! The outer side of an isolated run.

use std::{
    ffi::OsString,
    io::{self, stdin},
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    process::Stdio,
    sync::Arc,
};

use tokio::process::{Child, Command};

use super::{
    Running,
    handover::{self, Orders, Report},
    home::Home,
    watch::Watch,
};
use crate::proxy::{ClientEnvironment, ListenOn};

/// The hidden command of this program that goes inside.
const SUBCOMMAND: &str = "isolated";

/// Why a command cannot be isolated.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// Something outside.
    #[error("cannot isolate the command: {0}")]
    Start(#[from] io::Error),
    /// Something inside, in words.
    #[error("{0}")]
    Inside(String),
}

/// A command that waits in its own network for the proxy to be ready.
pub struct Isolated {
    child: Child,
    member: i32,
    socket: OwnedFd,
    listener: Arc<TcpListener>,
    far: Option<OwnedFd>,
    unseen: Option<String>,
    home: Home,
    keep: Vec<String>,
}

impl Isolated {
    /// Makes the place for `command`, where the proxy is to listen on `listen`. Variables in `keep` are not hidden from
    /// it.
    ///
    /// # Errors
    /// Where something is not allowed or not there; with what to do about it.
    pub fn start(command: &[OsString], listen: SocketAddr, keep: &[String]) -> Result<Self, IsolationError> {
        let home = Home::create()?;
        let (socket, theirs) = handover::pair()?;
        let mut inside = Command::new(std::env::current_exe()?);
        inside.arg(SUBCOMMAND).arg(listen.to_string()).arg("--").args(command);
        // The command's own standard input follows with its orders.
        let child = inside.stdin(Stdio::from(theirs)).spawn()?;
        // Our copy of the other end: an inside that dies has to be noticed.
        drop(inside);
        let (report, descriptors) = handover::receive(&socket)?;
        let mut descriptors = descriptors.into_iter();
        let unseen = match report {
            Report::Ready { unseen } => unseen,
            Report::Failed(problem) => return Err(IsolationError::Inside(problem)),
        };
        let listener = descriptors.next().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let listener = Arc::new(TcpListener::from(listener));
        let member = child.id().and_then(|id| i32::try_from(id).ok());
        let member = member.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(Self { child, member, socket, listener, far: descriptors.next(), unseen, home, keep: keep.to_vec() })
    }

    /// Where the proxy listens.
    pub fn listen_on(&self) -> ListenOn {
        ListenOn::Isolated { socket: Arc::clone(&self.listener), member: self.member }
    }

    /// Why what goes past the proxy cannot be seen, where it cannot.
    pub fn unseen(&self) -> Option<&str> {
        self.unseen.as_deref()
    }

    /// Lets the command run in `environment`.
    ///
    /// # Errors
    /// Where the inside has gone, or cannot be watched.
    pub fn run(self, environment: &ClientEnvironment) -> io::Result<Running> {
        let proxy: Vec<_> = environment
            .variables()
            .map(|(name, value)| (name.to_owned(), value.map(|value| value.to_string_lossy().into_owned())))
            .collect();
        let own: Vec<_> = std::env::vars_os().collect();
        let mut variables = proxy.clone();
        // Of two values for one name, the last counts.
        variables.extend(self.home.variables(&own, &proxy, &self.keep));
        let watch = self.far.map(|far| Watch::start(far, self.member)).transpose()?;
        handover::send(&self.socket, &Orders { environment: variables }, &[stdin().as_fd()])?;
        let home = self.home;
        let end = move || {
            let seen = watch.map(Watch::stop).unwrap_or_default();
            drop(home);
            seen
        };
        Ok(Running { child: self.child, end: Box::new(end) })
    }
}
