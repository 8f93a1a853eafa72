//! `GET /metrics`: figures for a monitoring system, in the text format of Prometheus.
//!
//! They are those of the views `scry_stat_engine`, `scry_stat_mirror` and `scry_stat_elections`, from the same source. Counters
//! begin with the server's start.

use super::context::{Call, Shared};
use super::problem::Problem;
use super::rows;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use scry_engine::{CandidateState, ElectionState};
use scry_wal::WRITE_BOUNDS_US;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// Of the text format.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Name in `scry_stat_engine`; name, kind and meaning here.
const ENGINE: [(&str, &str, Kind, &str); 20] = [
    (
        "commits",
        "scry_commits_total",
        Kind::Counter,
        "Transactions that wrote and committed.",
    ),
    (
        "aborts",
        "scry_aborts_total",
        Kind::Counter,
        "Transactions that had locked or written and rolled back.",
    ),
    (
        "lock_waits",
        "scry_lock_waits_total",
        Kind::Counter,
        "Requests for a lock that had to wait.",
    ),
    (
        "deadlocks",
        "scry_deadlocks_total",
        Kind::Counter,
        "Waits for locks that were refused because they would never have ended.",
    ),
    (
        "serialization_failures",
        "scry_serialization_failures_total",
        Kind::Counter,
        "Transactions at REPEATABLE READ that met a newer version.",
    ),
    (
        "elected_rows",
        "scry_elected_rows_total",
        Kind::Counter,
        "Rows that elections have changed.",
    ),
    (
        "conflicts_resolved",
        "scry_conflicts_resolved_total",
        Kind::Counter,
        "Rows that were not what a candidate found and that rules decided.",
    ),
    (
        "conflicts_deferred",
        "scry_conflicts_deferred_total",
        Kind::Counter,
        "Rows that were not what a candidate found and that were deferred.",
    ),
    (
        "conflicts_predicted",
        "scry_conflicts_predicted_total",
        Kind::Counter,
        "Predicted conflicts that appeared when a future was read.",
    ),
    (
        "checkpoints",
        "scry_checkpoints_total",
        Kind::Counter,
        "Checkpoints of rows.",
    ),
    (
        "checkpoints_failed",
        "scry_checkpoints_failed_total",
        Kind::Counter,
        "Checkpoints of rows that failed and are tried again.",
    ),
    (
        "compactions_failed",
        "scry_compactions_failed_total",
        Kind::Counter,
        "Attempts to merge files of rows that failed.",
    ),
    (
        "admission_delay_us",
        "scry_admission_delay_us",
        Kind::Gauge,
        "How long commits wait for checkpoints and compaction to keep up, in microseconds.",
    ),
    (
        "row_memory_bytes",
        "scry_row_memory_bytes",
        Kind::Gauge,
        "Memory that rows take.",
    ),
    (
        "sessions",
        "scry_sessions",
        Kind::Gauge,
        "Sessions of both protocols.",
    ),
    (
        "visible_lsn",
        "scry_log_visible_bytes",
        Kind::Gauge,
        "LSN up to which the audit trail is visible to transactions.",
    ),
    (
        "durable_lsn",
        "scry_log_durable_bytes",
        Kind::Gauge,
        "LSN up to which the audit trail is on disk.",
    ),
    (
        "log_begin_lsn",
        "scry_log_begin_bytes",
        Kind::Gauge,
        "LSN at which the audit trail in the directory begins.",
    ),
    (
        "log_write_us_max",
        "scry_log_write_us_max",
        Kind::Gauge,
        "The longest write of the audit trail since the start, in microseconds.",
    ),
    (
        "history_begin_lsn",
        "scry_history_begin_bytes",
        Kind::Gauge,
        "LSN of the oldest state that can be read.",
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// Collects metrics as text. Writing to memory does not fail.
#[derive(Debug, Default)]
struct Metrics(String);

impl Metrics {
    fn add(&mut self, name: &str, kind: Kind, help: &str, value: impl fmt::Display) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = write!(
            self.0,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    }

    /// A gauge for each value of a label.
    fn family(&mut self, name: &str, help: &str, label: &str, values: impl Iterator<Item = (String, i64)>) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for (of, value) in values {
            let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}");
        }
    }

    /// How many took at most so many seconds, for each bound; `classes` has one more than `bounds_us`.
    fn histogram(&mut self, name: &str, help: &str, bounds_us: &[u64], classes: &[u64], total: Duration) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} histogram\n");
        let bounds = bounds_us.iter().map(|bound| (*bound as f64 / 1e6).to_string());
        let mut count = 0;
        for (bound, class) in bounds.chain(["+Inf".to_owned()]).zip(classes) {
            count += class;
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(self.0, "{name}_sum {}\n{name}_count {count}", total.as_secs_f64());
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl fmt::Display) {
        self.add(name, Kind::Gauge, help, value);
    }
}

