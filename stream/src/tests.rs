//! The whole way from an engine's log to change sets, and that nothing about threads and cutting shows in them.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;
use scry_engine::{
    ColumnDef, DataType, Engine, EngineOptions, InsertOutcome, Isolation, KeyRange, NewTable, PrimaryKey,
    SessionInfo, Table, Txn, Value,
};
use scry_wal::{Backend, FRAME_HEADER_BYTES, Frame, Lsn, StoreId, block_on};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::changes::{ChangeSet, CommitInfo, StoreEventKind};
use crate::decode::{Schemas, decode_run};
use crate::queue::Queue;
use crate::replay::Replay;
use crate::stream::{Run, Start, Stream, StreamOptions};

#[derive(Debug, Clone)]
enum Step {
    /// One transaction on one table: rows to insert, to update, to delete; the width of a row, in KiB; how it ends.
    Work {
        table: usize,
        inserts: u8,
        updates: u8,
        deletes: u8,
        kib: u8,
        end: End,
    },
    /// A table created, truncated or dropped, and filled in the same transaction.
    Define {
        table: usize,
        how: u8,
        inserts: u8,
        kib: u8,
    },
    /// Columns added in a transaction that has written before and writes after; half of it may be undone.
    Widen {
        table: usize,
        inserts: u8,
        columns: u8,
        kib: u8,
        end: End,
    },
    /// The server is killed in the middle of a transaction that has written ahead, and started again.
    Crash { table: usize },
}

#[derive(Debug, Clone, Copy)]
enum End {
    Commit,
    Rollback,
    /// Half of it undone, then committed.
    Savepoint,
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![6 => Just(End::Commit), 1 => Just(End::Rollback), 2 => Just(End::Savepoint)];
    let kib = prop_oneof![3 => Just(0u8), 1 => Just(200u8)];
    let work = (0usize..3, 0u8..12, 0u8..6, 0u8..4, kib.clone(), end.clone());
    let widen = (0usize..3, 0u8..6, 1u8..3, kib.clone(), end);
    prop_oneof![
        12 => work.prop_map(|(table, inserts, updates, deletes, kib, end)| {
            Step::Work { table, inserts, updates, deletes, kib, end }
        }),
        3 => widen.prop_map(|(table, inserts, columns, kib, end)| {
            Step::Widen { table, inserts, columns, kib, end }
        }),
        3 => (0usize..3, 0u8..4, 0u8..12, kib)
            .prop_map(|(table, how, inserts, kib)| Step::Define { table, how, inserts, kib }),
        1 => (0usize..3).prop_map(|table| Step::Crash { table }),
    ]
}

/// An engine that does what the steps say.
struct Primary {
    folders: Vec<tempfile::TempDir>,
    engine: Arc<Engine>,
    next: i64,
}

fn options() -> EngineOptions {
    let mut options = EngineOptions::default();
    options.log.segment_bytes = 4 << 20;
    options.log.backend = Backend::Blocking;
    options
}

/// Copies a folder of which files may be renamed meanwhile: then it says so.
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().expect("named"));
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

