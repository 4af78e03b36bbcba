//! The outer side of an isolated run.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, stdin},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    process::Stdio,
    sync::Arc,
};

use tokio::process::{Child, Command};

use super::{
    Remains, Running,
    handover::{self, Orders, Report},
    home::Home,
    keeper::Keeper,
    leftovers,
    watch::{Openings, Watch},
};
use crate::{
    process::{Connections, Network, ProcessName},
    proxy::{ClientEnvironment, ListenOn},
};

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
    sockets: Network,
    socket: OwnedFd,
    listener: Arc<TcpListener>,
    openings: Option<Openings>,
    unseen: Option<String>,
    place: Place,
    keep: Vec<String>,
}

/// What is there for a command only as long as it runs.
struct Place {
    network: File,
    home: Home,
    keeper: Option<Keeper>,
}

impl Isolated {
    /// Makes the place for `command`, where the proxy is to listen on `listen`. Variables in `keep` are not hidden from
    /// it; `arguments` say how the inner side speaks.
    ///
    /// # Errors
    /// Where something is not allowed or not there; with what to do about it.
    pub fn start(
        command: &[OsString],
        listen: SocketAddr,
        keep: &[String],
        arguments: &[&str],
    ) -> Result<Self, IsolationError> {
        let home = Home::create()?;
        let (socket, theirs) = handover::pair()?;
        let mut inside = Command::new(std::env::current_exe()?);
        inside.args(arguments).arg(SUBCOMMAND).arg(listen.to_string()).arg("--").args(command);
        // The command's own standard input follows with its orders.
        let child = inside.stdin(Stdio::from(theirs)).spawn()?;
        // Our copy of the other end: an inside that dies has to be noticed.
        drop(inside);
        let (report, descriptors) = handover::receive(&socket)?;
        let mut descriptors = descriptors.into_iter();
        let (tells, unseen) = match report {
            Report::Ready { tells, unseen } => (tells, unseen),
            Report::Failed(problem) => return Err(IsolationError::Inside(problem)),
        };
        let missing = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let listener = Arc::new(TcpListener::from(descriptors.next().ok_or_else(missing)?));
        let network = File::from(descriptors.next().ok_or_else(missing)?);
        let connections = if tells { descriptors.next().map(Connections::from) } else { None };
        let keeper = Keeper::start(&network, home.folder())?;
        let place = Place { network, home, keeper: Some(keeper) };
        let openings = descriptors.next().map(|far| {
            let name_server = descriptors.next().map(UdpSocket::from);
            Openings { far, name_server }
        });
        let member = child.id().and_then(|id| i32::try_from(id).ok());
        let member = member.ok_or_else(missing)?;
        let sockets = Network::of(member, connections);
        Ok(Self { child, sockets, socket, listener, openings, unseen, place, keep: keep.to_vec() })
    }

    /// Where the proxy listens.
    pub fn listen_on(&self) -> ListenOn {
        let folder = self.place.home.folder().to_owned();
        ListenOn::Isolated { socket: Arc::clone(&self.listener), network: self.sockets.clone(), folder }
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
        let ours = |name: &&String| proxy.iter().any(|(known, _)| known == *name) && *name != "JAVA_TOOL_OPTIONS";
        for name in self.keep.iter().filter(ours) {
            tracing::warn!("{name} leads to the proxy, so that it cannot be kept as it is");
        }
        let mut variables = proxy.clone();
        // Of two values for one name, the last counts.
        variables.extend(self.place.home.variables(&own, &proxy, &self.keep));
        let watch = self.openings.map(|openings| Watch::start(openings, self.sockets)).transpose()?;
        handover::send(&self.socket, &Orders { environment: variables }, &[stdin().as_fd()])?;
        let place = self.place;
        let end = move || {
            let left_running = place.end();
            Remains { bypasses: watch.map(Watch::stop).unwrap_or_default(), left_running }
        };
        Ok(Running { child: self.child, end: Box::new(end) })
    }
}

impl Place {
    /// Ends everything that is in it, and it.
    fn end(mut self) -> Vec<ProcessName> {
        self.keeper.take().map(|keeper| leave(keeper, &self.network)).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keeper.take().map(|keeper| leave(keeper, &self.network));
    }
}

/// Ends what is in `network`. The keeper is needed until then.
fn leave(keeper: Keeper, network: &File) -> Vec<ProcessName> {
    let ended = leftovers::end(network);
    keeper.dismiss();
    ended
}
