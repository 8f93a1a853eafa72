//! A primary that exists only as a list of versions, and the change sets that it would have logged.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use scry_engine::{ColumnDef, DataType, Value};
use scry_stream::{
    ChangeSet, CommitInfo, RowBatchBuilder, RowRun, StoreChanges, StoreEvent, StoreEventKind, StoreSchema,
};
use scry_wal::{Lsn, Micros, Ordinal, StoreId};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::snapshot::TableSnapshot;
use roaring::RoaringTreemap;

/// Bytes of log that a commit takes.
pub const COMMIT_BYTES: u64 = 10;

/// A row version: what a snapshot from `begun` to before `ended` sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    pub begun: Lsn,
    pub ended: Lsn,
    pub key: i64,
    pub text: Option<String>,
}

/// A store as the primary knows it: a version's index is its ordinal.
#[derive(Debug, Clone)]
pub struct ModelStore {
    pub created: Lsn,
    pub dropped: Lsn,
    pub versions: Vec<Version>,
}

/// Rows as a snapshot sees them, by ordinal.
pub type Rows = BTreeMap<u64, (i64, Option<String>)>;

/// What a commit does to one store.
#[derive(Debug, Clone, Default)]
pub struct Work {
    pub inserts: usize,
    /// Which of the living rows to update and to delete, counted modulo their number.
    pub updates: Vec<usize>,
    pub deletes: Vec<usize>,
}

/// The primary.
#[derive(Debug)]
pub struct Primary {
    pub stores: BTreeMap<StoreId, ModelStore>,
    pub schema: Arc<StoreSchema>,
    /// End of the log.
    pub end: Lsn,
    /// End of the last change set taken.
    taken: Lsn,
    pending: ChangeSet,
    next_store: u32,
}

impl Primary {
    pub fn new() -> Self {
        let column = |name: &str, ty, not_null| ColumnDef {
            not_null,
            ..ColumnDef::new(name, ty)
        };
        let columns = vec![
            column("key", DataType::Int8, true),
            column("text", DataType::Varchar(Some(20)), false),
        ];
        let mut primary = Self {
            stores: BTreeMap::new(),
            schema: Arc::new(StoreSchema::new(columns)),
            end: Lsn::ZERO,
            taken: Lsn::ZERO,
            pending: empty_set(Lsn::ZERO),
            next_store: 1,
        };
        primary.end = Lsn::new(COMMIT_BYTES);
        primary
    }

    fn begin(&mut self) -> Lsn {
        let lsn = self.end;
        self.end = lsn.plus(COMMIT_BYTES);
        self.pending.commits.push(CommitInfo {
            lsn,
            time: Micros::new(0),
        });
        lsn
    }

    pub fn create(&mut self) -> StoreId {
        let at = self.begin();
        let store = StoreId::new(self.next_store);
        self.next_store += 1;
        self.stores.insert(
            store,
            ModelStore {
                created: at,
                dropped: Lsn::MAX,
                versions: Vec::new(),
            },
        );
        self.pending.events.push(StoreEvent {
            at,
            store,
            kind: StoreEventKind::Created(self.schema.clone()),
        });
        store
    }

    pub fn drop_store(&mut self, store: StoreId) {
        let at = self.begin();
        self.stores.get_mut(&store).expect("known").dropped = at;
        self.pending.events.push(StoreEvent {
            at,
            store,
            kind: StoreEventKind::Dropped,
        });
    }

    pub fn living(&self) -> Vec<StoreId> {
        self.stores
            .iter()
            .filter(|(_, store)| store.dropped == Lsn::MAX)
            .map(|(&id, _)| id)
            .collect()
    }

