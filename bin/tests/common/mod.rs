//! A real server process for a test, and a client that sends whatever bytes the test likes.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Long enough for the slowest machine; reached only when something hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub const SCRY: &str = env!("CARGO_BIN_EXE_scry");

/// A temporary place for a database, its configuration and its server's log.
pub struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self::with_config("")
    }

    /// `server` are lines for the table `[server]`.
    pub fn with_config(server: &str) -> Self {
        Self::configured(|_| format!("[server]\nstop_grace_s = 5\n{server}\n[log]\nsegment_mib = 4\n"))
    }

    /// With segments of one MiB that are archived.
    pub fn with_archive() -> Self {
        Self::configured(|dir| format!("[log]\nsegment_mib = 1\narchive = {:?}\n", dir.join("archive")))
    }

    /// With segments of one MiB that go behind checkpoints, which are made each MiB, but for two.
    pub fn with_recycling() -> Self {
        const CONFIG: &str = "[log]\nsegment_mib = 1\nrecycle = true\nkeep_mib = 2\n[rows]\ncheckpoint_mib = 1\n[mirror]\ncheckpoint_mib = 1\n";
        Self::configured(|_| CONFIG.to_owned())
    }

    /// With one MiB for rows, which are put into files at every MiB of log.
    pub fn with_little_memory() -> Self {
        const CONFIG: &str =
            "[log]\nsegment_mib = 1\n[rows]\nmemory_mib = 1\ncache_mib = 1\ncheckpoint_mib = 1\n";
        Self::configured(|_| CONFIG.to_owned())
    }

    /// With what `config` makes of the place.
    fn configured(config: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("scry.toml"), config(dir.path())).expect("configuration");
        Self { dir }
    }

    pub fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    pub fn command(&self) -> Command {
        self.command_at("127.0.0.1:0")
    }

    pub fn command_at(&self, address: &str) -> Command {
        let mut command = Command::new(SCRY);
        command
            .args(["serve", "--listen", address, "--data"])
            .arg(self.data());
        command.arg("--config").arg(self.dir.path().join("scry.toml"));
        command
    }

    /// Starts a server and waits until it is ready.
    pub fn start(&self) -> Server {
        self.launch(self.command())
    }

    /// As `start`, with further arguments.
    pub fn start_with(&self, arguments: &[&str]) -> Server {
        self.start_at("127.0.0.1:0", arguments)
    }

    /// As `start_with`, at a given address.
    pub fn start_at(&self, address: &str, arguments: &[&str]) -> Server {
        let mut command = self.command_at(address);
        command.args(arguments);
        self.launch(command)
    }

    /// As `start`, with a limit of open files.
    pub fn start_with_open_files(&self, files: u64) -> Server {
        let serve = self.command();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")])
            .arg(serve.get_program())
            .args(serve.get_args());
        self.launch(command)
    }

    fn launch(&self, mut command: Command) -> Server {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("server.log"))
            .expect("log file");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut ready)
            .expect("a ready line");
        let address = ready
            .split_once("listening on ")
            .and_then(|(_, rest)| rest.split_once(','))
            .and_then(|(address, _)| address.parse().ok());
        let Some(address) = address else {
            panic!("not ready: {ready:?}\n{}", self.log())
        };
        Server {
            child,
            address,
            ready,
        }
    }
}

/// Runs a tool to its end.
pub fn tool(arguments: &[&str], dir: &Path) -> Output {
    Command::new(SCRY)
        .args(arguments)
        .arg(dir)
        .output()
        .expect("the tool runs")
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub ready: String,
}

impl Server {
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Ends the server cleanly.
    pub fn stop(self) {
        self.signal("TERM");
        assert!(self.wait().success());
    }

    /// Waits for the end of the process.
    pub fn wait(mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("status").is_none()
    }

    /// A connected client that has sent nothing yet.
    pub fn raw(&self) -> Raw {
        let stream = TcpStream::connect(self.address).expect("connects");
        stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        Raw { stream }
    }

    /// A client in an idle session.
    pub fn session(&self) -> Raw {
        let mut raw = self.raw();
        raw.send(&startup(&[("user", "tester"), ("database", "scry")]));
        raw.until_ready();
        raw
    }

