//! `SET scry.as_of`: the past through SQL, on the primary and on the mirror, before and after a restart.

mod common;

use common::{Fixture, run, script};
use scry_sql::{DatabaseOptions, Session};
use std::time::Duration;

fn options(history_s: u64) -> DatabaseOptions {
    let mut options = DatabaseOptions::default();
    options.engine.history = Duration::from_secs(history_s);
    options
}

async fn expect(session: &mut Session, sql: &str, expected: &[&str]) {
    assert_eq!(script(session, sql, None).await, expected, "{sql}");
}

/// Expects one error, by the beginning of its line.
async fn refused(session: &mut Session, sql: &str, expected: &str) {
    let lines = script(session, sql, None).await;
    assert!(
        lines.last().is_some_and(|line| line.starts_with(expected)),
        "{sql}: {lines:?}"
    );
}

/// Runs a statement and answers the LSN of the state after it.
async fn lsn_after(fixture: &Fixture, session: &mut Session, sql: &str) -> String {
    let lines = script(session, sql, None).await;
    assert!(lines.iter().all(|line| !line.starts_with("ERROR")), "{lines:?}");
    fixture.database.engine().visible_lsn().to_string()
}

/// Lookup, range and whole table on the primary; then a query that the mirror answers while it can.
async fn sees(session: &mut Session, at: &str, rows: &[&str]) {
    expect(session, &format!("SET scry.as_of = '{at}'"), &["SET"]).await;
    expect(session, "SHOW scry.as_of", &[at, "SHOW"]).await;
    let count = rows.len();
    let tag = format!("SELECT {count}");
    let all: Vec<&str> = rows.iter().copied().chain([tag.as_str()]).collect();
    for from in ["primary", "auto"] {
        expect(session, &format!("SET scry.read_from = {from}"), &["SET"]).await;
        expect(session, "SELECT * FROM t ORDER BY id", &all).await;
        let counted = count.to_string();
        expect(session, "SELECT count(*) FROM t", &[&counted, "SELECT 1"]).await;
    }
    for row in rows {
        let (id, value) = row.split_once('|').expect("two columns");
        let point = format!("SELECT * FROM t WHERE id = {id}");
        expect(session, &point, &[row, "SELECT 1"]).await;
        let by_index = format!("SELECT id FROM t WHERE value = {value}");
        expect(session, &by_index, &[id, "SELECT 1"]).await;
    }
    expect(session, "RESET scry.as_of", &["RESET"]).await;
}

#[test]
fn the_past_is_read_on_primary_and_mirror_and_after_a_restart() {
    run(async {
        let mut fixture = Fixture::with_options(options(3600));
        let mut session = fixture.session();
        let f = &fixture;
        let create = "CREATE TABLE t (id int PRIMARY KEY, value int); CREATE INDEX ON t (value)";
        let empty = lsn_after(f, &mut session, create).await;
        let filled = lsn_after(f, &mut session, "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)").await;
        let changed = lsn_after(
            f,
            &mut session,
            "UPDATE t SET value = 21 WHERE id = 2; DELETE FROM t WHERE id = 3",
        )
        .await;
        let emptied = lsn_after(f, &mut session, "TRUNCATE t; INSERT INTO t VALUES (9, 90)").await;
        lsn_after(f, &mut session, "DROP TABLE t").await;
        for _ in 0..3 {
            sees(&mut session, &empty, &[]).await;
            sees(&mut session, &filled, &["1|10", "2|20", "3|30"]).await;
            sees(&mut session, &changed, &["1|10", "2|21"]).await;
            sees(&mut session, &emptied, &["9|90"]).await;
            refused(&mut session, "SELECT * FROM t", "ERROR 42P01").await;
            drop(session);
            fixture = fixture.restart(options(3600));
            session = fixture.session();
        }
    });
}