    /// Commits one transaction. Returns its LSN.
    pub fn commit(&mut self, work: &[(StoreId, Work)]) -> Lsn {
        let lsn = self.begin();
        for (id, work) in work {
            let store = self.stores.get_mut(id).expect("known");
            let first = store.versions.len();
            let mut alive: Vec<usize> = (0..first)
                .filter(|&index| store.versions[index].ended == Lsn::MAX)
                .collect();
            let mut ended = Vec::new();
            let mut inserts = work.inserts;
            for (choices, is_update) in [(&work.updates, true), (&work.deletes, false)] {
                for choice in choices {
                    if alive.is_empty() {
                        break;
                    }
                    let index = alive.swap_remove(choice % alive.len());
                    store.versions[index].ended = lsn;
                    ended.push((lsn, Ordinal::new(index as u64)));
                    inserts += usize::from(is_update);
                }
            }
            let mut builder = RowBatchBuilder::new(&self.schema);
            for index in first..first + inserts {
                let key = (lsn.get() * 1000) as i64 + index as i64;
                let text = (index % 5 != 0).then(|| format!("row {index}"));
                let values = [Value::Int8(key), text.clone().map_or(Value::Null, Value::Text)];
                let row = self.schema.layout.encode(&values).expect("fits");
                builder.push_checked(&row).expect("fits");
                store.versions.push(Version {
                    begun: lsn,
                    ended: Lsn::MAX,
                    key,
                    text,
                });
            }
            let position = self
                .pending
                .stores
                .iter()
                .position(|changes| changes.store == *id);
            let position = position.unwrap_or_else(|| {
                self.pending.stores.push(StoreChanges {
                    store: *id,
                    runs: Vec::new(),
                    adopted: Vec::new(),
                    boundaries: Vec::new(),
                    ended: Vec::new(),
                });
                self.pending.stores.len() - 1
            });
            let changes = &mut self.pending.stores[position];
            if inserts > 0 {
                let rows = builder.finish().expect("columns");
                changes.runs.push(RowRun {
                    first: Ordinal::new(first as u64),
                    rows,
                });
                changes.boundaries.push((lsn, (first + inserts) as u64));
            }
            changes.ended.extend(ended);
        }
        lsn
    }

    /// What has been committed since the last call.
    pub fn take(&mut self) -> ChangeSet {
        let mut set = std::mem::replace(&mut self.pending, empty_set(self.end));
        set.from = self.taken;
        set.upto = self.end;
        set.restart = self.end;
        self.taken = self.end;
        set
    }

    /// What a snapshot must read; `None` when the store does not exist in it.
    pub fn rows_at(&self, store: StoreId, at: Lsn) -> Option<Rows> {
        let store = self.stores.get(&store)?;
        if !(store.created <= at && at < store.dropped) {
            return None;
        }
        let visible = |version: &&Version| version.begun <= at && at < version.ended;
        let numbered = store.versions.iter().enumerate();
        let rows = numbered.filter(|(_, version)| visible(version));
        Some(
            rows.map(|(index, version)| (index as u64, (version.key, version.text.clone())))
                .collect(),
        )
    }
}

fn empty_set(at: Lsn) -> ChangeSet {
    ChangeSet {
        from: at,
        upto: at,
        restart: at,
        commits: Vec::new(),
        events: Vec::new(),
        stores: Vec::new(),
    }
}

/// Everything that a table snapshot reads, by every way there is of reading it.
pub fn read(table: &TableSnapshot, hidden: Option<&RoaringTreemap>) -> Rows {
    let mut rows = Rows::new();
    let mut live = 0;
    for unit in table.units() {
        assert!(unit.rows() > 0, "no unit is empty");
        live += unit.rows();
        let (ordinals, batch) = unit.read_with_ordinals(&[0, 1], hidden).expect("readable");
        assert_eq!(batch, unit.read(&[0, 1], hidden).expect("readable"));
        let reversed = unit.read(&[1, 0], hidden).expect("readable");
        assert_eq!(reversed.column(1), batch.column(0));
        assert_eq!(
            unit.read(&[], hidden).expect("readable").num_rows(),
            batch.num_rows()
        );
        if hidden.is_none() {
            assert_eq!(batch.num_rows() as u64, unit.rows());
        }
        let keys = batch.column(0).as_primitive::<Int64Type>();
        let texts = batch.column(1).as_string::<i32>();
        let statistics = unit.statistics(0).expect("known for integers");
        let bound = |array: Option<arrow::array::ArrayRef>| {
            array.expect("known").as_primitive::<Int64Type>().value(0)
        };
        let (min, max) = (bound(statistics.min), bound(statistics.max));
        for (index, &ordinal) in ordinals.values().iter().enumerate() {
            let key = keys.value(index);
            assert!((min..=max).contains(&key), "{key} within {min}..={max}");
            let text = (!arrow::array::Array::is_null(texts, index)).then(|| texts.value(index).to_owned());
            let before = rows.insert(ordinal, (key, text));
            assert!(before.is_none(), "ordinal {ordinal} is read once");
        }
    }
    assert_eq!(live, table.live_rows());
    rows
}
