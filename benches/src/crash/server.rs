//! The server under test as a child process: start, kill hard, stop cleanly.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tokio_postgres::Client;

use crate::client::{Failure, Target};

/// How long a start may take: the log of a run is replayed in well under a second.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a clean stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Whose command line the server has. PostgreSQL is here to test the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Scry,
    Postgres,
}

/// A server over one data directory.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    binary: PathBuf,
    data: PathBuf,
    log: PathBuf,
    target: Target,
    child: Option<Child>,
}

impl Server {
    /// Describes a server; nothing starts yet. `folder` receives the data directory and the server's output. With `recycle` the audit trail
    /// is let go of behind checkpoints.
    pub fn new(
        kind: Kind,
        binary: &Path,
        folder: &Path,
        port: u16,
        recycle: bool,
    ) -> Result<Server, Failure> {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let data = folder.join("data");
        if kind == Kind::Postgres && !data.exists() {
            let initdb = binary.with_file_name("initdb");
            let status = Command::new(&initdb)
                .args(["--auth=trust", "--username=scry", "--no-sync", "--pgdata"])
                .arg(&data)
                .stdout(Stdio::null())
                .status()
                .map_err(|e| format!("{}: {e}", initdb.display()))?;
            if !status.success() {
                return Err(format!("initdb ended with {status}").into());
            }
        }
        if kind == Kind::Scry {
            // Checkpoints and compaction are always under way, and hardly a row is in memory, also of those that a large transaction writes.
            let mut config = "[rows]\nmemory_mib = 1\ncache_mib = 4\ncheckpoint_mib = 1\n\
                              [transactions]\nmemory_mib_max = 1\n"
                .to_owned();
            if recycle {
                config.push_str(
                    "[log]\nsegment_mib = 1\nrecycle = true\nkeep_mib = 0\n[mirror]\ncheckpoint_mib = 1\n",
                );
            }
            fs::write(folder.join("scry.toml"), config)?;
        }
        let database = if kind == Kind::Postgres {
            "postgres"
        } else {
            "scry"
        };
        Ok(Server {
            kind,
            binary: binary.to_owned(),
            log: folder.join("server.log"),
            data,
            target: Target {
                host: "127.0.0.1".into(),
                port,
                database: database.into(),
                user: "scry".into(),
            },
            child: None,
        })
    }

    /// Where clients find it.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Removes the mirror of a stopped server, which it makes anew.
    pub fn remove_mirror(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(self.data.join("mirror")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Starts the process and does not wait for it to answer.
    pub fn launch(&mut self) -> Result<(), Failure> {
        let output = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        match self.kind {
            Kind::Scry => {
                command.arg("serve").arg("--data").arg(&self.data);
                command.arg("--config").arg(self.log.with_file_name("scry.toml"));
                command
                    .arg("--listen")
                    .arg(format!("127.0.0.1:{}", self.target.port));
            }
            Kind::Postgres => {
                command
                    .arg("-D")
                    .arg(&self.data)
                    .arg("-p")
                    .arg(self.target.port.to_string());
                command.args([
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    "unix_socket_directories=",
                ]);
            }
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|e| format!("{}: {e}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Starts the process and connects once it answers.
    pub async fn start(&mut self) -> Result<Client, Failure> {
        let deadline = Instant::now() + START_PATIENCE;
        self.launch()?;
        loop {
            if let Ok(client) = self.target.connect("crash check").await
                && client.simple_query("SELECT 1").await.is_ok()
            {
                return Ok(client);
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                // A killed PostgreSQL leaves children that hold its shared memory for a moment.
                if self.kind == Kind::Scry {
                    return Err(
                        format!("the server ended at its start, {status}\n{}", self.log_tail()).into(),
                    );
                }
                self.launch()?;
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "no answer {START_PATIENCE:?} after the start\n{}",
                    self.log_tail()
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL to the process and its children, at once.
    pub fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        // The process may have ended by itself: then there is nothing to kill, and wait() reaps it.
        let _ = child.kill();
        if !children.trim().is_empty() {
            Command::new("kill")
                .arg("-9")
                .args(children.split_whitespace())
                .stderr(Stdio::null())
                .status()?;
        }
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, then waits for a clean end.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        // PostgreSQL's SIGTERM waits for its clients; SIGINT is its way to end them and stop cleanly.
        let signal = if self.kind == Kind::Scry { "-TERM" } else { "-INT" };
        Command::new("kill")
            .arg(signal)
            .arg(child.id().to_string())
            .status()?;
        let deadline = Instant::now() + STOP_PATIENCE;
        loop {
            if let Some(status) = child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!("a clean stop ended with {status}\n{}", self.log_tail()).into())
                };
            }
            if Instant::now() > deadline {
                self.child = Some(child);
                self.kill()?;
                return Err(format!("no end {STOP_PATIENCE:?} after SIGTERM\n{}", self.log_tail()).into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `scry verify` over the data directory of a stopped server.
    pub fn verify(&self) -> Result<(), Failure> {
        if self.kind == Kind::Postgres {
            return Ok(());
        }
        let output = Command::new(&self.binary)
            .arg("verify")
            .arg(&self.data)
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Err(format!("scry verify ended with {}\n{text}", output.status).into())
    }

    /// The last lines that the server printed.
    pub fn log_tail(&self) -> String {
        let text = File::open(&self.log)
            .and_then(std::io::read_to_string)
            .unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing can be reported from here; kill() fails only for a process that is gone.
        let _ = self.kill();
    }
}
