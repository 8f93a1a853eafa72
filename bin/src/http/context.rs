//! What requests share, and the session that a request gets.

use super::problem::Problem;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Path, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::request::Parts;
use scry_engine::election::Election;
use scry_sql::{Database, Session, SessionInfo};
use scry_wal::Lsn;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

use super::{BODY_BYTES_MAX, BODY_TIMEOUT};

/// Who the audit trail names for what came over HTTP: there is no authentication yet.
const USER: &str = "http";
/// Longest name of a client in the audit trail.
const APPLICATION_BYTES_MAX: usize = 63;

/// Shared by all connections.
pub struct Shared {
    pub database: Arc<Database>,
    stopping: watch::Sender<bool>,
}

impl Shared {
    pub fn new(database: Arc<Database>) -> Self {
        Self {
            database,
            stopping: watch::Sender::new(false),
        }
    }

    /// Ends what is running.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits for [`Shared::stop`].
    pub async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as `self`.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// The election of this name as of now. What is told of it is durable.
    pub async fn election(&self, name: &str) -> Result<Arc<Election>, Problem> {
        self.find(name).await?.ok_or_else(|| Problem::no_election(name))
    }

    /// The same, if there is one.
    pub async fn find(&self, name: &str) -> Result<Option<Arc<Election>>, Problem> {
        let elections = self.elections().await?;
        Ok(elections.into_iter().find(|election| election.name == name))
    }

    /// All elections as of now.
    pub async fn elections(&self) -> Result<Vec<Arc<Election>>, Problem> {
        let engine = self.database.engine();
        let catalog = engine.catalog();
        let told = engine.catalog_lsn();
        if told > Lsn::ZERO {
            engine.log().durable(told).await.map_err(scry_sql::Error::from)?;
        }
        Ok(catalog.elections().iter().cloned().collect())
    }
}

/// The election that a path names.
pub struct ElectionName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for ElectionName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(error) => Err(Problem::path(&error)),
        }
    }
}

/// The candidate that a path names, as `election/candidate`.
pub struct CandidateName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for CandidateName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<(String, String)>::from_request_parts(parts, state).await {
            Ok(Path((election, candidate))) => Ok(Self(format!("{election}/{candidate}"))),
            Err(error) => Err(Problem::path(&error)),
        }
    }
}

/// A request taken apart.
pub struct Call {
    pub headers: HeaderMap,
    pub body: Body,
    peer: Option<SocketAddr>,
}

impl Call {
    pub fn new(request: Request) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            headers: parts.headers,
            body,
            peer: parts.extensions.get().copied(),
        }
    }

    /// A session of its own.
    pub fn session(&self, shared: &Shared, settings: &[(&str, &str)]) -> Result<Session, Problem> {
        let agent = self.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        let application: String = agent
            .unwrap_or_default()
            .chars()
            .filter(char::is_ascii)
            .take(APPLICATION_BYTES_MAX)
            .collect();
        let info = SessionInfo {
            user: USER.to_owned(),
            client: self.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            application,
            process: 0,
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        Ok(shared.database.session(info)?)
    }

    /// The body, which has to be declared as JSON and to be one.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Problem> {
        let declared = self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let essence = declared.and_then(|kind| kind.split(';').next()).map(str::trim);
        if !essence.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
            return Err(Problem::not_json());
        }
        let reading = to_bytes(std::mem::take(&mut self.body), BODY_BYTES_MAX);
        let read = tokio::time::timeout(BODY_TIMEOUT, reading).await;
        let body = read
            .map_err(|_| Problem::late())?
            .map_err(|error| Problem::body(&error))?;
        serde_json::from_slice(&body).map_err(|error| Problem::malformed(&error))
    }
}
