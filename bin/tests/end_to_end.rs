//! An ordinary client library against a real server: types, statements, transactions, COPY,
//! cancelling, errors.

mod common;

use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;
use common::{DEADLINE, Home};
use futures::{SinkExt, TryStreamExt, pin_mut};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

async fn connect(address: SocketAddr) -> Client {
    let config = format!(
        "host={} port={} user=tester dbname=scry",
        address.ip(),
        address.port()
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

/// A server and one client, inside a runtime.
fn with_client<F: Future<Output = ()>>(test: impl FnOnce(SocketAddr, Client) -> F) {
    let home = Home::new();
    let server = home.start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let client = connect(server.address).await;
        tokio::time::timeout(DEADLINE, test(server.address, client))
            .await
            .expect("in time");
    });
}

fn values(answer: &[SimpleQueryMessage]) -> Vec<Vec<Option<String>>> {
    answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}

#[test]
fn every_type_goes_in_and_out_in_binary_and_in_text() {
    with_client(|_, client| async move {
        client
            .batch_execute(
                "CREATE TABLE t (k int PRIMARY KEY, b boolean, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, \
                 n numeric(12,2), s text, vc varchar(10), c char(4), y bytea, d date, ti time, ts timestamp, \
                 tz timestamptz, u uuid, j jsonb)",
            )
            .await
            .expect("table");
        let binary = client
            .prepare("INSERT INTO t (k, b, i2, i4, i8, f4, f8, s, vc, c, y, tz) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12)")
            .await
            .expect("prepared");
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(1_700_000_000_123_456);
        client
            .execute(
                &binary,
                &[
                    &1i32,
                    &true,
                    &-2i16,
                    &i32::MIN,
                    &i64::MAX,
                    &1.5f32,
                    &-2.25f64,
                    &"smørrebrød",
                    &"var",
                    &"ch",
                    &&b"\x00\xff"[..],
                    &now,
                ],
            )
            .await
            .expect("inserted");
        let row = client
            .query_one("SELECT * FROM t WHERE k = $1", &[&1i32])
            .await
            .expect("one row");
        assert!(row.get::<_, bool>("b"));
        assert_eq!(row.get::<_, i16>("i2"), -2);
        assert_eq!(row.get::<_, i32>("i4"), i32::MIN);
        assert_eq!(row.get::<_, i64>("i8"), i64::MAX);
        assert_eq!(row.get::<_, f32>("f4"), 1.5);
        assert_eq!(row.get::<_, f64>("f8"), -2.25);
        assert_eq!(row.get::<_, &str>("s"), "smørrebrød");
        assert_eq!(row.get::<_, &str>("vc"), "var");
        assert_eq!(row.get::<_, &str>("c"), "ch  ");
        assert_eq!(row.get::<_, &[u8]>("y"), b"\x00\xff");
        assert_eq!(row.get::<_, SystemTime>("tz"), now);
        client
            .batch_execute(
                "INSERT INTO t VALUES (2, 'f', 1, 2, 3, 0.1, '1e100', 1234567890.12, 'it''s', 'x', 'y', '\\xdeadbeef', \
                 '2024-02-29', '23:59:59.5', '2024-02-29 12:00:00', '2024-02-29 12:00:00+02', \
                 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": 1}')",
            )
            .await
            .expect("inserted");
        let answer = client
            .simple_query("SELECT * FROM t WHERE k = 2")
            .await
            .expect("one row");
        let row: Vec<String> = values(&answer)
            .remove(0)
            .into_iter()
            .map(|value| value.expect("not null"))
            .collect();
        assert_eq!(
            row,
            [
                "2",
                "f",
                "1",
                "2",
                "3",
                "0.1",
                "1e+100",
                "1234567890.12",
                "it's",
                "x",
                "y   ",
                "\\xdeadbeef",
                "2024-02-29",
                "23:59:59.5",
                "2024-02-29 12:00:00",
                "2024-02-29 10:00:00+00",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "{\"a\": 1}"
            ]
        );
    });
}

