//! From frames to columns: the pure function that extractors run.
//!
//! A run of consecutive frames becomes one [`Decoded`]: per store the committed rows as Arrow columns at their
//! ordinals, boundaries and ended ordinals; and, apart from them, tentative rows with the commits that adopt them.
//! Nothing outside of the run is looked at, so runs can be decoded in any order and by anybody.
//!
//! A commit that adopts tentative rows leaves a hole in its stores' ordinals here, because the tentative rows may stand
//! in an earlier run; `replay` fills it.
//!
//! The frames of a run are of one epoch. Invariants: a transaction's plain records and its commit stand in one frame; every row has the ordinal that its
//! commit record says.

use arrow::record_batch::RecordBatch;
use scry_engine::election::branch_columns;
use scry_engine::{CatalogChange, ElectionChange};
use scry_wal::{Change, Commit, Ended, Frame, Lsn, Op, Ordinal, Record, StoreId, StoreRange, TentativeId};
use std::collections::HashMap;
use std::sync::Arc;

use crate::changes::{Adopted, CommitInfo, RowRun, StoreChanges, StoreEvent, StoreEventKind};
use crate::error::Error;
use crate::rows::RowBatchBuilder;
use crate::schema::StoreSchema;

/// The stores that frames of a run may name.
pub type Schemas = HashMap<StoreId, Arc<StoreSchema>>;

/// What one run of frames holds.
#[derive(Debug)]
pub struct Decoded {
    pub(crate) from: Lsn,
    pub(crate) upto: Lsn,
    pub(crate) epoch: u64,
    pub(crate) commits: Vec<CommitInfo>,
    pub(crate) stores: Vec<StoreChanges>,
    pub(crate) tentative: Vec<TentativePart>,
    pub(crate) adoptions: Vec<Adoption>,
    pub(crate) drops: Vec<TentativeId>,
}

/// Changes of one store that a tentative transaction logged in one run.
#[derive(Debug)]
pub(crate) struct TentativePart {
    pub id: TentativeId,
    pub store: StoreId,
    /// The frame of the first change: where reading must begin to see it again.
    pub frame: Lsn,
    pub rows: TentativeRows,
    pub ended: Vec<TentativeEnded>,
}

/// What a tentative change ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TentativeEnded {
    Committed(Ordinal),
    Own(u32),
}

/// Tentative rows: as columns, or raw when what makes their columns known, the store's creation or their addition, is itself
/// not committed yet.
#[derive(Debug)]
pub(crate) enum TentativeRows {
    Columns(RecordBatch),
    Raw(RawRows),
}

impl TentativeRows {
    pub fn rows(&self) -> u64 {
        match self {
            Self::Columns(batch) => batch.num_rows() as u64,
            Self::Raw(raw) => raw.ends.len() as u64,
        }
    }
}

/// Rows in the engine's format, end to end.
#[derive(Debug, Default)]
pub(crate) struct RawRows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl RawRows {
    fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    /// As columns, now that they are known.
    pub fn columns(&self, schema: &StoreSchema, lsn: Lsn, store: StoreId) -> Result<RecordBatch, Error> {
        let mut builder = RowBatchBuilder::new(schema);
        let mut start = 0;
        for &end in &self.ends {
            push(&mut builder, &self.bytes[start..end], lsn, store)?;
            start = end;
        }
        builder
            .finish()
            .map_err(|source| Error::Arrow { lsn, store, source })
    }
}

/// A commit that takes over the rows logged under a tentative id.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub lsn: Lsn,
    pub id: TentativeId,
    pub ranges: Vec<AdoptedRange>,
}

/// Where the tentative rows of one store come to stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdoptedRange {
    pub store: StoreId,
    /// First ordinal of the commit.
    pub first: Ordinal,
    /// Rows of the commit before them.
    pub before: u64,
    pub rows: u64,
}

/// The catalog changes of a frame with the commits that they belong to.
pub(crate) fn catalog_changes(frame: &Frame) -> Result<Vec<(Lsn, CatalogChange)>, Error> {
    let mut found = Vec::new();
    let mut pending = Vec::new();
    for record in frame.records() {
        let (lsn, record) = record.map_err(|source| Error::Record {
            lsn: frame.lsn(),
            source,
        })?;
        match record {
            Record::Catalog(bytes) => {
                pending.push(CatalogChange::decode(bytes).map_err(|source| Error::Catalog { lsn, source })?);
            }
            Record::Commit(_) => found.extend(pending.drain(..).map(|change| (lsn, change))),
            Record::Change(_) | Record::Tentative { .. } | Record::TentativeDrop(_) | Record::Sequence(_) => {
            }
        }
    }
    Ok(found)
}

