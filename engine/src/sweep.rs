//! The sweep: lets go of superseded versions.
//!
//! A push takes off its row's chain what no snapshot reaches, as far as the horizon allows at that moment. What it has
//! to leave would stay until the row is written again, which may be never. So commits count, by store, how often they left
//! something behind, and when that is a good part of the store's rows, the collector walks over all of them.
//!
//! What only pins see stays and is counted apart, so that it makes no walk worth it before a pin is released: pins may live for
//! weeks. It walks in slices, so that a large store costs a few milliseconds at a time, and holds no lock but a row's.

use crate::catalog::Catalog;
use crate::key::KeyRange;
use crate::store::Store;
use crate::store::entry::Behind;
use scry_wal::Lsn;
use std::ops::Bound;
use std::sync::Arc;

/// Rows looked at in one step.
const SLICE_ROWS: usize = 16_384;

/// Fewer superseded versions than this are not worth a walk.
const SUPERSEDED_MIN: u64 = 1_000;

/// A walk begins when a store has one superseded version for so many rows: so it costs a few row visits for each.
const ROWS_PER_SUPERSEDED: u64 = 5;

/// The walk under way.
#[derive(Default)]
pub(crate) struct Sweep {
    at: Option<(Arc<Store>, KeyRange)>,
    /// The pins of the last step.
    pins: Vec<Lsn>,
}

impl Sweep {
    /// Goes on with the walk, or begins one where it is worth it.
    pub(crate) fn step(&mut self, catalog: &Catalog, horizon: Lsn, pins: &[Lsn]) {
        if self.pins != pins {
            if self.pins.iter().any(|pin| pins.binary_search(pin).is_err()) {
                catalog
                    .swept_stores()
                    .for_each(|store| store.counters.release_pinned());
            }
            self.pins = pins.to_vec();
        }
        let next = self.at.take().or_else(|| {
            let store = catalog.swept_stores().find(|store| wants_sweep(store, horizon))?;
            store.counters.begin_sweep(horizon);
            Some((Arc::clone(store), KeyRange::all()))
        });
        let Some((store, mut left)) = next else { return };
        let (mut rows, mut kept, mut pinned) = (0, 0, 0);
        let mut last = None;
        store.rows.range(&left, |key, entry| {
            rows += 1;
            match entry.lock().forget(horizon, pins) {
                Behind::Nothing => {}
                Behind::Pinned => pinned += 1,
                Behind::Seen => kept += 1,
            }
            if rows == SLICE_ROWS {
                last = Some(key.clone());
            }
            rows < SLICE_ROWS
        });
        store.counters.add_superseded(kept);
        store.counters.add_pinned(pinned);
        if let Some(last) = last {
            left.lower = Bound::Excluded(last);
            self.at = Some((store, left));
        }
    }
}