pub async fn get(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Problem> {
    let mut metrics = Metrics::default();
    let status = shared.database.status();
    let figures = status.engine();
    for (figure, name, kind, help) in ENGINE {
        if let Some((_, value)) = figures.iter().find(|(known, _)| *known == figure) {
            metrics.add(name, kind, help, value);
        }
    }
    let writes = shared.database.engine().log().write_figures();
    metrics.histogram(
        "scry_log_write_seconds",
        "How long writes of the audit trail take, each with its sync.",
        &WRITE_BOUNDS_US,
        &writes.classes,
        writes.total,
    );
    metrics.family(
        "scry_log_consumer_held_bytes",
        "Audit trail from where a consumer needs it to its end; 0 for one that was dropped.",
        "consumer",
        status
            .log_consumers()
            .into_iter()
            .map(|(name, _, held, _)| (name, held)),
    );
    let [applied, p50, p99, max, bytes, rows, segments] = status.mirror();
    let visible = figures.iter().find(|(known, _)| *known == "visible_lsn");
    let behind = visible.map_or(0, |(_, visible)| (visible - applied).max(0));
    let seconds = |micros: i64| micros as f64 / 1e6;
    metrics.gauge(
        "scry_mirror_applied_bytes",
        "LSN up to which the mirror has applied the audit trail.",
        applied,
    );
    metrics.gauge(
        "scry_mirror_lag_bytes",
        "Audit trail that is visible and that the mirror has not applied.",
        behind,
    );
    for (quantile, micros) in [("p50", p50), ("p99", p99), ("max", max)] {
        metrics.gauge(
            &format!("scry_mirror_lag_{quantile}_seconds"),
            &format!("From commit to applied in the mirror since the last reset, {quantile}."),
            seconds(micros),
        );
    }
    metrics.gauge("scry_mirror_size_bytes", "Mirror in memory and on disk.", bytes);
    metrics.gauge("scry_mirror_rows", "Living rows in the mirror.", rows);
    metrics.gauge("scry_mirror_segments", "Files of the mirror.", segments);
    let savepoints = status.savepoints();
    metrics.gauge(
        "scry_mirror_savepoints",
        "Savepoints of the mirror.",
        savepoints.len(),
    );
    metrics.gauge(
        "scry_mirror_held",
        "Whether the mirror is held at a savepoint: 1, else 0.",
        u8::from(savepoints.iter().any(|savepoint| savepoint.held)),
    );
    let catalog = shared.database.engine().catalog();
    let (mut elections, mut candidates) = (0, 0);
    for election in catalog.elections().iter() {
        if election.state == ElectionState::Open {
            elections += 1;
            candidates += election.count(CandidateState::Open);
        }
    }
    metrics.gauge("scry_elections_open", "Open elections.", elections);
    metrics.gauge(
        "scry_candidates_open",
        "Open candidates of open elections.",
        candidates,
    );
    // The queue is a table: it is counted where nothing has to be waited for.
    let mut session = Call::new(request).session(&shared, &[("scry.read_from", "primary")])?;
    let queued = "SELECT count(*) FROM scry.conflict_queue WHERE state = 'open'";
    let queued = rows::value(&mut session, queued, &[]).await?;
    metrics.gauge(
        "scry_conflicts_queued",
        "Deferred conflicts that are not resolved.",
        queued.as_deref().unwrap_or("0"),
    );
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], metrics.0).into_response())
}