impl Primary {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Engine::open(&folder.path().join("data"), options()).expect("opened");
        Self {
            folders: vec![folder],
            engine,
            next: 1,
        }
    }

    fn begin(&self) -> Txn {
        let info = SessionInfo {
            user: "u".into(),
            client: "c".into(),
            application: "a".into(),
        };
        let mut txn = self.engine.session(info).begin(Isolation::ReadCommitted);
        txn.statement();
        txn
    }

    fn name(table: usize) -> String {
        format!("t{table}")
    }

    /// The table, created when there is none.
    fn table(&self, txn: &mut Txn, table: usize) -> Arc<Table> {
        if let Some(found) = txn.catalog().table(&Self::name(table)) {
            return found.clone();
        }
        let column = |name: &str, ty, not_null| ColumnDef {
            not_null,
            ..ColumnDef::new(name, ty)
        };
        let new = NewTable {
            name: Self::name(table),
            columns: vec![
                column("id", DataType::Int8, true),
                column("text", DataType::Text, false),
            ],
            primary_key: (table != 2).then(|| PrimaryKey {
                name: "key".into(),
                columns: vec![0],
            }),
            ..NewTable::default()
        };
        block_on(txn.create_table(new)).expect("created")
    }

    fn insert(&mut self, txn: &mut Txn, table: &Table, kib: u8) {
        let id = self.next;
        self.next += 1;
        let text = (id % 4 != 0).then(|| format!("{id:08}").repeat(1 + usize::from(kib) * 128));
        let values = vec![Value::Int8(id), text.map_or(Value::Null, Value::Text)];
        let row = encoded(table, values, id);
        let key = table.key_of(&row);
        let outcome = block_on(txn.insert(table, key, row)).expect("inserted");
        assert!(matches!(outcome, InsertOutcome::Inserted(_)));
        block_on(txn.room()).expect("room");
    }

    fn keys(txn: &mut Txn, table: &Table) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        txn.scan(table, &KeyRange::all(), &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })
        .expect("scanned");
        keys
    }

    fn change(&mut self, txn: &mut Txn, table: &Table, updates: u8, deletes: u8, kib: u8) {
        let keys = Self::keys(txn, table);
        for (index, key) in keys
            .iter()
            .rev()
            .take(usize::from(updates) + usize::from(deletes))
            .enumerate()
        {
            let Some(version) = block_on(txn.lock(table, key)).expect("locked") else {
                continue;
            };
            if index < usize::from(updates) {
                let id = table.layout.row(&version.row).get(0).to_value();
                let text = Value::Text("x".repeat(1 + usize::from(kib) * 1024));
                let row = encoded(table, vec![id, text], 5);
                block_on(txn.update(table, key, row)).expect("updated");
            } else {
                block_on(txn.delete(table, key)).expect("deleted");
            }
            block_on(txn.room()).expect("room");
        }
    }

    fn run(&mut self, step: &Step) {
        let mut txn = self.begin();
        match *step {
            Step::Work {
                table,
                inserts,
                updates,
                deletes,
                kib,
                end,
            } => {
                let table = self.table(&mut txn, table);
                for _ in 0..inserts {
                    self.insert(&mut txn, &table, kib);
                }
                let savepoint = txn.savepoint().expect("a savepoint");
                self.change(&mut txn, &table, updates, deletes, kib);
                match end {
                    End::Commit => {}
                    End::Rollback => return txn.rollback(),
                    End::Savepoint => block_on(txn.rollback_to(savepoint)).expect("rolled back"),
                }
                self.insert(&mut txn, &table, 0);
            }
            Step::Widen {
                table,
                inserts,
                columns,
                kib,
                end,
            } => {
                let narrow = self.table(&mut txn, table);
                self.change(&mut txn, &narrow, 2, 1, kib);
                let savepoint = txn.savepoint().expect("a savepoint");
                if matches!(end, End::Commit) {
                    txn.release(savepoint).expect("released");
                }
                let mut def = narrow.def.clone();
                for _ in 0..columns {
                    def.columns.push(ColumnDef {
                        missing: Some(Value::Int8(MISSING)),
                        ..ColumnDef::new(format!("more{}", def.columns.len()), DataType::Int8)
                    });
                }
                let wide = block_on(txn.redefine(&narrow, def)).expect("redefined");
                for _ in 0..inserts {
                    self.insert(&mut txn, &wide, kib);
                }
                self.change(&mut txn, &wide, 2, 1, kib);
                match end {
                    End::Commit => {}
                    End::Rollback => return txn.rollback(),
                    End::Savepoint => {
                        block_on(txn.rollback_to(savepoint)).expect("rolled back");
                        self.insert(&mut txn, &narrow, kib);
                    }
                }
            }
            Step::Define {
                table,
                how,
                inserts,
                kib,
            } => {
                let mut found = self.table(&mut txn, table);
                if how == 0 || how == 1 {
                    // What was done to the old store is void.
                    self.insert(&mut txn, &found, kib);
                    self.change(&mut txn, &found, 2, 2, kib);
                    found = block_on(txn.truncate(&found)).expect("truncated");
                }
                if how == 1 || how == 2 {
                    block_on(txn.drop_table(&found)).expect("dropped");
                    found = self.table(&mut txn, table);
                }
                for _ in 0..inserts {
                    self.insert(&mut txn, &found, kib);
                }
                self.change(&mut txn, &found, 2, 1, kib);
            }
            Step::Crash { table } => {
                let table = self.table(&mut txn, table);
                for _ in 0..8 {
                    self.insert(&mut txn, &table, 200);
                }
                self.settle();
                let last = self.folders.last().expect("one at least");
                // The log prepares segments in the background; a copy that saw a file go is made again.
                let folder = std::iter::repeat_with(|| tempfile::tempdir().expect("a folder"))
                    .find(|folder| copy_folder(last.path(), folder.path()).is_ok())
                    .expect("made in the end");
                let engine = Engine::open(&folder.path().join("data"), options()).expect("recovered");
                txn.rollback();
                self.engine = engine;
                self.folders.push(folder);
                return;
            }
        }
        txn.commit("test").expect("committed");
    }

    /// Waits until everything that was appended to the log is durable.
    fn settle(&self) {
        let log = self.engine.log();
        let next = log.lock().expect("not poisoned").reserve(1).expect("room");
        // Either the next record opens a frame, or it follows others in one that is durable as a whole.
        let last = next.get() - FRAME_HEADER_BYTES as u64 - 1;
        log.wait_durable(Lsn::new(last)).expect("durable");
    }

    fn frames(&self) -> Vec<Arc<Frame>> {
        self.settle();
        let mut tail = self.engine.log().tail(Lsn::ZERO);
        let mut frames = Vec::new();
        while let Some(frame) = tail.next(Duration::ZERO).expect("readable") {
            frames.push(frame);
        }
        frames
    }
}

