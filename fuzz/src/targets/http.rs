//! Requests against an HTTP server of its own, over a socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use scry_server::http::HttpServer;
use scry_server::server::{Bound, Stop};

use super::sessions::Place;
use super::values;
use crate::target::{Outcome, Target};

const SCHEMA: &str = "BEGIN; CREATE TABLE t (k int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one'), (2, 'two'); COMMIT; \
                      CREATE ELECTION e WITH (winners = any); CREATE CANDIDATE a IN e; CREATE CANDIDATE dark IN e WITH (mirror = off)";

/// Longer than any answer takes; who waits as long has found something that hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time that connections have to end when the target ends.
const GRACE: Duration = Duration::from_secs(1);

const METHODS: [&str; 5] = ["GET", "POST", "HEAD", "DELETE", "OPTIONS"];

const PATHS: [&str; 8] = [
    "/v1/openapi.json",
    "/v1/elections",
    "/v1/elections/e",
    "/v1/elections/%65?x=1",
    "/v1/elections/e/mirror",
    "/v1/elections/e/query",
    "/v1/elections/none/query",
    "/v1/elections/a%2Fb/mirror",
];

const HEADERS: [&str; 8] = [
    "host: localhost\r\n",
    "host: example.com\r\n",
    "content-type: application/json\r\n",
    "content-type: application/json; charset=utf-8\r\n",
    "accept: application/vnd.apache.arrow.stream\r\n",
    "transfer-encoding: chunked\r\n",
    "expect: 100-continue\r\n",
    "connection: keep-alive\r\n",
];

const BODIES: [&str; 12] = [
    "{\"query\": \"SELECT * FROM t\"}",
    "{\"query\": \"SELECT * FROM t\", \"candidate\": \"a\"}",
    "{\"query\": \"SELECT count(*) FROM t\", \"candidate\": \"dark\"}",
    "{\"query\": \"SELECT 1/0\", \"candidate\": null}",
    "{\"query\": \"SELECT $1\"}",
    "{\"query\": \"COPY t TO STDOUT\"}",
    "{\"query\": \"DELETE FROM t RETURNING k\"}",
    "{\"query\": \"SHOW ALL\"}",
    "{\"candidates\": [{\"name\": \"a\"}]}",
    "{\"candidates\": [{\"name\": \"x/y\", \"weight\": 1e999}]}",
    "{\"winners\": \"any\", \"candidates\": []}",
    "[]",
];

pub struct Requests {
    place: Place,
    address: SocketAddr,
    stop: Stop,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Requests {
    pub fn new() -> Self {
        let place = Place::new(SCHEMA);
        let stop = Stop::default();
        let (address, running) = place.runtime.block_on(async {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let bound = Bound::new(any).expect("binds");
            let server = HttpServer::listen(bound, place.database.clone(), GRACE).expect("listens");
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

    /// Sends a request and reads to the end; `all`: the server knows from the request where it ends.
    fn talk(&self, request: &[u8], all: bool) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // The server may have answered and gone already.
        let _ = stream.write_all(request);
        if !all {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            // It ended while we were still sending.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("no end of the answer: {error}"),
        }
        answer
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.stop.orderly();
        if let Some(running) = self.running.take() {
            let ended = self.place.runtime.block_on(running);
            assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
        }
    }
}

impl Target for Requests {
    fn seeds(&self) -> Vec<Vec<u8>> {
        values::seeds()
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        let (request, all) = request(&mut Unstructured::new(input)).unwrap_or_default();
        let answer = self.talk(&request, all);
        let (status, sqlstate) = (status(&answer), sqlstate(&answer));
        let shown = || format!("{}\n{}", request.escape_ascii(), answer.escape_ascii());
        assert!(!all || status.is_some(), "no answer to {}", shown());
        assert!(status.is_none_or(|status| status != 500), "{}", shown());
        assert!(!sqlstate.starts_with("XX"), "{}", shown());
        let alive = self.talk(b"GET /v1/elections HTTP/1.1\r\nhost: localhost\r\n\r\n", true);
        assert_eq!(self::status(&alive), Some(200), "{}", alive.escape_ascii());
        Outcome::of((status, sqlstate))
    }
}

/// A request of a client that means well, or nearly so; and whether its end can be known from it.
fn request(u: &mut Unstructured<'_>) -> Result<(Vec<u8>, bool)> {
    let mut text = Vec::new();
    let strange = u.ratio(1, 8)?;
    if strange {
        text.extend(values::bytes(u)?);
    }
    let (method, path) = (*u.choose(&METHODS)?, *u.choose(&PATHS)?);
    text.extend_from_slice(format!("{method} {path}").as_bytes());
    if u.ratio(1, 8)? {
        text.extend(values::text(u)?.replace(' ', "+").into_bytes());
    }
    text.extend_from_slice(b" HTTP/1.1\r\n");
    let ordinary = u.ratio(3, 4)?;
    if ordinary {
        text.extend_from_slice(b"host: 127.0.0.1\r\ncontent-type: application/json\r\n");
        if u.ratio(1, 3)? {
            text.extend_from_slice(HEADERS[4].as_bytes());
        }
    } else {
        for _ in 0..u.int_in_range(0..=4u8)? {
            text.extend_from_slice(u.choose(&HEADERS)?.as_bytes());
        }
    }
    let mut body = u.choose(&BODIES)?.as_bytes().to_vec();
    if u.ratio(1, 4)? {
        let at = u.int_in_range(0..=body.len())?;
        body.splice(at..at, values::bytes(u)?);
    }
    let claimed = match u.ratio(7, 8)? {
        true => body.len(),
        false => u.int_in_range(0..=2 * body.len())?,
    };
    text.extend_from_slice(format!("content-length: {claimed}\r\n\r\n").as_bytes());
    text.extend_from_slice(&body);
    Ok((text, !strange && ordinary && claimed == body.len()))
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
}

/// Of an error's body.
fn sqlstate(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let found = text
        .split_once("\"sqlstate\":\"")
        .and_then(|(_, rest)| rest.get(..5));
    found.unwrap_or_default().to_owned()
}
