//! The inner side of an isolated run: this program, started once more, makes the namespaces, hands out the sockets, and
//! becomes the command.

use std::{
    convert::Infallible,
    ffi::OsString,
    fmt, fs,
    io::{self, Write, stdin},
    net::{SocketAddr, TcpListener},
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
    network::{NAME_SERVER, Network},
};

/// Where programs ask for names without the network's name servers; these sockets lead out of the namespace.
const NAME_SERVICES: &[&str] = &["/run/nscd/socket", "/var/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve"];
const RESOLVER_CONFIGURATION: &str = "/etc/resolv.conf";

/// Why there is no isolation.
#[derive(Debug)]
struct SetupError {
    what: &'static str,
    source: io::Error,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)?;
        match self.source.kind() {
            // ENOSPC is what a limit of namespaces gives.
            io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull => write!(f, "\n\nhint: {}", remedy()),
            _ => Ok(()),
        }
    }
}

fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> SetupError {
    move |source| SetupError { what, source: source.into() }
}

/// Makes the namespaces, tells over standard input, where the other side waits, and becomes `command` when it is told
/// to. It has to be called before there is a second thread.
///
/// # Errors
/// Where the command cannot be run. Of everything else the other side is told; there is nothing left to do then, and the
/// error is `None`.
pub fn go_inside(listen: SocketAddr, command: &[OsString]) -> Result<Infallible, Option<io::Error>> {
    let socket = stdin().as_fd().try_clone_to_owned().map_err(|_| None)?;
    let (listener, far) = match set_up(listen) {
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
    let descriptors: Vec<_> = [Some(listener.as_fd()), far.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect();
    handover::send(&socket, &Report::Ready { unseen }, &descriptors).map_err(|_| None)?;
    // The other side ends without orders where it could not start.
    let (orders, descriptors) = handover::receive::<Orders>(&socket).map_err(|_| None)?;
    drop((socket, listener, far));
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

/// The listening socket in a new network, and the far end of that, or why there is none.
fn set_up(listen: SocketAddr) -> Result<(TcpListener, io::Result<OwnedFd>), SetupError> {
    new_namespaces()?;
    hide_name_services().map_err(failed("cannot replace the name servers for an isolated command"))?;
    let network = Network::open().map_err(failed("cannot set up the network of an isolated command"))?;
    network.start_loopback().map_err(failed("cannot start loopback for an isolated command"))?;
    let far = network.catch_the_rest();
    let listener = TcpListener::bind(listen).map_err(failed("cannot listen inside for an isolated command"))?;
    Ok((listener, far))
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
    // What is mounted here is not seen elsewhere.
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    for socket in NAME_SERVICES.iter().filter(|socket| Path::new(socket).exists()) {
        mount_bind("/dev/null", *socket)?;
    }
    if Path::new(RESOLVER_CONFIGURATION).exists() {
        let mut file = tempfile::NamedTempFile::new()?;
        writeln!(file, "nameserver {NAME_SERVER}")?;
        fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        // The mount keeps the file when its name has gone.
        mount_bind(file.path(), RESOLVER_CONFIGURATION)?;
    }
    Ok(())
}

/// What to change where namespaces are not allowed.
fn remedy() -> String {
    let setting = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
    for (name, forbids, allows) in [
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "10000"),
        ("user/max_net_namespaces", "0", "10000"),
    ] {
        if setting(name).trim() == forbids {
            let name = name.replace('/', ".");
            return format!(
                "this system forbids it ({name} is {forbids}); as root: sysctl -w {name}={allows}; or run without --isolate"
            );
        }
    }
    "in a container, allow user namespaces (for Docker: --security-opt seccomp=unconfined, or --cap-add SYS_ADMIN as root); \
     in a sandbox, run without --isolate"
        .to_owned()
}
