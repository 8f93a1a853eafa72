//! `scry serve`: a database directory served over the PostgreSQL protocol, and over HTTP if wanted, until a signal says stop.
//!
//! Standard output carries one line, the ready line; everything else is a log on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::OptionFuture;
use scry_sql::{Database, DatabaseOptions, PLANNING_STACK_BYTES};
use scry_wal::{Archive, Backend, Retention};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, ConfigError, LogBackend};
use crate::http::{CONNECTIONS_MAX, HttpServer};
use crate::server::{Bound, Limits, LocalName, Server, Stop};
use crate::{sys, watch};

/// The command's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Directory of the database; created when it is not there
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:5433]
    #[arg(long, value_name = "ADDRESS", value_parser = listen_address)]
    pub listen: Option<SocketAddr>,
    /// Folder for a Unix-domain socket to listen at, too, named for the port as libpq expects it; without it, and without
    /// `socket` in the configuration, there is none
    #[arg(long, value_name = "DIR")]
    pub socket: Option<PathBuf>,
    /// Address and port of the HTTP server; without it, and without `http` in the configuration, there is none
    #[arg(long, value_name = "ADDRESS", value_parser = listen_address)]
    pub http: Option<SocketAddr>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an IP address and a port are wanted, such as 127.0.0.1:5433 or [::1]:5433".to_owned())
}

/// Why the server did not start, or did not end well.
#[derive(Debug)]
pub enum ServeError {
    Config(ConfigError),
    /// An address that others could reach.
    NotLoopback(SocketAddr),
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    /// A Unix-domain socket in a folder.
    Socket {
        folder: PathBuf,
        source: io::Error,
    },
    Runtime(io::Error),
    Open {
        dir: PathBuf,
        source: scry_sql::Error,
    },
    Close {
        dir: PathBuf,
        source: scry_sql::Error,
    },
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::NotLoopback(address) => write!(
                f,
                "will not listen on {address}: this version has no authentication, so it serves loopback addresses only (127.0.0.1 or [::1])"
            ),
            Self::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Socket { folder, source } => {
                write!(f, "cannot listen at a socket in {}: {source}", folder.display())
            }
            Self::Runtime(error) => write!(f, "cannot start the serving threads: {error}"),
            // SQLSTATEs are for clients; who starts a server reads the words.
            Self::Open { dir, source } => {
                write!(
                    f,
                    "cannot open the database in {}: {}",
                    dir.display(),
                    source.message
                )?;
                source.hint.iter().try_for_each(|hint| write!(f, "\n{hint}"))
            }
            Self::Close { dir, source } => {
                write!(
                    f,
                    "the database in {} did not close cleanly: {}",
                    dir.display(),
                    source.message
                )
            }
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::NotLoopback(_) => None,
            Self::Bind { source, .. } | Self::Socket { source, .. } | Self::Runtime(source) => Some(source),
            Self::Open { source, .. } | Self::Close { source, .. } => Some(source),
        }
    }
}

impl From<ConfigError> for ServeError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Runs the server until a signal stops it.
pub fn run(args: &Args) -> Result<(), ServeError> {
    log_to_stderr();
    let config = args
        .config
        .as_deref()
        .map(Config::read)
        .transpose()?
        .unwrap_or_default();
    let listen = args.listen.unwrap_or(config.server.listen);
    let http = args.http.or(config.server.http);
    if let Some(address) = [Some(listen), http]
        .into_iter()
        .flatten()
        .find(|address| !address.ip().is_loopback())
    {
        return Err(ServeError::NotLoopback(address));
    }
    let dir = args.data.as_path();
    let limits = limits(&config, http.is_some());
    let runtime = runtime(config.server.worker_threads).map_err(ServeError::Runtime)?;
    let _entered = runtime.enter();
    // An address that is taken is said at once, not after a long recovery.
    let bound = Bound::new(listen).map_err(bind(listen))?;
    let folder = args.socket.as_ref().unwrap_or(&config.server.socket);
    let local = match folder.as_os_str().is_empty() {
        true => None,
        false => Some(local_name(folder, &bound)?),
    };
    let http = match http {
        Some(address) => Some(Bound::new(address).map_err(bind(address))?),
        None => None,
    };
    info!("opening {}", dir.display());
    let database = open(dir, &config)?;
    watch::tell_opening(&database.database);
    let served = runtime.block_on(serve(bound, local, http, limits, dir, &database));
    let closed = database.database.close().map_err(|source| ServeError::Close {
        dir: dir.into(),
        source,
    });
    watch::tell_closing(&database.database);
    info!("stopped");
    served.and(closed)
}

