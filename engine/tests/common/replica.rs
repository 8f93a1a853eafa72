//! A copy of every store made from the log alone, the way a columnar mirror does it: ordinal = position. It checks
//! what readers of the log rely on.

use scry_engine::{CatalogChange, ColumnDef, Datum, ElectionChange, RowLayout};
use scry_wal::{Change, Ended, Log, Lsn, Op, Ordinal, Record, StoreId, TentativeId};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

#[derive(Default)]
pub struct Replica {
    pub stores: BTreeMap<StoreId, Vec<Option<Vec<u8>>>>,
    pub commits: Vec<Lsn>,
    layouts: HashMap<StoreId, RowLayout>,
    tentative: HashMap<TentativeId, Vec<Owned>>,
}

struct Owned {
    store: StoreId,
    op: Op,
    ended: Ended,
    after: Vec<u8>,
}

impl Owned {
    fn of(change: &Change<'_>) -> Owned {
        Owned {
            store: change.store,
            op: change.op,
            ended: change.ended,
            after: change.after.to_vec(),
        }
    }
}

impl Replica {
    /// Reads the log up to its durable end.
    pub fn read(log: &Log) -> Replica {
        let mut replica = Replica::default();
        let mut tail = log.tail(Lsn::ZERO);
        while tail.position() < log.durable_lsn() {
            let Some(frame) = tail.next(Duration::from_secs(10)).unwrap() else {
                break;
            };
            let (mut changes, mut catalog) = (Vec::new(), Vec::new());
            for record in frame.records() {
                let (lsn, record) = record.unwrap();
                match record {
                    Record::Change(change) => changes.push(Owned::of(&change)),
                    Record::Catalog(bytes) => {
                        assert!(frame.has_catalog());
                        catalog.push(CatalogChange::decode(bytes).unwrap());
                    }
                    Record::Tentative { id, change } => {
                        replica.tentative.entry(id).or_default().push(Owned::of(&change));
                    }
                    Record::TentativeDrop(id) => drop(replica.tentative.remove(&id)),
                    Record::Sequence(_) => {}
                    Record::Commit(commit) => {
                        let mut all = match commit.adopts {
                            Some(id) => replica.tentative.remove(&id).expect("adopted once"),
                            None => Vec::new(),
                        };
                        all.append(&mut changes);
                        let ranges = commit
                            .stores
                            .iter()
                            .map(|range| (range.store, (range.first.get(), range.count)));
                        replica.commit(lsn, &std::mem::take(&mut catalog), &all, ranges.collect());
                    }
                }
            }
            assert!(
                changes.is_empty() && catalog.is_empty(),
                "a transaction stands in one frame"
            );
        }
        replica
    }

    fn commit(
        &mut self,
        lsn: Lsn,
        catalog: &[CatalogChange],
        changes: &[Owned],
        ranges: BTreeMap<StoreId, (u64, u64)>,
    ) {
        assert!(self.commits.last().is_none_or(|last| *last < lsn), "commits rise");
        self.commits.push(lsn);
        for change in catalog {
            match change {
                CatalogChange::CreateTable(def) => self.create(def.store, &def.columns),
                CatalogChange::DropTable { store, .. } => drop(self.stores.remove(store)),
                CatalogChange::Truncate { old, new, .. } => {
                    self.stores.remove(old);
                    self.stores.insert(*new, Vec::new());
                    let layout = self.layouts[old].clone();
                    self.layouts.insert(*new, layout);
                }
                CatalogChange::Redefine(def) => {
                    drop(self.layouts.insert(def.store, RowLayout::of(&def.columns)))
                }
                CatalogChange::AddPrimaryKey { .. } => {}
                CatalogChange::Election(ElectionChange::CreateBranch { store, columns, .. }) => {
                    self.create(*store, columns);
                }
                CatalogChange::Election(ElectionChange::Adopt {
                    branch,
                    base,
                    count,
                    skipped,
                    ..
                }) => self.adopt(*branch, *base, ranges[base].0, *count, skipped),
                CatalogChange::Election(
                    ElectionChange::EndCandidate { branches, .. } | ElectionChange::Discard { branches, .. },
                ) => {
                    for branch in branches {
                        assert!(self.stores.remove(branch).is_some());
                    }
                }
                CatalogChange::CreateSequence(_)
                | CatalogChange::RedefineSequence(_)
                | CatalogChange::DropSequence { .. }
                | CatalogChange::Election(_)
                | CatalogChange::SetRules { .. } => {}
            }
        }
        let adopted = |store: &StoreId| {
            catalog.iter().find_map(|change| match change {
                CatalogChange::Election(ElectionChange::Adopt { base, count, .. }) if base == store => {
                    Some(*count)
                }
                _ => None,
            })
        };
        for (store, (first, _)) in &ranges {
            let first = first + adopted(store).unwrap_or_default();
            assert_eq!(self.stores[store].len() as u64, first, "ordinals are dense");
        }
        for Owned {
            store,
            op,
            ended,
            after,
        } in changes
        {
            let (Some(rows), Some((first, _))) = (self.stores.get_mut(store), ranges.get(store)) else {
                continue;
            };
            let ended = match ended {
                Ended::None => None,
                Ended::Ordinal(ordinal) => Some(ordinal.get()),
                Ended::Own(local) => Some(first + u64::from(*local)),
            };
            assert_eq!(ended.is_none(), *op == Op::Insert);
            if let Some(ended) = ended {
                assert!(rows[ended as usize].take().is_some(), "a version ends once");
            }
            if *op != Op::Delete {
                rows.push(Some(after.clone()));
            }
        }
        for (store, (first, count)) in &ranges {
            assert_eq!(
                self.stores[store].len() as u64,
                first + count,
                "as many versions as announced"
            );
        }
    }

    fn create(&mut self, store: StoreId, columns: &[ColumnDef]) {
        self.layouts.insert(store, RowLayout::of(columns));
        self.stores.insert(store, Vec::new());
    }

    /// The rows of a branch come to stand behind those of its base, each at its distance from the first.
    fn adopt(&mut self, branch: StoreId, base: StoreId, first: u64, count: u64, skipped: &[Ordinal]) {
        let rows = self.stores[&branch].clone();
        assert_eq!(rows.len() as u64, count);
        assert_eq!(self.stores[&base].len() as u64, first);
        let wide = &self.layouts[&branch];
        // A table that got columns since has rows without them.
        let narrow = RowLayout::new(&wide.types()[..wide.columns() - 3]);
        let base = self.stores.get_mut(&base).unwrap();
        for (ordinal, row) in rows.into_iter().enumerate() {
            let row = row.filter(|_| !skipped.contains(&Ordinal::new(ordinal as u64)));
            let Some(row) = row else {
                base.push(None);
                continue;
            };
            let mut values = wide.row(&row).values();
            let extra = values.split_off(narrow.columns());
            if let Datum::Int8(replaced) = extra[0].as_datum() {
                assert!(base[replaced as usize].take().is_some(), "a version ends once");
            }
            let deleted = extra[1].as_datum() == Datum::Bool(true);
            base.push((!deleted).then(|| narrow.encode(&values).unwrap()));
        }
    }

    /// Live rows of a store by ordinal.
    pub fn live(&self, store: StoreId) -> BTreeMap<u64, &[u8]> {
        let rows = self.stores[&store].iter().enumerate();
        rows.filter_map(|(ordinal, row)| Some((ordinal as u64, row.as_deref()?)))
            .collect()
    }
}
