//! A small client for the tests of the HTTP server, and a server with both listeners.

use crate::common::{DEADLINE, Home, Server, query};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitStatus;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the last chunk came, where the body is in chunks.
    pub complete: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
    stream
}

/// Sends a request and reads the whole answer. A `host` or `content-type` among the headers replaces the usual one.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Answer {
    receive(begin(address, method, path, headers, body))
}

/// Sends a request.
pub fn begin(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> TcpStream {
    let mut stream = connect(address);
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    let host = address.to_string();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\r\n"));
    let given = |name: &str| headers.iter().any(|(known, _)| *known == name);
    if !given("host") {
        line("host", &host);
    }
    if let Some(body) = body {
        if !given("content-type") {
            line("content-type", "application/json");
        }
        line("content-length", &body.len().to_string());
    }
    headers.iter().for_each(|(name, value)| line(name, value));
    text.push_str("\r\n");
    text.push_str(body.unwrap_or_default());
    // A server that refuses a body need not read it.
    let _ = stream.write_all(text.as_bytes());
    stream
}

/// Reads to the end of the connection.
pub fn receive(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut piece = [0; 64 << 10];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            // What was not read of the request breaks the connection after the answer.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let body = bytes.split_off(end + 4);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let (body, complete) = match chunked {
        true => unchunked(&body),
        false => (body, true),
    };
    Answer {
        status: status.expect("a status"),
        headers,
        body,
        complete,
    }
}

/// The chunks together, and whether the last one is there.
fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..line]), 16).expect("its size");
        let chunk = rest.get(line + 2..line + 2 + size);
        match (size, chunk) {
            (0, _) => return (body, true),
            (_, None) => return (body, false),
            (size, Some(chunk)) => {
                body.extend_from_slice(chunk);
                rest = rest.get(line + 2 + size + 2..).unwrap_or_default();
            }
        }
    }
    (body, false)
}

/// A server that speaks both protocols.
pub struct Site {
    server: Server,
    pub address: SocketAddr,
}

impl Site {
    pub fn start(home: &Home) -> Site {
        let server = home.start_with(&["--http", "127.0.0.1:0"]);
        let address = server.ready.rsplit_once("HTTP on ").expect("a second address").1;
        let address = address.trim().parse().expect("an address");
        Site { server, address }
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        request(self.address, method, path, headers, body)
    }

    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        self.send(method, path, &[], body.as_deref())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, Some(body))
    }

    /// Statements in a session of their own, each as a message.
    pub fn sql(&self, script: &str) {
        let mut session = self.server.session();
        for statement in script.split("; ") {
            session.send(&query(statement));
            let answer = session.until_ready();
            assert!(
                answer.iter().all(|message| message.tag != b'E'),
                "{statement}: {answer:?}"
            );
        }
    }

    /// Asks the server to stop and waits for its end.
    pub fn stop(self) -> ExitStatus {
        self.server.signal("TERM");
        self.server.wait()
    }
}
