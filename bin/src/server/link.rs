//! A connection's socket with its two buffers.
//!
//! Reading and writing are laid out so that a statement costs one `read` and one `write`: reads
//! take whatever is there, and answers gather in `Output` until the client must see them.
//!
//! `Output` is two pieces. `ready` ends with a ReadyForQuery that the client may be waiting for;
//! `open` is the answer being written. When several statements stand in the read buffer, `ready`
//! waits for company, but only as long as the server is busy: [`Link::drive`] sends it as soon as
//! the work has to wait (a row lock, the disk). A client whose next step depends on that answer
//! therefore always gets it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::registry::Control;
use super::socket::Stream;
use crate::sys;
use crate::wire::WireError;
use crate::wire::frontend::{self, Frame};

/// First size of the read buffer; pgbench's and most applications' messages fit many times.
const READ_BYTES_MIN: usize = 8 << 10;
/// How far the read buffer grows for a stream of messages (COPY); one larger message may exceed it.
const READ_BYTES_MAX: usize = 256 << 10;
/// Answers beyond this are sent without waiting for more to join them.
pub const WRITE_BYTES_MAX: usize = 64 << 10;
/// A buffer larger than this is given back once it is empty.
const KEEP_BYTES_MAX: usize = 512 << 10;

/// Why a connection ends.
#[derive(Debug)]
pub enum End {
    /// The client said Terminate.
    Terminated,
    /// The socket is gone.
    Disconnected(io::Error),
    /// The client broke the protocol beyond repair.
    Protocol(WireError),
    /// The server stops.
    Stopping,
    /// The session panicked.
    Panicked(String),
    /// The session is refused; the reason has been written.
    Refused,
    /// The client was silent for longer than the session allows.
    Idle(Box<scry_sql::Error>),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Disconnected(error)
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        End::Protocol(error)
    }
}

/// Bytes from the client that are not consumed yet.
#[derive(Default)]
pub struct Input {
    buffer: BytesMut,
}

impl Input {
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The body of the message at the front.
    pub fn body(&self, frame: Frame) -> &[u8] {
        &self.buffer[frontend::HEADER_BYTES..frame.bytes]
    }

    pub fn consume(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
    }

    /// Makes space for a message that is `bytes` long in all. The space doubles with what has
    /// arrived, so that a length word alone allocates nothing.
    fn reserve(&mut self, bytes: usize) {
        let missing = bytes.saturating_sub(self.buffer.len());
        let step = self
            .buffer
            .len()
            .clamp(READ_BYTES_MIN, READ_BYTES_MAX.max(self.buffer.len()));
        self.buffer.reserve(missing.clamp(1, step));
    }
}

/// Bytes for the client that are not sent yet.
#[derive(Default)]
pub struct Output {
    ready: BytesMut,
    /// The answer being written.
    pub open: BytesMut,
}

impl Output {
    /// Closes the answer: its ReadyForQuery stands in `open`.
    fn settle(&mut self) {
        if self.ready.is_empty() {
            std::mem::swap(&mut self.ready, &mut self.open);
        } else {
            self.ready.unsplit(self.open.split());
        }
    }

    fn len(&self) -> usize {
        self.ready.len() + self.open.len()
    }

    /// Drops the answer being written: it may end inside a message.
    pub fn abandon(&mut self) {
        self.open.clear();
    }
}

/// What ended a wait for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    Bytes,
    /// Something else is to be done first.
    Interrupted,
}

/// The socket, and who may stop waiting on it.
pub struct Link {
    stream: Stream,
    control: Arc<Control>,
}

impl Link {
    pub fn new(stream: Stream, control: Arc<Control>) -> Self {
        Self { stream, control }
    }

    pub fn stopping(&self) -> bool {
        self.control.stopping()
    }

    /// The server stops; statements are being cancelled for that.
    pub fn ending(&self) -> bool {
        self.control.ending()
    }