#[test]
fn transactions_commit_roll_back_and_return_to_savepoints() {
    with_client(|address, mut client| async move {
        client
            .batch_execute("CREATE TABLE t (k int PRIMARY KEY, v text)")
            .await
            .expect("table");
        let other = connect(address).await;
        let transaction = client.transaction().await.expect("begun");
        transaction
            .execute("INSERT INTO t VALUES (1, 'kept')", &[])
            .await
            .expect("inserted");
        assert!(
            other
                .query("SELECT v FROM t WHERE k = 1", &[])
                .await
                .expect("read")
                .is_empty()
        );
        transaction
            .batch_execute("SAVEPOINT s; INSERT INTO t VALUES (2, 'undone')")
            .await
            .expect("inserted");
        let error = transaction
            .execute("INSERT INTO t VALUES (1, 'again')", &[])
            .await
            .expect_err("duplicate");
        assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
        let error = transaction
            .query("SELECT 1", &[])
            .await
            .expect_err("failed transaction");
        assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
        transaction
            .batch_execute("ROLLBACK TO SAVEPOINT s")
            .await
            .expect("rolled back");
        transaction.commit().await.expect("committed");
        let rows = other
            .query("SELECT k FROM t WHERE k IN (1, 2)", &[])
            .await
            .expect("read");
        assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [1]);
        let transaction = client.transaction().await.expect("begun");
        transaction
            .execute("DELETE FROM t WHERE k = 1", &[])
            .await
            .expect("deleted");
        transaction.rollback().await.expect("rolled back");
        let rows = other
            .query("SELECT v FROM t WHERE k = 1", &[])
            .await
            .expect("read");
        assert_eq!(rows[0].get::<_, &str>(0), "kept");
    });
}

#[test]
fn statements_of_one_simple_query_succeed_or_fail_together() {
    with_client(|_, client| async move {
        client
            .batch_execute("CREATE TABLE t (k int PRIMARY KEY)")
            .await
            .expect("table");
        let error = client
            .batch_execute("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); INSERT INTO t VALUES (1)")
            .await
            .expect_err("duplicate");
        assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
        assert!(
            client
                .query("SELECT k FROM t WHERE k IN (1, 2)", &[])
                .await
                .expect("read")
                .is_empty()
        );
        client
            .batch_execute("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)")
            .await
            .expect("inserted");
        let answer = client
            .simple_query("SELECT count(*), sum(k) FROM t")
            .await
            .expect("read");
        assert_eq!(values(&answer), [[Some("2".to_owned()), Some("3".to_owned())]]);
    });
}

#[test]
fn a_portal_hands_out_its_rows_in_pieces() {
    with_client(|_, mut client| async move {
        client
            .batch_execute("CREATE TABLE t (k int PRIMARY KEY)")
            .await
            .expect("table");
        client
            .execute(
                "INSERT INTO t VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)",
                &[],
            )
            .await
            .expect("inserted");
        let transaction = client.transaction().await.expect("begun");
        let portal = transaction
            .bind("SELECT k FROM t WHERE k BETWEEN 1 AND 10", &[])
            .await
            .expect("bound");
        let mut keys = Vec::new();
        for pieces in [4, 4, 2, 0] {
            let rows = transaction.query_portal(&portal, 4).await.expect("rows");
            assert_eq!(rows.len(), pieces);
            keys.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        }
        assert_eq!(keys, (1..=10).collect::<Vec<i32>>());
    });
}