#[test]
fn a_block_reads_one_state_and_writes_nothing() {
    run(async {
        let fixture = Fixture::with_options(options(3600));
        let mut session = fixture.session();
        let f = &fixture;
        lsn_after(f, &mut session, "CREATE TABLE t (id int PRIMARY KEY, value int)").await;
        let first = lsn_after(f, &mut session, "INSERT INTO t VALUES (1, 10)").await;
        lsn_after(
            f,
            &mut session,
            "UPDATE t SET value = 11; CREATE TABLE u (id int)",
        )
        .await;
        let begin = format!("BEGIN; SET LOCAL scry.as_of = '{first}'");
        expect(&mut session, &begin, &["BEGIN", "SET"]).await;
        expect(&mut session, "SELECT value FROM t", &["10", "SELECT 1"]).await;
        refused(&mut session, "SET scry.as_of = ''", "ERROR 25001").await;
        expect(&mut session, "ROLLBACK", &["ROLLBACK"]).await;
        expect(&mut session, "SELECT value FROM t", &["11", "SELECT 1"]).await;
        expect(&mut session, &format!("SET scry.as_of = '{first}'"), &["SET"]).await;
        for sql in [
            "INSERT INTO t VALUES (2, 20)",
            "UPDATE t SET value = 12",
            "DELETE FROM t WHERE id = 1",
            "SELECT * FROM t FOR UPDATE",
            "CREATE TABLE v (id int)",
            "DROP TABLE t",
            "CREATE ELECTION spring",
        ] {
            refused(&mut session, sql, "ERROR 25006").await;
        }
        refused(&mut session, "SELECT * FROM u", "ERROR 42P01").await;
        refused(&mut session, "SET scry.candidate = 'a/b'", "ERROR 55000").await;
        refused(&mut session, "SET scry.future = 'a/b'", "ERROR 55000").await;
        expect(&mut session, "RESET ALL", &["RESET"]).await;
        expect(&mut session, "SHOW scry.as_of", &["", "SHOW"]).await;
        lsn_after(f, &mut session, "CREATE ELECTION e; CREATE CANDIDATE c IN e").await;
        expect(&mut session, "SET scry.candidate = 'e/c'", &["SET"]).await;
        refused(
            &mut session,
            &format!("SET scry.as_of = '{first}'"),
            "ERROR 55000",
        )
        .await;
    });
}

#[test]
fn states_that_are_gone_or_to_come_are_refused_and_named() {
    run(async {
        let fixture = Fixture::with_options(options(0));
        let mut session = fixture.session();
        let first = lsn_after(&fixture, &mut session, "CREATE TABLE t (id int PRIMARY KEY)").await;
        lsn_after(&fixture, &mut session, "INSERT INTO t VALUES (1)").await;
        fixture.database.engine().horizon();
        let oldest = fixture.database.engine().oldest_readable();
        let told = format!(
            "SELECT value >= {} FROM scry_stat_engine WHERE name = 'history_begin_lsn'",
            oldest.get()
        );
        assert!(oldest.get() > 0);
        expect(&mut session, &told, &["t", "SELECT 1"]).await;
        let old = format!("SET scry.as_of = '{first}'");
        refused(
            &mut session,
            &old,
            "ERROR 72000: the database does not keep the state",
        )
        .await;
        refused(
            &mut session,
            "SET scry.as_of = 'FF/0'",
            "ERROR 22023: the state asked for is in",
        )
        .await;
        refused(
            &mut session,
            "SET scry.as_of = '2999-01-01'",
            "ERROR 22023: the state asked for",
        )
        .await;
        refused(&mut session, "SET scry.as_of = '1999-01-01'", "ERROR 72000").await;
        refused(
            &mut session,
            "SET scry.as_of = 'yesterdayish'",
            "ERROR 22023: invalid value",
        )
        .await;
    });
}

