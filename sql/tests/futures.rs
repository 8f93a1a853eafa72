//! Futures through SQL, against a naive model: the present's rows with the candidates' laid over them by key.

mod common;

use common::{Fixture, run, script};
use proptest::prelude::*;
use scry_sql::{DatabaseOptions, PLANNING_STACK_BYTES, Session};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Rows by key.
type State = BTreeMap<i32, i32>;
/// What is made of keys: a value, or no row.
type Changes = Vec<(i32, Option<i32>)>;

/// Candidates at a time. Even ones are in an election of all time, odd ones have one of their own.
const CANDIDATES: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Change(Changes),
    Create(usize),
    Propose(usize, Changes),
    Drop(usize),
    Elect(usize),
    Rebase(usize),
    /// Switches the mirror flag.
    Switch(usize),
    Restart,
    /// Reads the candidates on top of each other.
    Stack(Vec<usize>),
}

fn changes() -> impl Strategy<Value = Changes> {
    let value = prop_oneof![3 => (0..1000i32).prop_map(Some), 1 => Just(None)];
    prop::collection::vec((0..25i32, value), 1..10)
}

fn step() -> impl Strategy<Value = Step> {
    let candidate = 0..CANDIDATES;
    let stack = Just((0..CANDIDATES).collect::<Vec<_>>()).prop_shuffle();
    prop_oneof![
        4 => changes().prop_map(Step::Change),
        4 => candidate.clone().prop_map(Step::Create),
        8 => (candidate.clone(), changes()).prop_map(|(candidate, changes)| Step::Propose(candidate, changes)),
        2 => candidate.clone().prop_map(Step::Drop),
        2 => candidate.clone().prop_map(Step::Elect),
        3 => candidate.clone().prop_map(Step::Rebase),
        2 => candidate.prop_map(Step::Switch),
        1 => Just(Step::Restart),
        4 => (stack, 1..=CANDIDATES).prop_map(|(mut stack, count)| {
            stack.truncate(count);
            Step::Stack(stack)
        }),
    ]
}

/// A candidate as the model knows it.
struct Candidate {
    election: String,
    name: String,
    base: State,
    proposed: BTreeMap<i32, Option<i32>>,
    mirrored: bool,
    /// What was said, of a candidate of statements.
    said: Option<Vec<Changes>>,
}

impl Candidate {
    fn new(election: String, name: String, base: &State, of_statements: bool) -> Candidate {
        Candidate {
            election,
            name,
            base: base.clone(),
            proposed: BTreeMap::new(),
            mirrored: true,
            said: of_statements.then(Vec::new),
        }
    }

    /// Begins anew from `base`: what was said is done again, upon it.
    fn rebase(&mut self, base: &State) {
        self.base = base.clone();
        if let Some(said) = self.said.take() {
            self.proposed.clear();
            said.iter().for_each(|changes| self.propose(changes));
            self.said = Some(said);
        }
    }

    fn path(&self) -> String {
        format!("{}/{}", self.election, self.name)
    }

    fn propose(&mut self, changes: &Changes) {
        for (key, value) in changes {
            // Of a key that the base lacks, nothing is left when it has no row in the candidate.
            match value.is_none() && !self.base.contains_key(key) {
                true => drop(self.proposed.remove(key)),
                false => drop(self.proposed.insert(*key, *value)),
            }
        }
    }
}

fn apply(state: &mut State, changes: impl IntoIterator<Item = (i32, Option<i32>)>) {
    for (key, value) in changes {
        match value {
            Some(value) => state.insert(key, value),
            None => state.remove(&key),
        };
    }
}

/// Statements that make the changes.
fn statements(changes: &Changes) -> String {
    let mut sql = String::new();
    for (key, value) in changes {
        let _ = match value {
            Some(value) => write!(
                sql,
                "INSERT INTO t VALUES ({key}, {value}, '{value:>30}') ON CONFLICT (k) DO UPDATE SET v = excluded.v, s = excluded.s;"
            ),
            None => write!(sql, "DELETE FROM t WHERE k = {key};"),
        };
    }
    sql
}