    /// The server answers a new client as it should.
    pub fn assert_alive(&self) {
        let mut raw = self.session();
        raw.send(&query("SELECT 1"));
        let answer = raw.until_ready();
        assert_eq!(tags(&answer), "TDCZ", "{answer:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child's end, up to the deadline.
pub fn wait(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().expect("status") {
            return status;
        }
        assert!(Instant::now() < end, "the process does not end");
        std::thread::yield_now();
    }
}

/// One message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl Message {
    /// A field of an error or notice.
    pub fn field(&self, wanted: u8) -> Option<String> {
        self.body
            .split(|&byte| byte == 0)
            .find_map(|field| match field.split_first() {
                Some((&tag, text)) if tag == wanted => Some(String::from_utf8_lossy(text).into_owned()),
                _ => None,
            })
    }

    pub fn code(&self) -> String {
        self.field(b'C').expect("a code")
    }
}

/// Waits for a condition, up to the deadline.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The names of the segments in a folder, which may not be there, in the order of the trail.
pub fn segments(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
        .filter(|name| name.ends_with(".wal"))
        .collect();
    names.sort();
    names
}

/// What `scry verify` says of a database that it must find sound.
pub fn verified(dir: &Path) -> String {
    let verified = tool(&["verify"], dir);
    assert!(verified.status.success(), "{verified:?}");
    text(&verified.stdout)
}

/// Changes rows of a table `t (k int PRIMARY KEY, v int8, w text)`; each step takes about 100 KB of trail.
pub fn grow(raw: &mut Raw, steps: u64) {
    for step in 0..steps {
        let low = step % 10 * 20;
        run(
            raw,
            &format!(
                "INSERT INTO t SELECT k, k, repeat('x', 2000) FROM generate_series({low}, {low} + 39) AS g(k) \
                 ON CONFLICT (k) DO UPDATE SET v = t.v + 1, w = excluded.w"
            ),
        );
    }
}

/// What is answered to statements that succeed.
pub fn run(raw: &mut Raw, sql: &str) -> Vec<Message> {
    raw.send(&query(sql));
    let answer = raw.until_ready();
    assert!(!tags(&answer).contains('E'), "{sql}: {answer:?}");
    answer
}

/// The first value of the first row that statements answer.
pub fn value(raw: &mut Raw, sql: &str) -> String {
    let answer = run(raw, sql);
    let row = answer.iter().find(|message| message.tag == b'D');
    let row = row.unwrap_or_else(|| panic!("{sql}: {answer:?}"));
    let (length, bytes) = row.body[2..].split_first_chunk().expect("a value");
    let length = usize::try_from(i32::from_be_bytes(*length)).expect("not null");
    text(&bytes[..length])
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The types of messages, in order.
pub fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// A socket without manners.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// The next message; `None` when the server closed the connection.
    pub fn receive(&mut self) -> Option<Message> {
        let mut header = [0; 5];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer in time"),
            Err(_) => return None,
        }
        let [tag, length @ ..] = header;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        self.stream.read_exact(&mut body).expect("a whole message");
        Some(Message { tag, body })
    }

    /// Messages up to and with ReadyForQuery.
    pub fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self
                .receive()
                .unwrap_or_else(|| panic!("closed after {messages:?}"));
            let done = message.tag == b'Z';
            messages.push(message);
            if done {
                return messages;
            }
        }
    }

    /// Messages up to the end of the connection.
    pub fn until_closed(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.receive()).collect()
    }
}

/// A message of the client: type, length, body.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(
        b'P',
        &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat(),
    )
}

/// Bind of the unnamed portal with text parameters.
pub fn bind(statement: &str, parameters: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = [b"\0", statement.as_bytes(), b"\0\0\0"].concat();
    body.extend_from_slice(&(parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        match parameter {
            None => body.extend_from_slice(&(-1i32).to_be_bytes()),
            Some(bytes) => {
                body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                body.extend_from_slice(bytes);
            }
        }
    }
    body.extend_from_slice(&[0, 0]);
    message(b'B', &body)
}

pub fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub fn startup_packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    startup_packet(3 << 16, &body)
}
