//! What the tests of elections share: statements as one transaction each, on a table "t".

use crate::common::*;
use scry_engine::collision::{ColumnRule, Computation, Fuzzy, Outcome, RowRule, Rules};
use scry_engine::election::{Elected, NewCandidate, NewElection, OnConflict};
use scry_engine::*;
use std::sync::Arc;

pub fn create_election(home: &Home, name: &str, winners: u32) {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let (name, owner) = (name.to_owned(), "ada".to_owned());
    txn.create_election(NewElection {
        name,
        owner,
        winners,
        private: false,
    })
    .unwrap();
    txn.commit("CREATE ELECTION").unwrap().unwrap();
}

pub fn try_create_candidate(home: &Home, election: &str, name: &str) -> Result<(), Error> {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.create_candidate(NewCandidate {
        election: election.to_owned(),
        name: name.to_owned(),
        mirrored: true,
        weight: 0.5,
        note: String::new(),
    })?;
    txn.commit("CREATE CANDIDATE").map(drop)
}

pub fn create_candidate(home: &Home, election: &str, name: &str) {
    try_create_candidate(home, election, name).unwrap();
}

pub fn begin_in(home: &Home, election: &str, name: &str) -> Txn {
    home.session()
        .begin_in(election, name, Isolation::ReadCommitted)
        .unwrap()
}

pub fn no_expressions(_: &Computation<'_>) -> Result<Value, String> {
    Err("no expressions".to_owned())
}

pub fn elect_with(
    home: &Home,
    election: &str,
    name: &str,
    on_conflict: OnConflict,
) -> Result<Elected, Error> {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let elected = block_on(txn.elect(election, name, on_conflict, &no_expressions))?;
    txn.commit("ELECT CANDIDATE")?;
    Ok(elected)
}

pub fn try_elect(home: &Home, election: &str, name: &str) -> Result<u64, Error> {
    elect_with(home, election, name, OnConflict::Fail).map(|elected| elected.changed)
}

pub fn rebase_with(home: &Home, name: &str, on_conflict: OnConflict) -> Result<Vec<Conflict>, Error> {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let met = block_on(txn.rebase("e", name, on_conflict, &no_expressions))?;
    txn.commit("REBASE CANDIDATE")?;
    Ok(met)
}

/// Rules of the table "t": for rows, for the column `value`, and fuzzy ones.
pub fn rules_of(home: &Home, row: &str, value: &str, fuzzy: &str) -> Rules {
    let table = home.table("t");
    let mut rules = Rules {
        row: (!row.is_empty()).then(|| RowRule::parse(row, &table.def).unwrap()),
        fuzzy: Fuzzy::parse(fuzzy).unwrap(),
        columns: Vec::new(),
    };
    if !value.is_empty() {
        rules.set_column(1, Some(ColumnRule::parse(value, &table.def.columns[1]).unwrap()));
    }
    rules
}

/// Gives the table "t" these rules.
pub fn set_rules(home: &Home, row: &str, value: &str, fuzzy: &str) {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    let rules = rules_of(home, row, value, fuzzy);
    block_on(txn.set_rules(&home.table("t"), rules)).unwrap();
    txn.commit("ALTER TABLE").unwrap();
}

pub fn drop_candidate(home: &Home, election: &str, name: &str) {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    txn.drop_candidate(election, name).unwrap();
    txn.commit("DROP CANDIDATE").unwrap();
}

pub fn rows_in(home: &Home, election: &str, name: &str, table: &Table) -> Vec<(i32, i64)> {
    rows(&mut begin_in(home, election, name), table)
}

/// A home with rows 1 to 3, an election "e" and a candidate "c".
pub fn scene(winners: u32) -> (Home, Arc<Table>) {
    let home = Home::new();
    let table = home.create("t", true);
    for id in 1..=3 {
        home.put(&table, id, i64::from(id) * 10);
    }
    create_election(&home, "e", winners);
    create_candidate(&home, "e", "c");
    (home, table)
}

pub fn change(home: &Home, table: &Table, work: impl FnOnce(&mut Txn, &Table)) {
    let mut txn = home.session().begin(Isolation::ReadCommitted);
    work(&mut txn, table);
    txn.commit("UPDATE 1").unwrap();
}

pub fn change_in(home: &Home, name: &str, table: &Table, work: impl FnOnce(&mut Txn, &Table)) {
    let mut txn = begin_in(home, "e", name);
    work(&mut txn, table);
    txn.commit("UPDATE 1").unwrap();
}

/// Gives a key a value, or none, whatever it has.
pub fn apply(txn: &mut Txn, table: &Table, key: i32, value: Option<i64>) {
    match value {
        Some(value) => {
            if !set(txn, table, key, value) {
                insert(txn, table, key, value);
            }
        }
        None => {
            delete(txn, table, key);
        }
    }
}

/// Elects, and adds the keys of what is deferred to the table "queue", which has `queued` rows.
pub async fn elect_and_queue(
    txn: &mut Txn,
    election: &str,
    name: &str,
    on_conflict: OnConflict,
    queued: usize,
) -> Result<Vec<Conflict>, Error> {
    let elected = txn.elect(election, name, on_conflict, &no_expressions).await?;
    let deferred = elected.conflicts.iter();
    let deferred = deferred.filter(|conflict| conflict.decision.outcome == Outcome::Defer);
    let queue = Arc::clone(txn.catalog().table("queue").unwrap());
    for (number, conflict) in (queued..).zip(deferred) {
        let found = Key::decode(conflict.key.as_ref(), &[DataType::Int4]).unwrap();
        let number = i32::try_from(number).unwrap();
        let row = row(&queue, number, found[0].as_datum().integer().unwrap());
        let outcome = txn.insert(&queue, Some(key(number)), row).await?;
        assert!(matches!(outcome, InsertOutcome::Inserted(_)));
    }
    Ok(elected.conflicts)
}

/// How many rows were decided; the error is the number of those that are in the way.
pub fn decided(result: Result<Vec<Conflict>, Error>) -> Result<usize, usize> {
    match result {
        Ok(conflicts) => Ok(conflicts.len()),
        Err(Error::Conflicts { count, .. }) => Err(count),
        Err(error) => panic!("{error}"),
    }
}
