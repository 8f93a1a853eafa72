//! Elections and their candidates, to be looked at.

use super::context::{ElectionName, Shared};
use super::problem::Problem;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use scry_engine::election::{Candidate, Election};
use scry_engine::{CandidateState, DataType, Datum};
use scry_sql::types::{self, TimeZone};
use scry_wal::Micros;
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /v1/elections`
pub async fn list(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let elections = shared.elections().await?;
    let elections: Vec<Value> = elections.iter().map(|election| summary(election)).collect();
    Ok(answer(&json!({ "elections": elections })))
}

/// `GET /v1/elections/{election}`
pub async fn one(
    State(shared): State<Arc<Shared>>,
    ElectionName(name): ElectionName,
) -> Result<Response, Problem> {
    Ok(answer(&whole(&*shared.election(&name).await?)))
}

/// `GET /v1/elections/{election}/candidates`
pub async fn candidates(
    State(shared): State<Arc<Shared>>,
    ElectionName(name): ElectionName,
) -> Result<Response, Problem> {
    let election = shared.election(&name).await?;
    Ok(answer(&json!({ "candidates": candidates_of(&election) })))
}

pub fn answer(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn summary(election: &Election) -> Value {
    json!({
        "name": election.name,
        "owner": election.owner,
        "state": election.state.name(),
        "winners": (election.winners > 0).then_some(election.winners),
        "open": election.count(CandidateState::Open),
        "elected": election.count(CandidateState::Elected),
        "dropped": election.count(CandidateState::Dropped),
        "base_lsn": election.base().to_string(),
        "created": time(election.created),
        "acl": election.acl(),
    })
}

/// With its candidates.
pub fn whole(election: &Election) -> Value {
    let mut value = summary(election);
    value["candidates"] = candidates_of(election);
    value
}

fn candidates_of(election: &Election) -> Value {
    let candidates = election.candidates();
    candidates.map(|candidate| described(candidate)).collect()
}

fn described(candidate: &Candidate) -> Value {
    let tables: Vec<&str> = candidate.branches().map(|branch| branch.table_name()).collect();
    json!({
        "name": candidate.name,
        "state": candidate.state.name(),
        "mirror": candidate.mirrored,
        "weight": candidate.weight,
        "note": candidate.note,
        "tables": tables,
        "created": time(candidate.created),
    })
}

/// As RFC 3339 has it, in UTC.
fn time(micros: Micros) -> String {
    let at = Datum::TimestampTz(micros.get());
    let text = types::as_text(&at, &DataType::TimestampTz, &TimeZone::utc()).unwrap_or_default();
    format!("{}Z", text.trim_end_matches("+00").replacen(' ', "T", 1))
}
