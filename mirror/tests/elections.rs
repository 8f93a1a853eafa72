//! Candidates in the mirror: their futures, and the relinking of what is elected, against the primary and a model.
#![allow(clippy::unwrap_used)]

mod common;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use common::candidates::{
    Changes, change, create, create_candidate, elect, elect_with, end, engine, prefer_candidates, propose,
};
use common::*;
use proptest::prelude::*;
use scry_engine::election::OnConflict;
use scry_engine::{Engine, Table};
use scry_mirror::{BranchView, Mirror, Snapshot};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

type State = BTreeMap<i64, i64>;

/// A snapshot of everything that is committed.
fn newest(engine: &Arc<Engine>, mirror: &Arc<Mirror>) -> Snapshot {
    let lsn = engine.visible_lsn();
    engine.log().wait_durable(lsn).unwrap();
    block_on(mirror.applied(lsn.plus(1))).unwrap();
    mirror.newest_snapshot()
}

/// Adds the rows of a unit; the number of keys that were there already.
fn read(state: &mut State, unit: &scry_mirror::ScanUnit, hidden: &roaring::RoaringTreemap) -> u64 {
    let mut twice = 0;
    let batch = unit.read(&[0, 1, 2], Some(hidden)).unwrap();
    let (ids, values) = (
        batch.column(0).as_primitive::<Int64Type>(),
        batch.column(1).as_primitive::<Int64Type>(),
    );
    for position in 0..batch.num_rows() {
        let value = values.value(position);
        assert_eq!(
            batch.column(2).as_string::<i32>().value(position),
            format!("{value:>20}")
        );
        twice += u64::from(state.insert(ids.value(position), value).is_some());
    }
    twice
}

/// The rows that a candidate's future has in the mirror, how many conflicts it predicts, and how many keys both it and
/// the table have given to new rows.
fn future(engine: &Arc<Engine>, snapshot: &Snapshot, table: &Table, name: &str) -> (State, u64, u64) {
    let catalog = engine.catalog();
    let candidate = catalog
        .elections()
        .get("e")
        .unwrap()
        .candidate(name)
        .unwrap()
        .clone();
    let present = snapshot.table(table.def.store).unwrap();
    let branch = candidate.branch(table.def.store);
    let branch = branch.map(|branch| snapshot.table(branch.store()).unwrap());
    let view = branch
        .as_ref()
        .map_or_else(BranchView::default, |branch| BranchView::read(branch).unwrap());
    let mut state = State::new();
    for unit in present.units() {
        assert_eq!(read(&mut state, &unit, &view.replaced), 0);
    }
    let mut twice = 0;
    let conflicts = view.conflicts(&present).len();
    if let Some(branch) = branch
        && conflicts == 0
    {
        let before = state.len() as u64;
        for unit in branch.units() {
            twice += read(&mut state, &unit, &view.deleted);
        }
        assert_eq!(
            state.len() as u64 + twice,
            before + branch.live_rows() - view.deleted.len()
        );
    }
    (state, conflicts, twice)
}

fn check_against_primary(engine: &Arc<Engine>, snapshot: &Snapshot, table: &Table) {
    let (lsn, checksum) = primary_checksum(engine, table);
    assert!(lsn <= snapshot.lsn());
    let mirrored = snapshot.table(table.def.store).unwrap();
    assert_eq!(mirrored.checksum().unwrap(), checksum);
}

fn segment_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder.join("mirror")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

