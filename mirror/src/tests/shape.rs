//! What stays small, and what is refused.

use scry_wal::{Lsn, Ordinal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::kit::{Primary, Work, read};
use crate::cache::Cache;
use crate::core::{Core, Position};
use crate::error::Error;
use crate::horizon::Horizon;
use crate::piece::PIECE_ROWS_MAX;
use crate::store::StoreCell;

fn core() -> (Arc<Core>, Arc<AtomicU64>) {
    let horizon = Arc::new(AtomicU64::new(u64::MAX));
    let source = horizon.clone();
    let source = Horizon::new(Arc::new(move || Lsn::new(source.load(Ordering::Relaxed))));
    let cache = Arc::new(Cache::new(1 << 20));
    let core = Core::new(Position::default(), Vec::new(), &source, cache, PIECE_ROWS_MAX);
    (Arc::new(core), horizon)
}

#[test]
fn a_hot_small_table_stays_as_small_as_its_living_rows() {
    let (core, _) = core();
    let mut primary = Primary::new();
    let store = primary.create();
    primary.commit(&[(
        store,
        Work {
            inserts: 10,
            ..Work::default()
        },
    )]);
    for round in 0..2000 {
        for choice in 0..20 {
            primary.commit(&[(
                store,
                Work {
                    updates: vec![choice * 7 + round],
                    ..Work::default()
                },
            )]);
        }
        core.apply(&primary.take()).expect("applied");
        let figures = core.store(store).expect("known").figures();
        assert!(figures.pieces <= 10, "{figures:?} in round {round}");
        assert!(figures.resident_bytes < 256 << 10, "{figures:?} in round {round}");
        assert!(figures.pending_ends <= 20, "{figures:?} in round {round}");
    }
    let snapshot = core.newest_snapshot();
    let table = snapshot.table(store).expect("exists");
    assert_eq!(table.live_rows(), 10);
    assert_eq!(Some(read(&table, None)), primary.rows_at(store, snapshot.lsn()));
}

#[test]
fn a_held_snapshot_keeps_its_rows_and_lets_go_of_them_afterwards() {
    let (core, _) = core();
    let mut primary = Primary::new();
    let store = primary.create();
    primary.commit(&[(
        store,
        Work {
            inserts: 10,
            ..Work::default()
        },
    )]);
    core.apply(&primary.take()).expect("applied");
    let snapshot = core.newest_snapshot();
    for choice in 0..500 {
        primary.commit(&[(
            store,
            Work {
                updates: vec![choice],
                ..Work::default()
            },
        )]);
        core.apply(&primary.take()).expect("applied");
    }
    assert_eq!(core.store(store).expect("known").figures().pending_ends, 500);
    let table = snapshot.table(store).expect("exists");
    assert_eq!(Some(read(&table, None)), primary.rows_at(store, snapshot.lsn()));
    drop(snapshot);
    core.tidy().expect("tidied");
    assert_eq!(core.store(store).expect("known").figures().pending_ends, 0);
    assert_eq!(
        table.live_rows(),
        10,
        "an open table does not need its snapshot any more"
    );
    assert_eq!(read(&table, None).len(), 10);
}

#[test]
fn a_dropped_store_is_seen_by_older_snapshots_and_then_forgotten() {
    let (core, _) = core();
    let mut primary = Primary::new();
    let store = primary.create();
    primary.commit(&[(
        store,
        Work {
            inserts: 3,
            ..Work::default()
        },
    )]);
    core.apply(&primary.take()).expect("applied");
    let before = core.newest_snapshot();
    primary.drop_store(store);
    core.apply(&primary.take()).expect("applied");
    assert!(core.newest_snapshot().table(store).is_none());
    assert_eq!(before.table(store).expect("still there").live_rows(), 3);
    drop(before);
    core.tidy().expect("tidied");
    assert!(core.store(store).is_none());
}

#[test]
fn snapshots_outside_of_what_is_kept_are_refused() {
    let (core, _) = core();
    let mut primary = Primary::new();
    primary.create();
    core.apply(&primary.take()).expect("applied");
    let store = primary.living()[0];
    let old = primary.commit(&[(
        store,
        Work {
            inserts: 3,
            ..Work::default()
        },
    )]);
    primary.commit(&[(
        store,
        Work {
            inserts: 3,
            ..Work::default()
        },
    )]);
    core.apply(&primary.take()).expect("applied");
    core.tidy().expect("tidied");
    assert!(matches!(core.snapshot(old), Err(Error::NotRetained { .. })));
    assert!(matches!(
        core.snapshot(core.applied()),
        Err(Error::NotApplied { .. })
    ));
    assert!(core.snapshot(Lsn::new(core.applied().get() - 1)).is_ok());
}

/// Has a core begin anew behind a commit, with empty stores.
fn begin_anew(core: &Core, primary: &Primary, last_commit: Lsn) {
    let cell = |store| StoreCell::new(store, primary.schema.clone(), last_commit, PIECE_ROWS_MAX);
    let position = Position {
        upto: last_commit.plus(1),
        restart: last_commit,
        last_commit,
    };
    core.begin(position, primary.living().into_iter().map(cell).collect());
}

#[test]
fn a_snapshot_keeps_the_stores_it_was_opened_of_when_the_mirror_begins_anew() {
    let (core, _) = core();
    let mut primary = Primary::new();
    let store = primary.create();
    let inserts = |inserts| Work {
        inserts,
        ..Work::default()
    };
    primary.commit(&[(store, inserts(3))]);
    core.apply(&primary.take()).expect("applied");
    let before = core.newest_snapshot();
    let missed = primary.commit(&[(store, inserts(4))]);
    begin_anew(&core, &primary, missed);
    let table = before.table(store).expect("as it was opened");
    assert_eq!(Some(read(&table, None)), primary.rows_at(store, before.lsn()));
    assert!(matches!(
        core.snapshot(before.lsn()),
        Err(Error::NotRetained { oldest, .. }) if oldest == missed
    ));
    let now = core.newest_snapshot();
    assert_eq!(now.lsn(), missed);
    assert_eq!(now.table(store).expect("new").live_rows(), 0);
}

#[test]
fn whoever_opens_a_snapshot_while_the_mirror_begins_anew_has_all_stores_or_is_refused() {
    let (core, _) = core();
    let mut primary = Primary::new();
    let store = primary.create();
    let mut at = Lsn::new(100);
    begin_anew(&core, &primary, at);
    let open = || {
        let mut opened = 0;
        for round in 0..300_000 {
            // What is newest, or was about to be.
            let at = Lsn::new(core.applied().get() - round % 2);
            match core.snapshot(at) {
                Ok(snapshot) => {
                    assert!(snapshot.table(store).is_some(), "no store at {at}");
                    opened += 1;
                }
                Err(error) => assert!(
                    matches!(error, Error::NotRetained { .. } | Error::NotApplied { .. }),
                    "{error}"
                ),
            }
        }
        opened
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(open), scope.spawn(open)];
        while !readers.iter().all(|reader| reader.is_finished()) {
            at = at.plus(1);
            begin_anew(&core, &primary, at);
        }
        let opened = readers.map(|reader| reader.join().expect("no panic"));
        assert!(opened.iter().all(|opened| *opened > 0));
    });
}

