//! The verb *create mirror*: an election and candidates whose futures can be queried, made as far as they are not there.
//!
//! Asking twice is asking once. What is there already is left as it is; what is there and cannot be what is asked for is
//! a conflict, and then nothing is made.

use super::context::{Call, ElectionName, Shared};
use super::elections;
use super::problem::Problem;
use super::rows;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use scry_engine::election::Election;
use scry_engine::{CandidateState, ElectionState};
use scry_sql::{Error, Session};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// What is to be there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Of an election that is to be made: how many candidates may be elected, or "any".
    #[serde(default)]
    winners: Option<Winners>,
    /// Of an election that is to be made: whether only its owner may do anything with it.
    #[serde(default)]
    private: bool,
    #[serde(default)]
    candidates: Vec<WantedCandidate>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Winners {
    Count(u32),
    Word(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedCandidate {
    name: String,
    #[serde(default)]
    weight: Option<f64>,
    #[serde(default)]
    note: Option<String>,
}

/// `POST /v1/elections/{election}/mirror`
pub async fn create(
    State(shared): State<Arc<Shared>>,
    ElectionName(name): ElectionName,
    request: Request,
) -> Result<Response, Problem> {
    let mut call = Call::new(request);
    let wanted: Wanted = call.json().await?;
    let known = shared.find(&name).await?;
    let known = known.filter(|election| election.state == ElectionState::Open);
    let missing = missing(&name, known.as_deref(), &wanted.candidates)?;
    let mut created = Vec::new();
    if known.is_none() || !missing.is_empty() {
        let mut session = call.session(&shared, &[])?;
        rows::perform(&mut session, "BEGIN", &[]).await?;
        if known.is_none() {
            create_election(&mut session, &name, &wanted).await?;
            created.push(name.clone());
        }
        for candidate in missing {
            let full = format!("{name}/{}", candidate.name);
            create_candidate(&mut session, &full, candidate).await?;
            created.push(full);
        }
        rows::perform(&mut session, "COMMIT", &[]).await?;
    }
    let status = match created.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::CREATED,
    };
    let mut answer = elections::whole(&*shared.election(&name).await?);
    answer["new"] = json!(created);
    Ok((status, elections::answer(&answer)).into_response())
}

/// The candidates that are not there yet.
fn missing<'w>(
    name: &str,
    known: Option<&Election>,
    wanted: &'w [WantedCandidate],
) -> Result<Vec<&'w WantedCandidate>, Problem> {
    let mut missing: Vec<&WantedCandidate> = Vec::new();
    for candidate in wanted {
        let full = format!("{name}/{}", candidate.name);
        if missing.iter().any(|other| other.name == candidate.name) {
            return Err(Problem::other_candidate(&full, "in the same request"));
        }
        let there = known.and_then(|election| election.candidate(&candidate.name));
        match there.filter(|there| there.state != CandidateState::Dropped) {
            None => missing.push(candidate),
            Some(there) if there.state != CandidateState::Open => {
                return Err(Problem::other_candidate(&full, "and has ended"));
            }
            Some(there) if !there.mirrored => {
                return Err(Problem::other_candidate(&full, "without a mirror"));
            }
            Some(there) if candidate.weight.is_some_and(|weight| weight != there.weight) => {
                return Err(Problem::other_candidate(&full, "with another weight"));
            }
            Some(there) if candidate.note.as_ref().is_some_and(|note| *note != there.note) => {
                return Err(Problem::other_candidate(&full, "with another note"));
            }
            Some(_) => {}
        }
    }
    Ok(missing)
}

async fn create_election(session: &mut Session, name: &str, wanted: &Wanted) -> Result<(), Error> {
    let winners = match &wanted.winners {
        None => "1".to_owned(),
        Some(Winners::Count(count)) => count.to_string(),
        Some(Winners::Word(word)) => word.clone(),
    };
    let private = if wanted.private { "on" } else { "off" };
    let sql = "SELECT scry.create_election($1, winners => $2::text, private => $3::text)";
    rows::perform(session, sql, &[name, &winners, private]).await
}

async fn create_candidate(session: &mut Session, name: &str, wanted: &WantedCandidate) -> Result<(), Error> {
    let weight = wanted.weight.unwrap_or(1.0).to_string();
    let note = wanted.note.as_deref().unwrap_or_default();
    let sql = "SELECT scry.create_candidate($1, mirror => true, weight => $2::text, note => $3)";
    rows::perform(session, sql, &[name, &weight, note]).await
}