async fn succeed(session: &mut Session, sql: &str) -> Vec<String> {
    let lines = script(session, sql, None).await;
    assert!(
        !lines.iter().any(|line| line.starts_with("ERROR")),
        "{sql}: {lines:?}"
    );
    lines
}

/// Reads a table, counts it without reading it, and looks a key up; compares all with the model.
async fn check(session: &mut Session, table: &str, expected: &State) {
    let mut lines: Vec<String> = expected
        .iter()
        .map(|(key, value)| format!("{key}|{value}|{value:>30}"))
        .collect();
    lines.push(format!("SELECT {}", expected.len()));
    assert_eq!(
        succeed(session, &format!("SELECT * FROM {table} ORDER BY k")).await,
        lines,
        "{table}"
    );
    let count = succeed(session, &format!("SELECT count(*) FROM {table}")).await;
    assert_eq!(count[0], expected.len().to_string(), "{table}");
    let (key, found) = match expected.iter().next_back() {
        Some((key, value)) => (*key, vec![value.to_string(), "SELECT 1".to_owned()]),
        None => (0, vec!["SELECT 0".to_owned()]),
    };
    let point = succeed(session, &format!("SELECT v FROM {table} WHERE k = {key}")).await;
    assert_eq!(point, found, "{table}");
}

