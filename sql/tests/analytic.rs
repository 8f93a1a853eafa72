//! What analytic queries answer, beside what PostgreSQL answers; and what they see of transactions.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use scry_engine::{DataType, Engine, EngineOptions, Isolation, NewTable, Numeric, SessionInfo, Table, Value};
use scry_mirror::{Mirror, MirrorOptions};
use scry_sql::analytic::types::oid;
use scry_sql::analytic::{Analytic, AnalyticOptions, Freshness, Need, mirror_snapshot};
use scry_wal::sim::{Fault, SimStorage};
use std::sync::Arc;
use std::time::Duration;
use support::{Harness, column, days, joined};

fn number(text: &str) -> Value {
    Value::Numeric(Numeric::parse(text).unwrap())
}

/// One row of every type, one of NULLs, and one more.
fn everything(h: &mut Harness) -> Arc<Table> {
    let table = h.create(
        "everything",
        vec![
            column("id", DataType::Int4),
            column("b", DataType::Bool),
            column("i2", DataType::Int2),
            column("i8", DataType::Int8),
            column("f4", DataType::Float4),
            column("f8", DataType::Float8),
            column("n", DataType::Numeric(Some((12, 2)))),
            column("nf", DataType::Numeric(None)),
            column("t", DataType::Text),
            column("v", DataType::Varchar(Some(20))),
            column("c", DataType::Char(5)),
            column("by", DataType::Bytea),
            column("d", DataType::Date),
            column("tm", DataType::Time),
            column("ts", DataType::Timestamp),
            column("tz", DataType::TimestampTz),
            column("u", DataType::Uuid),
            column("j", DataType::Jsonb),
        ],
        &[0],
    );
    let moment = i64::from(days("2024-02-29")) * 86_400_000_000 + 3_723_500_000;
    let mut empty = vec![Value::Int4(2)];
    empty.extend(std::iter::repeat_n(Value::Null, 17));
    let one = vec![
        Value::Int4(1),
        Value::Bool(true),
        Value::Int2(-7),
        Value::Int8(9_000_000_000),
        Value::Float4(0.1),
        Value::Float8(1e20),
        number("1234.50"),
        number("0.125"),
        Value::Text("it's \"text\"".to_owned()),
        Value::Text("varying".to_owned()),
        Value::Text("ab".to_owned()),
        Value::Bytea(vec![0, 255]),
        Value::Date(days("2024-02-29")),
        Value::Time(3_723_500_000),
        Value::Timestamp(moment),
        Value::TimestampTz(moment),
        Value::Uuid([0x11; 16]),
        Value::Jsonb("{\"a\": 1}".to_owned()),
    ];
    h.insert(&table, [one, empty]);
    table
}

fn numbers(h: &mut Harness, rows: i32) -> Arc<Table> {
    let table = h.create(
        "numbers",
        vec![column("id", DataType::Int4), column("v", DataType::Int4)],
        &[0],
    );
    h.insert(
        &table,
        (0..rows).map(|i| vec![Value::Int4(i), Value::Int4(i % 10)]),
    );
    table
}

