//! The HTTP server: what its document says, and what it does not do.

mod common;
mod http_client;

use common::Home;
use http_client::{Answer, Site, request};
use serde_json::{Value, json};

#[test]
fn every_answer_is_as_the_document_says() {
    let home = Home::new();
    let site = Site::start(&home);
    site.sql("CREATE TABLE t (id int PRIMARY KEY, v numeric(8,2)); INSERT INTO t VALUES (1, 1.50), (2, 2)");
    site.sql("CREATE ELECTION old WITH (winners = any); DROP ELECTION old");
    let mirror = json!({"candidates": [{"name": "a", "weight": 0.25, "note": "first"}, {"name": "b"}]});
    // (method, path, path in the document, body, status), or SQL in between
    let cases: Vec<(&str, &str, &str, Option<Value>, u16)> = vec![
        ("GET", "/v1/openapi.json", "/v1/openapi.json", None, 200),
        ("GET", "/v1/elections", "/v1/elections", None, 200),
        ("GET", "/v1/elections/none", "/v1/elections/{election}", None, 404),
        (
            "POST",
            "/v1/elections/e/mirror",
            "/v1/elections/{election}/mirror",
            Some(mirror.clone()),
            201,
        ),
        (
            "POST",
            "/v1/elections/e/mirror",
            "/v1/elections/{election}/mirror",
            Some(mirror),
            200,
        ),
        (
            "POST",
            "/v1/elections/e/mirror",
            "/v1/elections/{election}/mirror",
            Some(json!({"candidates": [{"name": "a", "weight": 1}]})),
            409,
        ),
        (
            "POST",
            "/v1/elections/e/mirror",
            "/v1/elections/{election}/mirror",
            Some(json!({"candidates": [{"nam": "a"}]})),
            400,
        ),
        ("GET", "/v1/elections", "/v1/elections", None, 200),
        ("GET", "/v1/elections/e", "/v1/elections/{election}", None, 200),
        (
            "POST",
            "/v1/elections/e/query",
            "/v1/elections/{election}/query",
            Some(json!({"query": "SELECT * FROM t"})),
            200,
        ),
        (
            "POST",
            "/v1/elections/e/query",
            "/v1/elections/{election}/query",
            Some(json!({"query": "SELECT * FROM t", "candidate": "a+b"})),
            409,
        ),
        (
            "POST",
            "/v1/elections/e/query",
            "/v1/elections/{election}/query",
            Some(json!({"query": "DELETE FROM t RETURNING id"})),
            403,
        ),
        (
            "POST",
            "/v1/elections/e/query",
            "/v1/elections/{election}/query",
            Some(json!({"query": "SELECT nothing FROM t"})),
            400,
        ),
        (
            "POST",
            "/v1/elections/e/query",
            "/v1/elections/{election}/query",
            Some(json!({"query": "SELECT 1", "candidate": "none"})),
            404,
        ),
        (
            "POST",
            "/v1/elections/none/query",
            "/v1/elections/{election}/query",
            Some(json!({"query": "SELECT 1"})),
            404,
        ),
        (
            "SQL",
            "CREATE ELECTION f WITH (winners = any); CREATE CANDIDATE c IN f; CREATE CANDIDATE d IN f; CREATE CANDIDATE x IN f",
            "",
            None,
            0,
        ),
        (
            "SQL",
            "SET scry.candidate = 'f/c'; UPDATE t SET v = 5 WHERE id = 1",
            "",
            None,
            0,
        ),
        (
            "SQL",
            "UPDATE t SET v = 9 WHERE id = 1; CREATE ELECTION q WITH (private = on)",
            "",
            None,
            0,
        ),
        ("GET", "/v1/conflicts", "/v1/conflicts", None, 200),
        (
            "GET",
            "/v1/elections/f/candidates",
            "/v1/elections/{election}/candidates",
            None,
            200,
        ),
        (
            "GET",
            "/v1/elections/none/candidates",
            "/v1/elections/{election}/candidates",
            None,
            404,
        ),
        (
            "GET",
            "/v1/elections/f/candidates/c/conflicts",
            "/v1/elections/{election}/candidates/{candidate}/conflicts",
            None,
            200,
        ),
        (
            "GET",
            "/v1/elections/f/candidates/none/conflicts",
            "/v1/elections/{election}/candidates/{candidate}/conflicts",
            None,
            404,
        ),
        (
            "POST",
            "/v1/elections/f/elect",
            "/v1/elections/{election}/elect",
            Some(json!({"candidate": "c"})),
            409,
        ),
        (
            "POST",
            "/v1/elections/f/elect",
            "/v1/elections/{election}/elect",
            Some(json!({"candidate": "c", "on_conflict": "hope"})),
            400,
        ),
        (
            "POST",
            "/v1/elections/f/elect",
            "/v1/elections/{election}/elect",
            Some(json!({"candidate": "c", "on_conflict": "defer"})),
            200,
        ),
        (
            "POST",
            "/v1/elections/q/elect",
            "/v1/elections/{election}/elect",
            Some(json!({"candidate": "c"})),
            403,
        ),
        ("GET", "/v1/conflicts?state=open", "/v1/conflicts", None, 200),
        ("GET", "/v1/conflicts?state=perhaps", "/v1/conflicts", None, 400),
        (
            "POST",
            "/v1/conflicts/1/resolve",
            "/v1/conflicts/{id}/resolve",
            Some(json!({"action": "burn"})),
            400,
        ),
        (
            "POST",
            "/v1/conflicts/one/resolve",
            "/v1/conflicts/{id}/resolve",
            Some(json!({"action": "keep"})),
            400,
        ),
        (
            "POST",
            "/v1/conflicts/9/resolve",
            "/v1/conflicts/{id}/resolve",
            Some(json!({"action": "keep"})),
            404,
        ),
        (
            "POST",
            "/v1/conflicts/1/resolve",
            "/v1/conflicts/{id}/resolve",
            Some(json!({"action": "merge", "values": {"v": "7.25"}})),
            200,
        ),
        (
            "POST",
            "/v1/conflicts/1/resolve",
            "/v1/conflicts/{id}/resolve",
            Some(json!({"action": "keep"})),
            409,
        ),
        ("GET", "/v1/conflicts?state=all", "/v1/conflicts", None, 200),
        (
            "POST",
            "/v1/elections/f/rebase",
            "/v1/elections/{election}/rebase",
            Some(json!({"candidate": "d"})),
            200,
        ),
        (
            "POST",
            "/v1/elections/f/rebase",
            "/v1/elections/{election}/rebase",
            Some(json!({"candidate": "c"})),
            409,
        ),
        (
            "POST",
            "/v1/elections/f/elect-best",
            "/v1/elections/{election}/elect-best",
            Some(json!({"query": "SELECT sum(v) FROM t", "maximize": false})),
            200,
        ),
        (
            "POST",
            "/v1/elections/none/elect-best",
            "/v1/elections/{election}/elect-best",
            Some(json!({"query": "SELECT sum(v) FROM t"})),
            404,
        ),
        (
            "DELETE",
            "/v1/elections/f/candidates/x",
            "/v1/elections/{election}/candidates/{candidate}",
            None,
            200,
        ),
        (
            "DELETE",
            "/v1/elections/f/candidates/x",
            "/v1/elections/{election}/candidates/{candidate}",
            None,
            409,
        ),
        ("DELETE", "/v1/elections/q", "/v1/elections/{election}", None, 403),
        ("DELETE", "/v1/elections/f", "/v1/elections/{election}", None, 200),
        ("DELETE", "/v1/elections/f", "/v1/elections/{election}", None, 404),
        ("GET", "/metrics", "/metrics", None, 200),
    ];
    let document = site.get("/v1/openapi.json").json();
    let mut seen = Vec::new();
    for (method, path, documented, body, status) in cases {
        if method == "SQL" {
            site.sql(path);
            continue;
        }
        let answer = site.ask(method, path, body.as_ref());
        assert_eq!(answer.status, status, "{method} {path} {body:?}: {answer:?}");
        let operation = &document["paths"][documented][method.to_lowercase()];
        if let Some(body) = &body
            && status < 400
        {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            fits(&document, schema, body, "request");
        }
        let response = &operation["responses"][status.to_string()];
        assert!(!response.is_null(), "{method} {documented} documents no {status}");
        let kind = answer.header("content-type").expect("a type");
        let schema = &resolved(&document, response)["content"][kind]["schema"];
        assert!(!schema.is_null(), "{method} {documented} documents no {kind}");
        let value = match kind {
            "application/json" => answer.json(),
            _ => Value::String(answer.text()),
        };
        fits(&document, schema, &value, &format!("{method} {path}"));
        seen.push((documented.to_owned(), method.to_lowercase()));
    }
    for (path, item) in document["paths"].as_object().expect("paths") {
        let concrete = path
            .replace("{election}", "e")
            .replace("{candidate}", "a")
            .replace("{id}", "1");
        for method in ["get", "post", "put", "patch", "delete"] {
            if !item[method].is_null() {
                let tried = seen.contains(&(path.clone(), method.to_owned()));
                assert!(tried, "{method} {path} was not tried");
            } else {
                let answer = site.ask(&method.to_uppercase(), &concrete, None);
                assert_eq!(answer.status, 405, "{method} {path} is served and not documented");
            }
        }
        let names = |text: &str| -> Vec<String> {
            let parts = text
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            parts.map(str::to_owned).collect()
        };
        let declared = item["parameters"].as_array().into_iter().flatten();
        let declared = declared.map(|one| {
            resolved(&document, one)["name"]
                .as_str()
                .expect("a name")
                .to_owned()
        });
        assert_eq!(declared.collect::<Vec<_>>(), names(path), "{path}");
    }
}

