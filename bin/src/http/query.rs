//! Queries of a future, or of the present beside it.

use super::context::{Call, ElectionName, Shared};
use super::json::Answer;
use super::problem::Problem;
use super::{arrow, rows};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
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
    let future = question
        .candidate
        .map(|candidate| format!("{election}/{candidate}"));
    answer(&shared, call, &[], future.as_deref(), &question.query).await
}

/// The rows of a query, of a future or the present, as JSON or Arrow.
pub async fn answer(
    shared: &Shared,
    call: Call,
    settings: &[(&str, &str)],
    future: Option<&str>,
    query: &str,
) -> Result<Response, Problem> {
    let mut read_only = vec![("default_transaction_read_only", "on")];
    read_only.extend_from_slice(settings);
    let mut session = call.session(shared, &read_only)?;
    let arrow = wants_arrow(&call.headers);
    if let Some(future) = future {
        rows::perform(&mut session, "SELECT scry.set_future($1)", &[future]).await?;
    }
    if arrow {
        return arrow::run(session, query).await;
    }
    let mut answer = Answer::default();
    rows::run(&mut session, query, &[], &mut answer).await?;
    Ok(([(CONTENT_TYPE, "application/json")], answer.finish()).into_response())
}

fn wants_arrow(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    let mut kinds = accepted
        .filter_map(|accept| accept.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .filter_map(|kind| kind.split(';').next());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case(arrow::MEDIA_TYPE))
}
