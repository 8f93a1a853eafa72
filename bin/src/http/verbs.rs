//! What ends elections and candidates, or takes them on: elect, rebase, drop. Each is a call of the function that SQL has for it.

use super::context::{Call, CandidateName, ElectionName, Shared};
use super::elections::answer;
use super::problem::Problem;
use super::rows;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Which candidate, and what becomes of rows that are not what it found.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    candidate: String,
    #[serde(default)]
    on_conflict: Option<String>,
}

/// By which query the best is found.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Best {
    query: String,
    #[serde(default)]
    maximize: Option<bool>,
    #[serde(default)]
    subject_to: Option<String>,
    #[serde(default)]
    on_conflict: Option<String>,
}

async fn chosen(
    shared: &Shared,
    election: &str,
    request: Request,
    function: &str,
) -> Result<Response, Problem> {
    let mut call = Call::new(request);
    let chosen: Chosen = call.json().await?;
    let candidate = format!("{election}/{}", chosen.candidate);
    let on_conflict = chosen.on_conflict.as_deref().unwrap_or("fail");
    let sql = format!("SELECT scry.{function}($1, on_conflict => $2)");
    let params = [candidate.as_str(), on_conflict];
    let mut session = call.session(shared, &[])?;
    let rows = rows::value(&mut session, &sql, &params).await?;
    let rows: Option<u64> = rows.and_then(|rows| rows.parse().ok());
    Ok(answer(&json!({ "rows": rows.unwrap_or_default() })))
}

/// `POST /v1/elections/{election}/elect`
pub async fn elect(
    State(shared): State<Arc<Shared>>,
    ElectionName(election): ElectionName,
    request: Request,
) -> Result<Response, Problem> {
    chosen(&shared, &election, request, "elect").await
}

/// `POST /v1/elections/{election}/rebase`
pub async fn rebase(
    State(shared): State<Arc<Shared>>,
    ElectionName(election): ElectionName,
    request: Request,
) -> Result<Response, Problem> {
    chosen(&shared, &election, request, "rebase").await
}

/// `POST /v1/elections/{election}/elect-best`
pub async fn elect_best(
    State(shared): State<Arc<Shared>>,
    ElectionName(election): ElectionName,
    request: Request,
) -> Result<Response, Problem> {
    let mut call = Call::new(request);
    let best: Best = call.json().await?;
    let mut session = call.session(&shared, &[])?;
    let sql = "SELECT scry.elect_best($1, $2, maximize => $3::text, subject_to => $4, on_conflict => $5)";
    let params = [
        election.as_str(),
        &best.query,
        if best.maximize.unwrap_or(true) {
            "on"
        } else {
            "off"
        },
        best.subject_to.as_deref().unwrap_or_default(),
        best.on_conflict.as_deref().unwrap_or("fail"),
    ];
    let winner = rows::value(&mut session, sql, &params).await?;
    Ok(answer(&json!({ "winner": winner })))
}

/// `DELETE /v1/elections/{election}`
pub async fn drop_election(
    State(shared): State<Arc<Shared>>,
    ElectionName(election): ElectionName,
    request: Request,
) -> Result<Response, Problem> {
    let mut session = Call::new(request).session(&shared, &[])?;
    rows::perform(&mut session, "SELECT scry.drop_election($1)", &[&election]).await?;
    Ok(answer(&json!({ "dropped": election })))
}

/// `DELETE /v1/elections/{election}/candidates/{candidate}`
pub async fn drop_candidate(
    State(shared): State<Arc<Shared>>,
    CandidateName(candidate): CandidateName,
    request: Request,
) -> Result<Response, Problem> {
    let mut session = Call::new(request).session(&shared, &[])?;
    rows::perform(&mut session, "SELECT scry.drop_candidate($1)", &[&candidate]).await?;
    Ok(answer(&json!({ "dropped": candidate })))
}
