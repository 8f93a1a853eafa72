//! Windows of any size, cut in any number of parts, leave what changes made one after the other would leave; contradictions are
//! told.

use super::super::rows::each_newest;
use super::*;
use crate::catalog::{ColumnDef, TableDef};
use crate::store::backing::bare_home;
use crate::types::{DataType, Value};
use proptest::prelude::*;
use std::collections::BTreeMap;

const COLUMNS: [DataType; 1] = [DataType::Int8];

fn table() -> Arc<Table> {
    let columns = COLUMNS.map(|ty| ColumnDef::new("value", ty)).to_vec();
    let def = TableDef {
        name: "t".to_owned(),
        columns,
        ..TableDef::default()
    };
    let (home, spaces) = (bare_home(), crate::store::backing::Spaces::default());
    Arc::new(Table::with_store_in(home, &spaces, def, Arc::default()))
}

/// Keys that share their first bytes, and keys shorter than those that are compared at once.
fn key(number: u8) -> Vec<u8> {
    match number % 3 {
        0 => vec![number],
        1 => format!("a long beginning {number:03}").into_bytes(),
        _ => format!("another one {number:03}").into_bytes(),
    }
}

fn row(table: &Table, value: i64) -> Vec<u8> {
    table.layout.encode(&[Value::Int8(value)]).expect("a row")
}

/// What is there: row and ordinal by key.
type State = BTreeMap<Vec<u8>, (i64, Ordinal)>;

fn found(table: &Table) -> State {
    let mut state = State::new();
    each_newest(&table.store, &mut |key, version| {
        let value = match table.layout.row(&version.row).get(0) {
            crate::types::Datum::Int8(value) => value,
            other => panic!("{other:?}"),
        };
        state.insert(key.to_vec(), (value, version.ordinal.expect("committed")));
        Ok(())
    })
    .expect("in memory");
    state
}

fn place(number: u64, oldest: Lsn) -> Place {
    let (at, lsn) = (Lsn::new(number * 10), Lsn::new(number * 10 + 5));
    Place { at, lsn, oldest }
}

proptest! {
    #[test]
    fn windows_of_any_size_make_the_same_of_changes(
        changes in proptest::collection::vec((0u8..30, 0u8..4), 0..400),
        items_max in 1usize..100,
        settle_each in 1usize..200,
        history in any::<bool>(),
    ) {
        let table = table();
        let mut applying = Applying::new(items_max);
        let mut state = State::new();
        let mut superseded = 0;
        let oldest = if history { Lsn::new(1000) } else { Lsn::MAX };
        for (number, (chosen, what)) in (1u64..).zip(changes) {
            let (place, key, value) = (place(number, oldest), key(chosen), number as i64);
            let (ordinal, row) = (Ordinal::new(number), row(&table, value));
            let ended = state.get(&key).map(|(_, ordinal)| *ordinal);
            let is_deletion = what == 0 && ended.is_some();
            let begun = (!is_deletion).then_some((ordinal, &row[..]));
            superseded += u64::from(ended.is_some() && !is_deletion && place.lsn > oldest);
            let window = applying.window_with(|| None);
            let target = window.table(&table);
            window.push(target, (place, Kind::Row), &key, ended, begun);
            match is_deletion {
                true => state.remove(&key),
                false => state.insert(key, (value, ordinal)),
            };
            applying.advance().unwrap();
            if (number as usize).is_multiple_of(settle_each) {
                applying.settle().unwrap();
                prop_assert_eq!(found(&table), state.clone());
            }
        }
        applying.settle().unwrap();
        prop_assert_eq!(table.store.counters.live_rows(), state.len() as u64);
        let bytes = state.len() as u64 * row(&table, 0).len() as u64;
        prop_assert_eq!(table.store.counters.live_bytes(), bytes);
        // A deletion that history keeps, and what is inserted over it, counts as well.
        prop_assert!(table.store.counters.superseded() >= superseded);
        prop_assert!(history || table.store.counters.superseded() == 0);
        let graves = applying.take_graves();
        prop_assert!(graves.is_sorted_by_key(|grave| grave.lsn));
        prop_assert!(history || graves.is_empty());
        prop_assert_eq!(found(&table), state);
    }
}

/// Collects changes (key, ended, begun) and settles; answers the LSN of the record that is refused.
fn refused(items_max: usize, changes: &[(u8, Option<u64>, Option<u64>)]) -> Option<(u64, String)> {
    let table = table();
    let mut applying = Applying::new(items_max);
    let row = row(&table, 1);
    let mut apply = || {
        for (number, (chosen, ended, begun)) in (1..).zip(changes) {
            let window = applying.window_with(|| None);
            let target = window.table(&table);
            let begun = begun.map(|ordinal| (Ordinal::new(ordinal), &row[..]));
            let place = (place(number, Lsn::MAX), Kind::Row);
            window.push(target, place, &key(*chosen), ended.map(Ordinal::new), begun);
            applying.advance()?;
        }
        applying.settle()
    };
    match apply() {
        Ok(()) => None,
        Err(Error::Corrupt { lsn, what, .. }) => Some((lsn.get() / 10, what)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn changes_that_contradict_each_other_are_refused_wherever_windows_end() {
    let insert_twice = [(1, None, Some(1)), (2, None, Some(2)), (1, None, Some(3))];
    let wrong_version = [(1, None, Some(1)), (1, Some(1), Some(2)), (1, Some(1), Some(3))];
    let no_row = [(1, None, Some(1)), (1, Some(1), None), (1, Some(1), Some(2))];
    for items_max in [1, 2, 1000] {
        let told = |changes| refused(items_max, changes).expect("it is refused");
        assert_eq!(
            told(&insert_twice),
            (3, "a row with the key of an inserted row exists".to_owned())
        );
        assert_eq!(told(&wrong_version), (3, "version 1 ended, 2 found".to_owned()));
        assert_eq!(
            told(&no_row),
            (3, "version 1 ended, but its row does not exist".to_owned())
        );
    }
}

#[test]
fn of_many_contradictions_one_is_told() {
    let changes: Vec<_> = (0..200)
        .map(|number: u8| {
            (
                199 - number,
                (number >= 100).then_some(1),
                Some(u64::from(number)),
            )
        })
        .collect();
    for items_max in [1, 64, 1 << 16] {
        let told = refused(items_max, &changes).map(|(number, _)| number);
        assert!(told.is_some_and(|number| number > 100), "{told:?}");
    }
}

#[test]
fn bytes_that_are_no_row_are_refused_though_a_later_change_ends_them() {
    let table = table();
    let mut applying = Applying::new(1000);
    let row = row(&table, 1);
    let window = applying.window_with(|| None);
    let target = window.table(&table);
    let torn = Some((Ordinal::new(1), &row[..3]));
    window.push(target, (place(1, Lsn::MAX), Kind::Row), &key(1), None, torn);
    let whole = Some((Ordinal::new(2), &row[..]));
    let ended = Some(Ordinal::new(1));
    window.push(target, (place(2, Lsn::MAX), Kind::Row), &key(1), ended, whole);
    let refused = applying.settle().unwrap_err();
    assert!(
        matches!(refused, Error::Corrupt { lsn, .. } if lsn == Lsn::new(10)),
        "{refused}"
    );
}
