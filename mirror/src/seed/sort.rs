//! Rows by ordinal, however many there are: the primary hands them out by key.
//!
//! Rows are collected up to a bound, sorted, and written as a *run* to one scratch file, again and again; in the end the runs are
//! merged. Rows that never passed the bound are never written. The file has no name from its first moment on, so nothing is
//! left of it, whatever happens. Each run has a checksum, which is compared when its last byte was read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Rows in memory before they become a run.
pub(crate) const MEMORY_BYTES: usize = 64 << 20;

/// Read ahead of each run while they are merged: 100 GB of rows are 1,600 runs, and 100 MB here.
const READ_BYTES: usize = 64 << 10;

/// Of a row in a run: u64 ordinal, u32 length of the row, the row; little-endian.
const HEAD_BYTES: usize = 12;

/// Name of the scratch file, for as long as it has one.
pub(crate) const SCRATCH_NAME: &str = "seed.scratch";

/// Takes rows in any order.
pub(crate) struct Sorter {
    folder: PathBuf,
    memory_bytes: usize,
    rows: Vec<(u64, Range<usize>)>,
    bytes: Vec<u8>,
    scratch: Option<Scratch>,
}

struct Scratch {
    path: PathBuf,
    file: File,
    runs: Vec<Run>,
}

/// A stretch of the file.
struct Run {
    place: Range<u64>,
    crc: u32,
}

impl Sorter {
    pub fn new(folder: &Path, memory_bytes: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            memory_bytes,
            rows: Vec::new(),
            bytes: Vec::new(),
            scratch: None,
        }
    }

    pub fn push(&mut self, ordinal: u64, row: &[u8]) -> Result<(), Error> {
        let taken = self.bytes.len() + self.rows.len() * size_of::<(u64, Range<usize>)>();
        if !self.rows.is_empty() && taken + row.len() > self.memory_bytes {
            self.spill()?;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(row);
        self.rows.push((ordinal, start..self.bytes.len()));
        Ok(())
    }

    fn sort(&mut self) {
        // Rows that were inserted in the order of their keys are in order already, which this sees.
        self.rows.sort_by_key(|(ordinal, _)| *ordinal);
    }

    fn spill(&mut self) -> Result<(), Error> {
        self.sort();
        let scratch = match &mut self.scratch {
            Some(scratch) => scratch,
            none => none.insert(Scratch::create(&self.folder)?),
        };
        scratch.add(&self.rows, &self.bytes)?;
        self.rows.clear();
        self.bytes.clear();
        Ok(())
    }

    /// The rows in order.
    pub fn finish(mut self) -> Result<Sorted, Error> {
        if self.scratch.is_some() && !self.rows.is_empty() {
            self.spill()?;
        }
        self.sort();
        let Some(Scratch { path, file, runs }) = self.scratch else {
            return Ok(Sorted::Memory {
                rows: self.rows.into_iter(),
                bytes: self.bytes,
            });
        };
        let mut merge = Merge {
            path,
            file,
            readers: runs.into_iter().map(Reader::new).collect(),
            next: BinaryHeap::new(),
        };
        for index in 0..merge.readers.len() {
            merge.advance(index)?;
        }
        Ok(Sorted::Merge(merge))
    }
}

impl Scratch {
    fn create(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(SCRATCH_NAME);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(Error::io(&path, "create"))?;
        std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        Ok(Self {
            path,
            file,
            runs: Vec::new(),
        })
    }

    fn add(&mut self, rows: &[(u64, Range<usize>)], bytes: &[u8]) -> Result<(), Error> {
        let start = self.runs.last().map_or(0, |run| run.place.end);
        let mut written = Counted {
            crc: crc32fast::Hasher::new(),
            bytes: 0,
            file: BufWriter::with_capacity(READ_BYTES, &self.file),
        };
        written
            .rows(rows, bytes)
            .map_err(Error::io(&self.path, "write"))?;
        self.runs.push(Run {
            place: start..start + written.bytes,
            crc: written.crc.finalize(),
        });
        Ok(())
    }
}

/// What is written to the end of the file.
struct Counted<'f> {
    crc: crc32fast::Hasher,
    bytes: u64,
    file: BufWriter<&'f File>,
}

