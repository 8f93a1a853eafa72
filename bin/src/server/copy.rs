//! COPY FROM STDIN: the stretch of a connection in which only copy messages count.

use std::pin::pin;

use scry_sql::error::SqlState;
use scry_sql::{Error, Executed};

use super::connection::Connection;
use super::link::{End, split};
use crate::wire::frontend::{self, Message};

impl Connection {
    /// Feeds the session until the client ends the COPY or the session refuses a row.
    ///
    /// Flush and Sync are ignored here: clients of the extended protocol send their Sync together
    /// with Execute, before they know that a COPY has begun.
    pub(super) async fn copy_in(&mut self) -> Result<Result<Executed, Error>, End> {
        self.link.flush(&mut self.output).await?;
        loop {
            let frame = self.next_frame().await?;
            let (ready, _) = split(&mut self.output);
            let result = match frontend::decode(frame.tag, self.input.body(frame)) {
                Ok(Message::CopyData(data)) => {
                    let result = self.link.drive(ready, pin!(self.session.copy_data(data))).await?;
                    match result {
                        Ok(()) => None,
                        Err(error) => Some(Err(error)),
                    }
                }
                Ok(Message::CopyDone) => Some(self.link.drive(ready, pin!(self.session.copy_done())).await?),
                Ok(Message::CopyFail(reason)) => Some(Err(self.session.copy_fail(reason))),
                Ok(Message::Flush | Message::Sync) => None,
                Ok(Message::Terminate) => return Err(End::Terminated),
                Ok(_) => {
                    let text = format!(
                        "unexpected message type 0x{:02X} during COPY from stdin",
                        frame.tag
                    );
                    self.session.copy_fail(&text);
                    Some(Err(Error::new(SqlState::PROTOCOL_VIOLATION, text)))
                }
                Err(error) => {
                    let text = error.to_string();
                    self.session.copy_fail(&text);
                    Some(Err(Error::new(SqlState::PROTOCOL_VIOLATION, text)))
                }
            };
            self.input.consume(frame.bytes);
            if let Some(result) = result {
                return Ok(result);
            }
        }
    }
}
