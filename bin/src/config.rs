//! `scry.toml`: every key, its unit and its default. `docs/scry.toml` shows them to users.
//!
//! A key that is not known is refused with its line: a misspelt limit must not silently be none.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::server::{HANDSHAKES_MAX, Limits};

/// The whole file. Every table and key may be missing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub server: ServerConfig,
    pub log: LogConfig,
    pub rows: RowsConfig,
    pub history: HistoryConfig,
    pub transactions: TransactionsConfig,
    pub mirror: MirrorConfig,
    pub analytic: AnalyticConfig,
    pub elections: ElectionsConfig,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port; port 0 takes a free one. Loopback only until there is authentication.
    pub listen: SocketAddr,
    /// Folder for a Unix-domain socket beside the address; empty for none.
    pub socket: PathBuf,
    /// Address and port of the HTTP server; empty: there is none. Loopback only, too.
    #[serde(deserialize_with = "address_or_none")]
    pub http: Option<SocketAddr>,
    /// Sessions at the same time.
    pub connections_max: usize,
    /// Threads that serve connections; 0 means one for each processor.
    pub worker_threads: usize,
    /// Longest statement, set of parameters or piece of COPY data, in MiB (1 to 1023).
    pub message_mib_max: usize,
    /// From connecting to the first ReadyForQuery, in seconds.
    pub startup_timeout_s: u64,
    /// How long sessions may take to end when the server stops, in seconds.
    pub stop_grace_s: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 5433)),
            socket: PathBuf::new(),
            http: None,
            connections_max: 2000,
            worker_threads: 0,
            message_mib_max: 64,
            startup_timeout_s: 60,
            stop_grace_s: 10,
        }
    }
}

/// An address; an empty text is none.
fn address_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(de::Error::custom),
    }
}

/// `[log]`: the audit trail.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How frames are written: `auto`, `io-uring` or `blocking`.
    pub backend: LogBackend,
    /// Size of a segment file, in MiB. Only for new databases.
    pub segment_mib: u64,
    /// Synchronous writes outstanding at the same time.
    pub in_flight_max: usize,
    /// Frames kept in memory for the extractors, in MiB.
    pub recent_mib: usize,
    /// Records that wait to be written before commits have to wait, in MiB.
    pub buffer_mib: usize,
    /// Folder to which sealed segments are copied; empty for none.
    pub archive: PathBuf,
    /// Segments that nothing needs any more go; else all is kept.
    pub recycle: bool,
    /// What is kept of the trail though nothing needs it, in MiB, where segments go.
    pub keep_mib: u64,
    /// And what was committed within so many hours.
    pub keep_hours: u64,
    /// What of the trail is kept for the mirror, or another consumer, before that is dropped, in MiB.
    pub consumer_mib_max: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            backend: LogBackend::Auto,
            segment_mib: 64,
            in_flight_max: 16,
            recent_mib: 64,
            buffer_mib: 32,
            archive: PathBuf::new(),
            recycle: false,
            keep_mib: 1024,
            keep_hours: 0,
            consumer_mib_max: 16_384,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogBackend {
    #[default]
    Auto,
    IoUring,
    Blocking,
}

/// `[rows]`: where rows are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RowsConfig {
    /// Memory for rows, in MiB. Beyond it, those that nobody was interested in lately are in files only.
    pub memory_mib: u64,
    /// Blocks of files kept in memory, in MiB.
    pub cache_mib: usize,
    /// A checkpoint is made when the trail has grown by so much, in MiB; a restart replays no more than about that. 0: never.
    pub checkpoint_mib: u64,
}

impl Default for RowsConfig {
    fn default() -> Self {
        Self {
            memory_mib: 4096,
            cache_mib: 256,
            checkpoint_mib: 512,
        }
    }
}

/// `[history]`: how far back can be read.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// How long what was changed or deleted can still be read as of then, in seconds; 0: not at all.
    pub retention_s: u64,
}

/// `[transactions]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransactionsConfig {
    /// Memory that the changes of one transaction may take, in MiB; more end it with 53200.
    pub memory_mib_max: u64,
}

impl Default for TransactionsConfig {
    fn default() -> Self {
        Self { memory_mib_max: 8192 }
    }
}

/// `[analytic]`: queries on the mirror.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnalyticConfig {
    /// Threads that run queries; 0 means one for each processor.
    pub threads: usize,
    /// Memory that all queries together may hold in sorts, joins and aggregates, in MiB; a query that needs more ends
    /// with 53200.
    pub memory_mib: usize,
}

impl Default for AnalyticConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            memory_mib: 4096,
        }
    }
}

/// `[elections]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ElectionsConfig {
    /// Users who may create elections; empty: everybody.
    pub creators: Vec<String>,
    /// How much of the trail may be written behind the base of an election before it is let go of, in MiB; 0: any amount.
    pub base_retention_mib: u64,
    /// Memory that the rows of one candidate may take, in MiB; it takes no more then, with 53200.
    pub candidate_mib_max: u64,
}

impl Default for ElectionsConfig {
    fn default() -> Self {
        Self {
            creators: Vec::new(),
            base_retention_mib: 65_536,
            candidate_mib_max: 8192,
        }
    }
}

/// `[mirror]`: the columnar copy.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MirrorConfig {
    /// Threads that decode the log; 0 means as many as the mirror thinks fit.
    pub extractors: usize,
    /// Decoded columns kept in memory, in MiB; 0 means the mirror's own default.
    pub cache_mib: usize,
    /// What is applied of the trail between two checkpoints of the mirror, in MiB; 0 means the mirror's own default.
    pub checkpoint_mib: u64,
}