struct Opened {
    database: std::sync::Arc<Database>,
    seconds: f64,
}

fn open(dir: &Path, config: &Config) -> Result<Opened, ServeError> {
    let began = Instant::now();
    let database = Database::open(dir, options(config)).map_err(|source| ServeError::Open {
        dir: dir.into(),
        source,
    })?;
    Ok(Opened {
        database,
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn bind(address: SocketAddr) -> impl FnOnce(io::Error) -> ServeError {
    move |source| ServeError::Bind { address, source }
}

/// A folder's socket for the port of an address.
fn local_name(folder: &Path, bound: &Bound) -> Result<LocalName, ServeError> {
    let port = bound.port().map_err(bind(bound.address()))?;
    LocalName::new(folder, port).map_err(at_socket(folder))
}

fn at_socket(folder: &Path) -> impl FnOnce(io::Error) -> ServeError {
    move |source| ServeError::Socket {
        folder: folder.into(),
        source,
    }
}

/// What clients may take, as far as the limit of open files lets them.
fn limits(config: &Config, http: bool) -> Limits {
    let limits = config.server.limits();
    match sys::raise_open_files() {
        Ok(files) => {
            let kept = if http { CONNECTIONS_MAX as u64 } else { 0 };
            let fitting = limits.clone().within_open_files(files.saturating_sub(kept));
            if fitting.sessions_max < limits.sessions_max {
                warn!(
                    "the limit of open files, {files}, allows {} connections, not {}",
                    fitting.sessions_max, limits.sessions_max
                );
            }
            fitting
        }
        Err(error) => {
            warn!(%error, "the limit of open files could not be raised");
            limits
        }
    }
}

async fn serve(
    bound: Bound,
    local: Option<LocalName>,
    http: Option<Bound>,
    limits: Limits,
    dir: &Path,
    opened: &Opened,
) -> Result<(), ServeError> {
    let listen = bound.address();
    let grace = limits.stop_grace;
    let mut server = Server::listen(bound, opened.database.clone(), limits).map_err(bind(listen))?;
    let address = server.address().map_err(bind(listen))?;
    let stop = Stop::default();
    let mut line = ready_line(address, dir, opened);
    if let Some(name) = local {
        let folder = name.folder().to_owned();
        let path = server.listen_at(name).map_err(at_socket(&folder))?;
        line.push_str(&format!(", socket {}", path.display()));
    }
    let http = match http {
        None => None,
        Some(bound) => {
            let listen = bound.address();
            let server = HttpServer::listen(bound, opened.database.clone(), grace).map_err(bind(listen))?;
            let address = server.address().map_err(bind(listen))?;
            line.push_str(&format!(", HTTP on {address}"));
            Some(server.run(stop.clone()))
        }
    };
    // Before the ready line: who has read it may send one.
    let signals = tokio::spawn(stop_on_signals(watched_signals(), stop.clone()));
    say_ready(&line);
    tokio::select! {
        _ = futures::future::join(server.run(stop), OptionFuture::from(http)) => {}
        () = watch::watch(&opened.database) => {}
    }
    signals.abort();
    Ok(())
}

fn ready_line(address: SocketAddr, dir: &Path, opened: &Opened) -> String {
    let log_mb = opened.database.engine().replayed_bytes() as f64 / 1e6;
    format!(
        "scry ready: listening on {address}, data {}, replayed {log_mb:.1} MB of log in {:.2} s",
        dir.display(),
        opened.seconds
    )
}

/// Whoever started the server waits for this line. A closed standard output is not our trouble.
fn say_ready(line: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        warn!(%error, "the ready line could not be written");
    }
    info!("{line}");
}

/// SIGTERM and SIGINT; from here on they do not end the server by themselves.
fn watched_signals() -> io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

/// The first signal lets sessions end, the second cuts them off.
async fn stop_on_signals(watched: io::Result<(Signal, Signal)>, stop: Stop) {
    let (mut terminate, mut interrupt) = match watched {
        Ok(watched) => watched,
        Err(error) => return warn!(%error, "signals cannot be watched; the default action ends the server"),
    };
    let mut seen = 0;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        seen += 1;
        match seen {
            1 => stop.orderly(),
            _ => stop.at_once(),
        }
    }
}

fn runtime(worker_threads: usize) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if worker_threads > 0 {
        builder.worker_threads(worker_threads);
    }
    builder
        .thread_name("scry-serve")
        .thread_stack_size(PLANNING_STACK_BYTES)
        .enable_all()
        .build()
}

