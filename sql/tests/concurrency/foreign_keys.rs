//! No row refers to what is not there, whatever sessions do at once.

use super::common::{Fixture, run};
use super::{sql, until_waiting};
use scry_sql::Session;
use std::collections::BTreeMap;

const SESSIONS: u64 = 6;
const TRANSACTIONS: u32 = 120;
/// Few enough for sessions to meet all the time.
const KEYS: u64 = 6;

/// What may refuse a statement here.
const EXPECTED: [&str; 6] = ["23503", "23505", "40001", "40P01", "25P02", "3B001"];

const TABLES: &str = "create table p (id int primary key, u int unique, v int);
    create table plain (id int, p int references p);
    create table cascading (id int, p int references p on delete cascade on update cascade);
    create index on cascading (p);
    create table below (p int references p (u) on delete set null on update set null);
    create table late (id int, p int references p deferrable initially deferred);
    create table tree (id int primary key, up int references tree on delete cascade on update cascade)";

/// Each counts the rows that refer to nothing.
const ORPHANS: [&str; 5] = [
    "select count(*) from plain where p is not null and p not in (select id from p)",
    "select count(*) from cascading where p is not null and p not in (select id from p)",
    "select count(*) from below where p is not null and p not in (select u from p where u is not null)",
    "select count(*) from late where p is not null and p not in (select id from p)",
    "select count(*) from tree where up is not null and up not in (select id from tree)",
];

/// An UPDATE that has waited for another definition of the table referred to begins again, and has written nothing before.
async fn waits_and_changes_its_rows_once(tables: &str, altering: &str, update: &str, expected: &[&str]) {
    let fixture = Fixture::new();
    let (mut a, mut b) = (fixture.session(), fixture.session());
    for line in sql(&mut a, tables).await {
        assert!(!line.starts_with("ERROR"), "{line}");
    }
    assert_eq!(
        sql(&mut b, &format!("begin; {altering}")).await,
        ["BEGIN", "ALTER TABLE"]
    );
    let update = update.to_owned();
    let waiting = tokio::spawn(async move { sql(&mut a, &update).await });
    until_waiting(&fixture, 1).await;
    sql(&mut b, "commit").await;
    assert_eq!(waiting.await.expect("joins"), expected);
}

#[test]
fn an_update_that_changes_a_foreign_key_by_a_generated_column_changes_each_row_once() {
    run(waits_and_changes_its_rows_once(
        "create table p (id int primary key); insert into p values (1), (2), (3);
         create table c (id int primary key, n int, g int generated always as (n) stored references p);
         insert into c values (1, 1)",
        "alter table p add x int",
        "update c set n = n + 1 returning n, g",
        &["2|2", "UPDATE 1"],
    ));
}

#[test]
fn an_update_that_changes_a_generated_column_referred_to_changes_each_row_once() {
    run(waits_and_changes_its_rows_once(
        "create table p (id int primary key, n int, u int generated always as (n) stored unique);
         insert into p values (1, 1);
         create table c (u int references p (u) on update cascade); insert into c values (1)",
        "alter table c add x int",
        "update p set n = n + 1 returning n, u",
        &["2|2", "UPDATE 1"],
    ));
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % sides
    }

    fn statement(&mut self) -> String {
        let (a, b) = (self.roll(KEYS), self.roll(KEYS));
        match self.roll(16) {
            0..=2 => format!("insert into p values ({a}, {a}, 0) on conflict do nothing"),
            3 => format!("delete from p where id = {a}"),
            4 => format!("update p set id = {b} where id = {a}"),
            5 => format!("update p set u = {b} where id = {a}"),
            6 => format!("update p set v = v + 1 where id = {a}"),
            7 => format!("insert into plain values ({b}, {a})"),
            8 => format!("insert into cascading values ({b}, {a})"),
            9 => format!("insert into below values ({a})"),
            10 => format!("insert into late values ({b}, {a})"),
            11 => format!("update plain set p = {b} where p = {a}"),
            12 => format!("delete from plain where p = {a}"),
            13 => format!("insert into tree values ({a}, {a}), ({b}, {a}) on conflict do nothing"),
            14 => format!("delete from tree where id = {a}"),
            _ => format!("delete from late where p = {a}"),
        }
    }
}

/// Runs one after the other, and counts how they end.
async fn transactions(mut session: Session, seed: u64) -> BTreeMap<String, u32> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed + 1));
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..TRANSACTIONS {
        let level = ["read committed", "repeatable read", "serializable"][dice.roll(3) as usize];
        let mut script = vec![format!("begin isolation level {level}")];
        for _ in 0..=dice.roll(3) {
            match dice.roll(4) {
                0 => {
                    script.push("savepoint s".to_owned());
                    script.push(dice.statement());
                    script.push("rollback to s".to_owned());
                }
                _ => script.push(dice.statement()),
            }
        }
        script.push("commit".to_owned());
        for statement in script {
            let lines = sql(&mut session, &statement).await;
            for line in lines.iter().filter_map(|line| line.strip_prefix("ERROR ")) {
                let code = line.split(':').next().unwrap_or_default();
                assert!(EXPECTED.contains(&code), "{statement}: {line}");
                *ends.entry(code.to_owned()).or_default() += 1;
            }
            if statement == "commit" {
                *ends.entry(lines.concat()).or_default() += 1;
            }
            // Others get their turn between statements.
            tokio::task::yield_now().await;
        }
    }
    ends
}

#[test]
fn after_random_transactions_at_every_level_no_row_refers_to_what_is_not_there() {
    run(async {
        let fixture = Fixture::new();
        let mut session = fixture.session();
        for line in sql(&mut session, TABLES).await {
            assert!(!line.starts_with("ERROR"), "{line}");
        }
        let running: Vec<_> = (0..SESSIONS)
            .map(|seed| tokio::spawn(transactions(fixture.session(), seed)))
            .collect();
        let mut ends: BTreeMap<String, u32> = BTreeMap::new();
        for session in running {
            for (end, count) in session.await.expect("joins") {
                *ends.entry(end).or_default() += count;
            }
        }
        for end in ["COMMIT", "23503"] {
            assert!(ends.get(end).is_some_and(|count| *count > 20), "{ends:?}");
        }
        for orphans in ORPHANS {
            assert_eq!(sql(&mut session, orphans).await, ["0", "SELECT 1"], "{orphans}");
        }
        assert_eq!(fixture.database.engine().locked_keys(), 0);
    });
}
