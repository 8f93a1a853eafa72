//! The power goes anywhere in the log of a story of elections: what is found is the state that one of the statements left, the
//! tables, the queue of conflicts and the elections together.

mod common;

use common::{Fixture, run, script};
use scry_sql::{DatabaseOptions, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each is a transaction. Statements inside of a candidate are led by its name; `again` is one of statements.
const STORY: &[&str] = &[
    "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL, s text)",
    "INSERT INTO t SELECT i, i * 10, 'row ' || i FROM generate_series(1, 6) AS g(i)",
    "ALTER TABLE t ALTER COLUMN v SET (scry.on_collision = 'add')",
    "CREATE ELECTION e WITH (winners = 3)",
    "CREATE CANDIDATE a IN e",
    "CREATE CANDIDATE b IN e",
    "CREATE CANDIDATE again IN e",
    "CREATE CANDIDATE loser IN e",
    "e/again: UPDATE t SET v = v * 2 WHERE v < 40",
    "e/again: INSERT INTO t VALUES (11, 1, 'again'); DELETE FROM t WHERE id = 6",
    "e/a: UPDATE t SET v = v + 1 WHERE id <= 3",
    "e/a: DELETE FROM t WHERE id = 4",
    "e/b: BEGIN; UPDATE t SET v = v + 5, s = 'b' WHERE id IN (1, 5); INSERT INTO t VALUES (9, 90, 'new'); COMMIT",
    "e/loser: INSERT INTO t SELECT i, 0, repeat('x', 200) FROM generate_series(100, 160) AS g(i)",
    "UPDATE t SET v = v + 100, s = 'present' WHERE id IN (1, 2, 4)",
    "INSERT INTO t VALUES (9, 99, 'first')",
    // Three rows into the queue, which comes to be here.
    "ELECT CANDIDATE a IN e ON CONFLICT DEFER",
    "SELECT scry.resolve_conflict(1, 'take')",
    "SELECT scry.resolve_conflict(2, 'merge', '{\"v\": 7, \"s\": \"merged\"}')",
    "BEGIN; SELECT scry.resolve_conflict(3, 'take'); UPDATE t SET s = 'with it' WHERE id = 6; COMMIT",
    "BEGIN; UPDATE t SET v = 0; ROLLBACK",
    "REBASE CANDIDATE b IN e ON CONFLICT DEFER",
    "ALTER CANDIDATE loser IN e SET (mirror = off)",
    "REBASE CANDIDATE again IN e",
    "e/loser: UPDATE t SET v = 1 WHERE id = 5",
    "BEGIN; ELECT CANDIDATE b IN e ON CONFLICT DEFER; SELECT scry.resolve_conflict(4, 'keep'); COMMIT",
    // With the last winner the election ends, and the loser with it.
    "ELECT CANDIDATE again IN e",
    "SELECT scry.resolve_conflict(5, 'drop')",
    "UPDATE t SET v = v + 1",
    "DROP ELECTION e",
];

/// Everything that the story changes, as both executors read it.
const DUMP: &[&str] = &[
    "SELECT id, v, s FROM t ORDER BY id",
    "SELECT id, election, candidate, table_name, key, before, present, proposed, state, action \
     FROM scry.conflict_queue ORDER BY id",
    "SELECT election, state, elected FROM scry.elections",
    "SELECT election, candidate, state, mirror FROM scry.candidates ORDER BY candidate",
    "SELECT candidate, number, statement FROM scry.candidate_statements ORDER BY number",
];

/// What the log writes as one.
const WRITE_UNIT: u64 = 4096;

fn options() -> DatabaseOptions {
    let mut options = DatabaseOptions::default();
    // Everything in one file.
    options.engine.log.segment_bytes = 1 << 20;
    options.analytic.threads = 1;
    // A log is taken for one that has lost its end when a checkpoint knows more.
    options.engine.checkpoint_log_bytes = 0;
    options
}

async fn play(session: &mut Session, statement: &str) {
    let inside = statement
        .split_once(": ")
        .filter(|(candidate, _)| candidate.starts_with("e/"));
    let (candidate, sql) = inside.unwrap_or(("", statement));
    let mode = match candidate {
        "e/again" => "SET scry.candidate_mode = 'statements'",
        _ => "SET scry.candidate_mode = 'rows'",
    };
    let set = format!("SET scry.candidate = '{candidate}'");
    for sql in [set.as_str(), mode, sql] {
        let lines = script(session, sql, None).await;
        let failed = lines.iter().find(|line| line.starts_with("ERROR"));
        assert_eq!(failed, None, "{statement}");
    }
}

async fn dump(fixture: &Fixture) -> Vec<String> {
    let session = &mut fixture.session();
    let mut lines = Vec::new();
    for place in ["primary", "mirror"] {
        lines.extend(script(session, &format!("SET scry.read_from = {place}"), None).await);
        for sql in DUMP {
            lines.extend(script(session, sql, None).await);
        }
    }
    assert!(!lines.iter().any(|line| line.starts_with("ERROR")), "{lines:?}");
    let half = lines.len() / 2;
    assert_eq!(lines[..half], lines[half..], "the mirror shows something else");
    lines.truncate(half);
    lines
}

/// The data directory without what the mirror wrote, its log cut at an offset.
fn cut(from: &Path, to: &Path, at: usize) {
    for entry in std::fs::read_dir(from).expect("listed") {
        let path = entry.expect("listed").path();
        let target = to.join(path.file_name().expect("named"));
        if path.is_dir() && !path.ends_with("mirror") {
            std::fs::create_dir(&target).expect("created");
            cut(&path, &target, at);
        } else if path.extension().is_some_and(|extension| extension == "wal") {
            let mut bytes = std::fs::read(&path).expect("read");
            bytes[at..].fill(0);
            std::fs::write(&target, bytes).expect("written");
        } else if path.is_file() {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

#[test]
fn wherever_the_log_ends_tables_queue_and_elections_are_what_one_statement_left() {
    run(async {
        let fixture = Fixture::with_options(options());
        let mut session = fixture.session();
        let mut states = BTreeMap::new();
        for statement in STORY {
            play(&mut session, statement).await;
            states.insert(fixture.database.engine().visible_lsn(), dump(&fixture).await);
        }
        drop(session);
        fixture.database.close().expect("closed");
        let (began, _) = states.first_key_value().expect("a statement");
        let (ended, _) = states.last_key_value().expect("a statement");
        let mut found = BTreeSet::new();
        // Between write units, and in the midst of them.
        let units = began.get() / WRITE_UNIT..=ended.get() / WRITE_UNIT + 1;
        for offset in units.flat_map(|unit| [unit * WRITE_UNIT, unit * WRITE_UNIT + 700]) {
            let folder = tempfile::tempdir().expect("a folder");
            cut(
                fixture.path(),
                folder.path(),
                usize::try_from(offset).expect("small"),
            );
            let left = Fixture::open(folder, options());
            let visible = left.database.engine().visible_lsn();
            if let Some((lsn, expected)) = states.range(..=visible).next_back() {
                assert_eq!(&dump(&left).await, expected, "cut at {offset}, found {visible}");
                found.insert(*lsn);
            }
            left.database.close().expect("closed");
        }
        // Every one was met but those that share a unit with the next.
        assert!(
            found.len() + 3 >= states.len(),
            "{} of {} states",
            found.len(),
            states.len()
        );
    });
}