/// Adds the stores that a catalog change creates to `schemas` and says what came and went. Stores that go stay in
/// `schemas`: the caller takes them out behind the run.
pub(crate) fn store_events(
    lsn: Lsn,
    change: CatalogChange,
    schemas: &mut Schemas,
) -> Result<Vec<StoreEvent>, Error> {
    let created = |store, schema| StoreEvent {
        at: lsn,
        store,
        kind: StoreEventKind::Created(schema),
    };
    let dropped = |store| StoreEvent {
        at: lsn,
        store,
        kind: StoreEventKind::Dropped,
    };
    Ok(match change {
        CatalogChange::CreateTable(table) => {
            let schema = Arc::new(StoreSchema::new(table.columns));
            schemas.insert(table.store, schema.clone());
            vec![created(table.store, schema)]
        }
        CatalogChange::Truncate { old, new, .. } => {
            let known = schemas.get(&old).ok_or(Error::UnknownStore { lsn, store: old })?;
            let schema = Arc::new(known.emptied());
            schemas.insert(new, schema.clone());
            vec![dropped(old), created(new, schema)]
        }
        CatalogChange::DropTable { store, .. } => {
            if !schemas.contains_key(&store) {
                return Err(Error::UnknownStore { lsn, store });
            }
            vec![dropped(store)]
        }
        CatalogChange::Election(ElectionChange::CreateBranch {
            base,
            store,
            mirrored,
            mut columns,
            ..
        }) => {
            // Once elected, its rows are its table's, and so are its files: columns have one name in both.
            let of_table = columns.len() - branch_columns(&[]).len().min(columns.len());
            let named = schemas.get(&base).map_or(&[][..], |base| &base.columns);
            for (column, named) in columns.iter_mut().zip(named).take(of_table) {
                column.name.clone_from(&named.name);
            }
            let mut schema = StoreSchema::new(columns);
            schema.mirrored = mirrored;
            let schema = Arc::new(schema);
            schemas.insert(store, schema.clone());
            vec![created(store, schema)]
        }
        CatalogChange::Election(
            ElectionChange::EndCandidate { branches, .. } | ElectionChange::Discard { branches, .. },
        ) => {
            if let Some(&store) = branches.iter().find(|store| !schemas.contains_key(store)) {
                return Err(Error::UnknownStore { lsn, store });
            }
            branches.into_iter().map(dropped).collect()
        }
        // Names and constraints are those of the catalog at a reader's snapshot; the data is the same, but for new columns.
        CatalogChange::Redefine(table) => {
            let store = table.store;
            let known = schemas.get(&store).ok_or(Error::UnknownStore { lsn, store })?;
            let Some(widened) = known.widened(&table.columns) else {
                return Ok(Vec::new());
            };
            let schema = Arc::new(widened);
            schemas.insert(store, schema.clone());
            vec![StoreEvent {
                at: lsn,
                store,
                kind: StoreEventKind::Widened(schema),
            }]
        }
        CatalogChange::AddPrimaryKey { .. }
        | CatalogChange::SetRules { .. }
        | CatalogChange::CreateSequence(_)
        | CatalogChange::RedefineSequence(_)
        | CatalogChange::DropSequence { .. }
        | CatalogChange::Election(_) => Vec::new(),
    })
}

/// Decodes consecutive frames. What was committed before `emit_from` is left out; tentative changes are not, since a
/// later commit may adopt them. It may lie within a frame: behind a commit record another transaction begins.
///
/// # Errors
/// When a record is malformed, names an unknown store, or does not fit its commit.
pub fn decode_run(frames: &[Arc<Frame>], schemas: &Schemas, emit_from: Lsn) -> Result<Decoded, Error> {
    let mut decoder = Decoder::new(schemas);
    for frame in frames {
        decoder.frame(frame, emit_from)?;
    }
    let from = frames.first().map_or(Lsn::ZERO, |frame| frame.lsn());
    let upto = frames.last().map_or(Lsn::ZERO, |frame| frame.end());
    let epoch = frames.last().map_or(0, |frame| frame.epoch());
    decoder.finish(from, upto, epoch)
}

struct Decoder<'s> {
    schemas: &'s Schemas,
    commits: Vec<CommitInfo>,
    stores: Vec<StoreDecoder>,
    by_store: HashMap<StoreId, usize>,
    last: Option<(StoreId, usize)>,
    touched: Vec<usize>,
    tentative: Vec<TentativeDecoder>,
    adoptions: Vec<Adoption>,
    drops: Vec<TentativeId>,
    /// Branches that the transaction being read adopts: base and what is known before its commit record.
    branches: Vec<(StoreId, Adopted)>,
}

