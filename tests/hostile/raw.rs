//! An origin that answers with bytes as they stand in a test.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// The running origin; its threads end with the test.
pub struct Raw {
    address: SocketAddr,
}

impl Raw {
    /// Answers the path `/N`, and all below it, with the Nth of `answers`, and closes.
    pub fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(answers);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let answers = Arc::clone(&answers);
                thread::spawn(move || answer(stream, &answers));
            }
        });
        Self { address }
    }

    /// The URL of the answer `number`.
    pub fn url(&self, number: usize) -> String {
        format!("http://{}/{number}", self.address)
    }
}

fn answer(stream: TcpStream, answers: &[Vec<u8>]) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let _read = reader.read_line(&mut line);
    let path = line.split(' ').nth(1).unwrap_or_default();
    let number = path.split('/').nth(1).and_then(|number| number.parse::<usize>().ok());
    let Some(answer) = number.and_then(|number| answers.get(number)) else { return };
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|length| length > 2) {}
    // A client that has seen enough closes before the end.
    let _written = reader.get_mut().write_all(answer);
    let _closed = reader.get_mut().shutdown(Shutdown::Write);
    let mut rest = String::new();
    while reader.read_line(&mut rest).is_ok_and(|length| length > 0) {
        rest.clear();
    }
}
