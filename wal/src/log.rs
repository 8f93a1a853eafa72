//! The log.
#![expect(clippy::todo, unused_variables, missing_docs, reason = "signatures first")]
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{BoxError, Error};
use crate::frame::Frame;
use crate::ids::{Lsn, NodeId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    #[default]
    Auto,
    IoUring,
    Blocking,
}

#[derive(Debug, Clone)]
pub struct LogOptions {
    pub segment_bytes: u64,
    pub backend: Backend,
    pub max_in_flight: usize,
    pub recent_bytes: usize,
    pub buffer_bytes: usize,
    pub node: NodeId,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            backend: Backend::Auto,
            max_in_flight: 16,
            recent_bytes: 64 << 20,
            buffer_bytes: 32 << 20,
            node: NodeId::new(1),
        }
    }
}

pub struct Log {}

pub struct Appender<'a> {
    log: &'a Log,
}

pub struct TailReader {}

impl Log {
    pub fn open(
        dir: &Path,
        options: LogOptions,
        replay: &mut dyn FnMut(&Frame) -> Result<(), BoxError>,
    ) -> Result<Log, Error> {
        todo!()
    }
    pub fn lock(&self) -> Result<Appender<'_>, Error> {
        todo!()
    }
    pub fn durable_lsn(&self) -> Lsn {
        todo!()
    }
    pub fn poll_durable(&self, lsn: Lsn, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        todo!()
    }
    pub fn durable(&self, lsn: Lsn) -> impl Future<Output = Result<(), Error>> + Send + '_ {
        std::future::poll_fn(move |cx| self.poll_durable(lsn, cx))
    }
    pub fn wait_durable(&self, lsn: Lsn) -> Result<(), Error> {
        todo!()
    }
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        todo!()
    }
    pub fn room(&self) -> impl Future<Output = Result<(), Error>> + Send + '_ {
        std::future::poll_fn(move |cx| self.poll_room(cx))
    }
    pub fn tail(&self, from: Lsn) -> TailReader {
        todo!()
    }
    pub fn poisoned(&self) -> Option<String> {
        todo!()
    }
    pub fn close(&self) -> Result<(), Error> {
        todo!()
    }
}

impl Appender<'_> {
    pub fn reserve(&mut self, len: usize) -> Result<Lsn, Error> {
        todo!()
    }
    pub fn put(&mut self, records: &[u8], count: u32, has_catalog: bool) -> Lsn {
        todo!()
    }
}

impl TailReader {
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Arc<Frame>>, Error> {
        todo!()
    }
    pub fn position(&self) -> Lsn {
        todo!()
    }
}