/// Committed rows of one store.
struct StoreDecoder {
    store: StoreId,
    builder: RowBatchBuilder,
    /// (index of a row, its ordinal) wherever ordinals do not continue.
    cuts: Vec<(usize, u64)>,
    /// Ordinal after that of the last committed row.
    next: Option<u64>,
    adopted: Vec<Adopted>,
    boundaries: Vec<(Lsn, u64)>,
    ended: Vec<(Lsn, Ordinal)>,
    /// What the transaction being read has added so far.
    open: OpenTransaction,
}

#[derive(Default)]
struct OpenTransaction {
    touched: bool,
    rows: usize,
    ended: usize,
    /// (index in `ended`, local index of the version that it stands for).
    own: Vec<(usize, u32)>,
}

struct TentativeDecoder {
    id: TentativeId,
    store: StoreId,
    frame: Lsn,
    rows: TentativeBuilder,
    ended: Vec<TentativeEnded>,
}

enum TentativeBuilder {
    Columns(RowBatchBuilder),
    Raw(RawRows),
}

impl<'s> Decoder<'s> {
    fn new(schemas: &'s Schemas) -> Self {
        Self {
            schemas,
            commits: Vec::new(),
            stores: Vec::new(),
            by_store: HashMap::new(),
            last: None,
            touched: Vec::new(),
            tentative: Vec::new(),
            adoptions: Vec::new(),
            drops: Vec::new(),
            branches: Vec::new(),
        }
    }

    fn frame(&mut self, frame: &Frame, emit_from: Lsn) -> Result<(), Error> {
        for record in frame.records() {
            let (lsn, record) = record.map_err(|source| Error::Record {
                lsn: frame.lsn(),
                source,
            })?;
            let emit = lsn >= emit_from;
            match record {
                Record::Change(change) if emit => self.change(lsn, &change)?,
                Record::Commit(commit) => self.commit(lsn, &commit, emit)?,
                Record::Tentative { id, change } => self.tentative(lsn, frame.lsn(), id, &change)?,
                Record::TentativeDrop(id) => self.drops.push(id),
                Record::Catalog(bytes) if emit => self.catalog(lsn, bytes)?,
                Record::Change(_) | Record::Catalog(_) | Record::Sequence(_) => {}
            }
        }
        match self.touched.first() {
            None => Ok(()),
            Some(&index) => Err(Error::Broken {
                lsn: frame.lsn(),
                store: Some(self.stores[index].store),
                what: "changes without a commit in their frame",
                expected: 0,
                found: self.touched.len() as u64,
            }),
        }
    }

    fn catalog(&mut self, lsn: Lsn, bytes: &[u8]) -> Result<(), Error> {
        let change = CatalogChange::decode(bytes).map_err(|source| Error::Catalog { lsn, source })?;
        if let CatalogChange::Election(ElectionChange::Adopt {
            branch,
            base,
            count,
            skipped,
            ..
        }) = change
        {
            let adopted = Adopted {
                at: lsn,
                first: Ordinal::default(),
                branch,
                count,
                skipped,
            };
            self.branches.push((base, adopted));
        }
        Ok(())
    }

    /// Whether changes of a store are handed out.
    fn is_mirrored(&self, store: StoreId) -> bool {
        self.schemas.get(&store).is_none_or(|schema| schema.mirrored)
    }

    fn store(&mut self, lsn: Lsn, store: StoreId) -> Result<usize, Error> {
        if let Some((last, index)) = self.last
            && last == store
        {
            return Ok(index);
        }
        let index = match self.by_store.get(&store) {
            Some(&index) => index,
            None => {
                let schema = self
                    .schemas
                    .get(&store)
                    .ok_or(Error::UnknownStore { lsn, store })?;
                self.stores.push(StoreDecoder::new(store, schema));
                self.by_store.insert(store, self.stores.len() - 1);
                self.stores.len() - 1
            }
        };
        self.last = Some((store, index));
        Ok(index)
    }

