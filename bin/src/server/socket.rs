//! What clients connect to: an address, and beside it, where it is wanted, a Unix-domain socket.
//!
//! The socket is a file, and stands where libpq looks for it: `.s.PGSQL.PORT` in a folder. As long as there is no
//! authentication only the server's own user may connect to it, which the kernel sees to. A name is bound right before the
//! server listens, so one that is there and refuses is that of a server that was killed, and is replaced; one at which
//! somebody answers is not.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};
use tracing::warn;

/// A connection of either kind.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Who is at its other end, as the audit trail names them.
#[derive(Debug, Clone, Copy)]
pub enum Peer {
    Tcp(SocketAddr),
    /// A process of this machine; without its numbers when the kernel does not tell them.
    Unix(Option<Process>),
}

#[derive(Debug, Clone, Copy)]
pub struct Process {
    user: u32,
    pid: Option<i32>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(None) => f.write_str("local"),
            Self::Unix(Some(Process { user, pid: None })) => write!(f, "local uid {user}"),
            Self::Unix(Some(Process { user, pid: Some(pid) })) => write!(f, "local uid {user} pid {pid}"),
        }
    }
}

/// Both kinds have the same methods, pinned the same way.
macro_rules! either {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), poll_shutdown(context))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Everything that a server accepts connections from.
pub struct Listeners {
    pub tcp: TcpListener,
    pub local: Option<LocalListener>,
}

impl Listeners {
    /// The next connection of any of them. What it has not returned stays with the kernel when it is dropped.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        let Some(local) = &self.local else {
            return accept_tcp(&self.tcp).await;
        };
        tokio::select! {
            accepted = accept_tcp(&self.tcp) => accepted,
            accepted = local.accept() => accepted,
        }
    }
}

async fn accept_tcp(listener: &TcpListener) -> io::Result<(Stream, Peer)> {
    let (stream, peer) = listener.accept().await?;
    // Answers are written whole, so the kernel must not hold them back.
    if let Err(error) = stream.set_nodelay(true) {
        warn!(%error, "TCP_NODELAY could not be set");
    }
    Ok((Stream::Tcp(stream), Peer::Tcp(peer)))
}

/// The name of a Unix-domain socket at which nobody listens yet.
#[derive(Debug)]
pub struct LocalName {
    folder: PathBuf,
    path: PathBuf,
}

impl LocalName {
    /// # Errors
    /// The folder is not there, its path is too long, or the name is taken by a server, or by something that is no socket.
    pub fn new(folder: &Path, port: u16) -> io::Result<Self> {
        if !folder.is_dir() {
            let text = format!("{} is not a folder", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
        }
        let path = folder.join(format!(".s.PGSQL.{port}"));
        if std::os::unix::net::SocketAddr::from_pathname(&path).is_err() {
            let text = format!(
                "{} is longer than the 107 bytes that a socket's path may have",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        look(&path)?;
        Ok(Self {
            folder: folder.to_owned(),
            path,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Begins to listen, with this many connections in the kernel's queue.
    pub fn listen(self, backlog: u32) -> io::Result<LocalListener> {
        let Self { path, .. } = self;
        if look(&path)? {
            fs::remove_file(&path)?;
        }
        let socket = UnixSocket::new_stream()?;
        // The file is made with the mode that the socket has by then; binding refuses a name that is taken.
        File::from(socket.as_fd().try_clone_to_owned()?).set_permissions(Permissions::from_mode(0o600))?;
        socket.bind(&path)?;
        let file = SocketFile::new(path)?;
        let listener = socket.listen(backlog)?;
        Ok(LocalListener { file, listener })
    }
}

/// Whether a killed server's socket is at a path; an error if somebody listens there, or if it is something that must not be
/// replaced.
fn look(path: &Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the file is there, and no socket",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        // It has gone since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The file of a socket, removed on drop.
struct SocketFile {
    path: PathBuf,
    /// Device and number: another server may have put its own there since.
    inode: (u64, u64),
}

impl SocketFile {
    fn new(path: PathBuf) -> io::Result<Self> {
        let file = fs::symlink_metadata(&path)?;
        let inode = (file.dev(), file.ino());
        Ok(Self { path, inode })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            warn!(%error, path = %self.path.display(), "the socket's file stays behind");
        }
    }
}

/// A Unix-domain socket at which the server listens; its file goes with it.
pub struct LocalListener {
    /// Dropped first: as long as the socket is open no other file gets its number.
    file: SocketFile,
    listener: UnixListener,
}

impl LocalListener {
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        let (stream, _) = self.listener.accept().await?;
        let process = stream.peer_cred().ok().map(|peer| Process {
            user: peer.uid(),
            pid: peer.pid(),
        });
        Ok((Stream::Unix(stream), Peer::Unix(process)))
    }
}
