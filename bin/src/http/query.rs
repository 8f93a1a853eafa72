//! Queries of a future, or of the present beside it.

use super::context::{Call, ElectionName, Shared};
use super::json::Answer;
use super::problem::Problem;
use super::{arrow, rows};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// One query; it cannot change anything.
    query: String,
    /// Whose future unqualified names of tables mean; several are joined by `+`. Without it, the present.
    #[serde(default)]
    candidate: Option<String>,
}

/// `POST /v1/elections/{election}/query`
pub async fn run(
    State(shared): State<Arc<Shared>>,
    ElectionName(election): ElectionName,
    request: Request,
) -> Result<Response, Problem> {
    let mut call = Call::new(request);
    let question: Question = call.json().await?;
    shared.election(&election).await?;
    let mut session = call.session(&shared, &[("default_transaction_read_only", "on")])?;
    if let Some(candidate) = &question.candidate {
        let future = format!("{election}/{candidate}");
        rows::perform(&mut session, "SELECT scry.set_future($1)", &[&future]).await?;
    }
    if wants_arrow(&call) {
        return arrow::run(session, &question.query).await;
    }
    let mut answer = Answer::default();
    rows::run(&mut session, &question.query, &[], &mut answer).await?;
    Ok(([(CONTENT_TYPE, "application/json")], answer.finish()).into_response())
}

fn wants_arrow(call: &Call) -> bool {
    let accepted = call.headers.get_all(ACCEPT).iter();
    let mut kinds = accepted
        .filter_map(|accept| accept.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .filter_map(|kind| kind.split(';').next());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case(arrow::MEDIA_TYPE))
}