#[test]
fn copy_goes_both_ways_and_a_bad_line_undoes_it_whole() {
    with_client(|_, client| async move {
        client
            .batch_execute("CREATE TABLE t (k int PRIMARY KEY, v text)")
            .await
            .expect("table");
        let sink = client.copy_in("COPY t FROM STDIN").await.expect("copy begins");
        pin_mut!(sink);
        let text: String = (0..20_000).map(|k| format!("{k}\tvalue\\t{k}\n")).collect();
        for piece in text.as_bytes().chunks(7_777) {
            sink.send(Bytes::copy_from_slice(piece)).await.expect("sent");
        }
        assert_eq!(sink.finish().await.expect("copied"), 20_000);
        let stream = client
            .copy_out("COPY t TO STDOUT (FORMAT csv)")
            .await
            .expect("copy begins");
        let pieces: Vec<Bytes> = stream.try_collect().await.expect("copied");
        let csv = String::from_utf8(pieces.concat()).expect("text");
        assert_eq!(csv.lines().count(), 20_000);
        assert!(csv.lines().any(|line| line == "17,value\t17"));
        let sink = client.copy_in("COPY t FROM STDIN").await.expect("copy begins");
        pin_mut!(sink);
        sink.send(Bytes::from("30000\tfine\nnot a number\tbad\n"))
            .await
            .expect("sent");
        let error = sink.finish().await.expect_err("bad line");
        assert_eq!(error.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));
        assert!(
            client
                .query("SELECT v FROM t WHERE k = 30000", &[])
                .await
                .expect("read")
                .is_empty()
        );
    });
}

#[test]
fn a_cancel_request_ends_a_waiting_statement_and_only_with_the_right_secret() {
    with_client(|address, client| async move {
        client
            .batch_execute("CREATE TABLE t (k int PRIMARY KEY, v int)")
            .await
            .expect("table");
        client
            .batch_execute("INSERT INTO t VALUES (1, 0)")
            .await
            .expect("inserted");
        client
            .batch_execute("BEGIN; UPDATE t SET v = 1 WHERE k = 1")
            .await
            .expect("locked");
        let waiter = connect(address).await;
        let token = waiter.cancel_token();
        let waiting = waiter.batch_execute("UPDATE t SET v = 2 WHERE k = 1");
        // The request may come before the statement: then it cancels nothing, and is repeated.
        let cancelling = async {
            loop {
                token.cancel_query(NoTls).await.expect("sent");
                tokio::task::yield_now().await;
            }
        };
        let result: Result<(), _> = tokio::select! {
            result = waiting => result,
            () = cancelling => unreachable!("cancelling never ends"),
        };
        assert_eq!(
            result.expect_err("cancelled").code(),
            Some(&SqlState::QUERY_CANCELED)
        );
        waiter
            .batch_execute("SELECT 1")
            .await
            .expect("the session goes on");
        client.batch_execute("COMMIT").await.expect("committed");
    });
}

#[test]
fn errors_carry_their_sqlstate_and_the_session_goes_on() {
    with_client(|_, client| async move {
        client
            .batch_execute("CREATE TABLE t (k int PRIMARY KEY, v int NOT NULL)")
            .await
            .expect("table");
        client
            .batch_execute("INSERT INTO t VALUES (1, 1)")
            .await
            .expect("inserted");
        for (sql, code) in [
            ("SELEC 1", SqlState::SYNTAX_ERROR),
            ("SELECT * FROM missing", SqlState::UNDEFINED_TABLE),
            ("SELECT missing FROM t", SqlState::UNDEFINED_COLUMN),
            ("INSERT INTO t VALUES (1, 1)", SqlState::UNIQUE_VIOLATION),
            ("INSERT INTO t VALUES (2, NULL)", SqlState::NOT_NULL_VIOLATION),
            (
                "INSERT INTO t VALUES (99999999999, 1)",
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            ),
            ("UPDATE t SET v = v / 0 WHERE k = 1", SqlState::DIVISION_BY_ZERO),
            ("CREATE TABLE t (k int)", SqlState::DUPLICATE_TABLE),
            (
                "INSERT INTO t VALUES ('x', 1)",
                SqlState::INVALID_TEXT_REPRESENTATION,
            ),
        ] {
            let error = client.batch_execute(sql).await.expect_err(sql);
            assert_eq!(error.code(), Some(&code), "{sql}");
        }
        let error = client
            .batch_execute("INSERT INTO t VALUES (1, 1)")
            .await
            .expect_err("duplicate");
        let error = error.as_db_error().expect("from the server");
        assert_eq!((error.table(), error.constraint()), (Some("t"), Some("t_pkey")));
        assert_eq!(error.detail(), Some("Key (k)=(1) already exists."));
        client
            .query_one("SELECT v FROM t WHERE k = 1", &[])
            .await
            .expect("the session goes on");
    });
}