/// What rows have in columns that were added after them.
const MISSING: i64 = 7;

/// A row with `more` in the columns that were added.
fn encoded(table: &Table, mut values: Vec<Value>, more: i64) -> Vec<u8> {
    values.resize(table.def.columns.len(), Value::Int8(more));
    table.layout.encode(&values).expect("fits")
}

/// A batch of one row: its number, and head and length of its text, and what follows up to the last value that it would not have
/// without its column. Which rows have a column that was added later depends on how frames are cut.
fn shown(batch: &RecordBatch) -> String {
    let id = batch.column(0).as_primitive::<Int64Type>().value(0);
    let text = batch.column(1).as_string::<i32>().iter().next().flatten();
    let text = text.map(|text| (&text[..text.len().min(8)], text.len()));
    let more =
        (2..batch.num_columns()).map(|column| batch.column(column).as_primitive::<Int64Type>().value(0));
    let mut more: Vec<i64> = more.collect();
    while more.pop_if(|more| *more == MISSING).is_some() {}
    format!("{id} {text:?} {more:?}")
}

/// Change sets without the way in which they were cut.
#[derive(Debug, Default, PartialEq)]
struct Flat {
    upto: u64,
    commits: Vec<CommitInfo>,
    /// With the number of columns that a store has from then on; none: it is gone.
    events: Vec<(Lsn, StoreId, Option<usize>)>,
    /// Rows by store and ordinal, long texts cut.
    rows: BTreeMap<(StoreId, u64), String>,
    boundaries: BTreeMap<StoreId, Vec<(Lsn, u64)>>,
    ended: BTreeMap<StoreId, Vec<(Lsn, u64)>>,
}

impl Flat {
    fn add(&mut self, set: &ChangeSet) {
        assert_eq!(set.from.get(), self.upto, "sets follow each other");
        assert!(set.restart <= set.upto);
        self.upto = set.upto.get();
        self.commits.extend(&set.commits);
        for event in &set.events {
            let columns = match &event.kind {
                StoreEventKind::Created(schema) | StoreEventKind::Widened(schema) => {
                    Some(schema.columns.len())
                }
                StoreEventKind::Dropped => None,
            };
            self.events.push((event.at, event.store, columns));
        }
        for changes in &set.stores {
            let mut next = None;
            for run in &changes.runs {
                assert!(next.is_none_or(|next| next == run.first.get()), "runs are dense");
                next = Some(run.end());
                for index in 0..run.rows.num_rows() {
                    let row = shown(&run.rows.slice(index, 1));
                    let before = self
                        .rows
                        .insert((changes.store, run.first.get() + index as u64), row);
                    assert!(before.is_none(), "an ordinal comes once");
                }
            }
            let ended = changes.ended.iter().map(|&(lsn, ordinal)| (lsn, ordinal.get()));
            self.ended.entry(changes.store).or_default().extend(ended);
            self.boundaries
                .entry(changes.store)
                .or_default()
                .extend(&changes.boundaries);
        }
        self.ended.retain(|_, ended| !ended.is_empty());
        self.boundaries.retain(|_, boundaries| !boundaries.is_empty());
    }

    /// Within a commit the order of ended versions has no meaning.
    fn normal(mut self) -> Self {
        self.ended.values_mut().for_each(|ended| ended.sort_unstable());
        self
    }
}

