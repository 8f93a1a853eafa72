//! The HTTP server: what its document says, and what it does not do.

#[path = "../common/mod.rs"]
mod common;
#[path = "../http_client/mod.rs"]
mod http_client;

mod document;
mod metrics;

use common::Home;
use http_client::{Answer, Site, request};
use serde_json::{Value, json};

#[test]
fn a_future_is_made_and_queried_over_http_alone_but_for_its_changes() {
    let home = Home::new();
    let site = Site::start(&home);
    site.sql("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 10), (2, 20)");
    let made = site.post(
        "/v1/elections/e/mirror",
        &json!({"winners": "any", "candidates": [{"name": "a", "weight": 0.5}, {"name": "b"}]}),
    );
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    assert_eq!(made["new"], json!(["e", "e/a", "e/b"]));
    assert_eq!(made["winners"], Value::Null);
    assert_eq!(made["candidates"][0]["weight"], json!(0.5));
    site.sql("SET scry.candidate = 'e/a'; UPDATE t SET v = v + 1");
    site.sql("SET scry.candidate = 'e/b'; DELETE FROM t WHERE id = 2");
    let sum = |candidate: Value| {
        let query = json!({"query": "SELECT sum(v) AS total, count(*) FROM t", "candidate": candidate});
        let answer = site.post("/v1/elections/e/query", &query);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["rows"].clone()
    };
    assert_eq!(sum(Value::Null), json!([[30, 2]]));
    assert_eq!(sum(json!("a")), json!([[32, 2]]));
    assert_eq!(sum(json!("b")), json!([[10, 1]]));
    assert_eq!(sum(json!("a+b")), json!([[11, 1]]));
    let query = "SELECT f.id, f.v - p.v AS more FROM t f JOIN public.t p USING (id) ORDER BY 1";
    let both = site.post(
        "/v1/elections/e/query",
        &json!({"query": query, "candidate": "a"}),
    );
    assert_eq!(both.json()["rows"], json!([[1, 1], [2, 1]]), "{both:?}");
    let compare =
        "SELECT candidate, total FROM scry.compare('e', 'SELECT sum(v) AS total FROM t') ORDER BY total";
    let compared = site.post("/v1/elections/e/query", &json!({"query": compare}));
    assert_eq!(
        compared.json()["rows"],
        json!([["b", 10], [null, 30], ["a", 32]]),
        "{compared:?}"
    );
    let tables = site.get("/v1/elections/e").json();
    assert_eq!(tables["candidates"][1]["tables"], json!(["t"]));
    assert_eq!(tables["owner"], json!("http"));
    // One more candidate in an election that is there, and nothing when a part cannot be.
    let more = site.post(
        "/v1/elections/e/mirror",
        &json!({"candidates": [{"name": "a"}, {"name": "c"}]}),
    );
    assert_eq!((more.status, &more.json()["new"]), (201, &json!(["e/c"])));
    let refused = site.post(
        "/v1/elections/e/mirror",
        &json!({"candidates": [{"name": "d"}, {"name": "x/y"}]}),
    );
    assert_eq!(
        (refused.status, &refused.json()["sqlstate"]),
        (400, &json!("42602"))
    );
    site.sql("CREATE CANDIDATE dark IN e WITH (mirror = off)");
    let refused = site.post(
        "/v1/elections/e/mirror",
        &json!({"candidates": [{"name": "d"}, {"name": "dark"}]}),
    );
    assert_eq!(
        (refused.status, &refused.json()["sqlstate"]),
        (409, &json!("42710"))
    );
    let names: Vec<Value> = site.get("/v1/elections/e").json()["candidates"]
        .as_array()
        .expect("candidates")
        .iter()
        .map(|candidate| candidate["name"].clone())
        .collect();
    assert_eq!(names, ["a", "b", "c", "dark"]);
}