#[test]
fn electing_rewrites_no_row_in_memory_or_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let mirror = mirror(folder.path(), &engine);
    let table = create(&engine, 10);
    create_candidate(&engine, "c", true);
    propose(
        &engine,
        "c",
        &table,
        &(100..1_124).map(|id| (id, Some(id))).collect(),
    );
    newest(&engine, &mirror);
    mirror.close();
    let sealed = segment_files(folder.path());
    let reopened = common::mirror(folder.path(), &engine);
    assert_eq!(elect(&engine, "c").unwrap(), 1_024);
    let snapshot = newest(&engine, &reopened);
    check_against_primary(&engine, &snapshot, &table);
    drop(snapshot);
    reopened.close();
    // The branch's files are the table's now; the checkpoint at the close wrote none of their rows again.
    let after = segment_files(folder.path());
    // (Small ones may be merged with others.)
    let of_branch: Vec<_> = sealed.iter().filter(|(_, bytes)| bytes.len() > 4_000).collect();
    assert!(!of_branch.is_empty());
    for (name, bytes) in &of_branch {
        assert_eq!(after.get(*name), Some(*bytes));
    }
    let kept_bytes: usize = of_branch.iter().map(|(_, bytes)| bytes.len()).sum();
    let new_bytes: usize = after
        .iter()
        .filter(|(name, _)| !sealed.contains_key(*name))
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert!(
        new_bytes < kept_bytes,
        "{new_bytes} bytes in new segments, {kept_bytes} in those that stayed"
    );
    // And they are still the table's after a restart, deletes and updates of them included.
    let reopened = common::mirror(folder.path(), &engine);
    assert!(reopened.status().rebuilt.is_none());
    check_against_primary(&engine, &newest(&engine, &reopened), &table);
    change(
        &engine,
        &table,
        &(100..400).map(|id| (id, (id % 2 == 0).then_some(7))).collect(),
    );
    check_against_primary(&engine, &newest(&engine, &reopened), &table);
    reopened.close();
    let reopened = common::mirror(folder.path(), &engine);
    check_against_primary(&engine, &newest(&engine, &reopened), &table);
}

#[test]
fn a_candidate_that_is_not_mirrored_reaches_the_mirror_with_its_election() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let mirror = mirror(folder.path(), &engine);
    let table = create(&engine, 10);
    create_candidate(&engine, "c", false);
    newest(&engine, &mirror);
    let stores = mirror.status().stores;
    propose(
        &engine,
        "c",
        &table,
        &vec![(1, Some(11)), (2, None), (20, Some(20))],
    );
    newest(&engine, &mirror);
    assert_eq!(mirror.status().stores, stores);
    // After a restart it is known, too, whose changes these are.
    create_candidate(&engine, "d", false);
    propose(&engine, "d", &table, &vec![(2, Some(12))]);
    newest(&engine, &mirror);
    mirror.close();
    let mirror = common::mirror(folder.path(), &engine);
    assert_eq!(mirror.status().stores, stores);
    propose(&engine, "c", &table, &vec![(3, Some(13)), (20, None)]);
    end(&engine, "d");
    newest(&engine, &mirror);
    assert_eq!(elect(&engine, "c").unwrap(), 3);
    check_against_primary(&engine, &newest(&engine, &mirror), &table);
}

#[test]
fn a_damaged_piece_with_rows_of_a_candidate_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let mut options = small(&engine);
    // Every column is read from its file.
    options.cache_bytes = 0;
    let mirror = Mirror::open(&folder.path().join("mirror"), engine.log().clone(), options).unwrap();
    let table = create(&engine, 100);
    create_candidate(&engine, "c", true);
    // In several commits, so that pieces are merged, with gaps where the branch ended its own rows.
    for round in 0..4 {
        let changes = (0..150).map(|id| (id + round * 20, (id % 9 != 0).then_some(id * round)));
        propose(&engine, "c", &table, &changes.collect());
    }
    elect(&engine, "c").unwrap();
    change(&engine, &table, &(500..600).map(|id| (id, Some(id))).collect());
    newest(&engine, &mirror);
    sealed(&mirror, mirror.applied_lsn());
    let (_, expected) = primary_checksum(&engine, &table);
    let mut harmed = 0;
    for path in segments(folder.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.len() > 2_000 {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            std::fs::write(&path, bytes).unwrap();
            harmed += 1;
        }
    }
    let checksum = || {
        newest(&engine, &mirror)
            .table(table.def.store)
            .unwrap()
            .checksum()
    };
    assert!(harmed > 0 && checksum().is_err());
    wait_for_repair(&mirror, expected, checksum);
}

