//! Bases that are let go of, and what a candidate's rows are counted to take.

use crate::common::*;
use crate::kit::*;
use scry_engine::*;

#[test]
fn a_base_too_far_behind_is_let_go_of_and_stays_so_after_a_restart() {
    let (mut home, table) = scene(0);
    change_in(&home, "c", &table, |txn, table| {
        set(txn, table, 1, 11);
    });
    assert_eq!(
        home.engine().expire_bases(1 << 30).unwrap(),
        [""; 0],
        "young bases stay"
    );
    let mut reads = begin_in(&home, "e", "c");
    // More than twelve thousand bytes of log; and a few commits behind the young one are less, though each may end a frame.
    for value in 0..400 {
        change(&home, &table, |txn, table| {
            set(txn, table, 2, value);
        });
    }
    create_election(&home, "young", 0);
    assert_eq!(home.engine().expire_bases(12_000).unwrap(), ["e"]);
    assert_eq!(home.engine().expire_bases(12_000).unwrap(), [""; 0]);
    // Whoever reads at it goes on.
    assert_eq!(rows(&mut reads, &table), [(1, 11), (2, 20), (3, 30)]);
    drop(reads);
    for _ in 0..2 {
        let begun = home.session().begin_in("e", "c", Isolation::ReadCommitted);
        assert!(matches!(begun.map(drop), Err(Error::BaseExpired { .. })));
        let created = try_create_candidate(&home, "e", "late");
        assert!(matches!(created, Err(Error::BaseExpired { .. })), "{created:?}");
        try_create_candidate(&home, "young", "c").unwrap();
        drop_candidate(&home, "young", "c");
        home.restart();
    }
    // The versions that only it needed are gone.
    home.wait_collected();
    rebase_with(&home, "c", election::OnConflict::Fail).unwrap();
    home.restart();
    let table = home.table("t");
    assert_eq!(rows_in(&home, "e", "c", &table), [(1, 11), (2, 399), (3, 30)]);
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 1);
    home.check_replica(&table);
}

#[test]
fn the_bytes_of_a_candidate_are_those_of_its_rows() {
    let (mut home, table) = scene(0);
    let bytes = |home: &Home| {
        let catalog = home.engine().catalog();
        let (_, candidate) = catalog.elections().open("e", "c").unwrap();
        candidate.bytes()
    };
    assert_eq!(bytes(&home), 0);
    change_in(&home, "c", &table, |txn, table| {
        set(txn, table, 1, 11);
    });
    let of_one = bytes(&home);
    assert!(of_one > 0);
    change_in(&home, "c", &table, |txn, table| {
        set(txn, table, 1, 12);
        insert(txn, table, 9, 9);
        set(txn, table, 2, 3);
        delete(txn, table, 9);
    });
    assert_eq!(bytes(&home), 2 * of_one);
    home.restart();
    assert_eq!(bytes(&home), 2 * of_one);
}

#[test]
fn a_candidate_that_takes_too_much_memory_takes_no_more() {
    let mut options = options();
    options.candidate_bytes_max = 100;
    let home = Home::with(options);
    let table = home.create("t", true);
    create_election(&home, "e", 0);
    create_candidate(&home, "e", "c");
    change_in(&home, "c", &table, |txn, table| {
        (0..20).for_each(|id| insert(txn, table, id, 1));
    });
    let mut txn = begin_in(&home, "e", "c");
    let refused = try_insert(&mut txn, &table, 99, 1);
    assert!(
        matches!(refused, Err(Error::CandidateTooLarge { limit: 100, .. })),
        "{refused:?}"
    );
    drop(txn);
    assert_eq!(try_elect(&home, "e", "c").unwrap(), 20);
}
