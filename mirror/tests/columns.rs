//! Columns that come and go below a mirror: every snapshot has the columns and the rows of its LSN, whatever was merged, sealed,
//! read back, repaired or made anew since.
#![allow(clippy::unwrap_used)]

mod common;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use common::candidates::{begin, commit, create, create_candidate, elect, engine, propose};
use common::*;
use scry_engine::{ColumnDef, DataType, Datum, Engine, Key, Table, TableDef, Value};
use scry_mirror::{Checksum, Mirror, Snapshot};
use scry_wal::StoreId;
use std::path::Path;
use std::sync::Arc;

const ROWS: i64 = 600;

fn table(engine: &Arc<Engine>) -> Arc<Table> {
    engine.catalog().table("t").unwrap().clone()
}

fn redefine(engine: &Arc<Engine>, change: impl FnOnce(&mut TableDef)) {
    let (table, mut txn) = (table(engine), begin(engine));
    let mut def = table.def.clone();
    change(&mut def);
    block_on(txn.redefine(&table, def)).unwrap();
    commit(engine, txn);
}

fn add(engine: &Arc<Engine>, name: &str, missing: Option<i64>) {
    let (ty, missing) = match name.starts_with("text") {
        true => (
            DataType::Text,
            missing.map(|number| Value::Text(number.to_string())),
        ),
        false => (DataType::Int8, missing.map(Value::Int8)),
    };
    redefine(engine, |def| {
        def.columns.push(ColumnDef {
            missing: Some(missing.unwrap_or(Value::Null)),
            ..ColumnDef::new(name, ty)
        });
    });
}

/// Gives rows other values in all columns, and deletes some.
fn write(engine: &Arc<Engine>, round: i64) {
    let (table, mut txn) = (table(engine), begin(engine));
    for id in (round * 13 % ROWS..).take(40) {
        let key = Key::encode([Datum::Int8(id)]);
        let found = block_on(txn.lock(&table, key.as_ref())).unwrap();
        let values = table
            .def
            .columns
            .iter()
            .enumerate()
            .map(|(number, column)| match column.ty {
                _ if number == 0 => Value::Int8(id),
                _ if column.dropped => Value::Null,
                DataType::Text => Value::Text(format!("{id} of {round}")),
                _ => Value::Int8(round),
            });
        let row = table.layout.encode(&values.collect::<Vec<_>>()).unwrap();
        match found {
            Some(_) if id % 5 == 0 => block_on(txn.delete(&table, key.as_ref())).unwrap(),
            Some(_) => block_on(txn.update(&table, key.as_ref(), row)).unwrap(),
            None => drop(block_on(txn.insert(&table, Some(key), row)).unwrap()),
        }
    }
    commit(engine, txn);
}

/// The newest state of the mirror, which is seen to be the primary's.
fn same(engine: &Arc<Engine>, mirror: &Arc<Mirror>) -> (Snapshot, StoreId, Checksum) {
    let table = table(engine);
    let (at, expected) = primary_checksum(engine, &table);
    block_on(mirror.applied(at.plus(1))).unwrap();
    let snapshot = mirror.snapshot(at).unwrap();
    let found = snapshot.table(table.def.store).unwrap();
    assert_eq!(found.schema().fields().len(), table.def.columns.len());
    assert_eq!(found.checksum().unwrap(), expected, "at {at}");
    (snapshot, table.def.store, expected)
}

/// Another mirror, made from the log alone.
fn from_the_log(engine: &Arc<Engine>) {
    let folder = tempfile::tempdir().unwrap();
    let mirror = mirror(folder.path(), engine);
    same(engine, &mirror);
    mirror.close();
}

fn restarted(folder: &Path, engine: &Arc<Engine>, mirror: Arc<Mirror>) -> Arc<Mirror> {
    mirror.close();
    drop(mirror);
    let mirror = common::mirror(folder, engine);
    assert!(mirror.status().rebuilt.is_none(), "{:?}", mirror.status().rebuilt);
    mirror
}

