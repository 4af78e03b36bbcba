//! The inner side of an isolated run: this program, started once more, makes the namespaces, hands out the sockets, and
//! becomes the command.

use std::{
    convert::Infallible,
    ffi::OsString,
    fs,
    io::{self, Write, stdin},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::sched::{CloneFlags, unshare};
use rustix::{
    mount::{MountPropagationFlags, mount_bind, mount_change},
    process::{getegid, geteuid},
};

use super::{
    handover::{self, Orders, Report},
    names::NAME_SERVICE_PORT,
    network::{NAME_SERVER, Network},
    setup_error::{SetupError, failed},
};
use crate::process::Connections;

/// Where programs ask for names without the network's name servers; these sockets lead out of the namespace.
const NAME_SERVICES: &[&str] = &["/run/nscd/socket", "/var/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve"];
const RESOLVER_CONFIGURATION: &str = "/etc/resolv.conf";

/// What the inside hands out.
struct Made {
    /// The socket on which the proxy listens.
    listener: TcpListener,
    /// The network (network_namespaces(7)).
    network: fs::File,
    /// What the kernel tells of its connections.
    connections: Option<OwnedFd>,
    /// The far end of the network, or why there is none.
    far: Result<OwnedFd, SetupError>,
    /// Where names are asked for, if not at the far end.
    name_server: Option<UdpSocket>,
}

/// Makes the namespaces, tells over standard input, where the other side waits, and becomes `command` when it is told
/// to. It has to be called before there is a second thread.
///
/// # Errors
/// Where the command cannot be run. Of everything else the other side is told; there is nothing left to do then, and the
/// error is `None`.
pub fn go_inside(listen: SocketAddr, command: &[OsString]) -> Result<Infallible, Option<io::Error>> {
    let socket = stdin().as_fd().try_clone_to_owned().map_err(|_| None)?;
    let Made { listener, network, connections, far, name_server } = match set_up(listen) {
        Ok(made) => made,
        Err(error) => {
            // Whoever would hear it has gone.
            let _ = handover::send(&socket, &Report::Failed(error.to_string()), &[]);
            return Err(None);
        }
    };
    let (unseen, far) = match far {
        Ok(far) => (None, Some(far)),
        Err(error) => (Some(error.to_string()), None),
    };
    let name_server = name_server.filter(|_| far.is_some());
    let (far_end, name_service) = (far.as_ref().map(AsFd::as_fd), name_server.as_ref().map(AsFd::as_fd));
    let told = connections.as_ref().map(AsFd::as_fd);
    let descriptors = [Some(listener.as_fd()), Some(network.as_fd()), told, far_end, name_service];
    let descriptors: Vec<_> = descriptors.into_iter().flatten().collect();
    handover::send(&socket, &Report::Ready { tells: told.is_some(), unseen }, &descriptors).map_err(|_| None)?;
    // The other side ends without orders where it could not start.
    let (orders, descriptors) = handover::receive::<Orders>(&socket).map_err(|_| None)?;
    drop((socket, listener, network, connections, far, name_server));
    Err(Some(become_command(command, orders, descriptors)))
}

fn become_command(command: &[OsString], orders: Orders, descriptors: Vec<OwnedFd>) -> io::Error {
    let Some((program, arguments)) = command.split_first() else { return io::ErrorKind::InvalidInput.into() };
    let Some(own_stdin) = descriptors.into_iter().next() else { return io::ErrorKind::UnexpectedEof.into() };
    if let Err(error) = rustix::stdio::dup2_stdin(&own_stdin) {
        return error.into();
    }
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, value) in orders.environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.exec()
}

/// Makes the place for the command.
fn set_up(listen: SocketAddr) -> Result<Made, SetupError> {
    new_namespaces()?;
    // What is mounted here is not to be seen elsewhere.
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(failed("cannot keep mounts to an isolated command (in a chroot, its root has to be a mount point)"))?;
    hide_name_services().map_err(failed("cannot replace the name servers for an isolated command"))?;
    let links = Network::open().map_err(failed("cannot set up the network of an isolated command"))?;
    links.start_loopback().map_err(failed("cannot start loopback for an isolated command"))?;
    let far = links.catch_the_rest();
    let listener = TcpListener::bind(listen).map_err(failed("cannot listen inside for an isolated command"))?;
    let network =
        fs::File::open("/proc/self/ns/net").map_err(failed("cannot name the network of an isolated command"))?;
    let connections = Connections::open().ok().map(OwnedFd::from);
    Ok(Made { listener, network, connections, far, name_server: name_server_on_loopback() })
}

/// A network and a list of mounts of our own. Root can have them as it is, and stays what it is for the package managers
/// that change owners and users; anybody else needs to be root of a user namespace for it.
fn new_namespaces() -> Result<(), SetupError> {
    let wanted = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    if unshare(wanted).is_ok() {
        return Ok(());
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(wanted | CloneFlags::CLONE_NEWUSER).map_err(failed("cannot make namespaces for an isolated command"))?;
    // The user and the group stay what they are; others cannot be mapped without privilege (user_namespaces(7)).
    let map = |file: &str, text: &str| fs::File::options().write(true).open(file)?.write_all(text.as_bytes());
    map("/proc/self/setgroups", "deny")
        .and_then(|()| map("/proc/self/uid_map", &format!("{user} {user} 1")))
        .and_then(|()| map("/proc/self/gid_map", &format!("{group} {group} 1")))
        .map_err(failed("cannot stay the same user in the namespace of an isolated command"))
}

/// Has names looked up where they are seen, and nowhere else.
fn hide_name_services() -> io::Result<()> {
    for socket in NAME_SERVICES.iter().filter(|socket| Path::new(socket).exists()) {
        mount_bind("/dev/null", *socket)?;
    }
    let ours = format!("nameserver {NAME_SERVER}\n");
    // It is ours already in an isolated command that isolates: nothing can be mounted on a file whose name has gone.
    let is_ours = || fs::read(RESOLVER_CONFIGURATION).is_ok_and(|text| text == ours.as_bytes());
    if Path::new(RESOLVER_CONFIGURATION).exists() && !is_ours() {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(ours.as_bytes())?;
        fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        // The mount keeps the file when its name has gone.
        mount_bind(file.path(), RESOLVER_CONFIGURATION)?;
    }
    Ok(())
}

/// Where no file says which name server to ask, as in Nix's sandbox, programs ask this one (resolv.conf(5)).
fn name_server_on_loopback() -> Option<UdpSocket> {
    if Path::new(RESOLVER_CONFIGURATION).exists() {
        return None;
    }
    let bound = UdpSocket::bind((Ipv4Addr::LOCALHOST, NAME_SERVICE_PORT));
    let socket = bound.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    socket.inspect_err(|error| tracing::warn!("names cannot be looked up by an isolated command: {error}")).ok()
}
