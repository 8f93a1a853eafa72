use super::*;
use crate::locks::Firsts;
use scry_wal::TxnId;

const STORE: StoreId = StoreId::new(1);

fn row(text: &str) -> Row {
    Row::from(text.as_bytes())
}

fn holder(id: u64) -> Arc<Holder> {
    Arc::new(Holder::new(TxnId::new(id)))
}

/// One transaction's write of a row, from the lock to its release.
fn write(entry: &RowEntry, lsn: u64, text: Option<&str>, horizon: u64) {
    let owner = holder(lsn);
    let mut state = entry.lock();
    state.set_owner(Arc::clone(&owner), 0);
    state.push(text.map(row), 0, Lsn::new(horizon), Lsn::MAX, None);
    state.settle(Lsn::new(lsn), Ordinal::new(lsn));
    state.clear_owner();
}

fn read(entry: &RowEntry, snapshot: u64) -> Option<String> {
    let state = entry.lock();
    let seen = state.read(Lsn::new(snapshot), STORE)?;
    seen.row.map(|row| String::from_utf8_lossy(row).into_owned())
}

#[test]
fn a_snapshot_sees_the_newest_version_at_or_before_it() {
    let entry = RowEntry::committed(Lsn::new(10), Ordinal::new(0), Some(row("a")));
    write(&entry, 20, Some("b"), 0);
    write(&entry, 30, None, 0);
    write(&entry, 40, Some("d"), 0);
    for (snapshot, expected) in [
        (9, None),
        (10, Some("a")),
        (19, Some("a")),
        (20, Some("b")),
        (30, None),
        (40, Some("d")),
        (99, Some("d")),
    ] {
        assert_eq!(read(&entry, snapshot).as_deref(), expected, "at {snapshot}");
    }
}

#[test]
fn versions_that_no_snapshot_can_reach_go_and_the_others_stay() {
    let entry = RowEntry::committed(Lsn::new(10), Ordinal::new(0), Some(row("a")));
    for lsn in [20, 30, 40] {
        write(&entry, lsn, Some("x"), 0);
    }
    assert_eq!(entry.lock().version_count(), 4);
    // A snapshot at 25 still needs the version of 20, and nothing older.
    write(&entry, 50, Some("y"), 25);
    assert_eq!(entry.lock().version_count(), 4);
    assert_eq!(read(&entry, 25).as_deref(), Some("x"));
    assert_eq!(read(&entry, 19), None, "pruned");
    write(&entry, 60, Some("z"), 55);
    assert_eq!(entry.lock().version_count(), 2);
    write(&entry, 70, None, 65);
    write(&entry, 80, Some("again"), 75);
    assert_eq!(
        entry.lock().version_count(),
        1,
        "behind a deletion that everybody sees is nothing"
    );
}

#[test]
fn a_deletion_that_is_not_durable_stays_so_that_who_finds_no_row_depends_on_it() {
    let entry = RowEntry::committed(Lsn::new(10), Ordinal::new(0), Some(row("a")));
    write(&entry, 20, None, 0);
    for (durable, depends_on) in [(19, Some(20)), (20, None)] {
        let mut state = entry.lock();
        state.set_owner(holder(3), 0);
        let left = state.push(Some(row("b")), 0, Lsn::new(25), Lsn::new(durable), None);
        assert_eq!(left, depends_on.is_some());
        let seen = state.read(Lsn::new(30), STORE).map(|seen| seen.lsn.get());
        assert_eq!(seen, depends_on, "durable up to {durable}");
        state.take_back();
        state.clear_owner();
    }
}

