//! Streams of messages against a server of its own, over a socket.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use scry_server::server::{Bound, Limits, Server, Stop};

use super::sessions::{Place, tags};
use super::values;
use crate::target::{Outcome, Target};

const SCHEMA: &str =
    "CREATE TABLE t (k int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one'), (2, 'two')";

/// Longer than any answer takes; who waits as long has found something that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

const NAMES: [&str; 3] = ["", "s", "p"];

const STATEMENTS: [&str; 16] = [
    "SELECT 1",
    "SELECT v FROM t WHERE k = $1",
    "SELECT count(*) FROM t",
    "SELECT * FROM t",
    "INSERT INTO t VALUES ($1, $2)",
    "INSERT INTO t VALUES (3, 'three') ON CONFLICT DO NOTHING",
    "UPDATE t SET v = $1 WHERE k = 2",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "COPY t FROM STDIN",
    "COPY t TO STDOUT",
    "SELEC",
    "",
    "SELECT 1; SELECT v FROM t; SELECT 1/0; SELECT 2",
    "SELECT g FROM generate_series(1, 3000) AS g",
];

pub struct Stream {
    place: Place,
    address: SocketAddr,
    stop: Stop,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Stream {
    pub fn new() -> Self {
        let place = Place::new(SCHEMA);
        let limits = Limits {
            message_bytes_max: 1 << 20,
            ..Limits::default()
        };
        let stop = Stop::default();
        let (address, running) = place.runtime.block_on(async {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let bound = Bound::new(any).expect("binds");
            let server = Server::listen(bound, place.database.clone(), limits).expect("listens");
            let address = server.address().expect("an address");
            (address, tokio::spawn(server.run(stop.clone())))
        });
        Self {
            place,
            address,
            stop,
            running: Some(running),
        }
    }

    /// Sends everything, says that no more comes, and reads to the end.
    fn talk(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let body = b"\0\x03\0\0user\0fuzz\0database\0scry\0\0";
        let mut startup = (body.len() as u32 + 4).to_be_bytes().to_vec();
        startup.extend_from_slice(body);
        stream.write_all(&startup).expect("sent");
        // The server may have ended the connection already.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            // It ended while we were still sending.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => answer.clear(),
            Err(error) => panic!("no end of the answer: {error}"),
        }
        answer
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.orderly();
        if let Some(running) = self.running.take() {
            let ended = self.place.runtime.block_on(running);
            assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
        }
    }
}

impl Target for Stream {
    fn seeds(&self) -> Vec<Vec<u8>> {
        values::seeds()
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        let mut stream = Vec::new();
        let mut u = Unstructured::new(input);
        // Messages for as long as the input has bytes; an end in the middle is one more case.
        while !u.is_empty() && message(&mut u, &mut stream).is_ok() {}
        let answer = self.talk(&stream);
        let seen = tags(&answer);
        for code in codes(&answer) {
            assert!(!code.starts_with("XX"), "{code} in {seen}");
        }
        let alive = self.talk(b"Q\0\0\0\x0dSELECT 1\0X\0\0\0\x04");
        assert!(tags(&alive).ends_with("ZTDCZ"), "{}", tags(&alive));
        // How often a kind of answer came says nothing new.
        let mut short: Vec<char> = seen.chars().collect();
        short.dedup();
        Outcome::of((short, codes(&answer)))
    }
}

/// The SQLSTATE of every ErrorResponse.
fn codes(mut bytes: &[u8]) -> Vec<String> {
    let mut codes = Vec::new();
    while let [tag, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        let (body, behind) = rest.split_at(length);
        bytes = behind;
        if *tag == b'E' {
            let code = body
                .split(|&byte| byte == 0)
                .find(|field| field.first() == Some(&b'C'));
            codes.extend(code.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()));
        }
    }
    codes
}

/// One message of a client that means well, or nearly so.
fn message(u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let name = *u.choose(&NAMES)?;
    let statement = *u.choose(&STATEMENTS)?;
    let mut body = Vec::new();
    let tag = match u.int_in_range(0..=15u8)? {
        0 | 1 => {
            string(&mut body, statement);
            b'Q'
        }
        2 | 3 => {
            string(&mut body, name);
            string(&mut body, statement);
            body.extend_from_slice(&[0, 0]);
            b'P'
        }
        4 | 5 => {
            string(&mut body, name);
            string(&mut body, u.choose(&NAMES)?);
            let format = u.int_in_range(0..=1u8)?;
            body.extend_from_slice(&[0, 1, 0, format]);
            let count = u.int_in_range(0..=2u8)?;
            body.extend_from_slice(&[0, count]);
            for _ in 0..count {
                let value = values::bytes(u)?;
                body.extend_from_slice(&(value.len() as u32).to_be_bytes());
                body.extend(value);
            }
            body.extend_from_slice(&[0, 0]);
            b'B'
        }
        6 => {
            body.push(*u.choose(b"SPX")?);
            string(&mut body, name);
            b'D'
        }
        7 | 8 => {
            string(&mut body, name);
            body.extend_from_slice(&u.int_in_range(0..=2u32)?.to_be_bytes());
            b'E'
        }
        9 => {
            body.push(*u.choose(b"SP")?);
            string(&mut body, name);
            b'C'
        }
        10 | 11 => b'S',
        12 => b'H',
        13 => {
            body.extend_from_slice(b"9\tnine\n");
            b'd'
        }
        14 => b'c',
        _ => {
            // Any type, any body.
            body = values::bytes(u)?;
            u8::arbitrary(u)?
        }
    };
    out.push(tag);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    Ok(())
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}
