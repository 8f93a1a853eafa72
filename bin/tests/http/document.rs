//! Every answer against the OpenAPI document that the server hands out.

use crate::common::Home;
use crate::http_client::Site;
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
