//! Accepts connections, one task each, and stops them in an orderly way.

use super::context::Shared;
use super::io::{Clock, Socket};
use super::problem::Problem;
use super::{CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_TIMEOUT, routes};
use crate::server::{Bound, Stop, log_panic};
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use scry_sql::Database;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower_service::Service;
use tracing::{debug, warn};

/// Pause after a failed accept, as on the other listener.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Length of the kernel's queue of connections that are not accepted yet.
const BACKLOG: u32 = 128;

/// What a refused connection is told; nobody reads its request.
const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\
                    content-length: 84\r\n\r\n\
                    {\"sqlstate\":\"53300\",\"message\":\"too many HTTP connections\",\"detail\":null,\"hint\":null}";

/// A listener in front of a database.
pub struct HttpServer {
    listener: TcpListener,
    router: Router,
    shared: Arc<Shared>,
    stop_grace: Duration,
}

impl HttpServer {
    pub fn listen(bound: Bound, database: Arc<Database>, stop_grace: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(database));
        Ok(Self {
            listener: bound.listen(BACKLOG)?,
            router: routes::router(shared.clone()),
            shared,
            stop_grace,
        })
    }

    /// The address in use: with its real port when port 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` says otherwise. When this returns no session is left.
    pub async fn run(self, stop: Stop) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.asked() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => log_panic(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) if tasks.len() >= CONNECTIONS_MAX => refuse(stream, peer),
                    Ok((stream, peer)) => {
                        tasks.spawn(serve(stream, peer, self.router.clone(), self.shared.clone()));
                    }
                    Err(error) => {
                        warn!(%error, "HTTP connections cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        self.shared.stop();
        let mut grace = pin!(tokio::time::sleep(self.stop_grace));
        while !tasks.is_empty() {
            tokio::select! {
                Some(ended) = tasks.join_next() => log_panic(ended),
                () = &mut grace => break,
                () = stop.asked_at_once() => break,
            }
        }
        tasks.shutdown().await;
    }
}

/// Sends what fits into the kernel's buffer, and waits for nothing.
fn refuse(stream: TcpStream, peer: SocketAddr) {
    let refuse = |mut stream: std::net::TcpStream| {
        stream.write_all(FULL.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        // What is left unread would break the connection before the client has read the answer.
        let mut request = [0; 16 << 10];
        stream.read(&mut request)
    };
    if let Err(error) = stream.into_std().and_then(refuse) {
        debug!(%peer, %error, "a client hears nothing of its refusal");
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, router: Router, shared: Arc<Shared>) {
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (router, shared) = (router.clone(), shared.clone());
        async move { Ok::<_, Infallible>(answer(request, peer, router, &shared).await) }
    });
    let served = http1::Builder::new()
        .timer(Clock)
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(Socket(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%peer, %error, "an HTTP connection ends");
    }
}

/// Answers one request; the end of the server ends its work.
async fn answer(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    mut router: Router,
    shared: &Shared,
) -> Response {
    if !names_this_machine(&request) {
        return Problem::foreign_host().into_response();
    }
    let mut request: Request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(peer);
    tokio::select! {
        answer = router.call(request) => match answer {
            Ok(answer) => answer,
            Err(never) => match never {},
        },
        () = shared.stopped() => Problem::stopping().into_response(),
    }
}

/// Whether the request says that it is for a loopback address. A page from elsewhere whose name was made to resolve to this
/// machine says another.
fn names_this_machine(request: &hyper::Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    is_loopback(host)
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let plain = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || plain.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_served() {
        for host in [
            "localhost",
            "LOCALHOST:5435",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5435",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com:80",
            "10.0.0.1:5435",
            "[::2]:1",
            "127.0.0.1.x:1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let (head, body) = FULL.split_once("\r\n\r\n").expect("a head and a body");
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len()))
                || head.ends_with(&format!("content-length: {}", body.len()))
        );
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
