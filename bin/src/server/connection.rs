//! One client's connection: messages in, answers out.
//!
//! The loop takes every complete message that stands in the read buffer before it writes, and
//! writes before it waits for more. A statement in steady state costs one `read` and one `write`.
//!
//! After an error in the extended protocol messages are skipped up to Sync. A broken frame, or a
//! panic in the session, ends the connection; the session's drop rolls its transaction back.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;

use futures::FutureExt;
use scry_sql::error::{Severity, SqlState};
use scry_sql::{Error, Executed, ParsedStatement, Session};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::handshakes::Handshake;
use super::link::{End, Filled, Input, Link, Output, WRITE_BYTES_MAX, split};
use super::registry::{Control, Place};
use super::socket::{Peer, Stream};
use super::{Shared, answer, handshake};
use crate::wire::backend::{self, Report};
use crate::wire::frontend::{self, Bind, Frame, Message, Target};

/// Serves one client until it leaves, the protocol breaks, or the server stops.
pub async fn serve(stream: Stream, peer: Peer, shared: Arc<Shared>, handshake: Handshake) {
    let control = Arc::new(Control::default());
    let mut link = Link::new(stream, control.clone());
    let (mut input, mut output) = (Input::default(), Output::default());
    let opened = tokio::time::timeout(
        shared.limits.startup_timeout,
        handshake::open(&mut link, &mut input, &mut output, &shared, peer),
    );
    let opened = opened.await;
    drop(handshake);
    let end = match opened {
        Err(_elapsed) => return debug!(%peer, "startup timed out"),
        Ok(Ok(handshake::Opened::Cancelled)) => return,
        Ok(Err(end)) => {
            say_goodbye(&end, &mut output);
            end
        }
        Ok(Ok(handshake::Opened::Session(session, place))) => {
            place.announce(session.cancel_handle(), control);
            // A stop that came before the announcement would otherwise be missed.
            if shared.stopping() {
                link.stop();
            }
            let mut connection = Connection {
                link,
                input,
                output,
                session,
                message_bytes_max: shared.limits.message_bytes_max,
                skip_to_sync: false,
                idle: true,
                _place: place,
            };
            let end = match AssertUnwindSafe(connection.run()).catch_unwind().await {
                Ok(end) => end,
                Err(panic) => {
                    connection.output.abandon();
                    End::Panicked(panic_text(panic.as_ref()))
                }
            };
            say_goodbye(&end, &mut connection.output);
            debug!(%peer, ?end, "connection ends");
            let Connection {
                link: back,
                output: rest,
                session,
                _place: place,
                ..
            } = connection;
            (link, output) = (back, rest);
            drop(session); // rolls back and frees its locks before the client can see the end
            drop(place);
            end
        }
    };
    if !matches!(end, End::Disconnected(_)) && link.flush(&mut output).await.is_ok() {
        link.close().await;
    }
}

