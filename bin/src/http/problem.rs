//! What goes wrong, as an answer: a fitting status, and the error in JSON as clients of SQL know it.

use super::BODY_BYTES_MAX;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use scry_sql::Error;
use std::error::Error as _;

/// An error to be answered.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    error: Error,
}

fn problem(status: StatusCode, sqlstate: &[u8; 5], message: impl Into<String>) -> Problem {
    let error = Error::new(scry_sql::error::SqlState(*sqlstate), message);
    Problem { status, error }
}

impl Problem {
    pub fn stopping() -> Self {
        let text = "terminating connection due to administrator command";
        problem(StatusCode::SERVICE_UNAVAILABLE, b"57P01", text)
    }

    pub fn foreign_host() -> Self {
        let text = "the Host header names another machine: only loopback addresses are served";
        problem(StatusCode::MISDIRECTED_REQUEST, b"28000", text)
    }

    pub fn no_route(path: &str) -> Self {
        let text = format!("there is nothing at {path}");
        let found = problem(StatusCode::NOT_FOUND, b"0A000", text);
        found.hint("GET /v1/openapi.json says what there is.")
    }

    pub fn no_method(method: &str, path: &str) -> Self {
        let text = format!("{method} {path} is not supported");
        problem(StatusCode::METHOD_NOT_ALLOWED, b"0A000", text)
    }

    pub fn no_election(name: &str) -> Self {
        let text = format!("election \"{name}\" does not exist");
        problem(StatusCode::NOT_FOUND, b"42704", text)
    }

    pub fn not_json() -> Self {
        let text = "the body has to be of the type application/json";
        problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, b"0A000", text)
    }

    pub fn malformed(error: &serde_json::Error) -> Self {
        problem(
            StatusCode::BAD_REQUEST,
            b"22023",
            format!("invalid body: {error}"),
        )
    }

    /// A body that could not be read: too long, or the client went.
    pub fn body(error: &axum::Error) -> Self {
        match error
            .source()
            .is_some_and(|source| source.to_string().contains("length limit"))
        {
            true => problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                b"54000",
                format!("the body is longer than {BODY_BYTES_MAX} bytes"),
            ),
            false => problem(StatusCode::BAD_REQUEST, b"08006", "the body could not be read"),
        }
    }

    /// A body that did not come.
    pub fn late() -> Self {
        problem(
            StatusCode::REQUEST_TIMEOUT,
            b"08006",
            "the body did not come in time",
        )
    }

    /// A path that is no text.
    pub fn path(error: &PathRejection) -> Self {
        problem(
            StatusCode::BAD_REQUEST,
            b"22021",
            format!("invalid path: {error}"),
        )
    }

    /// What stands behind the question mark.
    pub fn query(text: &str) -> Self {
        let found = problem(
            StatusCode::BAD_REQUEST,
            b"22023",
            format!("invalid query \"{text}\""),
        );
        found.hint("It is state=open, state=resolved, state=dropped or state=all.")
    }

    /// A candidate is there already, and not as it is asked for.
    pub fn other_candidate(candidate: &str, how: &str) -> Self {
        let text = format!("candidate \"{candidate}\" already exists {how}");
        problem(StatusCode::CONFLICT, b"42710", text)
    }

    fn hint(mut self, hint: &str) -> Self {
        self.error = self.error.with_hint(hint);
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let code = error.code.as_str().to_owned();
        let status = match (code.as_str(), &code[..2]) {
            ("42704", _) => StatusCode::NOT_FOUND,
            ("25006" | "42501", _) => StatusCode::FORBIDDEN,
            ("42710" | "55000", _) | (_, "40") => StatusCode::CONFLICT,
            ("57014", _) => StatusCode::GATEWAY_TIMEOUT,
            (_, "53" | "57") => StatusCode::SERVICE_UNAVAILABLE,
            (_, "58" | "XX") => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, error }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, error } = self;
        let body = serde_json::json!({
            "sqlstate": error.code.as_str(),
            "message": error.message,
            "detail": error.detail,
            "hint": error.hint,
        });
        (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    }
}
