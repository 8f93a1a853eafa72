//! Sealed segments: one piece in one Parquet file.
//!
//! The file has one row group and the store's columns under their own names, followed by a column `__ordinal`
//! (UInt64; with more underscores behind it when a column of the store has that name); other programs can read it. It is cut into *parts* (magic, each column chunk, footer) whose lengths and CRC32s
//! stand in the manifest: a part is checked each time it is read, so a damaged byte is reported with file and offset
//! and never becomes data.
//!
//! A file is written once, complete and synced before a manifest names it. When no manifest names it any more it is
//! *obsolete*, and removed with its last reader.

use arrow::array::{ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::{Buf, Bytes};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::cache::{Cache, Key};
use crate::error::Error;
use crate::piece::batch_bytes;
use crate::statistics::ColumnStatistics;

/// Name of the column that holds the ordinals.
const ORDINAL_COLUMN: &str = "__ordinal";

/// Bytes of the magic that a Parquet file begins with.
const MAGIC_BYTES: u64 = 4;

/// Rows handed out by the Parquet reader at a time; more than a piece has, so that it comes whole.
const BATCH_ROWS: usize = 1 << 20;

/// A stretch of a file with its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub offset: u64,
    pub bytes: u64,
    pub crc: u32,
}

/// A sealed file. The first part is the magic, the last the footer, and between them stands one for each column.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    id: u64,
    path: PathBuf,
    parts: Vec<Part>,
    schema: SchemaRef,
    footer: OnceLock<ArrowReaderMetadata>,
    obsolete: AtomicBool,
}