/// The last message of a connection that the client did not end itself.
fn say_goodbye(end: &End, output: &mut Output) {
    match end {
        End::Terminated | End::Refused => {}
        End::Disconnected(error) => debug!(%error, "client disconnected"),
        End::Protocol(error) => {
            warn!(%error, "protocol violation");
            answer::wire_error(&mut output.open, error);
        }
        End::Idle(error) => answer::error(&mut output.open, error),
        End::Stopping => {
            let text = "terminating connection due to administrator command";
            backend::error_response(&mut output.open, &Report::fatal("57P01", text));
        }
        End::Panicked(text) => {
            error!(panic = %text, "a session panicked; its transaction is rolled back");
            let report = Report {
                detail: Some(text),
                hint: Some("The open transaction was rolled back. Please report this."),
                ..Report::fatal("XX000", "internal error in the session")
            };
            backend::error_response(&mut output.open, &report);
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}

pub(super) struct Connection {
    pub link: Link,
    pub input: Input,
    pub output: Output,
    pub session: Box<Session>,
    pub message_bytes_max: usize,
    /// An extended-protocol error: nothing counts until Sync.
    skip_to_sync: bool,
    /// ReadyForQuery was the last thing said.
    idle: bool,
    /// Given back when the session is gone.
    _place: Place,
}

/// What is left to do for a message once its bytes are no longer needed.
enum Next {
    Answered(Result<(), Error>),
    Started(Result<Executed, Error>),
    Script(Result<Vec<ParsedStatement>, Error>),
    Sync,
    Flush,
    /// An error has been written that the session does not know of.
    Failed {
        simple: bool,
    },
}

impl Connection {
    async fn run(&mut self) -> End {
        // The handshake ended with a ReadyForQuery.
        if let Err(end) = self.link.settle(&mut self.output).await {
            return end;
        }
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    /// Takes one message and what follows from it.
    async fn step(&mut self) -> Result<(), End> {
        let frame = self.next_frame().await?;
        if self.skip_to_sync && !matches!(frame.tag, b'S' | b'X') {
            self.input.consume(frame.bytes);
            return Ok(());
        }
        let next = self.handle(frame).await?;
        self.input.consume(frame.bytes);
        match next {
            Next::Answered(result) => self.conclude(result).await,
            Next::Started(first) => {
                let result = self.finish(first).await?;
                self.conclude(result).await
            }
            Next::Sync => {
                self.skip_to_sync = false;
                self.sync().await
            }
            Next::Script(script) => self.query(script).await,
            Next::Failed { simple } => self.failed(simple).await,
            Next::Flush => self.link.flush(&mut self.output).await,
        }
    }

    /// Handles the message at the front of the input, as far as its bytes are needed.
    async fn handle(&mut self, frame: Frame) -> Result<Next, End> {
        let Self {
            link,
            input,
            output,
            session,
            ..
        } = self;
        let (ready, open) = split(output);
        let message = match frontend::decode(frame.tag, input.body(frame)) {
            Ok(message) => message,
            Err(error) => {
                answer::wire_error(open, &error);
                return Ok(Next::Failed {
                    simple: frame.tag == b'Q',
                });
            }
        };
        let result = match message {
            Message::Bind(bind) => {
                let Bind {
                    portal,
                    statement,
                    parameter_formats,
                    parameters,
                    result_formats,
                } = &bind;
                let work =
                    pin!(session.bind(portal, statement, parameter_formats, parameters, result_formats));
                let result = link.drive(ready, work).await?;
                result.map(|()| backend::bind_complete(open))
            }
            Message::Execute { portal, max_rows } => {
                let work = pin!(session.execute(portal, max_rows, open));
                return Ok(Next::Started(link.drive(ready, work).await?));
            }
            Message::Sync => return Ok(Next::Sync),
            #[cfg(test)]
            Message::Query(super::tests::PANIC) => panic!("a fault for the test"),
            Message::Query(sql) => return Ok(Next::Script(session.parse_script(sql))),
            Message::Describe(Target::Portal(name)) => session.describe_portal(name).map(|described| {
                let (columns, formats) = described.unzip();
                answer::columns(open, columns.as_ref(), formats.as_deref().unwrap_or_default());
            }),
            Message::Describe(Target::Statement(name)) => {
                let result = link.drive(ready, pin!(session.describe_statement(name))).await?;
                result.map(|described| {
                    backend::parameter_description(open, &described.params);
                    answer::columns(open, described.columns.as_ref(), &[]);
                })
            }
            Message::Parse {
                name,
                sql,
                parameter_types,
            } => {
                let result = link
                    .drive(ready, pin!(session.prepare(name, sql, &parameter_types)))
                    .await?;
                result.map(|()| backend::parse_complete(open))
            }
            Message::Close(target) => {
                match target {
                    Target::Statement(name) => session.close_statement(name),
                    Target::Portal(name) => session.close_portal(name),
                }
                backend::close_complete(open);
                Ok(())
            }
            Message::Flush => return Ok(Next::Flush),
            // The rest of a COPY that has failed already.
            Message::CopyData(_) | Message::CopyDone | Message::CopyFail(_) => Ok(()),
            Message::FunctionCall => {
                let report = Report::error("0A000", "the function call protocol is not supported");
                backend::error_response(open, &report);
                return Ok(Next::Failed { simple: true });
            }
            Message::Terminate => return Err(End::Terminated),
        };
        Ok(Next::Answered(result))
    }

    /// Waits until a whole message stands in the input; what is to be sent is sent before. Notifications that come
    /// meanwhile are sent at once.
    pub(super) async fn next_frame(&mut self) -> Result<Frame, End> {
        let mut limit = None;
        loop {
            match frontend::frame(self.input.bytes(), self.message_bytes_max)? {
                Ok(frame) => {
                    self.idle = false;
                    return Ok(frame);
                }
                Err(wanted) => {
                    self.link.flush_ready(&mut self.output).await?;
                    if self.idle && limit.is_none() {
                        let idle = self.session.idle_limit();
                        limit = idle.map(|(limit, error)| (Instant::now() + limit, error));
                    }
                    let Self { link, session, .. } = self;
                    let interrupted = |waker: &Waker| session.poll_notified(waker);
                    let filling = link.fill(&mut self.input, wanted, interrupted);
                    let filled = match &limit {
                        None => filling.await,
                        Some((deadline, error)) => match tokio::time::timeout_at(*deadline, filling).await {
                            Ok(filled) => filled,
                            Err(_elapsed) => return Err(End::Idle(Box::new(Error::clone(error)))),
                        },
                    };
                    match filled? {
                        Filled::Bytes => {}
                        Filled::Interrupted => {
                            answer::notifications(&mut self.output.open, &mut self.session);
                            self.link.flush(&mut self.output).await?;
                        }
                    }
                }
            }
            if self.link.stopping() {
                return Err(End::Stopping);
            }
        }
    }

    /// Writes an error; one that is fatal ends the connection.
    fn report(&mut self, error: &Error) -> Result<(), End> {
        answer::notices(&mut self.output.open, &mut self.session);
        // Cancelled because the server stops: the client hears that, not that somebody cancelled.
        if error.code == SqlState::QUERY_CANCELED && self.link.ending() {
            return Err(End::Stopping);
        }
        if error.code == SqlState::DATA_CORRUPTED {
            error!(%error, "a statement has met damage");
        }
        answer::error(&mut self.output.open, error);
        match error.severity {
            Severity::Error => Ok(()),
            Severity::Fatal => Err(End::Refused),
        }
    }

    /// Reports an extended-protocol step's error and starts skipping.
    async fn conclude(&mut self, result: Result<(), Error>) -> Result<(), End> {
        if let Err(error) = result {
            self.report(&error)?;
            self.skip_to_sync = true;
            return self.link.settle(&mut self.output).await;
        }
        if self.output.open.len() >= WRITE_BYTES_MAX {
            self.link.flush(&mut self.output).await?;
        }
        Ok(())
    }

    /// An error that the session does not know of has been written: it fails the transaction all
    /// the same. Simple messages are answered at once, extended ones at the next Sync.
    async fn failed(&mut self, simple: bool) -> Result<(), End> {
        self.session.fail();
        if simple {
            return self.sync().await;
        }
        self.skip_to_sync = true;
        self.link.settle(&mut self.output).await
    }

    /// Sync, or the end of a simple query.
    async fn sync(&mut self) -> Result<(), End> {
        let (ready, open) = split(&mut self.output);
        let result = match self.session.sync_at_once() {
            true => Ok(()),
            false => self.link.drive(ready, pin!(self.session.sync())).await?,
        };
        match result {
            Ok(()) => answer::notices(open, &mut self.session),
            Err(error) => self.report(&error)?,
        }
        answer::ready(&mut self.output.open, &mut self.session);
        self.idle = true;
        self.link.settle(&mut self.output).await
    }

    async fn query(&mut self, script: Result<Vec<ParsedStatement>, Error>) -> Result<(), End> {
        match script {
            Ok(statements) if statements.is_empty() => backend::empty_query_response(&mut self.output.open),
            Ok(statements) => {
                for statement in &statements {
                    let (ready, open) = split(&mut self.output);
                    let first = self
                        .link
                        .drive(ready, pin!(self.session.simple(statement, open)))
                        .await?;
                    if let Err(error) = self.finish(first).await? {
                        self.report(&error)?;
                        break;
                    }
                }
            }
            Err(error) => self.report(&error)?,
        }
        self.sync().await
    }

    /// Takes a started statement to its end, sending large results piece by piece.
    async fn finish(&mut self, first: Result<Executed, Error>) -> Result<Result<(), Error>, End> {
        let mut step = first;
        loop {
            match step {
                Ok(Executed::Complete(tag)) => {
                    answer::notices(&mut self.output.open, &mut self.session);
                    answer::complete(&mut self.output.open, tag);
                    return Ok(Ok(()));
                }
                Ok(Executed::MoreRows) => {
                    self.link.flush(&mut self.output).await?;
                    let (ready, open) = split(&mut self.output);
                    step = self.link.drive(ready, pin!(self.session.resume(open))).await?;
                }
                Ok(Executed::Suspended) => {
                    backend::portal_suspended(&mut self.output.open);
                    return Ok(Ok(()));
                }
                Ok(Executed::Empty) => {
                    backend::empty_query_response(&mut self.output.open);
                    return Ok(Ok(()));
                }
                Ok(Executed::CopyIn) => step = self.copy_in().await?,
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}