impl ServerConfig {
    pub fn limits(&self) -> Limits {
        Limits {
            sessions_max: self.connections_max,
            handshakes_max: HANDSHAKES_MAX,
            message_bytes_max: self.message_mib_max << 20,
            startup_timeout: Duration::from_secs(self.startup_timeout_s),
            stop_grace: Duration::from_secs(self.stop_grace_s),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    Read {
        path: PathBuf,
        source: io::Error,
    },
    /// Not TOML, a key that is not known, or a value of the wrong kind; says the line.
    Parse {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    /// A number outside its bounds.
    Range {
        path: PathBuf,
        key: &'static str,
        least: u64,
        most: u64,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Parse { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Range {
                path,
                key,
                least,
                most,
            } => {
                write!(f, "{}: {key} must be from {least} to {most}", path.display())
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Parse { source, .. } => Some(source),
            Self::Range { .. } => None,
        }
    }
}

impl Config {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.into(),
            source,
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|source| ConfigError::Parse {
            path: path.into(),
            source: Box::new(source),
        })?;
        let Self {
            server,
            log,
            rows,
            history,
            transactions,
            mirror,
            analytic,
            elections: _,
        } = &config;
        let bounds = [
            (
                "server.connections_max",
                server.connections_max as u64,
                1,
                1_000_000,
            ),
            ("server.worker_threads", server.worker_threads as u64, 0, 1024),
            ("server.message_mib_max", server.message_mib_max as u64, 1, 1023),
            ("server.startup_timeout_s", server.startup_timeout_s, 1, 3600),
            ("server.stop_grace_s", server.stop_grace_s, 0, 3600),
            ("log.segment_mib", log.segment_mib, 1, 1024),
            ("log.in_flight_max", log.in_flight_max as u64, 1, 32),
            ("log.recent_mib", log.recent_mib as u64, 1, 65_536),
            ("log.buffer_mib", log.buffer_mib as u64, 1, 65_536),
            ("log.keep_mib", log.keep_mib, 0, 1 << 30),
            ("log.keep_hours", log.keep_hours, 0, 1 << 20),
            ("log.consumer_mib_max", log.consumer_mib_max, 1, 1 << 30),
            ("rows.memory_mib", rows.memory_mib, 1, 1 << 24),
            ("rows.cache_mib", rows.cache_mib as u64, 1, 1 << 24),
            ("rows.checkpoint_mib", rows.checkpoint_mib, 0, 1 << 24),
            ("history.retention_s", history.retention_s, 0, 10 * 366 * 86_400),
            (
                "transactions.memory_mib_max",
                transactions.memory_mib_max,
                1,
                1 << 24,
            ),
            ("mirror.extractors", mirror.extractors as u64, 0, 256),
            ("mirror.cache_mib", mirror.cache_mib as u64, 0, 1 << 24),
            ("mirror.checkpoint_mib", mirror.checkpoint_mib, 0, 1 << 20),
            ("analytic.threads", analytic.threads as u64, 0, 1024),
            ("analytic.memory_mib", analytic.memory_mib as u64, 1, 1 << 24),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(ConfigError::Range {
                    path: path.into(),
                    key,
                    least,
                    most,
                });
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("scry.toml"))
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(parse("").expect("valid"), Config::default());
    }

    #[test]
    fn the_documented_file_holds_every_key_with_its_default() {
        let text = include_str!("../../docs/scry.toml");
        assert_eq!(parse(text).expect("valid"), Config::default());
        let keys = text.lines().filter(|line| line.split_once('=').is_some()).count();
        assert_eq!(keys, 31, "a key was added here or there only");
    }

    #[test]
    fn keys_are_read_with_their_units() {
        let config = parse(
            "[server]\nlisten = '127.0.0.1:0'\nsocket = '/run/scry'\nhttp = '[::1]:5435'\nmessage_mib_max = 2\nstop_grace_s = 3\n[log]\nbackend = 'io-uring'\n",
        )
        .expect("valid");
        assert_eq!(
            config.server.http,
            Some(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 5435)))
        );
        assert_eq!(config.server.socket, PathBuf::from("/run/scry"));
        assert!(parse("[server]\nhttp = 'here'\n").is_err());
        let limits = config.server.limits();
        assert_eq!(limits.message_bytes_max, 2 << 20);
        assert_eq!(limits.stop_grace, Duration::from_secs(3));
        assert_eq!(config.log.backend, LogBackend::IoUring);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse("[server]\nworker_threads = 2\nmax_conections = 5\n").expect_err("misspelt");
        let text = error.to_string();
        assert!(
            text.contains("line 3") && text.contains("max_conections"),
            "{text}"
        );
        let error = parse("[sever]\n").expect_err("misspelt table");
        assert!(error.to_string().contains("line 1"), "{error}");
    }

    #[test]
    fn numbers_out_of_bounds_are_refused_by_name() {
        let error = parse("[server]\nmessage_mib_max = 0\n").expect_err("too small");
        assert!(error.to_string().contains("server.message_mib_max"), "{error}");
        assert!(parse("[server]\nconnections_max = -1\n").is_err());
        let error = parse("[log]\nin_flight_max = 33\n").expect_err("more than the log takes");
        assert!(error.to_string().contains("from 1 to 32"), "{error}");
    }
}
