//! HTTP/1.1 by the thousand: clients that are tasks.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection to `address` from one of several addresses of this machine, each of which has ports of its own.
pub async fn connect(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let own = Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(number % 8).unwrap());
    socket.bind(SocketAddr::from((own, 0)))?;
    socket.connect(address).await
}

/// TLS on `stream`, for `host`.
pub async fn encrypted(stream: TcpStream, config: &Arc<ClientConfig>, host: &str) -> io::Result<Box<dyn Stream>> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    Ok(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?))
}

/// Asks for a tunnel to `target`.
pub async fn tunnel(stream: &mut TcpStream, target: &str) -> io::Result<()> {
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await?);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Sends a request without a body, and reads the head of the answer and as much as it says that there is behind.
pub async fn ask(stream: &mut impl Stream, target: &str, host: &str, fields: &str) -> io::Result<(u16, Vec<u8>)> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    answer(stream).await
}

pub async fn answer(stream: &mut impl Stream) -> io::Result<(u16, Vec<u8>)> {
    let (mut got, mut buffer) = (Vec::new(), vec![0; 32 << 10]);
    let end = loop {
        if let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => got.extend_from_slice(&buffer[..read]),
        }
    };
    let head = String::from_utf8(got[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let length: usize = length.trim().parse().unwrap();
    let mut body = got.split_off(end);
    assert!(body.len() <= length, "nothing comes behind an answer");
    let read = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[read..]).await?;
    Ok((status, body))
}