    fn change(&mut self, lsn: Lsn, change: &Change<'_>) -> Result<(), Error> {
        if !self.is_mirrored(change.store) {
            return Ok(());
        }
        let index = self.store(lsn, change.store)?;
        let decoder = &mut self.stores[index];
        if !decoder.open.touched {
            decoder.open = OpenTransaction {
                touched: true,
                rows: decoder.builder.rows(),
                ended: decoder.ended.len(),
                own: Vec::new(),
            };
            self.touched.push(index);
        }
        match change.ended {
            Ended::None => {}
            Ended::Ordinal(ordinal) => decoder.ended.push((lsn, ordinal)),
            Ended::Own(local) => {
                decoder.open.own.push((decoder.ended.len(), local));
                decoder.ended.push((lsn, Ordinal::new(0)));
            }
        }
        match change.op {
            Op::Insert | Op::Update => push(&mut decoder.builder, change.after, lsn, change.store),
            Op::Delete => Ok(()),
        }
    }

    fn tentative(&mut self, lsn: Lsn, frame: Lsn, id: TentativeId, change: &Change<'_>) -> Result<(), Error> {
        if !self.is_mirrored(change.store) {
            return Ok(());
        }
        // A row of a transaction that has added columns itself: they are not known before its commit.
        let schema = self.schemas.get(&change.store);
        let schema = schema.filter(|schema| !schema.layout.is_wider(change.after));
        let same = |part: &TentativeDecoder| {
            let fits = schema.is_some() || matches!(part.rows, TentativeBuilder::Raw(_));
            part.id == id && part.store == change.store && fits
        };
        // A bulk load logs long stretches of one store: the last part is nearly always the right one.
        let index = match self.tentative.iter().rposition(same) {
            Some(index) => index,
            None => {
                let rows = match schema {
                    Some(schema) => TentativeBuilder::Columns(RowBatchBuilder::new(schema)),
                    None => TentativeBuilder::Raw(RawRows::default()),
                };
                self.tentative.push(TentativeDecoder {
                    id,
                    store: change.store,
                    frame,
                    rows,
                    ended: Vec::new(),
                });
                self.tentative.len() - 1
            }
        };
        let part = &mut self.tentative[index];
        match change.ended {
            Ended::None => {}
            Ended::Ordinal(ordinal) => part.ended.push(TentativeEnded::Committed(ordinal)),
            Ended::Own(local) => part.ended.push(TentativeEnded::Own(local)),
        }
        if matches!(change.op, Op::Delete) {
            return Ok(());
        }
        match &mut part.rows {
            TentativeBuilder::Columns(builder) => push(builder, change.after, lsn, change.store),
            TentativeBuilder::Raw(raw) => {
                raw.push(change.after);
                Ok(())
            }
        }
    }

    fn commit(&mut self, lsn: Lsn, commit: &Commit<'_>, emit: bool) -> Result<(), Error> {
        if !emit {
            self.drops.extend(commit.adopts);
            return Ok(());
        }
        self.commits.push(CommitInfo {
            lsn,
            time: commit.time,
        });
        let mut ranges = Vec::new();
        for StoreRange { store, first, count } in commit.stores.iter() {
            if !self.is_mirrored(store) {
                continue;
            }
            let branch = self.branches.iter().position(|(base, _)| *base == store);
            let branch = branch.map(|index| self.branches.swap_remove(index).1);
            let index = self.store(lsn, store)?;
            let tentative =
                self.stores[index].commit(lsn, first.get(), count, branch, commit.adopts.is_some())?;
            ranges.extend(tentative);
        }
        if let Some((base, adopted)) = self.branches.pop() {
            return Err(Error::Broken {
                lsn,
                store: Some(base),
                what: "adoption into a store that the commit does not name",
                expected: 0,
                found: adopted.count,
            });
        }
        for index in self.touched.drain(..) {
            self.stores[index].close(lsn)?;
        }
        match commit.adopts {
            Some(id) if !ranges.is_empty() => self.adoptions.push(Adoption { lsn, id, ranges }),
            // Nothing of it is handed out.
            Some(id) => self.drops.push(id),
            None => {}
        }
        Ok(())
    }

    fn finish(self, from: Lsn, upto: Lsn, epoch: u64) -> Result<Decoded, Error> {
        let mut stores = Vec::with_capacity(self.stores.len());
        for decoder in self.stores {
            stores.push(decoder.finish(from)?);
        }
        let mut tentative = Vec::with_capacity(self.tentative.len());
        for part in self.tentative {
            let TentativeDecoder {
                id,
                store,
                frame,
                rows,
                ended,
            } = part;
            let rows = match rows {
                TentativeBuilder::Columns(mut builder) => {
                    TentativeRows::Columns(builder.finish().map_err(|source| Error::Arrow {
                        lsn: frame,
                        store,
                        source,
                    })?)
                }
                TentativeBuilder::Raw(raw) => TentativeRows::Raw(raw),
            };
            tentative.push(TentativePart {
                id,
                store,
                frame,
                rows,
                ended,
            });
        }
        let (commits, adoptions, drops) = (self.commits, self.adoptions, self.drops);
        Ok(Decoded {
            from,
            upto,
            epoch,
            commits,
            stores,
            tentative,
            adoptions,
            drops,
        })
    }
}

