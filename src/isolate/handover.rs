//! What the two sides of an isolated run say to each other: messages of JSON, with descriptors, over a socket that
//! keeps messages apart.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest message; sockets take twice this unless the system was told otherwise.
const LONGEST: usize = 100 << 10;
/// The most descriptors that a message has.
const DESCRIPTORS: usize = 5;

/// What the inside says when it is ready, or that it never will be. With the first come the listening socket
/// and the network; the socket on which the kernel tells of its connections, if it does; where attempts to bypass the
/// proxy can be seen, the socket on which they are; and then, where a name server on loopback is asked, its socket.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// Whether the kernel tells of connections, and why attempts to bypass the proxy cannot be seen, if they cannot.
    Ready { tells: bool, unseen: Option<String> },
    /// What failed.
    Failed(String),
}

/// What the inside is told: become the command. With it comes the command's standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    /// The variables that differ; `None` is to be unset.
    pub environment: Vec<(String, Option<String>)>,
}

/// Both ends of a new socket.
///
/// # Errors
/// Where the system gives none.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends `message` with `descriptors`.
///
/// # Errors
/// Where the other side has gone, or the message is too long.
pub fn send(socket: impl AsFd, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > LONGEST || descriptors.len() > DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the environment is too large"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        // There is space for so many, as was checked.
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a message.
///
/// # Errors
/// `UnexpectedEof` where the other side has gone.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((serde_json::from_slice(&text[..received.bytes])?, descriptors))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
    };

    use super::*;

    #[test]
    fn a_message_comes_with_its_descriptors_and_an_end_is_said() {
        let (here, there) = pair().unwrap();
        let (read, mut write) = io::pipe().unwrap();
        let orders = Orders { environment: vec![("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)] };
        send(&here, &orders, &[read.as_fd()]).unwrap();
        drop(read);
        let (told, mut descriptors): (Orders, _) = receive(&there).unwrap();
        assert_eq!(told.environment, orders.environment);
        write.write_all(b"through the pipe").unwrap();
        drop(write);
        let mut text = String::new();
        File::from(descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the pipe");
        drop(here);
        assert_eq!(receive::<Orders>(&there).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_sent() {
        let (here, _there) = pair().unwrap();
        let environment = vec![("A".to_owned(), Some("x".repeat(LONGEST)))];
        assert!(send(&here, &Orders { environment }, &[]).unwrap_err().to_string().contains("too large"));
    }
}
