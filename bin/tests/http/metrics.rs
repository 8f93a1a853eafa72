//! `GET /metrics`.

use crate::common::{DEADLINE, Home};
use crate::http_client::Site;
use serde_json::json;

/// Samples by name, with its label if it has one. Every line is checked.
fn metrics(text: &str) -> std::collections::BTreeMap<String, f64> {
    let mut samples = std::collections::BTreeMap::new();
    let mut lines = text.lines().peekable();
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
        assert!(
            ["counter", "gauge", "histogram"].contains(&kind),
            "{name}: {kind}"
        );
        let ends: &[&str] = match kind {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}: {kind}");
        let mut found = 0;
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let (sampled, value) = sample.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{sample}"));
            let rest = sampled.strip_prefix(name).unwrap_or_else(|| panic!("{sample}"));
            let label = ends.iter().find_map(|end| {
                let label = rest.strip_prefix(end)?;
                (label.is_empty() || label.starts_with('{')).then_some(label)
            });
            let label = label.unwrap_or_else(|| panic!("{sample}"));
            let is_label = label.contains("=\"") && label.ends_with("\"}");
            assert!(label.is_empty() || is_label, "{sample}");
            assert!(value >= 0.0 && f64::is_finite(value), "{sample}");
            assert!(
                samples.insert(sampled.to_owned(), value).is_none(),
                "{sampled} twice"
            );
            found += 1;
        }
        assert!(found > 0, "{name} has no sample");
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
    assert!(after.contains_key("scry_log_consumer_held_bytes{consumer=\"mirror\"}"));
    let classes = |bound| after[&format!("scry_log_write_seconds_bucket{{le=\"{bound}\"}}")];
    let writes = after["scry_log_write_seconds_count"];
    assert!(writes > 0.0 && classes("+Inf") == writes);
    assert!(classes("0.00005") <= classes("0.25") && classes("0.25") <= writes);
    assert!(after["scry_log_write_seconds_sum"] * 1e6 >= after["scry_log_write_us_max"]);
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
            "log_begin_lsn" => after["scry_log_begin_bytes"],
            "history_begin_lsn" => after["scry_history_begin_bytes"],
            "log_writes" => after["scry_log_write_seconds_count"],
            _ => {
                after[after
                    .keys()
                    .find(named)
                    .unwrap_or_else(|| panic!("no metric {name}"))]
            }
        };
        // Sessions come and go: this query's own is one. History is let go of meanwhile, and the trail writes that all is durable.
        let value = row[1].as_f64().expect("a number");
        let is_as_told = match name {
            "sessions" => true,
            "history_begin_lsn" | "log_writes" | "log_write_us_max" | "durable_lsn" => found <= value,
            _ => found == value,
        };
        assert!(is_as_told, "{name}: {found} {value}");
    }
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let now = get();
        if now["scry_mirror_lag_bytes"] == 0.0 && now["scry_sessions"] == 0.0 {
            break;
        }
        assert!(std::time::Instant::now() < end, "{now:?}");
    }
}