#[test]
fn change_sets_that_contradict_the_store_are_refused() {
    let good = || {
        let (core, _) = core();
        let mut primary = Primary::new();
        let store = primary.create();
        primary.commit(&[(
            store,
            Work {
                inserts: 5,
                ..Work::default()
            },
        )]);
        core.apply(&primary.take()).expect("applied");
        primary.commit(&[(
            store,
            Work {
                inserts: 2,
                updates: vec![0],
                ..Work::default()
            },
        )]);
        (core, primary.take())
    };
    let (core, set) = good();
    core.apply(&set).expect("nothing wrong with it");
    assert!(matches!(core.apply(&set), Err(Error::Gap { .. })), "twice");

    let (core, mut set) = good();
    set.stores[0].runs[0].first = Ordinal::new(6);
    assert!(
        matches!(
            core.apply(&set),
            Err(Error::Broken {
                expected: 5,
                found: 6,
                ..
            })
        ),
        "a gap in ordinals"
    );

    let (core, mut set) = good();
    set.stores[0].ended[0].1 = Ordinal::new(8);
    assert!(
        matches!(core.apply(&set), Err(Error::Broken { .. })),
        "ended before it began"
    );

    let (core, mut set) = good();
    let again = set.stores[0].ended[0];
    set.stores[0].ended.push(again);
    let result = core.apply(&set).and_then(|()| core.tidy());
    assert!(matches!(result, Err(Error::Broken { .. })), "ended twice");
}

#[test]
fn checksums_do_not_depend_on_how_rows_are_stored() {
    let (core, _) = core();
    let mut primary = Primary::new();
    let (one, two) = (primary.create(), primary.create());
    // The same rows and ordinals, in one commit and in many change sets.
    let many = |inserts| Work {
        inserts,
        ..Work::default()
    };
    primary.commit(&[(one, many(40))]);
    for _ in 0..40 {
        primary.commit(&[(two, many(1))]);
        core.apply(&primary.take()).expect("applied");
    }
    let snapshot = core.newest_snapshot();
    let sum = |store| {
        snapshot
            .table(store)
            .expect("exists")
            .checksum()
            .expect("readable")
    };
    assert_eq!(sum(one).rows, sum(two).rows);
    assert_ne!(sum(one), sum(two), "keys differ");
    let table = snapshot.table(two).expect("exists");
    let mut parts = crate::Checksum::default();
    for unit in table.units().iter().rev() {
        let (ordinals, batch) = unit.read_with_ordinals(&[0, 1], None).expect("readable");
        for row in 0..batch.num_rows() {
            parts.add(crate::checksum_rows(&[ordinals.value(row)], &batch.slice(row, 1)));
        }
    }
    assert_eq!(parts, sum(two));
}