/// The same horizon has nothing new to let go of.
fn wants_sweep(store: &Store, horizon: Lsn) -> bool {
    let counters = &store.counters;
    counters.superseded() >= SUPERSEDED_MIN.max(counters.live_rows() / ROWS_PER_SUPERSEDED)
        && counters.swept() < horizon
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{AppliedChange, ColumnDef, Table, TableDef};
    use crate::catalog_change::CatalogChange;
    use crate::key::Key;
    use crate::locks::{Holder, TableLock};
    use crate::store::Growth;
    use crate::store::backing::bare_home;
    use crate::store::entry::RowEntry;
    use crate::types::DataType;
    use scry_wal::{Ordinal, StoreId, TxnId};

    const ROWS: u64 = 3 * SLICE_ROWS as u64 / 2;

    /// A catalog of one table with one version for each row, at LSN 1.
    fn filled() -> (Catalog, Arc<Store>) {
        let column = ColumnDef {
            not_null: true,
            ..ColumnDef::new("id", DataType::Int8)
        };
        let def = TableDef {
            oid: 1,
            name: "t".to_owned(),
            columns: vec![column],
            primary_key: None,
            store: StoreId::new(1),
            ..TableDef::default()
        };
        let table = Arc::new(Table::with_fresh_store(
            bare_home(),
            def.clone(),
            Arc::new(TableLock::default()),
        ));
        let store = Arc::clone(&table.store);
        let created = AppliedChange {
            change: CatalogChange::CreateTable(def),
            table: Some(table),
            sequence: None,
            retires: None,
        };
        let catalog = Catalog::default().with(Lsn::new(1), &[created]).unwrap();
        for number in 0..ROWS {
            let entry = RowEntry::committed(Lsn::new(1), Ordinal::new(number), Some(vec![1].into()));
            store.rows.get_or_insert_with(&key(number), || Arc::new(entry));
        }
        for _ in 0..ROWS {
            store.counters.add_live(Growth::of(None, Some(&[1])));
        }
        (catalog, store)
    }

    fn key(number: u64) -> Key {
        Key::from_bytes(&number.to_be_bytes())
    }

    /// Updates a row as a commit does.
    fn update(store: &Store, number: u64, lsn: u64, horizon: u64) {
        let owner = Arc::new(Holder::new(TxnId::new(lsn)));
        let entry = store.rows.get(&key(number)).unwrap();
        let mut state = entry.lock();
        state.set_owner(owner, 0);
        let left = state.push(Some(vec![2].into()), 0, Lsn::new(horizon), Lsn::MAX, None);
        state.settle(Lsn::new(lsn), Ordinal::new(lsn));
        state.clear_owner();
        store.counters.add_superseded(u64::from(left));
    }

    fn versions(store: &Store) -> usize {
        let mut count = 0;
        store.rows.range(&KeyRange::all(), |_, entry| {
            count += entry.lock().version_count();
            true
        });
        count
    }

    #[test]
    fn what_pins_see_makes_no_walk_worth_it_until_a_pin_is_released() {
        let (catalog, store) = filled();
        let pins = [Lsn::new(2), Lsn::new(3)];
        for number in 0..ROWS {
            update(&store, number, 10 + number, 1);
        }
        let (rows, end) = (ROWS as usize, 10 + ROWS);
        let mut sweep = Sweep::default();
        let steps = |sweep: &mut Sweep, horizon, pins: &[Lsn]| {
            for _ in 0..rows.div_ceil(SLICE_ROWS) {
                sweep.step(&catalog, Lsn::new(horizon), pins);
            }
        };
        steps(&mut sweep, end, &pins);
        assert_eq!(versions(&store), 2 * rows);
        assert!(
            !wants_sweep(&store, Lsn::new(end + 1)),
            "there is nothing to find"
        );
        // One that comes changes nothing.
        steps(&mut sweep, end + 1, &[Lsn::new(2), Lsn::new(3), Lsn::new(end)]);
        assert!(!wants_sweep(&store, Lsn::new(end + 2)));
        steps(&mut sweep, end + 2, &[Lsn::new(end)]);
        assert!(sweep.at.is_none());
        assert_eq!(versions(&store), rows);
    }

    #[test]
    fn superseded_versions_go_once_nobody_sees_them_though_their_rows_are_never_written_again() {
        let (catalog, store) = filled();
        for number in 0..ROWS {
            update(&store, number, 10 + number, 1);
        }
        let rows = ROWS as usize;
        assert_eq!(versions(&store), 2 * rows);
        let mut sweep = Sweep::default();
        let step_to_end = |sweep: &mut Sweep, horizon| {
            for _ in 0..rows.div_ceil(SLICE_ROWS) {
                sweep.step(&catalog, Lsn::new(horizon), &[]);
            }
            assert!(sweep.at.is_none(), "the walk came to its end");
        };
        // Somebody still reads at 5: a walk frees nothing, and is not made again for that.
        step_to_end(&mut sweep, 5);
        assert_eq!(versions(&store), 2 * rows);
        assert!(!wants_sweep(&store, Lsn::new(5)));
        step_to_end(&mut sweep, 10 + ROWS);
        assert_eq!(versions(&store), rows);
        assert!(!wants_sweep(&store, Lsn::new(1 << 40)), "nothing is left to do");
    }
}
