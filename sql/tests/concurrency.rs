//! Sessions beside each other: row locks, deadlocks, timeouts, cancelling.

mod common;
#[path = "concurrency/foreign_keys.rs"]
mod foreign_keys;

use bytes::BytesMut;
use common::{Fixture, run, script};
use scry_sql::{DatabaseOptions, Session};
use std::time::{Duration, Instant};

async fn sql(session: &mut Session, text: &str) -> Vec<String> {
    script(session, text, None).await
}

fn has_code(lines: &[String], code: &str) -> bool {
    lines
        .iter()
        .any(|line| line.starts_with(&format!("ERROR {code}")))
}

async fn table(fixture: &Fixture) {
    let mut session = fixture.session();
    let lines = sql(
        &mut session,
        "create table t (id int primary key, v int); insert into t values (1, 10), (2, 20)",
    )
    .await;
    assert_eq!(lines, ["CREATE TABLE", "INSERT 0 2"]);
}

/// Waits until as many lock waits have been counted.
async fn until_waiting(fixture: &Fixture, waits: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while fixture.database.engine().stats().lock_waits < waits {
        assert!(Instant::now() < deadline, "nobody waits");
        tokio::task::yield_now().await;
    }
}

#[test]
fn an_update_waits_and_goes_on_with_the_newest_version() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b) = (fixture.session(), fixture.session());
        sql(&mut a, "begin; update t set v = v + 1 where id = 1").await;
        let waiting = tokio::spawn(async move {
            let lines = sql(
                &mut b,
                "update t set v = v * 2 where id = 1 and v < 100 returning v",
            )
            .await;
            (b, lines)
        });
        until_waiting(&fixture, 1).await;
        sql(&mut a, "commit").await;
        let (_, lines) = waiting.await.expect("joins");
        assert_eq!(lines, ["22", "UPDATE 1"]);
    });
}

#[test]
fn a_row_that_no_longer_matches_after_the_wait_is_left_alone() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b) = (fixture.session(), fixture.session());
        sql(&mut a, "begin; update t set v = 1000 where id = 1").await;
        let waiting =
            tokio::spawn(
                async move { sql(&mut b, "update t set v = v * 2 where v < 100 returning id, v").await },
            );
        until_waiting(&fixture, 1).await;
        sql(&mut a, "commit").await;
        assert_eq!(waiting.await.expect("joins"), ["2|40", "UPDATE 1"]);
    });
}

#[test]
fn a_searched_update_looks_again_when_its_rows_change() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b) = (fixture.session(), fixture.session());
        sql(&mut a, "begin; update t set v = 1000 where id = 2").await;
        let waiting = tokio::spawn(async move {
            sql(&mut b, "update t set v = (select max(v) from t) + 1 where v = (select max(v) from t) returning id, v").await
        });
        until_waiting(&fixture, 1).await;
        sql(&mut a, "commit").await;
        assert_eq!(waiting.await.expect("joins"), ["2|1001", "UPDATE 1"]);
    });
}

#[test]
fn repeatable_read_fails_on_a_newer_version_and_reads_its_own_snapshot() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b) = (fixture.session(), fixture.session());
        sql(
            &mut a,
            "begin isolation level repeatable read; select 1 from t where id = 1",
        )
        .await;
        sql(
            &mut b,
            "update t set v = 11 where id = 1; insert into t values (3, 30)",
        )
        .await;
        assert_eq!(
            sql(&mut a, "select v from t where id = 1").await,
            ["10", "SELECT 1"]
        );
        assert_eq!(
            sql(&mut a, "select sum(v), count(*) from t").await,
            ["30|2", "SELECT 1"]
        );
        assert_eq!(sql(&mut a, "update t set v = 0 where id = 3").await, ["UPDATE 0"]);
        assert!(has_code(
            &sql(&mut a, "update t set v = 0 where id = 1").await,
            "40001"
        ));
        assert_eq!(sql(&mut a, "rollback").await, ["ROLLBACK"]);
    });
}

#[test]
fn a_deadlock_ends_one_of_the_two() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b) = (fixture.session(), fixture.session());
        sql(&mut a, "begin; update t set v = 1 where id = 1").await;
        sql(&mut b, "begin; update t set v = 2 where id = 2").await;
        let waiting = tokio::spawn(async move {
            let lines = sql(&mut b, "update t set v = 2 where id = 1").await;
            (b, lines)
        });
        until_waiting(&fixture, 1).await;
        let lines = sql(&mut a, "update t set v = 1 where id = 2").await;
        assert!(has_code(&lines, "40P01"), "{lines:?}");
        let (mut b, lines) = waiting.await.expect("joins");
        assert_eq!(lines, ["UPDATE 1"]);
        assert_eq!(sql(&mut a, "commit").await, ["ROLLBACK"]);
        assert_eq!(sql(&mut b, "commit").await, ["COMMIT"]);
        assert_eq!(
            sql(&mut a, "select v from t where id in (1, 2)").await,
            ["2", "2", "SELECT 2"]
        );
    });
}