impl StoreDecoder {
    fn new(store: StoreId, schema: &StoreSchema) -> Self {
        Self {
            store,
            builder: RowBatchBuilder::new(schema),
            cuts: Vec::new(),
            next: None,
            adopted: Vec::new(),
            boundaries: Vec::new(),
            ended: Vec::new(),
            open: OpenTransaction::default(),
        }
    }

    /// Gives the rows of the transaction their ordinals. They come behind those of the branch that it adopts, and of its
    /// tentative records when it `adopts` such: where these come to stand is answered.
    fn commit(
        &mut self,
        lsn: Lsn,
        first: u64,
        count: u64,
        branch: Option<Adopted>,
        adopts: bool,
    ) -> Result<Option<AdoptedRange>, Error> {
        let plain = if self.open.touched {
            self.builder.rows() - self.open.rows
        } else {
            0
        } as u64;
        let of_branch = branch.as_ref().map_or(0, |branch| branch.count);
        let tentative = count
            .checked_sub(plain)
            .and_then(|count| count.checked_sub(of_branch))
            .filter(|tentative| adopts || *tentative == 0);
        let Some(tentative) = tentative.filter(|_| first.checked_add(count).is_some()) else {
            return Err(self.broken(lsn, "rows of the commit", count, plain.saturating_add(of_branch)));
        };
        if let Some(mut branch) = branch {
            (branch.at, branch.first) = (lsn, Ordinal::new(first));
            self.adopted.push(branch);
        }
        if plain > 0 {
            let ordinal = first + of_branch + tentative;
            if self.next != Some(ordinal) {
                self.cuts.push((self.open.rows, ordinal));
            }
            self.next = Some(ordinal + plain);
        }
        if count > 0 {
            self.boundaries.push((lsn, first + count));
        }
        for (index, local) in self.open.own.drain(..) {
            if u64::from(local) >= count {
                return Err(Error::Broken {
                    lsn,
                    store: Some(self.store),
                    what: "local index of an ended version",
                    expected: count,
                    found: u64::from(local),
                });
            }
            self.ended[index].1 = Ordinal::new(first + u64::from(local));
        }
        // What is left for `close` to find is what no range of the commit covers.
        if self.open.touched {
            self.open.rows = self.builder.rows();
        }
        Ok(adopts.then_some(AdoptedRange {
            store: self.store,
            first: Ordinal::new(first),
            before: of_branch,
            rows: tentative,
        }))
    }

    /// Ends the transaction: its ended versions get the commit's LSN.
    fn close(&mut self, lsn: Lsn) -> Result<(), Error> {
        let uncovered = (self.builder.rows() - self.open.rows + self.open.own.len()) as u64;
        if uncovered != 0 {
            return Err(self.broken(lsn, "rows without ordinals", 0, uncovered));
        }
        for ended in &mut self.ended[self.open.ended..] {
            ended.0 = lsn;
        }
        self.open.touched = false;
        Ok(())
    }

    fn finish(mut self, lsn: Lsn) -> Result<StoreChanges, Error> {
        let store = self.store;
        let mut runs = Vec::with_capacity(self.cuts.len());
        if self.builder.rows() > 0 {
            let batch = self
                .builder
                .finish()
                .map_err(|source| Error::Arrow { lsn, store, source })?;
            for (index, &(start, first)) in self.cuts.iter().enumerate() {
                let end = self.cuts.get(index + 1).map_or(batch.num_rows(), |cut| cut.0);
                let first = Ordinal::new(first);
                runs.push(RowRun {
                    first,
                    rows: batch.slice(start, end - start),
                });
            }
        }
        Ok(StoreChanges {
            store,
            runs,
            adopted: self.adopted,
            boundaries: self.boundaries,
            ended: self.ended,
        })
    }

    fn broken(&self, lsn: Lsn, what: &'static str, expected: u64, found: u64) -> Error {
        Error::Broken {
            lsn,
            store: Some(self.store),
            what,
            expected,
            found,
        }
    }
}

fn push(builder: &mut RowBatchBuilder, row: &[u8], lsn: Lsn, store: StoreId) -> Result<(), Error> {
    builder.push_checked(row).map_err(|mismatch| Error::Row {
        lsn,
        store,
        column: mismatch.column,
        reason: mismatch.reason,
    })
}
