//! A database of its own for a target, and scripts run in a session of it.

use std::sync::Arc;

use bytes::BytesMut;
use scry_sql::{Database, DatabaseOptions, Error, Executed, Session, SessionInfo};
use tokio::runtime::{Builder, Runtime};

/// Bound of what all analytic queries may hold: a bad plan meets it, not the machine.
const MEMORY_BYTES: usize = 64 << 20;

pub struct Place {
    pub runtime: Runtime,
    pub database: Arc<Database>,
    _dir: tempfile::TempDir,
}

impl Place {
    /// A new database, made by these statements.
    pub fn new(schema: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let mut options = DatabaseOptions::default();
        options.engine.log.segment_bytes = 1 << 20;
        options.engine.transaction_bytes_max = MEMORY_BYTES as u64;
        options.analytic.memory_bytes = MEMORY_BYTES;
        let database = Database::open(&dir.path().join("data"), options).expect("a new database");
        let place = Self {
            runtime,
            database,
            _dir: dir,
        };
        let mut session = place.session();
        let made = place.runtime.block_on(simple(&mut session, schema));
        made.expect("the schema");
        place
    }

    pub fn session(&self) -> Session {
        let info = SessionInfo {
            user: "fuzz".to_owned(),
            process: 1,
            ..SessionInfo::default()
        };
        self.database.session(info).expect("a session")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let closed = self.database.close();
        assert!(closed.is_ok() || std::thread::panicking(), "{closed:?}");
    }
}

/// Runs a script as the simple protocol does; returns the messages of its last statement. Of a large result only the
/// first piece is taken.
pub async fn simple(session: &mut Session, sql: &str) -> Result<BytesMut, Error> {
    let result = statements(session, sql).await;
    let synced = session.sync().await;
    let out = result?;
    synced.map(|()| out)
}

async fn statements(session: &mut Session, sql: &str) -> Result<BytesMut, Error> {
    let mut out = BytesMut::new();
    for statement in session.parse_script(sql)? {
        out.clear();
        match session.simple(&statement, &mut out).await? {
            Executed::Complete(_) | Executed::Empty => {}
            Executed::MoreRows => break,
            Executed::CopyIn => return Err(session.copy_fail("nothing to copy")),
            Executed::Suspended => panic!("the simple protocol never suspends"),
        }
    }
    Ok(out)
}

/// An internal error is never the client's fault.
pub fn check_error(error: &Error) {
    let code = error.code.as_str();
    assert!(
        code.len() == 5
            && code
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()),
        "{error:?}"
    );
    assert!(!code.starts_with("XX"), "{error:?}");
}

/// The types of messages that are whole, in order.
pub fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let [tag, rest @ ..] = bytes {
        let length = rest
            .first_chunk()
            .map(|length| u32::from_be_bytes(*length) as usize);
        bytes = length
            .and_then(|length| rest.get(length..))
            .unwrap_or_else(|| panic!("a message {tag:#04x} that is not whole"));
        tags.push(char::from(*tag));
    }
    tags
}
