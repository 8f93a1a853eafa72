//! The extended protocol on the session's level: statements, portals, plans that grow old, pipelines.

mod common;

use bytes::BytesMut;
use common::{Fixture, rows, run, script};
use scry_sql::{CommandTag, Executed, Session, TransactionStatus};

async fn ok(session: &mut Session, sql: &str) {
    let lines = script(session, sql, None).await;
    assert!(
        !lines.iter().any(|line| line.starts_with("ERROR")),
        "{sql}: {lines:?}"
    );
}

/// Parse, Bind with text parameters, Execute, Sync.
async fn query(session: &mut Session, sql: &str, params: &[Option<&str>]) -> Result<Vec<String>, String> {
    let result = async {
        session.prepare("", sql, &[]).await?;
        let params: Vec<Option<&[u8]>> = params.iter().map(|param| param.map(str::as_bytes)).collect();
        session.bind("", "", &[], &params, &[]).await?;
        let mut out = BytesMut::new();
        let executed = session.execute("", 0, &mut out).await?;
        let mut lines = rows(&out);
        if let Executed::Complete(tag) = executed {
            lines.push(tag.to_string());
        }
        Ok::<_, scry_sql::Error>(lines)
    }
    .await;
    let synced = session.sync().await;
    synced.map_err(|error| error.code.to_string())?;
    result.map_err(|error| error.code.to_string())
}

