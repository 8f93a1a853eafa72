//! Writes a layer of new runs.

use crate::error::Error;
use crate::runs::format::Compression;
use crate::runs::run::Run;
use crate::runs::set::Layer;
use crate::runs::writer::{RunWriter, Shape};
use crate::runs::{Runs, SpaceId, Stored, internal_key};
use scry_wal::{Lsn, Ordinal};
use std::sync::Arc;

/// Runs that are being written, one after the other, by key. Dropped, it leaves nothing behind.
pub(crate) struct LayerWriter {
    runs: Arc<Runs>,
    shape: Shape,
    writer: Option<RunWriter>,
    done: Vec<Arc<Run>>,
}

impl LayerWriter {
    pub(crate) fn new(runs: Arc<Runs>, shape: Shape) -> LayerWriter {
        LayerWriter {
            runs,
            shape,
            writer: None,
            done: Vec::new(),
        }
    }

    /// Adds a version, in order.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        lsn: Lsn,
        ordinal: Ordinal,
        row: Option<&[u8]>,
    ) -> Result<(), Error> {
        if self.is_to_end(key) {
            self.end_run()?;
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let number = self.runs.take_number();
                let writer = RunWriter::create(&self.runs.folder, number, self.shape)?;
                self.writer.insert(writer)
            }
        };
        writer.add(key, lsn, ordinal, row)
    }

    /// Whether the run that is being written ends before a key: it is long enough, or the key is of another space and it
    /// is long enough to be dropped with its own.
    fn is_to_end(&self, key: &[u8]) -> bool {
        let Some(writer) = &self.writer else { return false };
        let last = writer.last_key();
        let bytes = writer.bytes();
        let limit = self.runs.options.file_bytes;
        bytes >= limit && last != key || bytes >= limit / 4 && SpaceId::of(last) != SpaceId::of(key)
    }

    /// Ends the run, so that the next key begins another.
    pub(crate) fn end_run(&mut self) -> Result<(), Error> {
        if let Some(writer) = self.writer.take() {
            let name = writer.finish()?;
            let run = Run::open(&self.runs.folder, &self.runs.cache, name);
            // Not opened, the file is removed by the next start.
            self.done.push(Arc::new(run?));
        }
        Ok(())
    }

    /// All the runs, complete.
    pub(crate) fn finish(mut self) -> Result<Vec<Arc<Run>>, Error> {
        self.end_run()?;
        Ok(std::mem::take(&mut self.done))
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        for run in &self.done {
            run.doom();
        }
    }
}

/// A flush that is being written. Dropped instead of installed, it leaves nothing behind.
pub struct FlushWriter {
    layer: LayerWriter,
}

impl FlushWriter {
    pub(crate) fn new(runs: Arc<Runs>) -> FlushWriter {
        let shape = runs.options.shape(0);
        FlushWriter::shaped(runs, shape)
    }

    /// A layer of a transaction: nothing of it is needed after a crash. It is written again soon, so that packing it costs more than it saves.
    pub(crate) fn private(runs: Arc<Runs>) -> FlushWriter {
        let shape = Shape {
            durable: false,
            compression: Compression::None,
            ..runs.options.shape(0)
        };
        FlushWriter::shaped(runs, shape)
    }

    fn shaped(runs: Arc<Runs>, shape: Shape) -> FlushWriter {
        FlushWriter {
            layer: LayerWriter::new(runs, shape),
        }
    }

    /// Ends the run that is being written, so that the next key begins another.
    pub(crate) fn end_run(&mut self) -> Result<(), Error> {
        self.layer.end_run()
    }

    /// Adds a version under an internal key, as `add` does.
    pub(crate) fn put(
        &mut self,
        key: &[u8],
        lsn: Lsn,
        ordinal: Ordinal,
        row: Option<&[u8]>,
    ) -> Result<(), Error> {
        self.layer.add(key, lsn, ordinal, row)
    }

    /// Adds versions of one key, newest first, all of them newer than those that other runs have of the key. Spaces, and
    /// keys within a space, come in rising order.
    ///
    /// # Errors
    /// When a file cannot be written. The writer is of no use then.
    ///
    /// # Panics
    /// When the order is broken.
    pub fn add(&mut self, space: SpaceId, key: &[u8], versions: &[Stored]) -> Result<(), Error> {
        let key = internal_key(space, key);
        for version in versions {
            self.layer
                .add(&key, version.lsn, version.ordinal, version.row.as_deref())?;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Layer, Error> {
        Ok(Layer::new(self.layer.finish()?))
    }
}
