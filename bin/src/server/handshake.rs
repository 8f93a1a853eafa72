//! From an accepted socket to a session: encryption requests, cancel requests, the startup packet.
//!
//! Until authentication exists, any user name is accepted; that is why the server listens on
//! loopback addresses only, and at a socket of its own user's.

use bytes::BytesMut;
use scry_sql::{Session, SessionInfo};

use super::Shared;
use super::answer;
use super::link::{End, Input, Link, Output};
use super::registry::{Key, Place};
use super::socket::Peer;
use crate::wire::backend::{self, Report, Status};
use crate::wire::startup::{self, Parameters, Startup};

/// The only database of a server.
pub const DATABASE: &str = "scry";

/// How a handshake ended well.
pub enum Opened {
    /// The place keeps the session counted and cancellable.
    Session(Box<Session>, Place),
    /// A cancel request: served, nothing is answered.
    Cancelled,
}

/// Answers packets until there is a session. Everything up to ReadyForQuery is left in `output`.
pub async fn open(
    link: &mut Link,
    input: &mut Input,
    output: &mut Output,
    shared: &Shared,
    peer: Peer,
) -> Result<Opened, End> {
    let (mut tls_asked, mut gssapi_asked) = (false, false);
    loop {
        let Some((packet, used)) = startup::decode(input.bytes())? else {
            link.fill(input, startup::STARTUP_BYTES_MAX, |_| false).await?;
            continue;
        };
        match packet {
            // Each is asked at most once; then the client goes on without encryption or leaves.
            Startup::Tls if !tls_asked => tls_asked = true,
            Startup::Gssapi if !gssapi_asked => gssapi_asked = true,
            Startup::Tls | Startup::Gssapi => return Err(crate::wire::WireError::StartupLayout.into()),
            Startup::Cancel { pid, secret } => {
                shared.registry.cancel(Key { pid, secret });
                return Ok(Opened::Cancelled);
            }
            Startup::Session(parameters) => {
                let opened = enter(&parameters, &mut output.open, shared, peer)?;
                input.consume(used);
                return Ok(opened);
            }
        }
        input.consume(used);
        output.open.extend_from_slice(b"N");
        link.flush(output).await?;
    }
}

fn enter(
    parameters: &Parameters<'_>,
    out: &mut BytesMut,
    shared: &Shared,
    peer: Peer,
) -> Result<Opened, End> {
    let setting = |wanted: &str| parameters.settings.iter().find(|(name, _)| *name == wanted);
    let database = parameters.database.unwrap_or(parameters.user);
    if database != DATABASE {
        return Err(refuse(
            out,
            Report {
                hint: Some("A scry server has one database, named scry."),
                ..Report::fatal("3D000", &format!("database \"{database}\" does not exist"))
            },
        ));
    }
    if setting("replication").is_some_and(|(_, value)| !matches!(*value, "false" | "off" | "no" | "0")) {
        let report = Report::fatal("0A000", "replication connections are not supported");
        return Err(refuse(out, report));
    }
    let Some(place) = shared.registry.enter()? else {
        return Err(refuse(
            out,
            Report::fatal("53300", "sorry, too many clients already"),
        ));
    };
    let info = SessionInfo {
        user: parameters.user.to_owned(),
        client: peer.to_string(),
        application: setting("application_name").map_or_else(String::new, |(_, name)| (*name).to_owned()),
        process: place.key().pid,
        settings: parameters
            .settings
            .iter()
            .filter(|(name, _)| *name != "replication")
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    let mut session = match shared.database.session(info) {
        Ok(session) => session,
        Err(error) => {
            answer::fatal(out, &error);
            return Err(End::Refused);
        }
    };
    if parameters.minor > 0 || !parameters.extensions.is_empty() {
        backend::negotiate_protocol_version(out, &parameters.extensions);
    }
    backend::authentication_ok(out);
    for (name, value) in session.parameters() {
        backend::parameter_status(out, name, &value);
    }
    let Key { pid, secret } = place.key();
    backend::backend_key_data(out, pid, secret);
    answer::notices(out, &mut session);
    backend::ready_for_query(out, Status::Idle);
    Ok(Opened::Session(Box::new(session), place))
}

fn refuse(out: &mut BytesMut, report: Report<'_>) -> End {
    backend::error_response(out, &report);
    End::Refused
}
