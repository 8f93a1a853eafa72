//! Elections and candidates: what SHOW says, as relations, and figures for whoever watches them.

use super::view::{Cell, View, row};
use crate::analytic::Scope;
use crate::session::now_micros;
use scry_engine::election::{Candidate, Election, Privileges};
use scry_engine::{CandidateState, ElectionState};
use scry_wal::Lsn;
use std::sync::Arc;

pub const VIEWS: &[View] = &[
    View {
        schema: "scry",
        name: "elections",
        columns: "election text, owner name, state text, winners int4, elected int4, candidates int4, base_lsn text, \
                  acl text",
        rows: |scope| {
            let rows = elections(scope).map(|election| {
                row![
                    election.name.clone(),
                    election.owner.clone(),
                    election.state.name(),
                    winners(election),
                    election.elected(),
                    election.candidates().count(),
                    election.base().to_string(),
                    election.acl(),
                ]
            });
            rows.collect()
        },
    },
    View {
        schema: "scry",
        name: "candidates",
        columns: "election text, candidate text, state text, mirror bool, weight float8, note text, base_lsn text, \
                  tables text, mode text, statements int4",
        rows: |scope| {
            let of = |election: &Arc<Election>| {
                let rows = election.candidates().map(|candidate| {
                    row![
                        election.name.clone(),
                        candidate.name.clone(),
                        candidate.state.name(),
                        candidate.mirrored,
                        Cell::Float(candidate.weight),
                        candidate.note.clone(),
                        candidate.base().to_string(),
                        tables(candidate),
                        mode(candidate),
                        candidate.statements().len(),
                    ]
                });
                rows.collect::<Vec<_>>()
            };
            elections(scope).flat_map(of).collect()
        },
    },
    View {
        schema: "scry",
        name: "candidate_statements",
        columns: "election text, candidate text, number int4, statement text, parameters text, time_zone text",
        rows: |scope| {
            let of_candidate = |election: &Arc<Election>, candidate: &Arc<Candidate>| {
                let statements = candidate.statements().iter().enumerate();
                let rows = statements.map(|(index, statement)| {
                    row![
                        election.name.clone(),
                        candidate.name.clone(),
                        index + 1,
                        statement.text.clone(),
                        statement.parameter_list(),
                        statement.zone.clone(),
                    ]
                });
                rows.collect::<Vec<_>>()
            };
            let of = |election: &Arc<Election>| {
                let candidates = election.candidates();
                candidates
                    .flat_map(|candidate| of_candidate(election, candidate))
                    .collect::<Vec<_>>()
            };
            readable(scope).flat_map(of).collect()
        },
    },
    View {
        schema: "scry",
        name: "scores",
        columns: "election text, candidate text, score text, admissible bool, elected bool, best text, query text",
        rows: |scope| {
            let of = |election: &Arc<Election>| {
                let scores = election.scores.iter();
                let rows = scores.flat_map(|scores| scores.scores.iter().map(move |score| (scores, score)));
                let rows = rows.map(|(scores, score)| {
                    row![
                        election.name.clone(),
                        score.candidate.clone(),
                        score.score.clone(),
                        score.admissible,
                        score.elected,
                        if scores.maximize { "max" } else { "min" },
                        scores.query.clone(),
                    ]
                });
                rows.collect::<Vec<_>>()
            };
            readable(scope).flat_map(of).collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "scry_stat_elections",
        columns: "election text, owner name, state text, winners int4, open int4, elected int4, dropped int4, \
                  base_lsn int8, base_age_s float8, base_age_bytes int8, created timestamptz, \
                  conflicts_resolved int8, conflicts_deferred int8",
        rows: |scope| {
            let end = scope.status.as_ref().map(|status| status.log_end());
            elections(scope).map(|election| figures(election, end)).collect()
        },
    },
];

fn elections(scope: &Scope) -> impl Iterator<Item = &Arc<Election>> {
    scope.catalog.elections().iter()
}

/// Those whose futures the user may read: what candidates consist of and what was answered in them is for nobody else.
fn readable(scope: &Scope) -> impl Iterator<Item = &Arc<Election>> {
    elections(scope).filter(|election| election.allows(&scope.user, Privileges::READ))
}

/// NULL: any number.
fn winners(election: &Election) -> Option<i64> {
    (election.winners > 0).then_some(i64::from(election.winners))
}

/// The names of the tables that a candidate has changed.
fn tables(candidate: &Candidate) -> String {
    let names: Vec<&str> = candidate.branches().map(|branch| branch.table_name()).collect();
    names.join(", ")
}

/// What a candidate consists of; NULL while it has changed nothing, or when it has ended.
fn mode(candidate: &Candidate) -> Option<&'static str> {
    match candidate.statements().is_empty() {
        false => Some("statements"),
        true => candidate
            .branches()
            .any(|branch| branch.is_changed())
            .then_some("rows"),
    }
}

/// An ended election has no base any more, an expired base is none, and one whose transaction is still open none yet.
fn figures(election: &Election, end: Option<Lsn>) -> Vec<Cell> {
    let kept =
        election.state == ElectionState::Open && election.base() != Lsn::MAX && !election.base_expired();
    let base = kept.then(|| election.base());
    let bytes = base.zip(end).map(|(base, end)| end.bytes_since(base));
    let created = election.created.get();
    let age = now_micros().saturating_sub(created).max(0) as f64 / 1e6;
    let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    row![
        election.name.clone(),
        election.owner.clone(),
        election.state.name(),
        winners(election),
        election.count(CandidateState::Open),
        election.count(CandidateState::Elected),
        election.count(CandidateState::Dropped),
        base.map(|base| int(base.get())),
        base.map_or(Cell::Null, |_| Cell::Float(age)),
        bytes.map(int),
        created,
        int(election.resolved),
        int(election.deferred),
    ]
}
