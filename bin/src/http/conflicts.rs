//! The verb *resolve conflict*: conflicts that are predicted for a candidate, those that were deferred, and what is done about
//! these.

use super::context::{Call, CandidateName, Shared};
use super::elections::answer;
use super::problem::Problem;
use super::{query, rows};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use scry_sql::dialect::literal;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What is to be done about a conflict.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    action: String,
    /// Of `merge`: columns and their values.
    #[serde(default)]
    values: Option<Map<String, Value>>,
}

/// `GET /v1/conflicts`, `GET /v1/conflicts?state=…`
pub async fn list(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Problem> {
    let filter = match request.uri().query() {
        None | Some("" | "state=open") => " WHERE state = 'open'",
        Some("state=resolved") => " WHERE state = 'resolved'",
        Some("state=dropped") => " WHERE state = 'dropped'",
        Some("state=all") => "",
        Some(other) => return Err(Problem::query(other)),
    };
    let sql = format!(
        "SELECT id, election, candidate, transaction, table_name, key, before, present, proposed, reason, time, state, action, \
         resolved_at, resolved_by FROM scry.conflict_queue{filter} ORDER BY id"
    );
    // The queue as it is, wherever the mirror is.
    let settings = [("scry.read_from", "primary")];
    query::answer(&shared, Call::new(request), &settings, None, &sql).await
}

/// `GET /v1/elections/{election}/candidates/{candidate}/conflicts`
pub async fn predicted(
    State(shared): State<Arc<Shared>>,
    CandidateName(candidate): CandidateName,
    request: Request,
) -> Result<Response, Problem> {
    let sql = format!("SELECT * FROM scry.conflicts({})", literal(&candidate));
    query::answer(&shared, Call::new(request), &[], None, &sql).await
}

/// `POST /v1/conflicts/{id}/resolve`
pub async fn resolve(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<i64>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Path(id) = id.map_err(|error| Problem::path(&error))?;
    let mut call = Call::new(request);
    let decision: Decision = call.json().await?;
    let values = decision.values.map(|values| Value::Object(values).to_string());
    let mut session = call.session(&shared, &[])?;
    let sql = "SELECT scry.resolve_conflict($1::text, $2, $3)";
    let id_text = id.to_string();
    let params = [
        id_text.as_str(),
        &decision.action,
        values.as_deref().unwrap_or_default(),
    ];
    let rows = rows::value(&mut session, sql, &params).await?;
    let rows: Option<u64> = rows.and_then(|rows| rows.parse().ok());
    Ok(answer(&json!({ "id": id, "rows": rows.unwrap_or_default() })))
}