/// What `docs/reference.md` says under "Bounds".
#[test]
fn what_is_as_deep_as_it_may_be_is_answered() {
    with_client(|_, client| async move {
        let nested = |query: &str, levels: usize| {
            let (from, end) = ("SELECT * FROM (".repeat(levels), ") s".repeat(levels));
            format!("{from}{query}{end}")
        };
        let unions = " UNION ALL SELECT 1".repeat(990);
        for (sql, answer) in [
            (nested("SELECT 1::bigint", 198), 1),
            (nested("SELECT * FROM generate_series(1::bigint, 1)", 197), 1),
            (format!("SELECT count(*) FROM (SELECT 1{unions}) s"), 991),
            (format!("SELECT 0::bigint{}", " + 1".repeat(190)), 190),
        ] {
            let row = client.query_one(&sql, &[]).await.expect("the statement runs");
            assert_eq!(row.get::<_, i64>(0), answer);
        }
    });
}

#[test]
fn what_is_beyond_its_bound_is_refused_with_the_documented_sqlstate() {
    with_client(|_, client| async move {
        client
            .batch_execute("CREATE TABLE t (k text PRIMARY KEY, v text, n numeric, d timestamptz)")
            .await
            .expect("table");
        let columns: Vec<String> = (0..1601).map(|n| format!("c{n} int")).collect();
        let savepoints: String = (0..65_537).map(|n| format!("SAVEPOINT s{n};")).collect();
        for (sql, code) in [
            (format!("CREATE TABLE wide ({})", columns.join(",")), "54011"),
            (format!("CREATE TABLE {} (a int)", "n".repeat(64)), "42622"),
            (format!("SELECT '{}'", "x".repeat(16 << 20)), "54000"),
            (format!("SELECT {}1{}", "(".repeat(201), ")".repeat(201)), "54001"),
            (format!("SELECT 1{}", " + 1".repeat(1001)), "54001"),
            ("INSERT INTO t VALUES (repeat('x', 8193))".to_owned(), "54000"),
            (
                "INSERT INTO t VALUES ('k', repeat('x', 7864320))".to_owned(),
                "54000",
            ),
            (format!("BEGIN; {savepoints}"), "54000"),
            ("INSERT INTO t (k, n) VALUES ('k', 1e20)".to_owned(), "22003"),
            ("INSERT INTO t (k, n) VALUES ('k', 'NaN')".to_owned(), "22003"),
            (
                "INSERT INTO t (k, d) VALUES ('k', 'infinity')".to_owned(),
                "22008",
            ),
            (
                "INSERT INTO t (k, d) VALUES ('k', '262143-01-01')".to_owned(),
                "22008",
            ),
        ] {
            let shown: String = sql.chars().take(60).collect();
            let error = client.batch_execute(&sql).await.expect_err(&shown);
            assert_eq!(error.code().map(SqlState::code), Some(code), "{shown}: {error}");
            client
                .batch_execute("ROLLBACK")
                .await
                .expect("the session goes on");
        }
    });
}

#[test]
fn the_mirror_answers_like_the_primary() {
    with_client(|_, client| async move {
        client
            .batch_execute("CREATE TABLE t (k int PRIMARY KEY, v int)")
            .await
            .expect("table");
        let insert = client
            .prepare("INSERT INTO t VALUES ($1, $2)")
            .await
            .expect("prepared");
        for k in 0..500i32 {
            client.execute(&insert, &[&k, &(k % 7)]).await.expect("inserted");
        }
        client
            .batch_execute("DELETE FROM t WHERE k % 3 = 0")
            .await
            .expect("deleted");
        client
            .batch_execute("UPDATE t SET v = v + 100 WHERE k % 5 = 0")
            .await
            .expect("updated");
        let mut answers = Vec::new();
        for place in ["primary", "mirror"] {
            client
                .batch_execute(&format!("SET scry.read_from = {place}"))
                .await
                .expect("set");
            let answer = client
                .simple_query("SELECT k, v FROM t ORDER BY k")
                .await
                .expect("read");
            answers.push(values(&answer));
        }
        assert_eq!(answers[0].len(), 333);
        assert_eq!(answers[0], answers[1]);
    });
}