fn lines(list: &[&str]) -> Vec<String> {
    list.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn parameters_take_the_types_of_their_places() {
    run(async {
        let fixture = Fixture::new();
        let mut session = fixture.session();
        ok(
            &mut session,
            "create table t (id int primary key, name varchar(10), n numeric(8,2), b bytea)",
        )
        .await;
        session
            .prepare("p", "insert into t values ($1, $2, $3 + 1, $4)", &[])
            .await
            .expect("prepares");
        let description = session.describe_statement("p").await.expect("describes");
        assert_eq!(description.params, [23, 1043, 23, 17]);
        assert!(description.columns.is_none());
        assert_eq!(
            query(
                &mut session,
                "insert into t values ($1, $2, $3, $4)",
                &[Some("1"), Some("a"), None, Some("\\x00ff")]
            )
            .await,
            Ok(lines(&["INSERT 0 1"]))
        );
        assert_eq!(
            query(&mut session, "select * from t where id = $1", &[Some("1")]).await,
            Ok(lines(&["1|a|NULL|\\x00ff", "SELECT 1"]))
        );
        assert_eq!(
            query(
                &mut session,
                "select count(*) from t where n is null and name = $1",
                &[Some("a")]
            )
            .await,
            Ok(lines(&["1", "SELECT 1"]))
        );
        assert_eq!(
            query(&mut session, "select * from t where id = $1", &[Some("x")]).await,
            Err("22P02".into())
        );
        assert_eq!(
            query(&mut session, "select * from t where id = $1", &[]).await,
            Err("08P01".into())
        );
    });
}

#[test]
fn binary_parameters_and_results_keep_their_bytes() {
    run(async {
        let fixture = Fixture::new();
        let mut session = fixture.session();
        ok(
            &mut session,
            "create table t (id int primary key, v bigint); insert into t values (7, -2)",
        )
        .await;
        session
            .prepare("", "select v, id from t where id = $1", &[23])
            .await
            .expect("prepares");
        session
            .bind("", "", &[1], &[Some(&7i32.to_be_bytes())], &[1])
            .await
            .expect("binds");
        let mut out = BytesMut::new();
        assert_eq!(
            session.execute("", 0, &mut out).await.expect("runs"),
            Executed::Complete(CommandTag::Select(1))
        );
        let mut expected = vec![b'D'];
        expected.extend(26i32.to_be_bytes());
        expected.extend(2i16.to_be_bytes());
        expected.extend(8i32.to_be_bytes());
        expected.extend((-2i64).to_be_bytes());
        expected.extend(4i32.to_be_bytes());
        expected.extend(7i32.to_be_bytes());
        assert_eq!(&out[..], expected);
        session.sync().await.expect("syncs");
    });
}

#[test]
fn a_row_limit_suspends_a_portal_and_execute_goes_on() {
    run(async {
        let fixture = Fixture::new();
        let mut session = fixture.session();
        ok(
            &mut session,
            "create table t (id int primary key); insert into t select x from generate_series(1, 7) as g(x)",
        )
        .await;
        for sql in [
            "select id from t where id between 1 and 7",
            "select id from t order by id",
            "select id from t where id in (1, 2, 3, 4, 5, 6, 7)",
            "select id from t for update",
            "update t set id = id returning id",
        ] {
            session.prepare("", sql, &[]).await.expect("prepares");
            session.bind("p", "", &[], &[], &[]).await.expect("binds");
            let mut all = Vec::new();
            for _ in 0..2 {
                let mut out = BytesMut::new();
                assert_eq!(
                    session.execute("p", 3, &mut out).await.expect("runs"),
                    Executed::Suspended,
                    "{sql}"
                );
                assert_eq!(rows(&out).len(), 3, "{sql}");
                all.extend(rows(&out));
            }
            let mut out = BytesMut::new();
            let executed = session.execute("p", 3, &mut out).await.expect("runs");
            assert!(matches!(executed, Executed::Complete(_)), "{sql}: {executed:?}");
            all.extend(rows(&out));
            assert_eq!(all, ["1", "2", "3", "4", "5", "6", "7"], "{sql}");
            session.sync().await.expect("syncs");
            assert!(
                session.execute("p", 0, &mut out).await.is_err(),
                "a portal ends with its transaction"
            );
            session.sync().await.expect("syncs");
        }
    });
}

#[test]
fn a_suspended_portal_goes_on_with_the_rows_of_its_snapshot() {
    run(async {
        let fixture = Fixture::new();
        let (mut session, mut other) = (fixture.session(), fixture.session());
        ok(
            &mut session,
            "create table t (id int primary key, v int, u int unique, note text); create index by_v on t (v);
             insert into t select x, x, x, 'old' from generate_series(1, 6) as g(x)",
        )
        .await;
        for sql in [
            "select id, note from t where id between 1 and 5",
            "select id, note from t where id in (1, 2, 3, 4, 5)",
            "select id, note from t where v in (1, 2, 3, 4, 5)",
            "select id, note from t where u in (1, 2, 3, 4, 5)",
            "select id, note from t where v between 1 and 5",
            "select id, note from t where u < 6",
            "select id, note from t where id in (1, 2, 3, 4, 5, 6) limit 5",
            "select id, note from t where v in (0, 1, 2, 3, 4, 5, 6) and id < 6 limit 5",
        ] {
            ok(&mut session, "begin").await;
            session.prepare("", sql, &[]).await.expect("prepares");
            session.bind("p", "", &[], &[], &[]).await.expect("binds");
            let mut out = BytesMut::new();
            session.execute("p", 2, &mut out).await.expect("runs");
            ok(
                &mut other,
                "update t set note = 'new' where id = 4; update t set v = 90, u = 90 where id = 5",
            )
            .await;
            ok(
                &mut session,
                "update t set note = 'own' where id = 3; update t set v = 70, u = 70 where id = 4",
            )
            .await;
            session.execute("p", 1, &mut out).await.expect("goes on");
            ok(&mut session, "delete from t where id = 5").await;
            session.execute("p", 0, &mut out).await.expect("goes on");
            let expected: Vec<String> = (1..=5).map(|id| format!("{id}|old")).collect();
            assert_eq!(rows(&out), expected, "{sql}");
            ok(&mut session, "rollback").await;
            ok(&mut other, "update t set note = 'old', v = id, u = id").await;
        }
    });
}

#[test]
fn large_results_come_in_pieces_of_bounded_size() {
    run(async {
        let fixture = Fixture::new();
        let mut session = fixture.session();
        ok(&mut session, "create table t (id int primary key, v text); insert into t select x, repeat('x', 100) from generate_series(1, 10000) as g(x)").await;
        for sql in ["select * from t where id between 1 and 100000", "select * from t"] {
            session.prepare("", sql, &[]).await.expect("prepares");
            session.bind("", "", &[], &[], &[]).await.expect("binds");
            let mut out = BytesMut::new();
            let mut step = session.execute("", 0, &mut out).await.expect("runs");
            let (mut pieces, mut count) = (0, 0);
            while step == Executed::MoreRows {
                assert!(out.len() < 600 << 10, "{} bytes", out.len());
                count += rows(&out.split()).len();
                pieces += 1;
                step = session.resume(&mut out).await.expect("goes on");
            }
            count += rows(&out).len();
            assert_eq!(step, Executed::Complete(CommandTag::Select(10_000)), "{sql}");
            assert_eq!(count, 10_000, "{sql}");
            assert!(pieces > 2, "{sql}: {pieces}");
            session.sync().await.expect("syncs");
        }
    });
}

#[test]
fn a_plan_is_made_anew_when_the_catalog_changes_and_must_keep_its_result_type() {
    run(async {
        let fixture = Fixture::new();
        let (mut session, mut other) = (fixture.session(), fixture.session());
        ok(
            &mut session,
            "create table t (id int primary key, v int); insert into t values (1, 1)",
        )
        .await;
        session
            .prepare("p", "select * from t where id = 1", &[])
            .await
            .expect("prepares");
        session
            .prepare("q", "update t set v = v + 1 where id = 1", &[])
            .await
            .expect("prepares");
        ok(
            &mut other,
            "drop table t; create table t (id int primary key, v int); insert into t values (1, 5)",
        )
        .await;
        let mut out = BytesMut::new();
        session.bind("", "q", &[], &[], &[]).await.expect("binds");
        assert_eq!(
            session.execute("", 0, &mut out).await.expect("runs"),
            Executed::Complete(CommandTag::Update(1))
        );
        session.bind("", "p", &[], &[], &[]).await.expect("binds");
        session.execute("", 0, &mut out).await.expect("runs");
        assert_eq!(rows(&out), ["1|6"]);
        session.sync().await.expect("syncs");
        ok(
            &mut other,
            "drop table t; create table t (id int primary key, v text)",
        )
        .await;
        session.bind("", "p", &[], &[], &[]).await.expect("binds");
        let error = session
            .execute("", 0, &mut out)
            .await
            .expect_err("the type has changed");
        assert_eq!(error.message, "cached plan must not change result type");
        session.sync().await.expect("syncs");
    });
}

#[test]
fn a_pipeline_up_to_sync_is_one_transaction() {
    run(async {
        let fixture = Fixture::new();
        let (mut session, mut other) = (fixture.session(), fixture.session());
        ok(&mut session, "create table t (id int primary key)").await;
        let mut out = BytesMut::new();
        session
            .prepare("i", "insert into t values ($1)", &[])
            .await
            .expect("prepares");
        session
            .bind("", "i", &[], &[Some(b"1")], &[])
            .await
            .expect("binds");
        session.execute("", 0, &mut out).await.expect("runs");
        assert_eq!(
            query(&mut other, "select id from t where id = 1", &[]).await,
            Ok(lines(&["SELECT 0"]))
        );
        session
            .bind("", "i", &[], &[Some(b"1")], &[])
            .await
            .expect("binds");
        assert!(session.execute("", 0, &mut out).await.is_err(), "a duplicate");
        session.sync().await.expect("syncs");
        assert_eq!(
            query(&mut other, "select count(*) from t", &[]).await,
            Ok(lines(&["0", "SELECT 1"]))
        );
        assert_eq!(session.transaction_status(), TransactionStatus::Idle);
    });
}

#[test]
fn unknown_names_and_double_names_are_refused() {
    run(async {
        let fixture = Fixture::new();
        let mut session = fixture.session();
        session.prepare("p", "select 1", &[]).await.expect("prepares");
        assert_eq!(
            session
                .prepare("p", "select 2", &[])
                .await
                .expect_err("taken")
                .code
                .to_string(),
            "42P05"
        );
        assert_eq!(
            session
                .bind("", "x", &[], &[], &[])
                .await
                .expect_err("unknown")
                .code
                .to_string(),
            "26000"
        );
        let mut out = BytesMut::new();
        assert_eq!(
            session
                .execute("x", 0, &mut out)
                .await
                .expect_err("unknown")
                .code
                .to_string(),
            "34000"
        );
        assert_eq!(
            session
                .prepare("", "select 1; select 2", &[])
                .await
                .expect_err("two")
                .code
                .to_string(),
            "42601"
        );
        session.close_statement("p");
        session.close_statement("p");
        session.prepare("p", "select 2", &[]).await.expect("free again");
        assert_eq!(query(&mut session, "", &[]).await, Ok(Vec::new()));
    });
}

#[test]
fn monstrous_statements_are_refused_and_long_lists_are_not() {
    run(async {
        let fixture = Fixture::new();
        let mut session = fixture.session();
        ok(
            &mut session,
            "create table t (id int primary key); insert into t values (5)",
        )
        .await;
        let parens = format!("select {}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(query(&mut session, &parens, &[]).await, Err("54001".into()));
        let chain = format!("select id from t where id = 5{}", " and true".repeat(100_000));
        assert_eq!(query(&mut session, &chain, &[]).await, Err("54001".into()));
        let list: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
        let list = format!("select count(*) from t where id in ({})", list.join(", "));
        assert_eq!(
            query(&mut session, &list, &[]).await,
            Ok(lines(&["1", "SELECT 1"]))
        );
        let nested = format!("select {}1{}", "(".repeat(150), ")".repeat(150));
        assert_eq!(
            query(&mut session, &nested, &[]).await,
            Ok(lines(&["1", "SELECT 1"]))
        );
        let sum = format!("select 1{}", " + 1".repeat(150));
        assert_eq!(
            query(&mut session, &sum, &[]).await,
            Ok(lines(&["151", "SELECT 1"]))
        );
        let ors = format!("select id from t where id = 5{}", " or id = 6".repeat(450));
        assert_eq!(
            query(&mut session, &ors, &[]).await,
            Ok(lines(&["5", "SELECT 1"]))
        );
        let huge = format!("select '{}'", "x".repeat(17 << 20));
        assert_eq!(query(&mut session, &huge, &[]).await, Err("54000".into()));
        let row = "x".repeat(9 << 20);
        ok(&mut session, "create table w (id int primary key, v text)").await;
        assert_eq!(
            query(&mut session, "insert into w values (1, $1)", &[Some(&row)]).await,
            Err("54000".into())
        );
    });
}