#[test]
fn times_become_lsns_and_lsns_times() {
    run(async {
        let fixture = Fixture::with_options(options(60));
        let mut session = fixture.session();
        let f = &fixture;
        lsn_after(f, &mut session, "CREATE TABLE t (id int PRIMARY KEY)").await;
        lsn_after(f, &mut session, "INSERT INTO t VALUES (1)").await;
        let clock = "SELECT clock_timestamp()";
        let noted = script(&mut session, clock, None).await[0].clone();
        // Until the clock has gone on by some steps of the timeline.
        let later = format!("SELECT clock_timestamp() > timestamptz '{noted}' + interval '100 ms'");
        while script(&mut session, &later, None).await[0] != "t" {}
        let time = script(
            &mut session,
            &format!("SELECT timestamptz '{noted}' + interval '50 ms'"),
            None,
        )
        .await[0]
            .clone();
        lsn_after(f, &mut session, "INSERT INTO t VALUES (2)").await;
        let back = format!("SELECT scry.time_of(scry.lsn_at('{time}')) <= timestamptz '{time}'");
        expect(&mut session, &back, &["t", "SELECT 1"]).await;
        let none = "SELECT scry.lsn_at('1999-01-01'), scry.time_of(0), scry.lsn_at(NULL)";
        expect(&mut session, none, &["NULL|NULL|NULL", "SELECT 1"]).await;
        expect(&mut session, "SET TimeZone = 'Europe/Berlin'", &["SET"]).await;
        expect(&mut session, &format!("SET scry.as_of = '{time}'"), &["SET"]).await;
        expect(&mut session, "SELECT * FROM t", &["1", "SELECT 1"]).await;
        expect(&mut session, "SELECT count(*) FROM t", &["1", "SELECT 1"]).await;
        expect(&mut session, "SET scry.as_of = ''", &["SET"]).await;
        expect(&mut session, "SELECT count(*) FROM t", &["2", "SELECT 1"]).await;
    });
}

#[test]
fn sequences_give_no_numbers_while_the_past_is_read() {
    run(async {
        let fixture = Fixture::with_options(options(3600));
        let mut session = fixture.session();
        let before = lsn_after(&fixture, &mut session, "CREATE SEQUENCE s").await;
        expect(&mut session, "SELECT nextval('s')", &["1", "SELECT 1"]).await;
        expect(&mut session, &format!("SET scry.as_of = '{before}'"), &["SET"]).await;
        let refusals = [
            (
                "SELECT nextval('s')",
                "ERROR 25006: cannot execute nextval() while",
            ),
            (
                "SELECT setval('s', 50)",
                "ERROR 25006: cannot execute setval() while",
            ),
        ];
        for (call, refusal) in refusals {
            refused(&mut session, call, refusal).await;
        }
        expect(&mut session, "RESET scry.as_of", &["RESET"]).await;
        expect(&mut session, "SELECT nextval('s')", &["2", "SELECT 1"]).await;
    });
}

#[test]
fn a_transaction_that_is_older_than_the_mirror_reads_the_primary() {
    run(async {
        let mut fixture = Fixture::new();
        let mut session = fixture.session();
        expect(
            &mut session,
            "CREATE TABLE t (id int PRIMARY KEY, value int)",
            &["CREATE TABLE"],
        )
        .await;
        drop(session);
        // When the mirror begins is its own affair: sometimes between the snapshot and the query.
        for round in 0..20 {
            fixture = fixture.restart_without_mirror(options(0));
            let (mut old, mut new) = (fixture.session(), fixture.session());
            let asked = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT id FROM t WHERE id = -1";
            expect(&mut old, asked, &["BEGIN", "SELECT 0"]).await;
            for id in 0..5 {
                let sql = format!("INSERT INTO t VALUES ({}, {id})", round * 5 + id);
                expect(&mut new, &sql, &["INSERT 0 1"]).await;
            }
            expect(&mut old, "INSERT INTO t VALUES (-1, 0)", &["INSERT 0 1"]).await;
            let seen = (round * 5 + 1).to_string();
            expect(&mut old, "SELECT count(*) FROM t", &[&seen, "SELECT 1"]).await;
            expect(&mut old, "ROLLBACK", &["ROLLBACK"]).await;
        }
    });
}