/// Decodes runs of frames cut after the lengths in `cuts`, completing them in an order that `order` decides, and takes
/// change sets whenever `takes` says so. Also restarts from a change set's positions once, at `restart`.
fn replayed(frames: &[Arc<Frame>], cuts: &[usize], order: &[usize], restart: Option<usize>) -> Flat {
    let mut flat = Flat::default();
    let mut start = Start::beginning();
    let mut rest: Vec<Arc<Frame>> = frames.to_vec();
    let mut restarts = restart;
    // At most one restart: two passes.
    for _ in 0..2 {
        let (jobs, known) = cut(&rest, cuts, &start);
        let queue = Queue::new(usize::MAX, usize::MAX);
        for job in jobs {
            assert!(queue.deal(1, job));
        }
        let mut taken = Vec::new();
        while taken.len() < known.len() {
            taken.push(queue.take().expect("a job"));
        }
        let mut replay = Replay::new();
        let mut released = Vec::new();
        let mut picks = order.iter().cycle();
        let mut sets = 0;
        let mut again = false;
        while !taken.is_empty() && !again {
            let pick = picks.next().map_or(0, |pick| pick % taken.len());
            let (ticket, (frames, schemas, events)) = taken.swap_remove(pick);
            let decoded = decode_run(&frames, &schemas, start.emit_from).expect("decoded");
            queue.put(ticket, (decoded, events, schemas));
            assert!(queue.release(Duration::ZERO, usize::MAX, &mut released));
            for (decoded, events, schemas) in released.drain(..) {
                let upto = decoded.upto;
                replay.add(decoded, events, &schemas).expect("added");
                let Some(mut set) = replay.take() else { continue };
                if upto <= start.emit_from {
                    continue;
                }
                set.from = Lsn::new(flat.upto);
                flat.add(&set);
                sets += 1;
                if restarts == Some(sets) {
                    restarts = None;
                    let schemas = known
                        .iter()
                        .find(|known| known.0 == set.upto)
                        .expect("a run's end")
                        .1
                        .clone();
                    start = Start {
                        read_from: set.restart,
                        emit_from: set.upto,
                        schemas,
                    };
                    again = true;
                    break;
                }
            }
        }
        if !again {
            break;
        }
        rest = frames
            .iter()
            .filter(|frame| frame.lsn() >= start.read_from)
            .cloned()
            .collect();
    }
    flat.normal()
}

type Job = (Vec<Arc<Frame>>, Arc<Schemas>, Vec<crate::changes::StoreEvent>);