    pub fn stop(&self) {
        self.control.stop();
    }

    /// Reads what is there, at least one byte, with space for a message of `wanted` bytes. Ends before that when
    /// `interrupted` says so; it wakes the waker that it is given when that changes.
    pub async fn fill(
        &mut self,
        input: &mut Input,
        wanted: usize,
        interrupted: impl Fn(&Waker) -> bool,
    ) -> Result<Filled, End> {
        input.reserve(wanted);
        let before = input.buffer.len();
        let read = {
            let mut read = pin!(self.stream.read_buf(&mut input.buffer));
            poll_fn(|context| match read.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(result.map(Some).map_err(End::from)),
                Poll::Pending if self.control.poll_stopping(context.waker()) => {
                    Poll::Ready(Err(End::Stopping))
                }
                Poll::Pending if interrupted(context.waker()) => Poll::Ready(Ok(None)),
                Poll::Pending => Poll::Pending,
            })
            .await?
        };
        let Some(read) = read else {
            return Ok(Filled::Interrupted);
        };
        if read == 0 {
            return Err(match before {
                0 => End::Disconnected(io::ErrorKind::UnexpectedEof.into()),
                _ => End::Protocol(WireError::UnexpectedEof),
            });
        }
        // The client fills the buffer faster than it is read: larger reads.
        let capacity = input.buffer.capacity();
        if input.buffer.len() == capacity && capacity < READ_BYTES_MAX {
            input.buffer.reserve(capacity);
        }
        Ok(Filled::Bytes)
    }

    /// Sends everything.
    pub async fn flush(&mut self, output: &mut Output) -> Result<(), End> {
        if !output.ready.is_empty() {
            output.settle();
            send(&mut self.stream, &mut output.ready).await?;
        } else if !output.open.is_empty() {
            send(&mut self.stream, &mut output.open).await?;
        }
        Ok(())
    }

    /// Sends everything if a completed answer is among it: called before waiting for the client.
    pub async fn flush_ready(&mut self, output: &mut Output) -> Result<(), End> {
        match output.ready.is_empty() {
            true => Ok(()),
            false => self.flush(output).await,
        }
    }

    /// Marks the answer complete; sends it when it is large, else leaves it for `flush_ready`.
    pub async fn settle(&mut self, output: &mut Output) -> Result<(), End> {
        output.settle();
        match output.len() >= WRITE_BYTES_MAX {
            true => self.flush(output).await,
            false => Ok(()),
        }
    }

    /// Runs the session's work; completed answers leave when the work has to wait. Work that takes long ends when its
    /// client has gone. It comes pinned where it was made: it is large, and would be copied on each way by value.
    pub async fn drive<T>(
        &mut self,
        ready: &mut BytesMut,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, End> {
        let result = poll_fn(|context| {
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(result));
            }
            if self.control.poll_work(context.waker()) && sys::peer_has_gone(&self.stream) {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()));
            }
            while !ready.is_empty() {
                match ready!(Pin::new(&mut self.stream).poll_write(context, ready)) {
                    Ok(0) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                    Ok(sent) => ready.advance(sent),
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            }
            Poll::Pending
        })
        .await;
        self.control.end_work();
        result
    }

    /// Closes the sending side, so that the client reads the last answer before the end.
    pub async fn close(mut self) {
        let _ = self.stream.shutdown().await;
    }
}

/// The two pieces apart: `drive` sends the first while the work appends to the second.
pub fn split(output: &mut Output) -> (&mut BytesMut, &mut BytesMut) {
    (&mut output.ready, &mut output.open)
}

async fn send(stream: &mut Stream, buffer: &mut BytesMut) -> io::Result<()> {
    stream.write_all(buffer).await?;
    match buffer.capacity() > KEEP_BYTES_MAX {
        true => *buffer = BytesMut::new(),
        false => buffer.clear(),
    }
    Ok(())
}