#[derive(Clone, Debug)]
enum Step {
    Change(Changes),
    Create(usize),
    Propose(usize, Changes),
    /// With or without the table's rule.
    Elect(usize, bool),
    End(usize),
    Checkpoint,
    Restart,
}

fn changes() -> impl Strategy<Value = Changes> {
    let value = prop_oneof![3 => (0..1000i64).prop_map(Some), 1 => Just(None)];
    prop::collection::vec((0..30i64, value), 1..12)
}

fn step() -> impl Strategy<Value = Step> {
    let candidate = 0..3usize;
    prop_oneof![
        4 => changes().prop_map(Step::Change),
        3 => candidate.clone().prop_map(Step::Create),
        6 => (candidate.clone(), changes()).prop_map(|(candidate, changes)| Step::Propose(candidate, changes)),
        3 => (candidate.clone(), any::<bool>()).prop_map(|(candidate, ruled)| Step::Elect(candidate, ruled)),
        1 => candidate.prop_map(Step::End),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn futures_and_what_becomes_of_them_agree_with_a_model(steps in prop::collection::vec(step(), 1..30)) {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path());
        let mut mirror = Some(common::mirror(folder.path(), &engine));
        let table = create(&engine, 20);
        prefer_candidates(&engine, &table);
        let mut present: State = (0..20).map(|id| (id, id)).collect();
        // By candidate: its name and what it last proposed for each key.
        let mut candidates: BTreeMap<usize, (String, BTreeMap<i64, Option<i64>>)> = BTreeMap::new();
        let base = present.clone();
        let mut made = 0;
        for step in steps {
            match step {
                Step::Change(changes) => {
                    change(&engine, &table, &changes);
                    for (id, value) in changes {
                        match value {
                            Some(value) => present.insert(id, value),
                            None => present.remove(&id),
                        };
                    }
                }
                Step::Create(candidate) if !candidates.contains_key(&candidate) => {
                    made += 1;
                    let name = format!("c{made}");
                    create_candidate(&engine, &name, true);
                    candidates.insert(candidate, (name, BTreeMap::new()));
                }
                Step::Propose(candidate, changes) => if let Some((name, proposals)) = candidates.get_mut(&candidate) {
                    propose(&engine, name, &table, &changes);
                    for (id, value) in changes {
                        if value.is_some() || base.contains_key(&id) {
                            proposals.insert(id, value);
                        } else {
                            proposals.remove(&id);
                        }
                    }
                },
                Step::Elect(candidate, ruled) => if let Some((name, proposals)) = candidates.get(&candidate).cloned()
                    && match ruled {
                        true => elect_with(&engine, &name, OnConflict::Resolve).map_err(|error| panic!("{error}")),
                        false => elect(&engine, &name),
                    }.is_ok()
                {
                    candidates.remove(&candidate);
                    for (id, value) in proposals {
                        match value {
                            Some(value) => present.insert(id, value),
                            None => present.remove(&id),
                        };
                    }
                },
                Step::End(candidate) => if let Some((name, _)) = candidates.remove(&candidate) {
                    end(&engine, &name);
                },
                Step::Checkpoint => mirror.as_ref().unwrap().request_checkpoint(),
                Step::Restart => {
                    mirror.take().unwrap().close();
                    mirror = Some(common::mirror(folder.path(), &engine));
                }
                Step::Create(_) => {}
            }
            let snapshot = newest(&engine, mirror.as_ref().unwrap());
            check_against_primary(&engine, &snapshot, &table);
            for (name, proposals) in candidates.values() {
                let (state, conflicts, twice) = future(&engine, &snapshot, &table, name);
                let mut expected = present.clone();
                let mut clash = false;
                for (id, value) in proposals {
                    clash |= !base.contains_key(id) && present.contains_key(id);
                    match value {
                        Some(value) => expected.insert(*id, *value),
                        None => expected.remove(id),
                    };
                }
                prop_assert!(clash || twice == 0, "{} keys twice", twice);
                if conflicts == 0 && !clash {
                    prop_assert_eq!(state, expected);
                }
            }
        }
    }
}