/// The runs, and the schemas known at the end of each.
fn cut(frames: &[Arc<Frame>], cuts: &[usize], start: &Start) -> (Vec<Job>, Vec<(Lsn, Schemas)>) {
    let mut schemas = Arc::new(start.schemas.clone());
    let mut lengths = cuts.iter().cycle();
    let (mut jobs, mut known) = (Vec::new(), Vec::new());
    let mut frames = frames.iter().peekable();
    while let Some(first) = frames.next() {
        let mut run = Run::default();
        run.add(first.clone(), start.emit_from, &mut schemas)
            .expect("catalog");
        let mut length = lengths.next().copied().unwrap_or(1);
        // A run does not reach over the position where handing out begins, nor over a change of epoch.
        while length > 1
            && let Some(next) = frames.peek()
            && next.epoch() == first.epoch()
            && next.lsn() != start.emit_from
        {
            run.add((*next).clone(), start.emit_from, &mut schemas)
                .expect("catalog");
            frames.next();
            length -= 1;
        }
        let end = run.frames.last().expect("one at least").end();
        jobs.push((run.frames, schemas.clone(), run.events));
        let kept = Arc::make_mut(&mut schemas);
        run.dropped.iter().for_each(|store| {
            kept.remove(store);
        });
        known.push((end, kept.clone()));
    }
    (jobs, known)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn neither_cutting_nor_order_nor_restarts_nor_threads_change_the_output(
        steps in prop::collection::vec(step(), 1..20),
        cuts in prop::collection::vec(1usize..6, 1..8),
        order in prop::collection::vec(any::<usize>(), 1..16),
        restart in 1usize..12,
        extractors in 1usize..5,
        queue_bytes in prop_oneof![Just(1usize), Just(1 << 16), Just(64 << 20)],
    ) {
        let mut primary = Primary::new();
        for step in &steps {
            primary.run(step);
        }
        let frames = primary.frames();
        let plain = replayed(&frames, &[1], &[0], None);
        prop_assert_eq!(&replayed(&frames, &cuts, &order, None), &plain);
        prop_assert_eq!(&replayed(&frames, &cuts, &order, Some(restart)), &plain);

        let options = StreamOptions { extractors, queue_bytes, pace: Duration::ZERO, ..StreamOptions::default() };
        let log = primary.engine.log().clone();
        let mut stream = Stream::start(&log, Start::beginning(), &options).expect("started");
        let mut flat = Flat::default();
        while flat.upto < plain.upto {
            if let Some(set) = stream.next(Duration::from_secs(10)).expect("decoded") {
                flat.add(&set);
            }
        }
        // An idle log adds a watermark frame of its own, without a record.
        flat.upto = plain.upto;
        prop_assert_eq!(&flat.normal(), &plain);
    }

    #[test]
    fn what_has_not_ended_is_what_the_engine_reads(steps in prop::collection::vec(step(), 1..20)) {
        let mut primary = Primary::new();
        for step in &steps {
            primary.run(step);
        }
        let flat = replayed(&primary.frames(), &[3], &[0], None);
        let mut txn = primary.begin();
        let catalog = txn.catalog().clone();
        for table in catalog.tables() {
            let store = table.def.store;
            let schema = crate::schema::StoreSchema::new(table.def.columns.clone());
            let mut expected = BTreeMap::new();
            txn.scan(table, &KeyRange::all(), &mut |_, version| {
                let mut builder = crate::rows::RowBatchBuilder::new(&schema);
                builder.push(&version.row).expect("fits");
                let batch = builder.finish().expect("columns");
                let ordinal = version.ordinal.expect("committed").get();
                expected.insert(ordinal, shown(&batch));
                ControlFlow::Continue(())
            }).expect("scanned");
            let ended = flat.ended.get(&store).map_or(&[][..], |ended| &ended[..]);
            let mut found: BTreeMap<u64, String> = flat
                .rows
                .range((store, 0)..=(store, u64::MAX))
                .map(|((_, ordinal), row)| (*ordinal, row.clone()))
                .collect();
            for (_, ordinal) in ended {
                prop_assert!(found.remove(ordinal).is_some(), "{ordinal} of {store} ended twice or never begun");
            }
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_full_queue_holds_the_extractors_back_and_not_the_log() {
    let mut primary = Primary::new();
    let options = StreamOptions {
        extractors: 2,
        queue_bytes: 1,
        pace: Duration::ZERO,
        ..StreamOptions::default()
    };
    let log = primary.engine.log().clone();
    let mut stream = Stream::start(&log, Start::beginning(), &options).expect("started");
    // Nobody takes anything from the stream, and the engine commits all the same.
    let work = |table| Step::Work {
        table,
        inserts: 5,
        updates: 2,
        deletes: 1,
        kib: 0,
        end: End::Commit,
    };
    for round in 0..50 {
        primary.run(&work(round % 3));
    }
    let plain = replayed(&primary.frames(), &[1], &[0], None);
    let mut flat = Flat::default();
    while flat.upto < plain.upto {
        if let Some(set) = stream.next(Duration::from_secs(10)).expect("decoded") {
            flat.add(&set);
        }
    }
    flat.upto = plain.upto;
    assert_eq!(flat.normal(), plain);
}

#[test]
fn dropping_a_stream_ends_its_threads_whatever_they_wait_for() {
    let mut primary = Primary::new();
    for queue_bytes in [1, 1 << 20] {
        let options = StreamOptions {
            extractors: 3,
            queue_bytes,
            pace: Duration::ZERO,
            ..StreamOptions::default()
        };
        let stream = Stream::start(primary.engine.log(), Start::beginning(), &options).expect("started");
        primary.run(&Step::Define {
            table: 0,
            how: 3,
            inserts: 10,
            kib: 0,
        });
        primary.settle();
        // Joins the dealer and the extractors; that it comes back is the test.
        drop(stream);
    }
}

#[test]
fn a_panic_of_an_extractor_ends_the_stream_with_an_error() {
    let mut primary = Primary::new();
    let work = Step::Work {
        table: 0,
        inserts: 5,
        updates: 0,
        deletes: 0,
        kib: 0,
        end: End::Commit,
    };
    primary.run(&work);
    primary.settle();
    let created = primary.engine.log().durable_lsn();
    primary.run(&work);
    let catalog = primary.engine.catalog();
    let table = catalog.table(&Primary::name(0)).expect("created");
    // Columns that contradict each other: building them panics.
    let number = ColumnDef {
        not_null: true,
        ..ColumnDef::new("id", DataType::Numeric(None))
    };
    let text = crate::schema::StoreSchema::new(table.def.columns[1..].to_vec());
    let broken = crate::schema::StoreSchema {
        columns: vec![number],
        ..text
    };
    let start = Start {
        read_from: created,
        emit_from: created,
        schemas: Schemas::from([(table.def.store, Arc::new(broken))]),
    };
    let log = primary.engine.log().clone();
    let mut stream = Stream::start(&log, start, &StreamOptions::default()).expect("started");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let told = loop {
        match stream.next(Duration::from_secs(1)) {
            Ok(_) => assert!(std::time::Instant::now() < deadline, "the stream hangs"),
            Err(error) => break error,
        }
    };
    assert!(matches!(told, crate::Error::Panicked { .. }), "{told}");
}