/// Tells files apart in the cache; ids are never used again within a process.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl SegmentFile {
    /// A file that a manifest describes.
    pub fn new(path: PathBuf, parts: Vec<Part>, schema: &SchemaRef) -> Result<Self, Error> {
        let mut end = 0;
        for part in &parts {
            if part.offset != end || part.offset.checked_add(part.bytes).is_none() {
                let what = "manifest: parts of a segment";
                return Err(Error::Damaged {
                    path,
                    offset: part.offset,
                    what,
                    expected: end,
                    found: part.offset,
                });
            }
            end = part.offset + part.bytes;
        }
        let expected = file_schema(schema).fields().len() + 2;
        if parts.len() != expected {
            let what = "manifest: number of parts of a segment";
            let (expected, found) = (expected as u64, parts.len() as u64);
            return Err(Error::Damaged {
                path,
                offset: 0,
                what,
                expected,
                found,
            });
        }
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            path,
            parts,
            schema: schema.clone(),
            footer: OnceLock::new(),
            obsolete: AtomicBool::new(false),
        })
    }

    /// Writes rows and their ordinals to a new file and syncs it. `path` must not exist.
    pub fn write(
        path: PathBuf,
        batch: &RecordBatch,
        ordinals: impl Iterator<Item = u64>,
    ) -> Result<Self, Error> {
        let (bytes, columns) = encode(&path, batch, ordinals)?;
        let parts = cut(&path, &bytes, &columns)?;
        let written = File::create_new(&path)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
        if let Err(error) = written {
            // Half a file is of no use and may be what fills the disk; failing to remove it is found at the next open.
            let _ = std::fs::remove_file(&path);
            return Err(Error::io(&path, "write")(error));
        }
        Self::new(path, parts, &batch.schema())
    }

    /// Tells the file from others in the cache.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Length of the file.
    pub fn bytes(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.offset + part.bytes)
    }

    /// From now on the file goes away with its last reader.
    pub fn retire(&self, cache: &Cache) {
        self.obsolete.store(true, Ordering::Release);
        cache.forget(self.id, self.schema.fields().len());
    }

    /// Reads the whole file and checks its length and every part.
    pub fn verify(&self) -> Result<(), Error> {
        let file = File::open(&self.path).map_err(Error::io(&self.path, "open"))?;
        let length = file.metadata().map_err(Error::io(&self.path, "stat"))?.len();
        if length != self.bytes() {
            return Err(self.damaged(
                length.min(self.bytes()),
                "length of the file",
                self.bytes(),
                length,
            ));
        }
        self.read_parts(0..self.parts.len()).map(drop)
    }

    /// Some of the columns, from the cache as far as it has them.
    pub fn columns(&self, projection: &[usize], rows: usize, cache: &Cache) -> Result<RecordBatch, Error> {
        let mut found: Vec<Option<ArrayRef>> = projection
            .iter()
            .map(|&column| {
                cache.get(Key {
                    file: self.id,
                    column,
                })
            })
            .collect();
        let mut missing: Vec<usize> = projection
            .iter()
            .zip(&found)
            .filter(|(_, array)| array.is_none())
            .map(|(&c, _)| c)
            .collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let decoded = self.decode(&missing, rows)?;
            for (&column, array) in missing.iter().zip(decoded.columns()) {
                cache.put(
                    Key {
                        file: self.id,
                        column,
                    },
                    array.clone(),
                );
            }
            for (slot, column) in found.iter_mut().zip(projection) {
                if slot.is_none()
                    && let Ok(index) = missing.binary_search(column)
                {
                    *slot = Some(decoded.column(index).clone());
                }
            }
        }
        let schema = Arc::new(self.schema.project(projection)?);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = found.into_iter().flatten().collect();
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// The ordinals of the rows.
    pub fn ordinals(&self, rows: usize) -> Result<Vec<u64>, Error> {
        let batch = self.decode(&[self.schema.fields().len()], rows)?;
        let array = batch.column(0).as_any().downcast_ref::<UInt64Array>();
        Ok(array.map(|array| array.values().to_vec()).unwrap_or_default())
    }

    /// What the rows take in memory.
    pub fn decoded_bytes(&self) -> Result<usize, Error> {
        let footer = self.footer()?;
        let metadata = footer.metadata();
        let noted: Option<i64> = note(metadata, BYTES_KEY).and_then(|bytes| bytes.parse().ok());
        let unpacked = || {
            metadata
                .row_groups()
                .iter()
                .map(|group| group.total_byte_size())
                .sum()
        };
        // Lengths are positive.
        Ok(noted.unwrap_or_else(unpacked).unsigned_abs() as usize)
    }

    /// Bounds of a column, as the footer has them.
    pub fn statistics(&self, column: usize) -> Option<ColumnStatistics> {
        let footer = self.footer().ok()?;
        let metadata = footer.metadata();
        let field = self.schema.fields().get(column)?;
        // Parquet's bounds leave NaN out; in the order of our queries it is above all numbers.
        if field.data_type().is_floating() && !is_noted_free_of_nan(metadata, column) {
            return None;
        }
        let name = field.name();
        let converter = StatisticsConverter::try_new(name, footer.schema(), footer.parquet_schema()).ok()?;
        let groups = metadata.row_groups();
        let known = |array: ArrayRef| (array.len() == 1 && !array.is_null(0)).then_some(array);
        Some(ColumnStatistics {
            min: converter.row_group_mins(groups).ok().and_then(known),
            max: converter.row_group_maxes(groups).ok().and_then(known),
            null_count: converter
                .row_group_null_counts(groups)
                .ok()
                .and_then(|counts| counts.iter().next().flatten())
                .unwrap_or_else(|| metadata.file_metadata().num_rows().unsigned_abs()),
        })
    }

    fn footer(&self) -> Result<ArrowReaderMetadata, Error> {
        if let Some(footer) = self.footer.get() {
            return Ok(footer.clone());
        }
        let last = self.parts.len() - 1;
        let ranges = self.read_parts(last..last + 1)?;
        let reader = PartReader {
            length: self.bytes(),
            ranges,
        };
        let options = ArrowReaderOptions::new().with_schema(file_schema(&self.schema));
        let footer = ArrowReaderMetadata::load(&reader, options).map_err(Error::parquet(&self.path))?;
        // Only what was read well is kept: a moment without file descriptors is no reason to refuse forever.
        Ok(self.footer.get_or_init(|| footer).clone())
    }

    /// Decodes columns of the file, given in ascending order.
    fn decode(&self, columns: &[usize], rows: usize) -> Result<RecordBatch, Error> {
        let footer = self.footer()?;
        let mut ranges = Vec::with_capacity(columns.len());
        for &column in columns {
            ranges.extend(self.read_parts(column + 1..column + 2)?);
        }
        let mask = ProjectionMask::roots(footer.parquet_schema(), columns.iter().copied());
        let reader = PartReader {
            length: self.bytes(),
            ranges,
        };
        let mut batches = ParquetRecordBatchReaderBuilder::new_with_metadata(reader, footer)
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(Error::parquet(&self.path))?;
        let batch = batches.next().transpose()?;
        let found = batch.as_ref().map_or(0, RecordBatch::num_rows);
        match batch {
            Some(batch) if found == rows => Ok(batch),
            _ => Err(self.damaged(0, "rows of the segment", rows as u64, found as u64)),
        }
    }

    /// Reads parts and checks them.
    fn read_parts(&self, which: Range<usize>) -> Result<Vec<(u64, Bytes)>, Error> {
        let mut file = File::open(&self.path).map_err(Error::io(&self.path, "open"))?;
        let mut read = Vec::with_capacity(which.len());
        for part in &self.parts[which] {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(part.offset))
                .map_err(Error::io(&self.path, "seek"))?;
            (&file)
                .take(part.bytes)
                .read_to_end(&mut bytes)
                .map_err(Error::io(&self.path, "read"))?;
            if bytes.len() as u64 != part.bytes {
                let offset = part.offset + bytes.len() as u64;
                return Err(self.damaged(offset, "length of a part", part.bytes, bytes.len() as u64));
            }
            let crc = crc32fast::hash(&bytes);
            if crc != part.crc {
                return Err(self.damaged(part.offset, "checksum of a part", part.crc.into(), crc.into()));
            }
            read.push((part.offset, Bytes::from(bytes)));
        }
        Ok(read)
    }

    fn damaged(&self, offset: u64, what: &'static str, expected: u64, found: u64) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            offset,
            what,
            expected,
            found,
        }
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        if *self.obsolete.get_mut() {
            // What stays behind is removed at the next open, which keeps only what the manifest names.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn file_schema(schema: &SchemaRef) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    let mut name = ORDINAL_COLUMN.to_owned();
    while fields.iter().any(|field| *field.name() == name) {
        name.push('_');
    }
    fields.push(Arc::new(Field::new(name, DataType::UInt64, false)));
    Arc::new(Schema::new(fields))
}