#[test]
fn what_nobody_reaches_is_forgotten_and_the_rest_is_not() {
    let entry = RowEntry::committed(Lsn::new(10), Ordinal::new(0), Some(row("a")));
    for lsn in [20, 30, 40] {
        write(&entry, lsn, Some("x"), 0);
    }
    assert_eq!(entry.lock().forget(Lsn::new(9), &[]), Behind::Seen);
    assert_eq!(entry.lock().version_count(), 4);
    assert_eq!(entry.lock().forget(Lsn::new(35), &[]), Behind::Seen);
    assert_eq!(entry.lock().version_count(), 2);
    assert_eq!(read(&entry, 35).as_deref(), Some("x"));
    entry.lock().set_owner(holder(1), 0);
    entry
        .lock()
        .push(Some(row("never")), 0, Lsn::ZERO, Lsn::MAX, None);
    assert!(
        entry.lock().forget(Lsn::new(99), &[]) == Behind::Seen,
        "a pending version may be taken back"
    );
    entry.lock().take_back();
    entry.lock().clear_owner();
    assert_eq!(read(&entry, 99).as_deref(), Some("x"));
    assert_eq!(entry.lock().forget(Lsn::new(40), &[]), Behind::Nothing);
    assert_eq!(entry.lock().version_count(), 1);
}

#[test]
fn a_pending_version_becomes_visible_through_its_owners_stamp() {
    let entry = RowEntry::committed(Lsn::new(10), Ordinal::new(0), Some(row("old")));
    let owner = holder(1);
    entry.lock().set_owner(Arc::clone(&owner), 7);
    entry.lock().push(Some(row("new")), 3, Lsn::ZERO, Lsn::MAX, None);
    assert_eq!(read(&entry, 1000).as_deref(), Some("old"));
    owner.commit(Lsn::new(50), Firsts::from_slice(&[(STORE, Ordinal::new(100))]));
    assert_eq!(read(&entry, 49).as_deref(), Some("old"));
    assert_eq!(read(&entry, 50).as_deref(), Some("new"));
    assert_eq!(entry.lock().newest(STORE).ordinal, Ordinal::new(103));
    entry.lock().settle(Lsn::new(50), Ordinal::new(100));
    assert_eq!(entry.lock().newest(STORE).ordinal, Ordinal::new(103));
}

#[test]
fn a_version_taken_back_leaves_the_row_as_it_was() {
    let entry = RowEntry::committed(Lsn::new(10), Ordinal::new(0), Some(row("old")));
    write(&entry, 20, Some("newer"), 0);
    entry.lock().set_owner(holder(1), 0);
    entry
        .lock()
        .push(Some(row("never")), 0, Lsn::new(30), Lsn::MAX, None);
    entry.lock().take_back();
    assert!(!entry.lock().clear_owner(), "the row lives on");
    assert_eq!(read(&entry, 30).as_deref(), Some("newer"));

    let inserted = RowEntry::locked(holder(2), 0);
    inserted
        .lock()
        .push(Some(row("never")), 0, Lsn::ZERO, Lsn::MAX, None);
    inserted.lock().take_back();
    assert!(inserted.lock().clear_owner(), "nothing is left of it");
}

#[test]
fn only_a_deleted_and_unlocked_row_at_or_before_the_limit_is_buried() {
    let entry = RowEntry::committed(Lsn::new(10), Ordinal::new(0), Some(row("a")));
    let bury = |limit| entry.lock().bury(Lsn::new(limit), &[]);
    assert_eq!(bury(99), Burial::Off, "a live row");
    write(&entry, 20, None, 0);
    assert_eq!(bury(19), Burial::Off, "somebody may still see the row");
    entry.lock().set_owner(holder(1), 0);
    assert_eq!(bury(20), Burial::Waits, "somebody is about to insert it again");
    entry.lock().clear_owner();
    assert_eq!(bury(20), Burial::Done);
    assert!(entry.lock().is_dead());
}

#[test]
fn a_deleted_row_that_a_pin_sees_waits_for_the_pin_and_no_other_does() {
    let pins = [Lsn::new(15)];
    let bury = |entry: &RowEntry, pins| entry.lock().bury(Lsn::new(99), pins);
    let seen = RowEntry::committed(Lsn::new(10), Ordinal::new(0), Some(row("a")));
    write(&seen, 20, None, 0);
    assert_eq!(bury(&seen, &pins[..]), Burial::Waits);
    assert_eq!(read(&seen, 15).as_deref(), Some("a"));
    assert_eq!(bury(&seen, &[]), Burial::Done);
    let younger = RowEntry::committed(Lsn::new(16), Ordinal::new(0), Some(row("b")));
    write(&younger, 20, None, 0);
    assert_eq!(bury(&younger, &pins[..]), Burial::Done);
}