#[test]
fn locked_rows_can_be_refused_or_skipped() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b) = (fixture.session(), fixture.session());
        sql(&mut a, "begin; select * from t where id = 1 for update").await;
        assert!(has_code(
            &sql(&mut b, "select id from t for update nowait").await,
            "55P03"
        ));
        assert_eq!(
            sql(&mut b, "select id from t for update skip locked").await,
            ["2", "SELECT 1"]
        );
        sql(&mut a, "rollback").await;
        assert_eq!(
            sql(&mut b, "select id from t for update nowait").await,
            ["1", "2", "SELECT 2"]
        );
    });
}

#[test]
fn timeouts_end_a_wait() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b) = (fixture.session(), fixture.session());
        sql(&mut a, "begin; update t set v = 1 where id = 1").await;
        sql(&mut b, "set lock_timeout = 20").await;
        let lines = sql(&mut b, "update t set v = 2 where id = 1").await;
        assert!(has_code(&lines, "55P03"), "{lines:?}");
        sql(&mut b, "set lock_timeout = 0; set statement_timeout = 20").await;
        let lines = sql(
            &mut b,
            "insert into t values (1, 1) on conflict (id) do update set v = 3",
        )
        .await;
        assert!(has_code(&lines, "57014"), "{lines:?}");
        sql(&mut a, "rollback").await;
        assert_eq!(sql(&mut b, "update t set v = 2 where id = 1").await, ["UPDATE 1"]);
    });
}

#[test]
fn looking_after_a_wait_does_not_make_its_timeout_longer() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b) = (fixture.session(), fixture.session());
        sql(&mut a, "begin; update t set v = 1 where id = 1").await;
        sql(&mut b, "set lock_timeout = 200").await;
        // As a server looks after its sessions: far more often than the timeout, and for ever.
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(5));
        let mut waiting = std::pin::pin!(sql(&mut b, "update t set v = 2 where id = 1"));
        let lines = loop {
            tokio::select! {
                biased;
                lines = &mut waiting => break lines,
                _ = looks.tick() => {}
            }
        };
        assert!(has_code(&lines, "55P03"), "{lines:?}");
    });
}

#[test]
fn a_cancel_request_ends_a_wait_and_not_the_next_statement() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b) = (fixture.session(), fixture.session());
        sql(&mut a, "begin; update t set v = 1 where id = 1").await;
        let cancel = b.cancel_handle();
        let waiting = tokio::spawn(async move {
            let lines = sql(&mut b, "delete from t where id = 1").await;
            (b, lines)
        });
        until_waiting(&fixture, 1).await;
        cancel.cancel();
        let (mut b, lines) = waiting.await.expect("joins");
        assert!(has_code(&lines, "57014"), "{lines:?}");
        cancel.cancel();
        assert_eq!(
            sql(&mut b, "select v from t where id = 2").await,
            ["20", "SELECT 1"]
        );
    });
}

#[test]
fn an_insert_waits_for_the_other_inserter_of_its_key() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b) = (fixture.session(), fixture.session());
        for (end, expected) in [("rollback", "INSERT 0 1"), ("commit", "ERROR 23505")] {
            sql(&mut a, "begin; insert into t values (9, 9)").await;
            let before = fixture.database.engine().stats().lock_waits;
            let waiting = tokio::spawn(async move {
                let lines = sql(&mut b, "insert into t values (9, 10)").await;
                (b, lines)
            });
            until_waiting(&fixture, before + 1).await;
            sql(&mut a, end).await;
            let (back, lines) = waiting.await.expect("joins");
            b = back;
            assert!(lines[0].starts_with(expected), "{end}: {lines:?}");
            sql(&mut b, "delete from t where id = 9").await;
        }
    });
}

#[test]
fn a_truncate_waits_for_writers_and_a_writer_goes_on_in_the_new_table() {
    run(async {
        let fixture = Fixture::new();
        table(&fixture).await;
        let (mut a, mut b, mut c) = (fixture.session(), fixture.session(), fixture.session());
        sql(&mut a, "begin; truncate t").await;
        let waiting = tokio::spawn(async move { sql(&mut b, "insert into t values (3, 3)").await });
        until_waiting(&fixture, 1).await;
        sql(&mut a, "commit").await;
        assert_eq!(waiting.await.expect("joins"), ["INSERT 0 1"]);
        assert_eq!(
            sql(&mut c, "select * from t order by id").await,
            ["3|3", "SELECT 1"]
        );
    });
}

#[test]
fn a_long_scan_stops_when_cancelled() {
    run(async {
        let fixture = Fixture::new();
        let mut a = fixture.session();
        sql(&mut a, "create table big (id int primary key); insert into big select x from generate_series(1, 20000) as g(x)").await;
        let statement = a
            .parse_script("select id from big where id between 1 and 20000")
            .expect("parses");
        let mut out = BytesMut::new();
        // The flag is set while the statement waits for its buffer to be sent.
        let cancel = a.cancel_handle();
        let first = a.simple(&statement[0], &mut out).await.expect("runs");
        assert_eq!(first, scry_sql::Executed::MoreRows);
        cancel.cancel();
        out.clear();
        let error = a.resume(&mut out).await.expect_err("cancelled");
        assert_eq!(error.code.to_string(), "57014");
        a.sync().await.expect("syncs");
    });
}

