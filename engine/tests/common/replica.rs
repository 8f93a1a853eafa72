//! A copy of every store made from the log alone, the way a columnar mirror does it: ordinal = position. It checks
//! what readers of the log rely on.

use scry_engine::CatalogChange;
use scry_wal::{Change, Ended, Log, Lsn, Op, Record, StoreId, TentativeId};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

#[derive(Default)]
pub struct Replica {
    pub stores: BTreeMap<StoreId, Vec<Option<Vec<u8>>>>,
    pub commits: Vec<Lsn>,
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
                CatalogChange::CreateTable(def) => drop(self.stores.insert(def.store, Vec::new())),
                CatalogChange::DropTable { store, .. } => drop(self.stores.remove(store)),
                CatalogChange::Truncate { old, new, .. } => {
                    self.stores.remove(old);
                    self.stores.insert(*new, Vec::new());
                }
                CatalogChange::AddPrimaryKey { .. } => {}
            }
        }
        for (store, (first, _)) in &ranges {
            assert_eq!(self.stores[store].len() as u64, *first, "ordinals are dense");
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

    /// Live rows of a store by ordinal.
    pub fn live(&self, store: StoreId) -> BTreeMap<u64, &[u8]> {
        let rows = self.stores[&store].iter().enumerate();
        rows.filter_map(|(ordinal, row)| Some((ordinal as u64, row.as_deref()?)))
            .collect()
    }
}
