//! What there is, and under which paths.

use super::context::Shared;
use super::problem::Problem;
use super::{conflicts, elections, metrics, mirror, query, verbs};
use axum::Router;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, delete, get, post};
use std::sync::Arc;

/// The description of everything here, for people and programs.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Method, path and handler of each route.
fn all() -> Vec<(&'static str, &'static str, MethodRouter<Arc<Shared>>)> {
    vec![
        ("get", "/v1/openapi.json", get(document)),
        ("get", "/v1/elections", get(elections::list)),
        ("get", "/v1/elections/{election}", get(elections::one)),
        ("delete", "/v1/elections/{election}", delete(verbs::drop_election)),
        (
            "get",
            "/v1/elections/{election}/candidates",
            get(elections::candidates),
        ),
        (
            "delete",
            "/v1/elections/{election}/candidates/{candidate}",
            delete(verbs::drop_candidate),
        ),
        (
            "get",
            "/v1/elections/{election}/candidates/{candidate}/conflicts",
            get(conflicts::predicted),
        ),
        ("post", "/v1/elections/{election}/elect", post(verbs::elect)),
        (
            "post",
            "/v1/elections/{election}/elect-best",
            post(verbs::elect_best),
        ),
        ("post", "/v1/elections/{election}/rebase", post(verbs::rebase)),
        ("post", "/v1/elections/{election}/mirror", post(mirror::create)),
        ("post", "/v1/elections/{election}/query", post(query::run)),
        ("get", "/v1/conflicts", get(conflicts::list)),
        ("post", "/v1/conflicts/{id}/resolve", post(conflicts::resolve)),
        ("get", "/metrics", get(metrics::get)),
    ]
}

pub fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for (_, path, handler) in all() {
        router = router.route(path, handler);
    }
    router
        .fallback(|request: Request| async move { Problem::no_route(request.uri().path()) })
        .method_not_allowed_fallback(|request: Request| async move {
            Problem::no_method(request.method().as_str(), request.uri().path())
        })
        .with_state(shared)
}

async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_has_the_routes_and_no_others() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).expect("JSON");
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .expect("paths")
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().expect("methods").keys();
                methods.map(|method| (method.clone(), path.clone()))
            })
            .filter(|(method, _)| method != "parameters")
            .collect();
        let real: BTreeSet<(String, String)> = all()
            .iter()
            .map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()))
            .collect();
        assert_eq!(documented, real);
    }
}
