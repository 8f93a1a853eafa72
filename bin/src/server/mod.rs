//! The listening server: accepts connections, one task each, and stops them in an orderly way.

mod answer;
mod connection;
mod copy;
mod handshake;
mod handshakes;
mod link;
mod registry;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scry_sql::Database;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

pub use handshake::DATABASE;
use handshakes::Handshakes;
use registry::Registry;
use socket::Listeners;
pub use socket::LocalName;

/// Connections that may be in their handshake, or be cancel requests, besides the sessions.
pub const HANDSHAKES_MAX: usize = 256;
/// Files of the database itself that are open at the same time: segments of the log, files of the mirror being read.
const FILES_OF_DATABASE: u64 = 128;
/// Pause after a failed accept: with all file descriptors of the machine in use the next try fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A statement that has waited from one round to the next one has its connection look whether the client is still there.
const ROUND: Duration = Duration::from_secs(1);
/// Length of the kernel's queue of connections that are not accepted yet.
const BACKLOG: u32 = 1024;

/// Bounds on what clients may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sessions at the same time; one more is refused with 53300.
    pub sessions_max: usize,
    /// Connections besides them that are in their handshake; one more and the oldest of them is let go.
    pub handshakes_max: usize,
    /// Longest message that carries a statement, parameters or COPY data, in bytes.
    pub message_bytes_max: usize,
    /// Time from connecting to the end of the handshake.
    pub startup_timeout: Duration,
    /// Time that sessions have to end when the server stops.
    pub stop_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 2000,
            handshakes_max: HANDSHAKES_MAX,
            message_bytes_max: 64 << 20,
            startup_timeout: Duration::from_secs(60),
            stop_grace: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Lowered so that connections never take the last of so many open files: with none left not even a
    /// refusal could be sent.
    #[must_use]
    pub fn within_open_files(mut self, files: u64) -> Self {
        let connections = usize::try_from(files.saturating_sub(FILES_OF_DATABASE)).unwrap_or(usize::MAX);
        if connections < self.sessions_max.saturating_add(self.handshakes_max) {
            self.handshakes_max = self.handshakes_max.min(connections / 4).max(1);
            self.sessions_max = connections.saturating_sub(self.handshakes_max).max(1);
        }
        self
    }
}

/// What all connections share.
pub(crate) struct Shared {
    database: Arc<Database>,
    registry: Arc<Registry>,
    limits: Limits,
    stopping: AtomicBool,
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Stops running servers; cheap to clone, and heard by all who were given it.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    wanted: Arc<watch::Sender<Wanted>>,
}

/// How urgent it is, in rising order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    #[default]
    Nothing,
    Orderly,
    AtOnce,
}

impl Stop {
    /// Sessions are told to end; those that do not within the grace time are cut off.
    pub fn orderly(&self) {
        self.want(Wanted::Orderly);
    }

    /// Sessions are cut off now.
    pub fn at_once(&self) {
        self.want(Wanted::AtOnce);
    }

    /// Waits until either is wanted.
    pub async fn asked(&self) {
        self.until(Wanted::Orderly).await;
    }

    /// Waits until sessions are to be cut off.
    pub async fn asked_at_once(&self) {
        self.until(Wanted::AtOnce).await;
    }

    fn want(&self, wanted: Wanted) {
        self.wanted.send_modify(|now| *now = wanted.max(*now));
    }

    async fn until(&self, wanted: Wanted) {
        // The sender lives as long as `self`.
        let _ = self.wanted.subscribe().wait_for(|now| *now >= wanted).await;
    }
}

/// An address that is taken, and at which nobody listens yet: clients are refused.
pub struct Bound {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Bound {
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        // Inherited by every connection: one whose other end vanished without a word is found in the end.
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        Ok(Self { socket, address })
    }

    /// Begins to listen, with this many connections in the kernel's queue.
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.socket.listen(backlog)
    }

    /// The address that was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port in use: a real one when port 0 was asked for.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }
}

/// Listeners in front of a database.
pub struct Server {
    listeners: Listeners,
    shared: Arc<Shared>,
}

impl Server {
    pub fn listen(bound: Bound, database: Arc<Database>, limits: Limits) -> io::Result<Self> {
        let listeners = Listeners {
            tcp: bound.listen(BACKLOG)?,
            local: None,
        };
        let registry = Arc::new(Registry::new(limits.sessions_max)?);
        let shared = Shared {
            database,
            registry,
            limits,
            stopping: AtomicBool::new(false),
        };
        Ok(Self {
            listeners,
            shared: Arc::new(shared),
        })
    }

    /// The address in use: with its real port when port 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listeners.tcp.local_addr()
    }

    /// Listens at a Unix-domain socket, too; returns its path.
    pub fn listen_at(&mut self, name: LocalName) -> io::Result<&Path> {
        let local = name.listen(BACKLOG)?;
        Ok(self.listeners.local.insert(local).path())
    }

    /// Serves until `stop` says otherwise. When this returns no session is left.
    pub async fn run(self, stop: Stop) {
        let mut tasks = JoinSet::new();
        let limits = &self.shared.limits;
        let handshakes = Arc::new(Handshakes::new(limits.handshakes_max));
        // One more than there are places: the newcomer for whom another gives way.
        let tasks_max = limits.sessions_max + limits.handshakes_max + 1;
        let mut refused = false;
        let mut round = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                biased;
                () = stop.asked() => break,
                _ = round.tick() => self.shared.registry.come_round(),
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => log_panic(ended),
                accepted = self.listeners.accept(), if tasks.len() < tasks_max => match accepted {
                    Ok((stream, peer)) => {
                        refused = false;
                        let handshake = handshakes.begin();
                        let number = handshake.number();
                        let task = tasks.spawn(connection::serve(stream, peer, self.shared.clone(), handshake));
                        handshakes.runs_in(number, task);
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut refused, true) {
                            warn!(%error, "connections cannot be accepted");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        let Self { listeners, shared } = self;
        drop(listeners);
        shared.stopping.store(true, Ordering::Release);
        info!(sessions = shared.registry.sessions(), "stopping");
        shared.registry.stop_all();
        let grace = tokio::time::sleep(shared.limits.stop_grace);
        tokio::pin!(grace);
        while !tasks.is_empty() {
            tokio::select! {
                Some(ended) = tasks.join_next() => log_panic(ended),
                () = &mut grace => break,
                () = stop.asked_at_once() => break,
            }
        }
        if !tasks.is_empty() {
            warn!(
                connections = tasks.len(),
                "cutting off connections that did not end"
            );
            tasks.shutdown().await;
        }
    }
}

pub(crate) fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}