impl Counted<'_> {
    fn rows(&mut self, rows: &[(u64, Range<usize>)], bytes: &[u8]) -> io::Result<()> {
        for (ordinal, place) in rows {
            let length = u32::try_from(place.len()).map_err(io::Error::other)?;
            self.put(&ordinal.to_le_bytes())?;
            self.put(&length.to_le_bytes())?;
            self.put(&bytes[place.clone()])?;
        }
        self.file.flush()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

/// Rows in the order of their ordinals.
pub(crate) enum Sorted {
    Memory {
        rows: std::vec::IntoIter<(u64, Range<usize>)>,
        bytes: Vec<u8>,
    },
    Merge(Merge),
}

impl Sorted {
    /// The next row; its bytes come in place of what `row` holds.
    pub fn next(&mut self, row: &mut Vec<u8>) -> Result<Option<u64>, Error> {
        row.clear();
        match self {
            Self::Memory { rows, bytes } => Ok(rows.next().map(|(ordinal, place)| {
                row.extend_from_slice(&bytes[place]);
                ordinal
            })),
            Self::Merge(merge) => merge.next(row),
        }
    }
}

pub(crate) struct Merge {
    path: PathBuf,
    file: File,
    readers: Vec<Reader>,
    /// The next ordinal of each run that has one.
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Merge {
    fn next(&mut self, row: &mut Vec<u8>) -> Result<Option<u64>, Error> {
        let Some(Reverse((ordinal, index))) = self.next.pop() else {
            return Ok(None);
        };
        let reader = &mut self.readers[index];
        let mut length = [0; 4];
        let read = reader.take(&self.file, &mut length).and_then(|()| {
            row.resize(u32::from_le_bytes(length) as usize, 0);
            reader.take(&self.file, row)
        });
        read.map_err(Error::io(&self.path, "read"))?;
        self.advance(index)?;
        Ok(Some(ordinal))
    }

    /// Reads the next ordinal of a run.
    fn advance(&mut self, index: usize) -> Result<(), Error> {
        let reader = &mut self.readers[index];
        if reader.is_done() {
            let found = reader.crc.clone().finalize();
            if found != reader.run.crc {
                return Err(Error::Damaged {
                    path: self.path.clone(),
                    offset: reader.run.place.start,
                    what: "checksum of sorted rows",
                    expected: reader.run.crc.into(),
                    found: found.into(),
                });
            }
            return Ok(());
        }
        let mut ordinal = [0; HEAD_BYTES - 4];
        reader
            .take(&self.file, &mut ordinal)
            .map_err(Error::io(&self.path, "read"))?;
        self.next.push(Reverse((u64::from_le_bytes(ordinal), index)));
        Ok(())
    }
}

/// Reads a run.
struct Reader {
    run: Run,
    /// Up to where the file was read.
    read: u64,
    buffer: Vec<u8>,
    taken: usize,
    crc: crc32fast::Hasher,
}

impl Reader {
    fn new(run: Run) -> Self {
        Self {
            read: run.place.start,
            run,
            buffer: Vec::new(),
            taken: 0,
            crc: crc32fast::Hasher::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.taken == self.buffer.len() && self.read == self.run.place.end
    }

    fn take(&mut self, file: &File, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            if self.taken == self.buffer.len() {
                let left = self.run.place.end - self.read;
                let want = usize::try_from(left).map_or(READ_BYTES, |left| left.min(READ_BYTES));
                if want == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.buffer.resize(want, 0);
                file.read_exact_at(&mut self.buffer, self.read)?;
                self.crc.update(&self.buffer);
                self.read += want as u64;
                self.taken = 0;
            }
            let count = out.len().min(self.buffer.len() - self.taken);
            out[..count].copy_from_slice(&self.buffer[self.taken..self.taken + count]);
            self.taken += count;
            out = &mut out[count..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(rows: &[(u64, Vec<u8>)], memory_bytes: usize) -> Vec<(u64, Vec<u8>)> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sorter = Sorter::new(folder.path(), memory_bytes);
        for (ordinal, row) in rows {
            sorter.push(*ordinal, row).expect("room");
        }
        let mut sorted = sorter.finish().expect("sorted");
        let mut found = Vec::new();
        let mut row = Vec::new();
        while let Some(ordinal) = sorted.next(&mut row).expect("readable") {
            found.push((ordinal, row.clone()));
        }
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 0, "nothing is left of the scratch file");
        found
    }

    proptest! {
        #[test]
        fn rows_come_in_the_order_of_ordinals_whatever_fits_into_memory(
            order in Just((0..300_u64).collect::<Vec<_>>()).prop_shuffle(),
            lengths in proptest::collection::vec(0..400_usize, 300),
            memory_bytes in prop_oneof![Just(0), 100..20_000_usize, Just(1 << 20)],
        ) {
            let row = |&ordinal: &u64| {
                let length = lengths[ordinal as usize];
                (ordinal * 3, vec![ordinal as u8; length])
            };
            let rows: Vec<_> = order.iter().map(row).collect();
            let mut expected = rows.clone();
            expected.sort();
            prop_assert_eq!(sorted(&rows, memory_bytes), expected);
        }
    }

    #[test]
    fn a_row_larger_than_what_is_read_at_once_comes_whole() {
        let rows: Vec<_> = (0..4_u64)
            .rev()
            .map(|ordinal| (ordinal, vec![ordinal as u8; READ_BYTES * 2 + 7]))
            .collect();
        let expected: Vec<_> = rows.iter().rev().cloned().collect();
        assert_eq!(sorted(&rows, 1 << 10), expected);
    }

    #[test]
    fn a_byte_that_changed_in_the_scratch_file_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sorter = Sorter::new(folder.path(), 64);
        for ordinal in 0..20 {
            sorter.push(ordinal, b"a row of some bytes").expect("room");
        }
        let scratch = sorter.scratch.as_ref().expect("it was spilled");
        let at = scratch.runs[1].place.start + HEAD_BYTES as u64 + 2;
        scratch.file.write_all_at(b"?", at).expect("written");
        let mut sorted = sorter.finish().expect("the first rows can be read");
        let mut row = Vec::new();
        let mut read = || sorted.next(&mut row);
        let error = loop {
            match read() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it was not seen"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}