#[test]
fn values_are_what_json_has_for_them() {
    let home = Home::new();
    let site = Site::start(&home);
    site.post("/v1/elections/e/mirror", &json!({}));
    let query = "SELECT 1 AS i, 9007199254740993::bigint, 0.10::numeric(4,2), 1e100::float8 AS big, 'NaN'::float8 AS nan, '-Infinity'::float4 AS low, \
                 true AS yes, NULL::int AS nothing, 'a \"quoted\"\ntext\u{1}' AS t, '{\"a\": [1, null]}'::jsonb AS j, date '2024-02-29' AS d, \
                 timestamptz '2024-02-29 12:00:00+02' AS tz";
    let answer = site.post("/v1/elections/e/query", &json!({"query": query}));
    assert_eq!(answer.status, 200, "{answer:?}");
    // As text: a JSON library would round the numbers.
    let text = answer.text();
    let rows = text.split_once("\"rows\":").expect("rows").1;
    assert_eq!(
        rows,
        "[[1,9007199254740993,0.10,1e+100,\"NaN\",\"-Infinity\",true,null,\"a \\\"quoted\\\"\\ntext\\u0001\",{\"a\": [1, null]},\
         \"2024-02-29\",\"2024-02-29 10:00:00+00\"]]}"
    );
    assert_eq!(
        answer.json()["columns"][1],
        json!({"name": "int8", "type": "bigint"})
    );
    assert_eq!(answer.json()["columns"][2]["type"], json!("numeric(4,2)"));
}

#[test]
fn arrow_streams_hold_what_json_holds() {
    use arrow::array::{AsArray, Decimal128Array};
    use arrow::datatypes::Int64Type;
    use arrow::ipc::reader::StreamReader;
    let home = Home::new();
    let site = Site::start(&home);
    site.sql("CREATE TABLE t (id bigint PRIMARY KEY, v numeric(8,2), s text)");
    site.sql("INSERT INTO t SELECT n, n * 0.25, 'row ' || n FROM generate_series(1, 60000) AS g(n)");
    site.post("/v1/elections/e/mirror", &json!({"candidates": [{"name": "a"}]}));
    site.sql("SET scry.candidate = 'e/a'; DELETE FROM t WHERE id <= 20000");
    let accept = [("accept", "application/vnd.apache.arrow.stream, */*;q=0.1")];
    let ask = |query: &str, candidate: Value| {
        let body = json!({"query": query, "candidate": candidate}).to_string();
        site.send("POST", "/v1/elections/e/query", &accept, Some(&body))
    };
    let answer = ask("SELECT id, v AS price, s FROM t", json!("a"));
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/vnd.apache.arrow.stream"))
    );
    let reader = StreamReader::try_new(answer.body.as_slice(), None).expect("a stream");
    let schema = reader.schema();
    let names: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert_eq!(names, ["id", "price", "s"]);
    let (mut rows, mut ids, mut cents) = (0, 0i64, 0i128);
    for batch in reader {
        let batch = batch.expect("a batch");
        rows += batch.num_rows();
        ids += batch
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .sum::<i64>();
        let prices: &Decimal128Array = batch.column(1).as_primitive();
        cents += prices.values().iter().sum::<i128>();
    }
    assert_eq!(rows, 40_000);
    assert_eq!(ids, (20_001..=60_000).sum::<i64>());
    assert_eq!(cents, (20_001..=60_000).map(|n: i128| n * 25).sum::<i128>());
    // No rows, no tables, and two columns of one name.
    for (query, rows, columns) in [
        ("SELECT * FROM t WHERE id < 0", 0, 3),
        ("SELECT 1 AS x, 2 AS x", 1, 2),
    ] {
        let answer = ask(query, Value::Null);
        assert_eq!(answer.status, 200, "{answer:?}");
        let reader = StreamReader::try_new(answer.body.as_slice(), None).expect("a stream");
        assert_eq!(reader.schema().fields().len(), columns, "{query}");
        assert_eq!(
            reader
                .map(|batch| batch.expect("a batch").num_rows())
                .sum::<usize>(),
            rows,
            "{query}"
        );
    }
    // What fails on the way breaks the answer off.
    let answer = ask(
        "SELECT 1 / (n - 1000000) FROM generate_series(1, 1000000) AS g(n)",
        Value::Null,
    );
    assert!(answer.status == 200 && !answer.complete, "{}", answer.status);
    // Errors are JSON all the same.
    for (query, status, sqlstate) in [
        ("SELECT nothing FROM t", 400, "42703"),
        ("SELECT 1 / (id - id) FROM t", 400, "22012"),
        ("DELETE FROM t", 400, "0A000"),
        ("SELECT 1; SELECT 2", 400, "42601"),
        ("SELECT $1::int", 400, "42P02"),
    ] {
        let answer = ask(query, json!("a"));
        assert_eq!(
            (answer.status, &answer.json()["sqlstate"]),
            (status, &json!(sqlstate)),
            "{query}: {answer:?}"
        );
    }
}

