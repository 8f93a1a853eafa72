//! Indexes and primary keys that a table gets after it has its rows, by transactions that no checkpoint has seen.

use super::*;

/// A table of `MANY` rows, all of them in files.
fn unkeyed() -> Home {
    let mut home = Home::with(without_checkpoints());
    let table = home.create("t", false);
    let mut txn = begin(&home);
    for number in 0..MANY {
        let id = nth(number);
        let row = row(&table, id, i64::from(id) * 2);
        block_on(txn.insert(&table, None, row)).unwrap();
    }
    txn.commit("").unwrap().unwrap();
    drop(table);
    home.checkpoint();
    home.restart();
    assert_eq!(private_files(&home), 0);
    home
}

#[test]
fn what_a_new_index_or_primary_key_has_is_in_files_again_after_a_crash() {
    let mut home = unkeyed();
    let mut txn = begin(&home);
    let keyed = block_on(txn.add_primary_key(&home.table("t"), primary_key("t"))).unwrap();
    txn.commit("").unwrap().unwrap();
    let mut txn = begin(&home);
    let table = block_on(txn.create_index(&keyed, index("t_value", true))).unwrap();
    assert!(set(&mut txn, &table, 9, -9));
    txn.commit("").unwrap().unwrap();
    let mut txn = begin(&home);
    let table = block_on(txn.create_index(&table, index("t_any", false))).unwrap();
    txn.commit("").unwrap().unwrap();
    let mut txn = begin(&home);
    assert!(set(&mut txn, &table, 1, -1));
    assert!(delete(&mut txn, &table, 2));
    insert(&mut txn, &table, -3, 4);
    txn.commit("").unwrap().unwrap();
    let mut expected = loaded();
    (expected[1].1, expected[9].1) = (-1, -9);
    expected.remove(2);
    expected.insert(0, (-3, 4));
    drop((keyed, table));
    for restart in 0..3 {
        home.restart_at_once();
        assert!(
            private_files(&home) > 0,
            "restart {restart}: its rows are in files"
        );
        let table = home.table("t");
        check_whole(&home, &table, &expected, &format!("restart {restart}"));
        let mut txn = begin(&home);
        let taken = try_insert(&mut txn, &table, -4, 4).unwrap();
        assert!(matches!(taken, InsertOutcome::Taken { index: 0, key: taken } if taken == key(-3)));
        assert!(matches!(
            try_insert(&mut txn, &table, 100, -5).unwrap(),
            InsertOutcome::Exists(_)
        ));
        assert!(set(&mut txn, &table, 1, -100 - restart));
        txn.commit("").unwrap().unwrap();
        expected.iter_mut().find(|(id, _)| *id == 1).unwrap().1 = -100 - restart;
    }
    home.checkpoint();
    wait_until("the files of the replay", || private_files(&home) == 0);
    home.restart();
    let table = home.table("t");
    assert_eq!(home.rows(&table), expected);
    home.check_indexes(&table);
    home.check_replica(&table);
}