async fn check_all(steps: Vec<Step>) {
    let options = || {
        let mut options = DatabaseOptions::default();
        options.analytic.threads = 2;
        options
    };
    let mut fixture = Fixture::with_options(options());
    let mut session = fixture.session();
    let mut present: State = (0..15).map(|key| (key, key)).collect();
    succeed(
        &mut session,
        "CREATE TABLE t (k int PRIMARY KEY, v int NOT NULL, s text NOT NULL)",
    )
    .await;
    let rows: Changes = present.iter().map(|(key, value)| (*key, Some(*value))).collect();
    succeed(&mut session, &statements(&rows)).await;
    succeed(&mut session, "CREATE ELECTION e WITH (winners = any)").await;
    let first_base = present.clone();
    let mut candidates: BTreeMap<usize, Candidate> = BTreeMap::new();
    let mut made = 0;
    // Nothing is laid on top of each other before there are several.
    let first = (0..CANDIDATES).map(Step::Create);
    for step in first.chain(steps) {
        match step {
            Step::Change(changes) => {
                succeed(&mut session, &statements(&changes)).await;
                apply(&mut present, changes);
            }
            Step::Create(place) => {
                if candidates.contains_key(&place) {
                    continue;
                }
                made += 1;
                let of_statements = made % 3 == 0;
                let candidate = match place % 2 {
                    0 => Candidate::new("e".to_owned(), format!("c{made}"), &first_base, of_statements),
                    _ => {
                        succeed(&mut session, &format!("CREATE ELECTION f{made}")).await;
                        Candidate::new(format!("f{made}"), "c".to_owned(), &present, of_statements)
                    }
                };
                let create = format!("CREATE CANDIDATE {} IN {}", candidate.name, candidate.election);
                succeed(&mut session, &create).await;
                candidates.insert(place, candidate);
            }
            Step::Propose(place, changes) => {
                let Some(candidate) = candidates.get_mut(&place) else {
                    continue;
                };
                let mut inside = fixture.session();
                let mode = match candidate.said {
                    Some(_) => "statements",
                    None => "rows",
                };
                let enter = format!("SELECT scry.set_candidate('{}', '{mode}')", candidate.path());
                succeed(&mut inside, &enter).await;
                succeed(&mut inside, &statements(&changes)).await;
                candidate.propose(&changes);
                candidate
                    .said
                    .iter_mut()
                    .for_each(|said| said.push(changes.clone()));
            }
            Step::Drop(place) => {
                let Some(candidate) = candidates.remove(&place) else {
                    continue;
                };
                let name = format!("{} IN {}", candidate.name, candidate.election);
                succeed(&mut session, &format!("DROP CANDIDATE {name}")).await;
                let read = format!("SELECT 1 FROM \"{}\".t", candidate.path());
                let lines = script(&mut session, &read, None).await;
                assert!(lines[0].starts_with("ERROR 55000"), "{lines:?}");
            }
            Step::Elect(place) => {
                let Some(candidate) = candidates.get(&place) else {
                    continue;
                };
                let elect = format!("ELECT CANDIDATE {} IN {}", candidate.name, candidate.election);
                let lines = script(&mut session, &elect, None).await;
                // With conflicts nothing happens.
                if lines == ["ELECT CANDIDATE"] {
                    match &candidate.said {
                        Some(said) => apply(&mut present, said.concat()),
                        None => apply(&mut present, candidate.proposed.clone()),
                    }
                    candidates.remove(&place);
                } else {
                    assert!(lines[0].starts_with("ERROR 40002"), "{lines:?}");
                    assert!(candidate.said.is_none(), "statements do not conflict: {lines:?}");
                }
            }
            Step::Rebase(place) => {
                let Some(candidate) = candidates.get_mut(&place) else {
                    continue;
                };
                let rebase = format!("REBASE CANDIDATE {} IN {}", candidate.name, candidate.election);
                let lines = script(&mut session, &rebase, None).await;
                if lines == ["REBASE CANDIDATE"] {
                    candidate.rebase(&present);
                } else {
                    assert!(lines[0].starts_with("ERROR 40002"), "{lines:?}");
                    assert!(candidate.said.is_none(), "statements do not conflict: {lines:?}");
                }
            }
            Step::Switch(place) => {
                let Some(candidate) = candidates.get_mut(&place) else {
                    continue;
                };
                candidate.mirrored = !candidate.mirrored;
                let alter = format!(
                    "ALTER CANDIDATE {} IN {} SET (mirror = {})",
                    candidate.name, candidate.election, candidate.mirrored
                );
                succeed(&mut session, &alter).await;
            }
            Step::Restart => {
                drop(session);
                fixture = fixture.restart(options());
                session = fixture.session();
            }
            Step::Stack(places) => {
                let stack: Vec<&Candidate> = places
                    .iter()
                    .filter_map(|place| candidates.get(place))
                    .filter(|candidate| candidate.mirrored)
                    .collect();
                if stack.is_empty() {
                    continue;
                }
                let paths: Vec<String> = stack.iter().map(|candidate| candidate.path()).collect();
                let mut expected = present.clone();
                for candidate in stack {
                    apply(&mut expected, candidate.proposed.clone());
                }
                check(&mut session, &format!("\"{}\".t", paths.join("+")), &expected).await;
                succeed(&mut session, &format!("SET scry.future = '{}'", paths.join("+"))).await;
                check(&mut session, "t", &expected).await;
                check(&mut session, "public.t", &present).await;
                succeed(&mut session, "RESET scry.future").await;
            }
        }
        for candidate in candidates.values() {
            if !candidate.mirrored {
                // While it has changed nothing, its future is the present.
                let read = format!("SELECT 1 FROM \"{}\".t", candidate.path());
                let lines = script(&mut session, &read, None).await;
                assert!(lines[0].starts_with("ERROR 55000"), "{lines:?}");
                continue;
            }
            let mut expected = present.clone();
            apply(&mut expected, candidate.proposed.clone());
            check(&mut session, &format!("\"{}\".t", candidate.path()), &expected).await;
        }
        check(&mut session, "t", &present).await;
    }
    // What was not elected leaves nothing.
    for candidate in candidates.values() {
        let name = format!("{} IN {}", candidate.name, candidate.election);
        succeed(&mut session, &format!("DROP CANDIDATE {name}")).await;
    }
    succeed(
        &mut session,
        "INSERT INTO t VALUES (99, 99, '99') ON CONFLICT DO NOTHING; DELETE FROM t WHERE k = 99",
    )
    .await;
    check(&mut session, "t", &present).await;
    drop(session);
    fixture.database.close().expect("the database closes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn futures_agree_with_a_model(steps in prop::collection::vec(step(), 1..20)) {
        run(check_all(steps));
    }
}