fn check(h: &mut Harness, cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let found = h.text(sql);
        if found != *expected {
            wrong.push(format!("{sql}\n   found {found}\nexpected {expected}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_type_prints_as_postgresql_prints_it() {
    let mut h = Harness::new();
    everything(&mut h);
    check(
        &mut h,
        &[
            (
                "SELECT * FROM everything ORDER BY id",
                "1|t|-7|9000000000|0.1|1e+20|1234.50|0.125|it's \"text\"|varying|ab   |\\x00ff|2024-02-29|01:02:03.5|\
                 2024-02-29 01:02:03.5|2024-02-29 01:02:03.5+00|11111111-1111-1111-1111-111111111111|{\"a\": 1};\
                 2|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅",
            ),
            (
                "SELECT max(ts) - min(ts), ts - timestamp '2024-02-28 00:00:00' FROM everything WHERE id = 1 GROUP BY ts",
                "00:00:00|1 day 01:02:03.5",
            ),
            ("SELECT upper(c), c || '!' FROM everything WHERE id = 1", "AB|ab!"),
            (
                "SELECT nf * 2, n / 3, i8 / 7, i2 / 2, f8 / 2 FROM everything WHERE id = 1",
                "0.25|411.5000000000000000|1285714285|-3|5e+19",
            ),
        ],
    );
}

#[test]
fn literals_take_the_type_of_the_other_side() {
    let mut h = Harness::new();
    everything(&mut h);
    check(
        &mut h,
        &[
            ("SELECT id FROM everything WHERE d = '2024-02-29'", "1"),
            (
                "SELECT id FROM everything WHERE d BETWEEN '2024-02-01' AND '2024-03-01'",
                "1",
            ),
            ("SELECT id FROM everything WHERE d IN ('2024-02-29')", "1"),
            ("SELECT id FROM everything WHERE ts > '2024-01-01'", "1"),
            (
                "SELECT id FROM everything WHERE tz > '2024-01-01 00:00:00+00'",
                "1",
            ),
            ("SELECT id FROM everything WHERE n = '1234.5'", "1"),
            ("SELECT id FROM everything WHERE n > '1234.499'", "1"),
            ("SELECT id FROM everything WHERE c = 'ab   '", "1"),
            (
                "SELECT id FROM everything WHERE u = '{11111111-1111-1111-1111-111111111111}'",
                "1",
            ),
            (
                "SELECT id FROM everything WHERE i8 = '9000000000' AND b = 'yes'",
                "1",
            ),
            (
                "SELECT d + 1, d - 1, d - date '2024-01-01' FROM everything WHERE id = 1",
                "2024-03-01|2024-02-28|59",
            ),
            (
                "SELECT id FROM everything WHERE d = 'tomorrow-ish'",
                "22007 invalid input syntax for type date: \"tomorrow-ish\"",
            ),
            (
                "SELECT id FROM everything WHERE i2 = 'x'",
                "22P02 invalid input syntax for type smallint: \"x\"",
            ),
            (
                "SELECT id FROM everything WHERE u = 'x'",
                "22P02 invalid input syntax for type uuid: \"x\"",
            ),
        ],
    );
}

#[test]
fn aggregates_and_quotients_are_exact() {
    let mut h = Harness::new();
    numbers(&mut h, 1000);
    check(
        &mut h,
        &[
            (
                "SELECT count(*), count(v), sum(v), avg(v), min(v), max(v) FROM numbers",
                "1000|1000|4500|4.5000000000000000|0|9",
            ),
            (
                "SELECT sum(9223372036854775807::int8) FROM numbers",
                "9223372036854775807000",
            ),
            (
                "SELECT avg(v::numeric(10,2)), avg(v::float8) FROM numbers",
                "4.5000000000000000|4.5",
            ),
            ("SELECT sum(v) FROM numbers WHERE id < 0", "∅"),
            (
                "SELECT 1.0 / 3, 2 / 3.0, 7 / 2, 7 % 4, -7 / 2, 2 ^ 10",
                "0.33333333333333333333|0.66666666666666666667|3|3|-3|1024",
            ),
            (
                "SELECT v, count(*) FROM numbers WHERE v < 3 GROUP BY v ORDER BY v DESC",
                "2|100;1|100;0|100",
            ),
            (
                "SELECT count(DISTINCT v), string_agg(DISTINCT v::text, ',' ORDER BY v::text) FROM numbers WHERE v < 3",
                "3|0,1,2",
            ),
            (
                "SELECT DISTINCT v FROM numbers WHERE v > 7 ORDER BY v LIMIT 1 OFFSET 1",
                "9",
            ),
            (
                "SELECT id, rank() OVER (ORDER BY v DESC, id) FROM numbers WHERE id < 3 ORDER BY id",
                "0|3;1|2;2|1",
            ),
            (
                "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 4) SELECT sum(n) FROM r",
                "10",
            ),
            ("SELECT count(*) FROM generate_series(1, 5)", "5"),
            (
                "SELECT v FROM numbers WHERE id = ANY(ARRAY[3, 14]) ORDER BY id",
                "3;4",
            ),
            (
                "SELECT array_agg(id ORDER BY id) FROM numbers WHERE id < 4",
                "{0,1,2,3}",
            ),
            ("SELECT NULL, 'a' || NULL, coalesce(NULL, 'x')", "∅|∅|x"),
            ("SELECT x FROM (VALUES (1), (NULL), (2)) t(x) ORDER BY x", "1;2;∅"),
            (
                "SELECT x FROM (VALUES (1), (NULL), (2)) t(x) ORDER BY x DESC",
                "∅;2;1",
            ),
            (
                "SELECT mod(7, 4), round(2.345, 2), power(2, 3), abs(-3), greatest(1, 2)",
                "3|2.35|8|3|2",
            ),
            (
                "SELECT 'abc' ~ '^a', 'abc' !~ 'z', 'ABC' ~* 'b', 'abc' LIKE 'a%'",
                "t|t|t|t",
            ),
        ],
    );
}

#[test]
fn mistakes_are_reported_in_postgresqls_terms() {
    let mut h = Harness::new();
    numbers(&mut h, 10);
    check(
        &mut h,
        &[
            ("SELECT nope FROM numbers", "42703 column \"nope\" does not exist"),
            (
                "SELECT n.nope FROM numbers n",
                "42703 column n.nope does not exist",
            ),
            (
                "SELECT * FROM nowhere",
                "42P01 relation \"nowhere\" does not exist",
            ),
            (
                "SELECT * FROM other.numbers",
                "42P01 relation \"other.numbers\" does not exist",
            ),
            (
                "SELECT nope(v) FROM numbers",
                "42883 function nope(integer) does not exist",
            ),
            (
                "SELECT a.id FROM numbers a, numbers b WHERE id = 1",
                "42702 column reference \"id\" is ambiguous",
            ),
            ("SELECT 1 / 0", "22012 division by zero"),
            ("SELECT v / (v - v) FROM numbers", "22012 division by zero"),
            ("SELECT 1.5 / (v - v) FROM numbers", "22012 division by zero"),
            ("SELECT v::float8 / 0 FROM numbers", "22012 division by zero"),
            (
                "SELECT v + 2147483647 FROM numbers WHERE v > 0",
                "22003 integer out of range",
            ),
            (
                "SELECT 9223372036854775807 + v FROM numbers WHERE v > 0",
                "22003 bigint out of range",
            ),
            (
                "SELECT 'abc'::int4",
                "22P02 invalid input syntax for type integer: \"abc\"",
            ),
            (
                "SELECT '2024-13-01'::date",
                "22008 date/time field value out of range: \"2024-13-01\"",
            ),
        ],
    );
    for (sql, state) in [
        ("SELECT id, count(*) FROM numbers", "42803"),
        ("SELECT sum(b) FROM (VALUES (true)) t(b)", "42883"),
        (
            "SELECT id FROM numbers WHERE id = (SELECT v FROM numbers)",
            "21000",
        ),
        ("SELECT id FROM numbers UNION SELECT id, v FROM numbers", "42601"),
    ] {
        assert_eq!(h.error(sql).0, state, "{sql}: {:?}", h.error(sql));
    }
}

#[test]
fn columns_are_named_and_typed_as_postgresql_names_and_types_them() {
    let mut h = Harness::new();
    everything(&mut h);
    let mut txn = h.begin(Isolation::ReadCommitted);
    txn.statement();
    let scope = h.scope(&txn);
    let sql = "SELECT n, c AS fixed, count(*), count(*), sum(i8), 1 + 1, CASE WHEN b THEN 1 END, v::text, u, \
               everything.\"d\", extract(year FROM d), upper(t), EXISTS (SELECT 1), '1'::int4 \
               FROM everything GROUP BY n, c, b, v, u, d, t";
    let plan = h.analytic.plan(&support::parse(sql), &scope, &[]).unwrap();
    let names: Vec<&str> = plan.columns().iter().map(|column| column.name.as_str()).collect();
    let expected = [
        "n", "fixed", "count", "count", "sum", "?column?", "case", "v", "u", "d", "extract", "upper",
        "exists", "int4",
    ];
    assert_eq!(names, expected);
    let table = scope.catalog.table("everything").unwrap();
    let n = &plan.columns()[0];
    assert_eq!(
        (n.table_oid, n.column_no, n.type_oid, n.type_mod),
        (table.def.oid, 7, oid::NUMERIC, (12 << 16 | 2) + 4)
    );
    let fixed = &plan.columns()[1];
    assert_eq!(
        (fixed.column_no, fixed.type_oid, fixed.type_mod),
        (11, oid::BPCHAR, 9)
    );
    let oids: Vec<u32> = plan.columns().iter().map(|column| column.type_oid).collect();
    assert_eq!(oids[2..5], [oid::INT8, oid::INT8, oid::NUMERIC]);
    assert_eq!(oids[7..10], [oid::TEXT, oid::UUID, oid::DATE]);
    assert_eq!(oids[11..14], [oid::TEXT, oid::BOOL, oid::INT4]);
    assert_eq!(plan.columns()[11].type_mod, -1);
}

#[test]
fn parameters_are_typed_by_what_stands_beside_them() {
    let mut h = Harness::new();
    everything(&mut h);
    let mut txn = h.begin(Isolation::ReadCommitted);
    txn.statement();
    let scope = h.scope(&txn);
    let sql = "SELECT id FROM everything WHERE i8 > $1 AND d = $2 AND n < $3 AND t = $4 AND u = $5 LIMIT $6";
    let plan = h.analytic.plan(&support::parse(sql), &scope, &[]).unwrap();
    assert_eq!(
        plan.param_types(),
        [
            oid::INT8,
            oid::DATE,
            oid::NUMERIC,
            oid::TEXT,
            oid::UUID,
            oid::INT8
        ]
    );
    let rows = h.query_with(
        sql,
        &[
            (0, "5"),
            (0, "2024-02-29"),
            (0, "1234.51"),
            (0, "it's \"text\""),
            (0, "11111111-1111-1111-1111-111111111111"),
            (0, "10"),
        ],
    );
    assert_eq!(joined(&rows.unwrap()), "1");
    let rows = h
        .query_with("SELECT $1::int4 + 1, $2", &[(0, "41"), (0, "text")])
        .unwrap();
    assert_eq!(joined(&rows), "42|text");
    let rows = h
        .query_with(
            "SELECT id FROM everything WHERE id = ANY($1)",
            &[(oid::INT4_ARRAY, "{1,5}")],
        )
        .unwrap();
    assert_eq!(joined(&rows), "1");
}

#[test]
fn a_transaction_sees_its_own_writes_and_nobody_else_does() {
    let mut h = Harness::new();
    let table = numbers(&mut h, 100);
    let count = "SELECT count(*), sum(v), min(id), max(id) FROM numbers";
    let mut other = h.engine.session(Default::default());
    let mut txn = other.begin(Isolation::ReadCommitted);
    h.insert_in(&mut txn, &table, &[Value::Int4(1000), Value::Int4(7)]);
    let row = table.layout.encode(&[Value::Int4(3), Value::Int4(5)]).unwrap();
    let key = table.key_of(&row).unwrap();
    h.block(txn.lock(&table, &key)).unwrap().unwrap();
    h.block(txn.update(&table, &key, row)).unwrap();
    let gone = table
        .key_of(&table.layout.encode(&[Value::Int4(0), Value::Int4(0)]).unwrap())
        .unwrap();
    h.block(txn.lock(&table, &gone)).unwrap().unwrap();
    h.block(txn.delete(&table, &gone)).unwrap();
    assert_eq!(
        joined(&h.query_in(&mut txn, count, &[]).unwrap()),
        "100|459|1|1000"
    );
    assert_eq!(
        joined(
            &h.query_in(&mut txn, "SELECT v FROM numbers WHERE id = 3", &[])
                .unwrap()
        ),
        "5"
    );
    assert_eq!(
        joined(&h.query_primary(&mut txn, count).unwrap()),
        "100|459|1|1000"
    );
    assert_eq!(h.text(count), "100|450|0|99");
    txn.commit("test").unwrap();
    assert_eq!(h.text(count), "100|459|1|1000");
}

#[test]
fn repeatable_read_stays_at_its_snapshot() {
    let mut h = Harness::new();
    let table = numbers(&mut h, 10);
    let count = "SELECT count(*) FROM numbers";
    let mut other = h.engine.session(Default::default());
    let mut fixed = other.begin(Isolation::RepeatableRead);
    assert_eq!(joined(&h.query_in(&mut fixed, count, &[]).unwrap()), "10");
    h.insert(&table, [vec![Value::Int4(50), Value::Int4(0)]]);
    assert_eq!(joined(&h.query_in(&mut fixed, count, &[]).unwrap()), "10");
    assert_eq!(joined(&h.query_primary(&mut fixed, count).unwrap()), "10");
    assert_eq!(h.text(count), "11");
}

#[test]
fn a_query_beyond_its_memory_fails_alone() {
    let mut h = Harness::with_memory(4 << 20);
    numbers(&mut h, 200_000);
    let (state, _) =
        h.error("SELECT a.id, b.v FROM numbers a JOIN numbers b ON a.id = b.id ORDER BY b.v, a.id");
    assert_eq!(state, "53200");
    assert_eq!(h.text("SELECT count(*) FROM numbers"), "200000");
}

#[test]
fn explain_shows_the_scan_and_the_units_ruled_out() {
    let mut h = Harness::new();
    numbers(&mut h, 100);
    let mut txn = h.begin(Isolation::ReadCommitted);
    txn.statement();
    let scope = h.scope(&txn);
    let plan = h
        .analytic
        .plan(
            &support::parse("SELECT sum(v) FROM numbers WHERE id > 500"),
            &scope,
            &[],
        )
        .unwrap();
    let source = h.mirror_source(&mut txn, &plan).unwrap();
    let lines = h
        .block(h.analytic.explain(&plan, source, &scope, Vec::new()))
        .unwrap();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("MirrorScan: table=numbers, units=0, pruned=1")),
        "{lines:#?}"
    );
}

#[test]
fn numbers_with_an_exponent_are_what_they_say() {
    let mut h = Harness::new();
    everything(&mut h);
    for (sql, expected) in [
        (
            "select x + 1e2 from generate_series(1, 2) as g(x) order by 1",
            "101;102",
        ),
        (
            "select count(*) from everything where id < 1E1 and i8 > 1.5e3",
            "1",
        ),
        ("select x + 1.5e-1 from generate_series(1, 1) as g(x)", "1.15"),
        ("select count(*) from everything where f8 < 1e300", "1"),
        ("select 1e2::int + x from generate_series(1, 1) as g(x)", "101"),
    ] {
        assert_eq!(h.text(sql), expected, "{sql}");
    }
}

#[test]
fn who_asks_for_what_a_failed_log_never_made_durable_is_told_so_and_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimStorage::new(1, false);
    let mut options = EngineOptions::default();
    options.log.segment_bytes = 64 << 10;
    let storage: Arc<SimStorage> = Arc::clone(&disk);
    let engine = Engine::open_on(&directory.path().join("primary"), storage, options).unwrap();
    let horizon = {
        let engine = Arc::clone(&engine);
        Arc::new(move || engine.horizon())
    };
    let mirror = Mirror::open(
        &directory.path().join("mirror"),
        Arc::clone(engine.log()),
        MirrorOptions::new(horizon),
    )
    .unwrap();
    let analytic = Analytic::new(AnalyticOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut session = engine.session(SessionInfo::default());
    let mut create = |name: &str| {
        let mut txn = session.begin(Isolation::ReadCommitted);
        let new = NewTable {
            name: name.to_owned(),
            columns: vec![column("id", DataType::Int4)],
            primary_key: None,
            ..NewTable::default()
        };
        runtime.block_on(txn.create_table(new)).unwrap();
        txn.commit("").unwrap().unwrap()
    };
    engine.log().wait_durable(create("kept")).unwrap();
    disk.fail_after(0, Fault::WriteFails);
    let lost = create("lost");
    assert!(engine.log().wait_durable(lost).is_err());
    for need in [Need::AtLeast(lost), Need::Exactly(lost)] {
        let asked = mirror_snapshot(&analytic, &mirror, engine.log(), Freshness::Strict, need);
        let told = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), asked).await });
        let error = told.expect("an answer").expect_err("no such snapshot");
        assert_eq!(error.code.to_string(), "58030", "{error}");
    }
}