fn options(config: &Config) -> DatabaseOptions {
    let Config {
        log,
        rows,
        transactions,
        history,
        mirror,
        analytic,
        elections,
        ..
    } = config;
    let mut options = DatabaseOptions::default();
    options.engine.log.backend = match log.backend {
        LogBackend::Auto => Backend::Auto,
        LogBackend::IoUring => Backend::IoUring,
        LogBackend::Blocking => Backend::Blocking,
    };
    options.engine.log.segment_bytes = log.segment_mib << 20;
    options.engine.log.max_in_flight = log.in_flight_max;
    options.engine.log.recent_bytes = log.recent_mib << 20;
    options.engine.log.buffer_bytes = log.buffer_mib << 20;
    options.engine.log.archive = (!log.archive.as_os_str().is_empty()).then(|| Archive::folder(&log.archive));
    if log.recycle {
        options.engine.log.retention = Retention::Recent {
            bytes: log.keep_mib << 20,
            age: Duration::from_secs(log.keep_hours * 3600),
        };
    }
    options.engine.log.retain_bytes_max = log.consumer_mib_max << 20;
    options.engine.rows_bytes_max = rows.memory_mib << 20;
    options.engine.runs.cache_bytes = rows.cache_mib << 20;
    options.engine.checkpoint_log_bytes = rows.checkpoint_mib << 20;
    if rows.checkpoint_mib == 0 {
        options.engine.checkpoint_dirty_bytes = 0;
    }
    options.engine.history = Duration::from_secs(history.retention_s);
    options.engine.transaction_bytes_max = transactions.memory_mib_max << 20;
    options.engine.move_bytes = options
        .engine
        .move_bytes
        .min(options.engine.transaction_bytes_max / 8);
    options.election_creators = Some(elections.creators.clone()).filter(|users| !users.is_empty());
    options.base_retention_bytes = Some(elections.base_retention_mib << 20).filter(|bytes| *bytes > 0);
    options.engine.candidate_bytes_max = elections.candidate_mib_max << 20;
    options.analytic.threads = analytic.threads;
    options.analytic.memory_bytes = analytic.memory_mib << 20;
    options.extractors = Some(mirror.extractors).filter(|threads| *threads > 0);
    options.mirror_checkpoint_bytes = Some(mirror.checkpoint_mib << 20).filter(|bytes| *bytes > 0);
    options.mirror_cache_bytes = Some(mirror.cache_mib << 20).filter(|bytes| *bytes > 0);
    options
}

/// What is logged: the variable SCRY_LOG in the syntax of `RUST_LOG`; without it, warnings of
/// libraries and what scry itself has to say.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("SCRY_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,scry_server=info,scry_sql=info,scry_mirror=info,scry_stream=info,scry_engine=info,scry_wal=info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // A second server in one process (tests) keeps the first one's log.
    let _ = subscriber.try_init();
}
