//! Golden scripts: `testdata/sessions/*.txt`, each in a database of its own.
//!
//! A block is SQL, a line `----`, the expected lines, an empty line. `@name` on the line before the SQL chooses a session,
//! `@name of user` one of another user than the tests' own. `@name waits`: the SQL is begun and waits for a lock; a later `@name goes on`,
//! without SQL, takes it to its end. Data of a
//! COPY FROM stands behind the SQL after a line `data:`. `UPDATE_SCRIPTS=1` writes what came out into the files.
//! The first line may set `# candidate_bytes_max = n`. An LSN is shown as `LSN`: it depends on which commits shared a write. Of a query on the
//! mirror EXPLAIN shows the logical plan: the physical one depends on the number of processors, and on how many pieces the rows are in.

mod common;

use common::{Fixture, script};
use scry_sql::{DatabaseOptions, Session};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What a block does in its session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Runs,
    /// Begins, and has to wait for a lock.
    Waits,
    /// Goes on where it waited.
    GoesOn,
}

impl How {
    fn suffix(self) -> &'static str {
        match self {
            How::Runs => "",
            How::Waits => " waits",
            How::GoesOn => " goes on",
        }
    }
}

/// A session, or what it is waiting in.
enum Place {
    Free(Box<Session>),
    Waiting(JoinHandle<(Box<Session>, Vec<String>)>),
}

/// Runs a block until it waits for a lock.
async fn until_waiting(fixture: &Fixture, mut session: Box<Session>, sql: String) -> Place {
    let waits = || fixture.database.engine().stats().lock_waits;
    let before = waits();
    let running = tokio::spawn(async move {
        let lines = script(&mut session, &sql, None).await;
        (session, lines)
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while waits() == before && !running.is_finished() && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    Place::Waiting(running)
}

struct Block {
    /// Comment lines before it.
    comments: Vec<String>,
    session: String,
    how: How,
    sql: String,
    data: Option<String>,
    expected: Vec<String>,
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut comments = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            comments.push(line.to_owned());
            continue;
        }
        let mut block = Block {
            comments: std::mem::take(&mut comments),
            session: "main".into(),
            how: How::Runs,
            sql: String::new(),
            data: None,
            expected: Vec::new(),
        };
        let mut current = Some(line);
        while let Some(line) = current {
            if line == "----" {
                break;
            }
            if let Some(name) = line.strip_prefix('@') {
                let suffixes = [How::Waits, How::GoesOn];
                let how = suffixes.into_iter().find(|how| name.ends_with(how.suffix()));
                block.how = how.unwrap_or(How::Runs);
                block.session = name.strip_suffix(block.how.suffix()).unwrap_or(name).to_owned();
            } else if line == "data:" {
                block.data = Some(String::new());
            } else if let Some(data) = &mut block.data {
                data.push_str(line);
                data.push('\n');
            } else {
                block.sql.push_str(line);
                block.sql.push('\n');
            }
            current = lines.next();
        }
        while let Some(line) = lines.next_if(|line| !line.is_empty()) {
            block.expected.push(line.to_owned());
        }
        blocks.push(block);
    }
    blocks
}

fn without_lsns(line: &str) -> String {
    let is_lsn = |field: &str| {
        field.split_once('/').is_some_and(|(high, low)| {
            let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hex(high) && is_hex(low) && low.len() >= 4
        })
    };
    let fields = line.split('|');
    let fields: Vec<&str> = fields
        .map(|field| if is_lsn(field) { "LSN" } else { field })
        .collect();
    fields.join("|")
}

/// Without the physical plans, which stand behind the logical ones and an empty line.
fn without_physical_plans(lines: Vec<String>) -> Vec<String> {
    let mut is_physical = false;
    lines
        .into_iter()
        .filter(|line| {
            is_physical = line == "  " || is_physical && line.starts_with(' ');
            !is_physical
        })
        .collect()
}

fn run_file(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let blocks = parse(&text);
    let mut options = DatabaseOptions::default();
    let limit = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# candidate_bytes_max = "));
    if let Some(limit) = limit {
        options.engine.candidate_bytes_max = limit.parse().map_err(|_| limit.to_owned())?;
    }
    let fixture = Fixture::with_options(options);
    let mut failures = String::new();
    let mut updated = String::new();
    common::run(async {
        let mut sessions: HashMap<String, Place> = HashMap::new();
        for block in &blocks {
            let place = sessions.remove(&block.session).unwrap_or_else(|| {
                Place::Free(Box::new(match block.session.split_once(" of ") {
                    Some((_, user)) => fixture.session_of(user),
                    None => fixture.session(),
                }))
            });
            let data = block.data.as_deref().map(str::as_bytes);
            let (place, found) = match (place, block.how) {
                (Place::Free(mut session), How::Runs) => {
                    let found = script(&mut session, &block.sql, data).await;
                    (Place::Free(session), found)
                }
                (Place::Free(session), How::Waits) => {
                    match until_waiting(&fixture, session, block.sql.clone()).await {
                        Place::Waiting(running) if running.is_finished() => {
                            let (session, found) = running.await.expect("the session goes on");
                            (Place::Free(session), found)
                        }
                        place => (place, Vec::new()),
                    }
                }
                (Place::Waiting(running), How::GoesOn) => {
                    let (session, found) = running.await.expect("the session goes on");
                    (Place::Free(session), found)
                }
                (place, _) => (place, vec!["the session cannot do that now".to_owned()]),
            };
            sessions.insert(block.session.clone(), place);
            let found = without_physical_plans(found);
            let found: Vec<String> = found.iter().map(|line| without_lsns(line)).collect();
            let found = found.join("\n");
            let expected = block.expected.join("\n");
            if found != expected {
                let _ = write!(
                    failures,
                    "\n{}\nexpected:\n{expected}\nfound:\n{found}\n",
                    block.sql.trim_end()
                );
            }
            for comment in &block.comments {
                let _ = writeln!(updated, "{comment}");
            }
            if block.session != "main" {
                let _ = writeln!(updated, "@{}{}", block.session, block.how.suffix());
            }
            updated.push_str(&block.sql);
            if let Some(data) = &block.data {
                let _ = write!(updated, "data:\n{data}");
            }
            let _ = writeln!(updated, "----");
            if !found.is_empty() {
                let _ = writeln!(updated, "{found}");
            }
        }
    });
    fixture.database.close().map_err(|error| error.to_string())?;
    if std::env::var_os("UPDATE_SCRIPTS").is_some() {
        let trimmed = format!("{}\n", updated.trim_end());
        std::fs::write(path, trimmed).map_err(|error| error.to_string())?;
        return Ok(());
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures)
    }
}

#[test]
fn scripts_give_what_stands_in_them() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sessions");
    let only = std::env::var("SCRIPT").ok();
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("testdata")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let mut failures = String::new();
    for path in files
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
    {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        if let Err(error) = run_file(path) {
            let _ = write!(failures, "\n== {name}{error}");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