#[test]
fn what_is_not_served_is_refused_with_its_reason() {
    let home = Home::new();
    let site = Site::start(&home);
    site.post("/v1/elections/e/mirror", &json!({}));
    let check = |answer: Answer, status: u16, sqlstate: &str| {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["sqlstate"], json!(sqlstate), "{answer:?}");
    };
    let query = |sql: &str| site.post("/v1/elections/e/query", &json!({"query": sql}));
    check(site.get("/"), 404, "0A000");
    check(site.get("/v1/elections/%FF"), 400, "22021");
    check(site.get("/v1/elections/e/mirror"), 405, "0A000");
    check(site.send("PUT", "/v1/elections/e", &[], None), 405, "0A000");
    check(
        site.send(
            "POST",
            "/v1/elections/e/query",
            &[("content-type", "text/plain")],
            Some("{\"query\": \"SELECT 1\"}"),
        ),
        415,
        "0A000",
    );
    check(
        site.send("POST", "/v1/elections/e/query", &[], Some("{\"query\": 1}")),
        400,
        "22023",
    );
    check(
        site.send(
            "POST",
            "/v1/elections/e/query",
            &[],
            Some("{\"query\": \"SELECT 1\", \"sql\": 1}"),
        ),
        400,
        "22023",
    );
    check(
        site.send("GET", "/v1/elections", &[("host", "scry.example.com")], None),
        421,
        "28000",
    );
    let long = json!({"query": format!("SELECT '{}'", "x".repeat(1 << 20))});
    check(site.post("/v1/elections/e/query", &long), 413, "54000");
    // Queries change nothing, and are queries.
    for sql in [
        "CREATE TABLE t (id int)",
        "BEGIN",
        "SET scry.future = ''",
        "COPY (SELECT 1) TO STDOUT",
        "",
        "LISTEN x",
    ] {
        check(query(sql), 400, "0A000");
    }
    check(query("SELECT scry.create_election('f')"), 403, "25006");
    check(query("SELECT 1; SELECT 2"), 400, "42601");
    check(query("SELECT $1::int"), 400, "42P02");
    let large = "SELECT repeat('x', 1000000) FROM generate_series(1, 70)";
    check(query(large), 400, "54000");
    assert_eq!(
        site.get("/v1/elections").json()["elections"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[test]
fn one_connection_too_many_is_refused_and_silent_ones_do_not_keep_the_server_from_stopping() {
    let home = Home::new();
    let site = Site::start(&home);
    let silent: Vec<_> = (0..64).map(|_| site.connect()).collect();
    // The accepting task takes them in order: this one finds no place.
    let answer = http_client::receive(site.connect());
    assert_eq!(
        (answer.status, &answer.json()["sqlstate"]),
        (503, &json!("53300"))
    );
    drop(silent);
    common::wait_until("a place is given back", || {
        request(site.address, "GET", "/v1/elections", &[], None).status == 200
    });
    let _silent = site.connect();
    assert!(site.stop().success());
}

#[test]
fn queries_whose_clients_have_gone_end_and_give_their_places_back() {
    let home = Home::new();
    let site = Site::start(&home);
    site.post("/v1/elections/e/mirror", &json!({}));
    // Hours of work.
    let endless = "SELECT sum(x * y) FROM generate_series(1, 1000000) a(x), generate_series(1, 1000000) b(y)";
    let body = json!({"query": endless}).to_string();
    let clients: Vec<_> = (0..64)
        .map(|_| http_client::begin(site.address, "POST", "/v1/elections/e/query", &[], Some(&body)))
        .collect();
    let is_answered = |status: u16| site.get("/v1/elections").status == status;
    common::wait_until("all places are taken", || is_answered(503));
    drop(clients);
    common::wait_until("they are given back", || is_answered(200));
}

#[test]
fn an_address_that_others_could_reach_is_refused() {
    let home = Home::new();
    let output = home
        .command()
        .args(["--http", "0.0.0.0:0"])
        .output()
        .expect("the server runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("will not listen on 0.0.0.0:0"), "{text}");
}
