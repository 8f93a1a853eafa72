//! The demo's server: a process of its own, so that it can be killed like one.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::DemoError;
use crate::sys;

/// Longest wait for a server that was told to stop.
const STOP_MAX: Duration = Duration::from_secs(30);

/// A running server. Dropping it kills it.
pub struct ServerProcess {
    child: Child,
    /// What it said when it was ready.
    ready: String,
    pub address: SocketAddr,
}

impl ServerProcess {
    /// Starts this very program on `dir` and waits for its ready line. Its log goes to `log`.
    pub fn start(dir: &Path, log: &Path) -> Result<Self, DemoError> {
        let start = |source| DemoError::Start {
            log: log.into(),
            source,
        };
        let program = std::env::current_exe().map_err(start)?;
        let log_file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(start)?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .map_err(start)?;
        let mut ready = String::new();
        let read = match child.stdout.take() {
            Some(stdout) => BufReader::new(stdout).read_line(&mut ready),
            None => Ok(0),
        };
        let mut server = Self {
            child,
            ready,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        read.map_err(start)?;
        server.ready.truncate(server.ready.trim_end().len());
        server.address = address(&server.ready).ok_or_else(|| DemoError::NotReady(log.into()))?;
        Ok(server)
    }

    /// What the ready line says about the log: `recovered 1.5 MB of log in 0.02 s`.
    pub fn recovered(&self) -> &str {
        let at = self.ready.rfind("recovered ").unwrap_or_default();
        &self.ready[at..]
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: the process gets no chance to finish anything.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) -> io::Result<()> {
        sys::terminate(self.child.id())?;
        let deadline = Instant::now() + STOP_MAX;
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if self.running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The address in `scry ready: listening on 127.0.0.1:41234, data …`.
fn address(ready: &str) -> Option<SocketAddr> {
    ready
        .split_once("listening on ")?
        .1
        .split_once(',')?
        .0
        .parse()
        .ok()
}

/// Where the demo keeps its database and its server's log. Removed when the demo ends.
pub struct Place {
    temporary: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Result<Self, DemoError> {
        let temporary = tempfile::Builder::new()
            .prefix("scry-demo-")
            .tempdir()
            .map_err(DemoError::Place)?;
        Ok(Self { temporary })
    }

    pub fn data(&self) -> PathBuf {
        self.temporary.path().join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.temporary.path().join("server.log")
    }

    pub fn start(&self) -> Result<ServerProcess, DemoError> {
        ServerProcess::start(&self.data(), &self.log())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_ready_line() {
        let line = "scry ready: listening on 127.0.0.1:41234, data /x, y, recovered 0.0 MB of log in 0.01 s";
        assert_eq!(address(line), Some(SocketAddr::from(([127, 0, 0, 1], 41234))));
        assert_eq!(address("scry: cannot listen"), None);
    }
}