#[test]
fn explain_says_what_a_future_has_and_why_no_row_plan_reads_it() {
    run(async {
        let fixture = Fixture::new();
        let mut session = fixture.session();
        succeed(&mut session, "CREATE TABLE t (k int PRIMARY KEY, v int)").await;
        succeed(
            &mut session,
            "INSERT INTO t SELECT g, g FROM generate_series(1, 10) g",
        )
        .await;
        succeed(&mut session, "CREATE ELECTION e; CREATE CANDIDATE c IN e").await;
        succeed(&mut session, "SET scry.candidate = 'e/c'").await;
        succeed(
            &mut session,
            "UPDATE t SET v = 0 WHERE k < 3; DELETE FROM t WHERE k = 5; INSERT INTO t VALUES (11, 0)",
        )
        .await;
        succeed(&mut session, "RESET scry.candidate").await;
        succeed(
            &mut session,
            "INSERT INTO t VALUES (11, 1); UPDATE t SET v = 1 WHERE k = 5",
        )
        .await;
        let figures = "  Future: t of \"e/c\": 3 rows of its own, 4 hidden, 2 predicted conflicts".to_owned();
        let lines = succeed(&mut session, "EXPLAIN SELECT * FROM \"e/c\".t WHERE k = 1").await;
        assert_eq!(
            lines[..3],
            ["Query (mirror)", "  Why: a future of a table", &figures]
        );
        assert!(
            lines.iter().any(|line| line.contains("table=t, future=e/c, ")),
            "{lines:?}"
        );
        succeed(&mut session, "SET scry.future = 'e/c'").await;
        let lines = succeed(&mut session, "EXPLAIN SELECT * FROM t WHERE k = 1").await;
        assert_eq!(
            lines[..3],
            ["Query (mirror)", "  Why: a future (scry.future is set)", &figures]
        );
        let lines = succeed(&mut session, "EXPLAIN SELECT * FROM public.t WHERE k = 1").await;
        assert_eq!(lines[1], "  Why: the whole primary key is fixed");
    });
}

#[test]
fn a_deep_query_that_compares_deep_queries_is_planned() {
    let on_a_server_thread = std::thread::Builder::new()
        .stack_size(PLANNING_STACK_BYTES)
        .spawn(|| {
            run(async {
                let fixture = Fixture::new();
                let mut session = fixture.session();
                succeed(&mut session, "CREATE TABLE t (k int PRIMARY KEY)").await;
                succeed(&mut session, "CREATE ELECTION e").await;
                succeed(&mut session, "CREATE CANDIDATE c IN e").await;
                let nested = |query: &str, levels: usize| {
                    let (from, end) = ("SELECT * FROM (".repeat(levels), ") s".repeat(levels));
                    format!("{from}{query}{end}")
                };
                let (open, close) = ("(".repeat(190), ")".repeat(190));
                let unions = " UNION ALL SELECT 1".repeat(900);
                for inner in [
                    format!("SELECT {open}count(*){close} AS n FROM t"),
                    nested("SELECT count(*) AS n FROM t", 190),
                    format!("SELECT count(*) AS n FROM (SELECT 1 AS k{unions}) s WHERE k < 1"),
                ] {
                    let outer = nested(&format!("SELECT * FROM scry.compare('e', '{inner}')"), 190);
                    let lines = succeed(&mut session, &format!("{outer} ORDER BY 1")).await;
                    assert_eq!(lines, ["c|0|0", "NULL|0|0", "SELECT 2"]);
                }
            });
        });
    on_a_server_thread.expect("a thread").join().expect("planned");
}