#[test]
fn a_join_that_never_ends_gives_its_worker_back_when_cancelled() {
    run(async {
        let mut options = DatabaseOptions::default();
        options.analytic.threads = 1;
        let fixture = Fixture::with_options(options);
        let mut a = fixture.session();
        for endless in [
            "select count(*) from generate_series(1, 100000000) a, generate_series(1, 1000000) b",
            "select count(*) from generate_series(1, 1000000) a(x) join generate_series(1, 1000000) b(y) on x < y",
            "select count(*) from generate_series(1, 1000000) a(x) join generate_series(1, 1000000) b(y) on x % 2 = y % 2",
            "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r",
        ] {
            sql(&mut a, "set statement_timeout = 50").await;
            let lines = sql(&mut a, endless).await;
            assert!(has_code(&lines, "57014"), "{endless}: {lines:?}");
            sql(&mut a, "set statement_timeout = 0").await;
            let next = sql(&mut a, "select count(*) from generate_series(1, 10)");
            let next = tokio::time::timeout(Duration::from_secs(60), next).await;
            assert_eq!(
                next.expect("the only worker is free"),
                ["10", "SELECT 1"],
                "{endless}"
            );
        }
    });
}

#[test]
fn a_damaged_part_of_the_mirror_is_named_and_then_there_again() {
    run(async {
        // Every column is read from its file.
        let options = DatabaseOptions {
            mirror_cache_bytes: Some(1),
            ..DatabaseOptions::default()
        };
        let fixture = Fixture::with_options(options);
        let mut session = fixture.session();
        sql(
            &mut session,
            "create table t (id int primary key, v int, filler text)",
        )
        .await;
        // More bytes than stay in memory when they are sealed.
        let filler = "filler ".repeat(3_600);
        for hundred in 0..16 {
            let row = |id| format!("({},{id},'{filler}')", hundred * 100 + id);
            let values: Vec<String> = (0..100).map(row).collect();
            let lines = sql(
                &mut session,
                &format!("insert into t values {}", values.join(",")),
            )
            .await;
            assert_eq!(lines, ["INSERT 0 100"]);
        }
        let question = "set scry.read_from = mirror; select sum(v), max(filler) < 'g' from t where v >= 0";
        let answer = ["SET", "79200|t", "SELECT 1"];
        assert_eq!(sql(&mut session, question).await, answer);
        let mirror = fixture.database.mirror();
        let applied = mirror.applied_lsn();
        mirror.request_checkpoint();
        let deadline = Instant::now() + Duration::from_secs(60);
        while mirror
            .status()
            .checkpoint
            .is_none_or(|checkpoint| checkpoint < applied)
        {
            assert!(Instant::now() < deadline, "no checkpoint");
            tokio::task::yield_now().await;
        }
        let files = std::fs::read_dir(fixture.path().join("mirror")).expect("the mirror's files");
        let files = files.map(|file| file.expect("a file").path());
        let file = files
            .filter(|path| path.extension().is_some_and(|extension| extension == "parquet"))
            .max_by_key(|path| path.metadata().expect("there").len())
            .expect("a segment was sealed");
        let mut bytes = std::fs::read(&file).expect("read");
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        std::fs::write(&file, bytes).expect("written");
        let lines = sql(&mut session, question).await;
        assert!(has_code(&lines, "XX001"), "{lines:?}");
        assert!(lines.concat().contains(file.to_str().expect("text")), "{lines:?}");
        loop {
            let lines = sql(&mut session, question).await;
            if lines == answer {
                break;
            }
            assert!(has_code(&lines, "XX001"), "{lines:?}");
            assert!(Instant::now() < deadline, "it is not made again");
        }
        assert_eq!(mirror.status().repaired, 1);
    });
}

#[test]
fn an_insert_does_not_read_the_rows_that_it_has_inserted() {
    run(async {
        let fixture = Fixture::new();
        let mut session = fixture.session();
        let made = "create table t (id int primary key, v int); insert into t select g, g from generate_series(1, 1500) g";
        assert_eq!(sql(&mut session, made).await, ["CREATE TABLE", "INSERT 0 1500"]);
        // More keys than are inserted at a time, and the later ones are those of the first rows.
        let keys: Vec<String> = (1..=3000).map(|key| key.to_string()).collect();
        let keys = keys.join(", ");
        let insert = format!("insert into t select id + 1500, v from t where id in ({keys})");
        assert_eq!(sql(&mut session, &insert).await, ["INSERT 0 1500"]);
        // Nor one that it has changed.
        let change = format!(
            "insert into t select id + 1000, v + 1 from t where id in ({keys}) on conflict (id) do update set v = excluded.v"
        );
        assert_eq!(sql(&mut session, &change).await, ["INSERT 0 3000"]);
        let sums = "select count(*), sum(v - (id - 1000 - case when id > 2500 then 1500 else 0 end)) from t where id > 1000";
        assert_eq!(sql(&mut session, sums).await, ["3000|3000", "SELECT 1"]);
    });
}