/// Key of the bytes that the columns of the store take in memory.
const BYTES_KEY: &str = "scry.bytes";

/// Key of the numbers of the floating-point columns without NaN, divided by commas.
const NO_NAN_KEY: &str = "scry.no_nan";

/// What a file says of itself beyond what Parquet does.
fn notes(batch: &RecordBatch) -> Vec<KeyValue> {
    let columns = batch.columns().iter().enumerate();
    let free: Vec<String> = columns
        .filter(|(_, column)| is_free_of_nan(column))
        .map(|(number, _)| number.to_string())
        .collect();
    vec![
        KeyValue::new(BYTES_KEY.to_owned(), batch_bytes(batch).to_string()),
        KeyValue::new(NO_NAN_KEY.to_owned(), free.join(",")),
    ]
}

fn is_free_of_nan(column: &ArrayRef) -> bool {
    match column.data_type() {
        DataType::Float32 => column
            .as_primitive::<Float32Type>()
            .iter()
            .flatten()
            .all(|v| !v.is_nan()),
        DataType::Float64 => column
            .as_primitive::<Float64Type>()
            .iter()
            .flatten()
            .all(|v| !v.is_nan()),
        _ => false,
    }
}

fn note<'m>(metadata: &'m ParquetMetaData, key: &str) -> Option<&'m str> {
    let notes = metadata.file_metadata().key_value_metadata()?;
    notes.iter().find(|note| note.key == key)?.value.as_deref()
}