/// Runs the story of an election whose candidate gives row 2 a value and deletes another row. Answers where the mirror has come to, and
/// where the last commit stands.
fn tell(dir: &std::path::Path, value: i32, deleted: i32) -> (Option<scry_wal::Lsn>, scry_wal::Lsn) {
    let database = scry_sql::Database::open(dir, DatabaseOptions::default()).expect("a new database");
    common::run(async {
        let info = scry_sql::SessionInfo {
            user: "tester".into(),
            ..scry_sql::SessionInfo::default()
        };
        let mut session = database.session(info).expect("a session");
        for statement in [
            "CREATE TABLE t (id int PRIMARY KEY, v int)".to_owned(),
            "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30), (4, 40)".to_owned(),
            "CREATE ELECTION e".to_owned(),
            "CREATE CANDIDATE c IN e".to_owned(),
            "SET scry.candidate = 'e/c'".to_owned(),
            format!("UPDATE t SET v = {value} WHERE id = 2"),
            format!("DELETE FROM t WHERE id = {deleted}"),
            "RESET scry.candidate".to_owned(),
            "ELECT CANDIDATE c IN e".to_owned(),
        ] {
            let lines = common::script(&mut session, &statement, None).await;
            assert!(!lines.iter().any(|line| line.starts_with("ERROR")), "{lines:?}");
        }
    });
    let last = database.engine().visible_lsn();
    database.close().expect("closed");
    (scry_mirror::checkpoint_lsn(&dir.join("mirror")), last)
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => {
                std::fs::create_dir(&to).expect("created");
                copy(&from, &to);
            }
            false => drop(std::fs::copy(&from, &to).expect("copied")),
        }
    }
}

#[test]
fn a_mirror_that_tells_another_story_of_an_election_is_found_out() {
    // Of one database: the mirror of another would not be taken.
    let empty = tempfile::tempdir().expect("a directory");
    let database = scry_sql::Database::open(empty.path(), DatabaseOptions::default()).expect("opens");
    database.close().expect("closed");
    let new = || {
        let dir = tempfile::tempdir().expect("a directory");
        copy(empty.path(), dir.path());
        dir
    };
    // Logs of the same length with the same place of the last commit: the time of a quiet moment's frame is not ours to say.
    let (home, other) = (0..50)
        .map(|_| (new(), new()))
        .find(|(home, other)| {
            let told = tell(home.path(), 22, 3);
            told.0.is_some() && told == tell(other.path(), 99, 4)
        })
        .expect("two logs alike");
    let validated = |dir: &std::path::Path| {
        let database = scry_sql::Database::open(dir, DatabaseOptions::default()).expect("opens");
        let found = common::run(async {
            let info = scry_sql::SessionInfo::default();
            let mut session = database.session(info).expect("a session");
            let asked = "SELECT candidate, \"table\", rows, primary_rows, mirror_rows, primary_checksum = mirror_checksum, \
                         differences, examples FROM scry.validate_election('e')";
            common::script(&mut session, asked, None).await
        });
        database.close().expect("closed");
        found
    };
    assert_eq!(validated(home.path()), ["c|t|1|3|3|t|0|NULL", "SELECT 1"]);
    // Whole files, with checksums that fit: only a comparison can tell.
    let (from, to) = (other.path().join("mirror"), home.path().join("mirror"));
    std::fs::remove_dir_all(&to).expect("removed");
    std::fs::rename(&from, &to).expect("moved");
    let found = validated(home.path());
    assert_eq!(
        found.join("\n"),
        "c|t|1|3|3|f|3|(2,22) is otherwise in the mirror\n(4,40) is not in the mirror\n\
         the mirror's row with ordinal 2 is not in the table\nSELECT 1"
    );
}
