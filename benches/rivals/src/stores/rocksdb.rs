//! RocksDB as its wiki's page "Setup Options and Basic Tuning" advises: dynamic level sizes, one background job per core and at least two, bytes_per_sync of
//! 1 MiB, blocks of 16 KiB, index and filter blocks in the block cache with those of level 0 pinned, filters of 10 bits per key, LZ4. Write
//! buffers are the default's 64 MiB.
//!
//! Each commit is a synced write to its log (`WriteOptions::sync`); concurrent ones are grouped by RocksDB itself. Log files are reused, so
//! that a sync need not write the file's size, too. Rows in the order of their keys go into files that are then taken in
//! ("Creating and Ingesting SST files").

use crate::data::Key;
use crate::store::{Client, Outcome, Row, Settings, Store};
use rocksdb::{
    BlockBasedOptions, CompactionPri, DB, DBCompressionType, IngestExternalFileOptions, Options, ReadOptions,
    SstFileWriter, WaitForCompactOptions, WriteBatch, WriteOptions,
};
use std::path::{Path, PathBuf};

/// The rows of one file that is to be taken in: a little less than compaction's target of 64 MiB.
const INGESTED_BYTES: u64 = 60 << 20;

pub struct Rocks {
    db: DB,
    options: Options,
    write: WriteOptions,
    folder: PathBuf,
}

fn options(settings: &Settings) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_level_compaction_dynamic_level_bytes(true);
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
    options.set_max_background_jobs(i32::try_from(cores.max(2)).unwrap_or(2));
    options.set_bytes_per_sync(1 << 20);
    options.set_compaction_pri(CompactionPri::MinOverlappingRatio);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_recycle_log_file_num(2);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&rocksdb::Cache::new_lru_cache(settings.cache_bytes));
    blocks.set_block_size(16 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_format_version(6);
    options.set_block_based_table_factory(&blocks);
    options
}

impl Rocks {
    pub fn open(folder: &Path, settings: &Settings) -> Outcome<Rocks> {
        let options = options(settings);
        let mut write = WriteOptions::default();
        write.set_sync(!settings.is_load);
        Ok(Rocks {
            db: DB::open(&options, folder)?,
            options,
            write,
            folder: folder.to_owned(),
        })
    }

    fn write(&self, rows: &[Row]) -> Outcome<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in rows {
            batch.put(key, value);
        }
        Ok(self.db.write_opt(batch, &self.write)?)
    }
}

impl Store for Rocks {
    fn client(&self) -> Box<dyn Client + '_> {
        Box::new(self)
    }

    fn load_in_order(&self, rows: &mut dyn Iterator<Item = Row>) -> Outcome<()> {
        let mut files = Vec::new();
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let path = self.folder.join(format!("load-{}.sst", files.len()));
            let mut writer = SstFileWriter::create(&self.options);
            writer.open(&path)?;
            let mut bytes = 0;
            while bytes < INGESTED_BYTES
                && let Some((key, value)) = rows.next()
            {
                bytes += (key.len() + value.len()) as u64;
                writer.put(key, value)?;
            }
            writer.finish()?;
            files.push(path);
        }
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        Ok(self.db.ingest_external_file_opts(&ingest, files)?)
    }

    fn sync(&self) -> Outcome<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn settle(&self) -> Outcome<()> {
        self.db.flush()?;
        Ok(self.db.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(())
    }
}

impl Client for &Rocks {
    fn insert(&mut self, rows: &[Row]) -> Outcome<()> {
        self.write(rows)
    }

    fn update(&mut self, rows: &[Row]) -> Outcome<()> {
        self.write(rows)
    }

    fn get(&mut self, key: &Key) -> Outcome<Option<usize>> {
        Ok(self.db.get_pinned(key)?.map(|value| value.len()))
    }

    fn scan(&mut self, from: &Key, limit: usize) -> Outcome<(usize, usize)> {
        let mut read = ReadOptions::default();
        // Read ahead where blocks follow each other is RocksDB's own affair.
        read.set_readahead_size(0);
        let (mut rows, mut bytes) = (0, 0);
        let mut found = self.db.raw_iterator_opt(read);
        found.seek(from);
        while let Some(value) = found.value() {
            rows += 1;
            bytes += value.len();
            if rows == limit {
                break;
            }
            found.next();
        }
        found.status()?;
        Ok((rows, bytes))
    }
}