#[test]
fn beside_what_a_pin_sees_a_row_keeps_one_version_for_snapshots() {
    let pins = [Lsn::new(15), Lsn::new(25)];
    let entry = RowEntry::committed(Lsn::new(10), Ordinal::new(0), Some(row("10")));
    let write = |lsn: u64, horizon| {
        let mut state = entry.lock();
        state.set_owner(holder(lsn), 0);
        let text = lsn.to_string();
        state.push(Some(row(&text)), 0, Lsn::new(horizon), Lsn::MAX, Some(&pins));
        state.settle(Lsn::new(lsn), Ordinal::new(lsn));
        state.clear_owner();
    };
    for lsn in [20, 30, 40, 50] {
        write(lsn, lsn - 1);
    }
    assert_eq!(entry.lock().version_count(), 4);
    for (snapshot, seen) in [(15, "10"), (25, "20"), (49, "40"), (50, "50")] {
        assert_eq!(read(&entry, snapshot).as_deref(), Some(seen));
    }
    // A snapshot holds the horizon back: all versions since are kept for it.
    write(60, 45);
    write(70, 45);
    assert_eq!(read(&entry, 45).as_deref(), Some("40"));
    assert_eq!(read(&entry, 55).as_deref(), Some("50"));
    assert_eq!(entry.lock().forget(Lsn::new(99), &pins), Behind::Pinned);
    assert_eq!(entry.lock().version_count(), 3);
}

#[test]
fn a_very_long_chain_is_freed_without_recursion() {
    let entry = RowEntry::committed(Lsn::new(1), Ordinal::new(0), Some(row("a")));
    for lsn in 2..200_000 {
        write(&entry, lsn, Some("x"), 0);
    }
    assert_eq!(
        read(&entry, 1).as_deref(),
        Some("a"),
        "an old snapshot holds it all"
    );
    drop(entry);
}

#[test]
fn a_deletion_is_not_buried_while_a_checkpoint_writes_what_was_before() {
    let entry = RowEntry::committed(Lsn::new(5), Ordinal::new(0), None);
    let mut state = entry.lock();
    state.begin_flush();
    assert_eq!(state.bury(Lsn::new(10), &[]), Burial::Waits);
    state.end_flush();
    assert_eq!(state.bury(Lsn::new(10), &[]), Burial::Done);
}

#[test]
fn a_deletion_stays_behind_a_new_row_while_a_checkpoint_writes_what_was_before() {
    let entry = RowEntry::committed(Lsn::new(5), Ordinal::new(0), Some(row("old")));
    write(&entry, 8, None, 5);
    entry.lock().begin_flush();
    write(&entry, 12, Some("new"), 10);
    let mut state = entry.lock();
    state.end_flush();
    state.flushed(Lsn::new(6), true);
    drop(state);
    // The runs have "old" by now; a snapshot between deletion and new row must not come to ask them.
    let state = entry.lock();
    let seen = state.read(Lsn::new(11), STORE).expect("the deletion");
    assert!(seen.lsn == Lsn::new(8) && seen.row.is_none());
}

#[test]
fn a_checkpoint_leaves_what_is_committed_behind_a_version_that_is_not() {
    let entry = RowEntry::committed(Lsn::new(4), Ordinal::new(0), Some(row("older")));
    write(&entry, 5, Some("old"), 0);
    assert!(entry.lock().mark_dirty());
    let owner = holder(6);
    let mut state = entry.lock();
    state.set_owner(Arc::clone(&owner), 0);
    state.push(Some(row("new")), 0, Lsn::ZERO, Lsn::MAX, None);
    assert!(state.flushed(Lsn::new(5), true), "there is more to be written");
    assert_eq!(state.version_count(), 2);
    // Whoever locks the row next looks for it here.
    assert_eq!(state.newest(STORE).row, Some(&row("old")));
    state.take_back();
    assert_eq!(state.newest(STORE).row, Some(&row("old")));
    state.push(Some(row("new")), 0, Lsn::ZERO, Lsn::MAX, None);
    state.settle(Lsn::new(8), Ordinal::new(0));
    assert!(!state.flushed(Lsn::new(8), true));
    assert_eq!(state.version_count(), 1);
}