/// Samples by name. Every line is checked.
fn metrics(text: &str) -> std::collections::BTreeMap<String, f64> {
    let mut samples = std::collections::BTreeMap::new();
    let mut lines = text.lines();
    while let Some(help) = lines.next() {
        let (name, meaning) = help
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
            .unwrap_or_else(|| panic!("{help}"));
        assert!(meaning.ends_with('.'), "{help}");
        let is_name = |character: char| {
            character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_'
        };
        assert!(name.starts_with("scry_") && name.chars().all(is_name), "{help}");
        let kind = lines.next().expect("a type");
        let kind = kind
            .strip_prefix(&format!("# TYPE {name} "))
            .unwrap_or_else(|| panic!("{kind}"));
        assert!(["counter", "gauge"].contains(&kind), "{name}: {kind}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}: {kind}");
        let sample = lines.next().expect("a sample");
        let value = sample
            .strip_prefix(&format!("{name} "))
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{sample}"));
        assert!(value >= 0.0 && f64::is_finite(value), "{sample}");
        assert!(samples.insert(name.to_owned(), value).is_none(), "{name} twice");
    }
    assert!(text.ends_with('\n'));
    samples
}

#[test]
fn metrics_are_in_the_format_of_prometheus_and_say_what_the_views_say() {
    let home = Home::new();
    let site = Site::start(&home);
    let get = || {
        let answer = site.get("/metrics");
        let kind = Some("text/plain; version=0.0.4; charset=utf-8");
        assert_eq!((answer.status, answer.header("content-type")), (200, kind));
        metrics(&answer.text())
    };
    let before = get();
    site.sql("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)");
    site.sql("ALTER TABLE t SET (scry.on_collision = 'merge'); ALTER TABLE t ALTER COLUMN v SET (scry.on_collision = 'add')");
    let made = json!({"winners": "any", "candidates": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
    assert_eq!(site.post("/v1/elections/e/mirror", &made).status, 201);
    site.sql("SET scry.candidate = 'e/a'; UPDATE t SET v = v + 10");
    site.sql("SET scry.candidate = 'e/b'; UPDATE t SET v = v + 10 WHERE id = 3");
    site.sql("UPDATE t SET v = v + 1 WHERE id < 3");
    let sum = json!({"query": "SELECT sum(v) FROM t", "candidate": "a"});
    for _ in 0..2 {
        assert_eq!(
            site.post("/v1/elections/e/query", &sum).json()["rows"],
            json!([[38]])
        );
    }
    let elect = |candidate: &str, how: &str| {
        let body = json!({"candidate": candidate, "on_conflict": how});
        site.post("/v1/elections/e/elect", &body).status
    };
    assert_eq!(elect("a", "resolve"), 200);
    site.sql("ALTER TABLE t ALTER COLUMN v SET (scry.on_collision = 'defer')");
    assert_eq!(elect("b", "defer"), 200);
    site.sql("BEGIN; UPDATE t SET v = 0; ROLLBACK");
    let after = get();
    let grown = |name: &str| after[name] - before[name];
    assert_eq!(grown("scry_conflicts_predicted_total"), 2.0);
    assert_eq!(grown("scry_conflicts_resolved_total"), 2.0);
    assert_eq!(grown("scry_conflicts_deferred_total"), 1.0);
    assert_eq!(grown("scry_elected_rows_total"), 3.0);
    assert_eq!(grown("scry_aborts_total"), 1.0);
    let gauges = [
        "scry_elections_open",
        "scry_candidates_open",
        "scry_conflicts_queued",
    ];
    assert_eq!(gauges.map(|name| after[name]), [1.0; 3]);
    assert!(
        grown("scry_commits_total") >= 8.0 && grown("scry_log_durable_bytes") > 0.0,
        "{after:?}"
    );
    assert!(
        after["scry_log_durable_bytes"] >= after["scry_mirror_applied_bytes"],
        "{after:?}"
    );
    // What the view counts has a metric, and that is its value.
    let asked = json!({"query": "SELECT name, value FROM scry_stat_engine"});
    let rows = site.post("/v1/elections/e/query", &asked).json()["rows"].clone();
    for row in rows.as_array().expect("rows") {
        let name = row[0].as_str().expect("a name");
        let named = |known: &&String| {
            ["", "_total"]
                .iter()
                .any(|end| **known == format!("scry_{name}{end}"))
        };
        let found = match name {
            "visible_lsn" => after["scry_log_visible_bytes"],
            "durable_lsn" => after["scry_log_durable_bytes"],
            _ => {
                after[after
                    .keys()
                    .find(named)
                    .unwrap_or_else(|| panic!("no metric {name}"))]
            }
        };
        // Sessions come and go: this query's own is one.
        let value = row[1].as_f64().expect("a number");
        assert!(found == value || name == "sessions", "{name}: {found} {value}");
    }
    let end = std::time::Instant::now() + common::DEADLINE;
    loop {
        let now = get();
        if now["scry_mirror_lag_bytes"] == 0.0 && now["scry_sessions"] == 0.0 {
            break;
        }
        assert!(std::time::Instant::now() < end, "{now:?}");
    }
}

/// Follows a reference inside of the document.
fn resolved<'d>(document: &'d Value, node: &'d Value) -> &'d Value {
    match node["$ref"].as_str() {
        None => node,
        Some(reference) => {
            let path = reference
                .strip_prefix('#')
                .expect("a reference inside of the document");
            document
                .pointer(path)
                .unwrap_or_else(|| panic!("{reference} leads nowhere"))
        }
    }
}

/// Checks a value against a schema, as far as the document uses schemas; what it uses beyond that fails.
fn fits(document: &Value, schema: &Value, value: &Value, place: &str) {
    const KNOWN: [&str; 9] = [
        "type",
        "enum",
        "required",
        "properties",
        "additionalProperties",
        "items",
        "description",
        "format",
        "$ref",
    ];
    let schema = resolved(document, schema);
    let rules = schema.as_object().unwrap_or_else(|| panic!("{place}: no schema"));
    assert!(
        rules.keys().all(|rule| KNOWN.contains(&rule.as_str())),
        "{place}: {rules:?}"
    );
    let kind = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{place}: the type {other}"),
    };
    let fitting = match &schema["type"] {
        Value::String(name) => kind(name),
        Value::Array(names) => names.iter().any(|name| kind(name.as_str().expect("a name"))),
        _ => panic!("{place}: no type"),
    };
    assert!(fitting, "{place}: {value} is no {}", schema["type"]);
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{place}: {value}");
    }
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(
                fields.contains_key(name.as_str().expect("a name")),
                "{place}: {name} is missing"
            );
        }
        for (name, field) in fields {
            match properties.get(name) {
                Some(schema) => fits(document, schema, field, &format!("{place}.{name}")),
                None => assert_ne!(
                    schema["additionalProperties"], false,
                    "{place}.{name} is not documented"
                ),
            }
        }
    }
    if let (Some(items), true) = (value.as_array(), schema["items"].is_object()) {
        for item in items {
            fits(document, &schema["items"], item, &format!("{place}[]"));
        }
    }
}

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
    let end = std::time::Instant::now() + common::DEADLINE;
    while request(site.address, "GET", "/v1/elections", &[], None).status != 200 {
        assert!(std::time::Instant::now() < end, "no place is given back");
    }
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
    let end = std::time::Instant::now() + common::DEADLINE;
    let until = |status: u16| {
        while site.get("/v1/elections").status != status {
            assert!(std::time::Instant::now() < end, "no {status}");
        }
    };
    until(503);
    drop(clients);
    until(200);
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