#[test]
fn every_snapshot_has_the_columns_and_rows_of_its_lsn() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    create(&engine, ROWS);
    let base = table(&engine);
    let mut mirror = mirror(folder.path(), &engine);
    let mut held = Vec::new();
    for round in 0..48 {
        match round % 8 {
            1 => add(&engine, &format!("number{round}"), Some(round)),
            3 => add(&engine, &format!("text{round}"), Some(round)),
            5 => add(&engine, &format!("none{round}"), None),
            // It gives its name back, which the next takes.
            6 => {
                redefine(&engine, |def| def.drop_column(def.columns.len() - 1));
                add(&engine, &format!("none{}", round - 1), Some(round));
            }
            7 if round % 16 == 7 => sealed(&mirror, engine.log().durable_lsn()),
            _ => {}
        }
        write(&engine, round);
        match round {
            2 | 18 => {
                // A candidate has the columns of its base.
                let name = format!("c{round}");
                create_candidate(&engine, &name, true);
                let first = ROWS * 2 + round * 100;
                propose(
                    &engine,
                    &name,
                    &base,
                    &(first..first + 30).map(|id| (id, Some(id))).collect(),
                );
            }
            21 => assert_eq!(elect(&engine, "c2").unwrap(), 30),
            40 => assert_eq!(elect(&engine, "c18").unwrap(), 30),
            _ => {}
        }
        held.push(same(&engine, &mirror));
        for (snapshot, store, expected) in &held {
            let found = snapshot.table(*store).unwrap().checksum().unwrap();
            assert_eq!(found, *expected, "of {} after round {round}", snapshot.lsn());
        }
        if round % 11 == 10 {
            held.clear();
            mirror = restarted(folder.path(), &engine, mirror);
            same(&engine, &mirror);
        }
    }
    held.clear();
    from_the_log(&engine);
    sealed(&mirror, engine.log().durable_lsn());
    mirror = restarted(folder.path(), &engine, mirror);
    same(&engine, &mirror);
}

#[test]
fn pieces_without_a_column_are_read_with_it_and_pruned_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    create(&engine, ROWS);
    let mirror = mirror(folder.path(), &engine);
    sealed(&mirror, engine.log().durable_lsn());
    add(&engine, "number", Some(5));
    add(&engine, "none", None);
    let (snapshot, store, _) = same(&engine, &mirror);
    for unit in snapshot.table(store).unwrap().units() {
        let batch = unit.read(&[3, 0, 4], None).unwrap();
        let names: Vec<_> = batch
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        assert_eq!(names, ["number", "id", "none"]);
        let number = batch.column(0).as_primitive::<Int64Type>();
        assert!(number.len() == unit.rows() as usize && number.iter().all(|value| value == Some(5)));
        assert_eq!(batch.column(2).null_count(), batch.num_rows());
        let bounds = unit.statistics(3).unwrap();
        let bound = |bound: &Option<arrow::array::ArrayRef>| {
            let bound = bound
                .as_ref()
                .map(|array| array.as_primitive::<Int64Type>().value(0));
            bound.unwrap()
        };
        assert_eq!(
            (bound(&bounds.min), bound(&bounds.max), bounds.null_count),
            (5, 5, 0)
        );
        let bounds = unit.statistics(4).unwrap();
        assert!(bounds.min.is_none() && bounds.null_count >= unit.rows());
        // Only what nobody has is read.
        let batch = unit.read(&[4], None).unwrap();
        assert_eq!((batch.num_columns(), batch.num_rows() as u64), (1, unit.rows()));
    }
}

#[test]
fn a_damaged_file_without_a_column_that_others_have_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    create(&engine, ROWS);
    let mut options = small(&engine);
    options.cache_bytes = 0;
    let mirror = Mirror::open(&folder.path().join("mirror"), engine.log().clone(), options).unwrap();
    sealed(&mirror, engine.log().durable_lsn());
    add(&engine, "number", Some(5));
    write(&engine, 1);
    sealed(&mirror, engine.log().durable_lsn());
    let (snapshot, store, expected) = same(&engine, &mirror);
    for path in segments(folder.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        std::fs::write(&path, bytes).unwrap();
    }
    drop(snapshot);
    let checksum = || mirror.newest_snapshot().table(store).unwrap().checksum();
    assert!(checksum().is_err());
    wait_for_repair(&mirror, expected, checksum);
    from_the_log(&engine);
}
