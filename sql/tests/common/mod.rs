//! What the tests of sessions share: a database in a temporary directory, and messages turned back into text.

#![allow(dead_code, reason = "each test file uses a part")]

use bytes::BytesMut;
use scry_sql::{Database, DatabaseOptions, Error, Executed, Session, SessionInfo};
use std::sync::Arc;

pub struct Fixture {
    pub database: Arc<Database>,
    dir: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Fixture {
        Self::with_options(DatabaseOptions::default())
    }

    pub fn with_options(options: DatabaseOptions) -> Fixture {
        Self::open(tempfile::tempdir().expect("a temporary directory"), options)
    }

    /// The database in a directory.
    pub fn open(dir: tempfile::TempDir, options: DatabaseOptions) -> Fixture {
        let database = Database::open(dir.path(), options).expect("the database opens");
        Fixture { database, dir }
    }

    /// Closes the database and opens it again. Its sessions must be gone.
    pub fn restart(self, options: DatabaseOptions) -> Fixture {
        let Fixture { database, dir } = self;
        database.close().expect("the database closes");
        drop(database);
        Self::open(dir, options)
    }

    /// The same, and the mirror has to be made anew.
    pub fn restart_without_mirror(self, options: DatabaseOptions) -> Fixture {
        let Fixture { database, dir } = self;
        database.close().expect("the database closes");
        drop(database);
        std::fs::remove_dir_all(dir.path().join("mirror")).expect("the mirror is removed");
        Self::open(dir, options)
    }

    /// The data directory.
    pub fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub fn session(&self) -> Session {
        self.session_of("tester")
    }

    pub fn session_of(&self, user: &str) -> Session {
        let info = SessionInfo {
            user: user.into(),
            process: 1,
            ..SessionInfo::default()
        };
        self.database.session(info).expect("a session")
    }
}

/// Runs a future on a small runtime with timers.
pub fn run<F: std::future::Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// DataRow messages as lines of `a|b|NULL`; other messages by their letter.
pub fn rows(out: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = out;
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[1..5].try_into().expect("a length")) as usize;
        let (tag, body) = (rest[0], &rest[5..1 + length]);
        rest = &rest[1 + length..];
        match tag {
            b'D' => lines.push(data_row(body)),
            b'd' => lines.push(format!(
                "copy: {}",
                String::from_utf8_lossy(body).trim_end_matches('\n')
            )),
            b'T' | b'G' | b'H' | b'c' => {}
            other => lines.push(format!("message {}", char::from(other))),
        }
    }
    lines
}

fn data_row(body: &[u8]) -> String {
    let count = u16::from_be_bytes(body[..2].try_into().expect("a count"));
    let mut at = 2;
    let mut values = Vec::new();
    for _ in 0..count {
        let length = i32::from_be_bytes(body[at..at + 4].try_into().expect("a length"));
        at += 4;
        match usize::try_from(length) {
            Err(_) => values.push("NULL".to_owned()),
            Ok(length) => {
                values.push(String::from_utf8_lossy(&body[at..at + length]).into_owned());
                at += length;
            }
        }
    }
    values.join("|")
}

/// Runs a script with the simple protocol; every row, notice, tag, error and notification as a line.
pub async fn script(session: &mut Session, sql: &str, copy: Option<&[u8]>) -> Vec<String> {
    let mut lines = Vec::new();
    let result = script_steps(session, sql, copy, &mut lines).await;
    if let Err(error) = result {
        lines.push(shown("ERROR", &error));
    }
    if let Err(error) = session.sync().await {
        lines.push(shown("ERROR at sync", &error));
    }
    for notification in session.take_notifications() {
        let message = notification.message;
        lines.push(format!("heard on {}: {}", message.channel, message.payload));
    }
    for notice in session.take_notices() {
        lines.push(shown("NOTICE", &notice.0));
    }
    lines
}

async fn script_steps(
    session: &mut Session,
    sql: &str,
    copy: Option<&[u8]>,
    lines: &mut Vec<String>,
) -> Result<(), Error> {
    for statement in session.parse_script(sql)? {
        let mut out = BytesMut::new();
        let mut step = session.simple(&statement, &mut out).await;
        loop {
            lines.extend(rows(&out.split()));
            for notice in session.take_notices() {
                lines.push(shown("NOTICE", &notice.0));
            }
            match step? {
                Executed::Complete(tag) => {
                    lines.push(tag.to_string());
                    break;
                }
                Executed::MoreRows => step = session.resume(&mut out).await,
                Executed::CopyIn => {
                    // Small pieces: records come in parts.
                    for piece in copy.unwrap_or_default().chunks(7) {
                        session.copy_data(piece).await?;
                    }
                    step = session.copy_done().await;
                }
                Executed::Empty => {
                    lines.push("EMPTY".into());
                    break;
                }
                Executed::Suspended => panic!("the simple protocol never suspends"),
            }
        }
    }
    Ok(())
}

/// An error or notice as one line, its further fields behind it.
pub fn shown(kind: &str, error: &Error) -> String {
    let mut line = format!("{kind} {}: {}", error.code, error.message);
    for (name, field) in [
        ("detail", &error.detail),
        ("hint", &error.hint),
        ("context", &error.context),
    ] {
        if let Some(text) = field {
            line.push_str(&format!("\n  {name}: {text}"));
        }
    }
    if let Some(position) = error.position {
        line.push_str(&format!("\n  position: {position}"));
    }
    line
}