fn is_noted_free_of_nan(metadata: &ParquetMetaData, column: usize) -> bool {
    note(metadata, NO_NAN_KEY).is_some_and(|free| free.split(',').any(|number| number == column.to_string()))
}

/// The file's bytes, and where its column chunks stand.
fn encode(
    path: &Path,
    batch: &RecordBatch,
    ordinals: impl Iterator<Item = u64>,
) -> Result<(Vec<u8>, Vec<Range<u64>>), Error> {
    let schema = file_schema(&batch.schema());
    let notes = notes(batch);
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from_iter_values(ordinals)));
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_max_row_group_row_count(None)
        .set_offset_index_disabled(true)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(notes))
        .set_dictionary_enabled(false);
    for field in schema.fields() {
        let column = ColumnPath::new(vec![field.name().clone()]);
        match field.data_type() {
            // Dictionaries pay for themselves where values are long and few; numbers compress as they are.
            DataType::Utf8 | DataType::Binary => {
                properties = properties.set_column_dictionary_enabled(column, true);
            }
            DataType::UInt64 => {
                properties = properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
            }
            _ => {}
        }
    }
    let failed = Error::parquet(path);
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties.build())).map_err(&failed)?;
    writer.write(&batch).map_err(&failed)?;
    let metadata = writer.finish().map_err(&failed)?;
    let chunks = metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
        .map(|chunk| {
            let (start, length) = chunk.byte_range();
            start..start + length
        })
        .collect();
    Ok((std::mem::take(writer.inner_mut()), chunks))
}

/// The parts of a file whose column chunks stand at `chunks`.
fn cut(path: &Path, bytes: &[u8], chunks: &[Range<u64>]) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::with_capacity(chunks.len() + 2);
    let mut cut = |range: Range<u64>| {
        let slice = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok());
        let slice = slice
            .and_then(|(start, end)| bytes.get(start..end))
            .ok_or_else(|| {
                let message = format!("column chunk {range:?} beyond the file's {} bytes", bytes.len());
                Error::parquet(path)(ParquetError::General(message))
            })?;
        parts.push(Part {
            offset: range.start,
            bytes: slice.len() as u64,
            crc: crc32fast::hash(slice),
        });
        Ok::<(), Error>(())
    };
    cut(0..MAGIC_BYTES)?;
    let mut end = MAGIC_BYTES;
    for chunk in chunks {
        // From the end of the chunk before: a gap, should a writer ever leave one, is checked too.
        cut(end..chunk.end)?;
        end = chunk.end;
    }
    cut(end..bytes.len() as u64)?;
    Ok(parts)
}

/// The parts of a file that have been read, as Parquet's reader wants them.
struct PartReader {
    length: u64,
    ranges: Vec<(u64, Bytes)>,
}

impl PartReader {
    fn rest(&self, start: u64) -> Result<Bytes, ParquetError> {
        self.ranges
            .iter()
            .find(|(offset, bytes)| (*offset..offset + bytes.len() as u64).contains(&start))
            .map(|(offset, bytes)| bytes.slice((start - offset) as usize..))
            .ok_or_else(|| ParquetError::General(format!("offset {start} is in no part that was read")))
    }
}

impl Length for PartReader {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for PartReader {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.rest(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let rest = self.rest(start)?;
        if rest.len() < length {
            let message = format!("{length} bytes from offset {start} leave the part that was read");
            return Err(ParquetError::General(message));
        }
        Ok(rest.slice(..length))
    }
}

/// Makes the names of new files in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    let synced: io::Result<()> = File::open(folder).and_then(|file| file.sync_all());
    synced.map_err(Error::io(folder, "sync"))
}
