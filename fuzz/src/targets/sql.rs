//! SQL text: parsed, planned, described and run.

use std::collections::BTreeSet;

use scry_sql::Error;
use scry_sql::error::SqlState;

use super::sessions::{Place, check_error, simple, tags};
use crate::target::{Outcome, Target};

const SCHEMA: &str = "
    CREATE TABLE a (id int PRIMARY KEY, v int, t text DEFAULT 'none', n numeric(10, 2), d date, f float8);
    CREATE TABLE b (x int, y text, ts timestamptz, j jsonb, u uuid, z bytea, q boolean, s smallint, big bigint);
    CREATE TABLE two (k1 int, k2 text, v numeric, PRIMARY KEY (k1, k2));
    INSERT INTO a SELECT n, n * 10, 'row ' || n, n / 3.0, date '2024-01-01' + n, n::float8 FROM generate_series(1, 20) AS g(n);
    INSERT INTO b VALUES (1, 'one', now(), '{\"a\": 1}', NULL, '\\x00', true, 1, 5000000000), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO two VALUES (1, 'a', 1.5), (1, 'b', 2.5), (2, 'a', NULL)";

/// A statement that would run longer is not worth it.
const SETTINGS: &str = "SET statement_timeout = '300ms'";

/// Scripts of the session tests, and expressions of the expression tests.
const SCRIPTS: [&str; 7] = [
    include_str!("../../../sql/testdata/sessions/basics.txt"),
    include_str!("../../../sql/testdata/sessions/copy.txt"),
    include_str!("../../../sql/testdata/sessions/dml.txt"),
    include_str!("../../../sql/testdata/sessions/select.txt"),
    include_str!("../../../sql/testdata/sessions/settings.txt"),
    include_str!("../../../sql/testdata/sessions/tables.txt"),
    include_str!("../../../sql/testdata/sessions/transactions.txt"),
];
const EXPRESSIONS: &str = include_str!("../../../sql/testdata/expressions.txt");

const QUERIES: [&str; 15] = [
    "SELECT t, count(*), sum(v), avg(n), min(d), max(f) FROM a WHERE id > 3 GROUP BY t HAVING count(*) > 0 ORDER BY 2 DESC LIMIT 5",
    "SELECT * FROM a JOIN b ON a.id = b.x LEFT JOIN two USING (v) WHERE y LIKE 'o%' OR q IS NOT TRUE",
    "WITH w AS (SELECT id, v FROM a UNION ALL SELECT x, s FROM b) SELECT w.id, row_number() OVER (PARTITION BY v ORDER BY id) FROM w",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 10) SELECT sum(n) FROM r",
    "SELECT id FROM a WHERE id IN (SELECT x FROM b WHERE EXISTS (SELECT 1 FROM two WHERE k1 = x))",
    "SELECT id, t FROM a WHERE id IN (1, 2, 3) AND v > 3 FOR UPDATE SKIP LOCKED",
    "SELECT CASE WHEN v > 5 THEN 'big' ELSE t END, coalesce(n, 0)::text, extract(year FROM d), d + interval '1 month' FROM a",
    "UPDATE a SET v = v + 1, t = upper(t) WHERE id BETWEEN 2 AND 5 RETURNING id, v",
    "INSERT INTO two (k1, k2) VALUES ($1, $2) ON CONFLICT (k1, k2) DO UPDATE SET v = excluded.v + two.v RETURNING *",
    "DELETE FROM a WHERE d < date '2024-01-05' AND f * 2 > 3; SELECT count(*) FROM a",
    "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_class c JOIN pg_attribute a ON a.attrelid = c.oid",
    "SELECT table_name, column_name, data_type FROM information_schema.columns ORDER BY ordinal_position",
    "DECLARE c CURSOR FOR SELECT * FROM a; FETCH 3 FROM c; CLOSE c; PREPARE p (int) AS SELECT $1 + 1; EXECUTE p (2); DEALLOCATE p",
    "SELECT to_char(ts, 'YYYY-MM-DD HH24:MI:SS'), ts AT TIME ZONE 'UTC', j, lower(y), substring(y FROM 1 FOR 2), position('n' IN y) FROM b",
    "EXPLAIN SELECT round(n, 1), f::numeric, power(v, 2), v % 3, -v, NOT q, z || z, array_agg(v) FROM a, b GROUP BY 1, 2, 3, 4, 5, 6, 7",
];

pub struct Sql {
    place: Place,
}

impl Sql {
    pub fn new() -> Self {
        Self {
            place: Place::new(SCHEMA),
        }
    }
}

impl Target for Sql {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let scripts = SCRIPTS
            .iter()
            .flat_map(|script| script.split("\n\n"))
            .map(statement);
        let expressions = EXPRESSIONS
            .lines()
            .filter_map(|line| line.split('\t').next())
            .map(|expression| format!("SELECT {expression}"));
        let queries = QUERIES.iter().map(|&query| query.to_owned());
        scripts
            .chain(expressions)
            .chain(queries)
            .map(String::into_bytes)
            .collect()
    }

    fn words(&self) -> Vec<Vec<u8>> {
        // Every word of the seeds, once.
        let seeds = self.seeds();
        let words: BTreeSet<&[u8]> = seeds
            .iter()
            .flat_map(|seed| seed.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_'))
            .filter(|word| (1..=24).contains(&word.len()))
            .collect();
        let signs = [
            "(",
            ")",
            ",",
            ";",
            "*",
            "::",
            "->",
            "->>",
            "||",
            "'",
            "\"",
            "$$",
            "--",
            "/*",
            "*/",
            "$1",
            "$2",
            "[",
            "]",
            "<>",
            ">=",
            "~",
            "NULL",
            "E'\\x41'",
            "U&'\\0041'",
            "1e400",
            "9223372036854775808",
            "''",
            "\u{e9}",
        ];
        let signs = signs.iter().map(|sign| sign.as_bytes());
        words.into_iter().chain(signs).map(<[u8]>::to_vec).collect()
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        let text = String::from_utf8_lossy(input);
        let said = self.said(&text).map(|said| {
            said.map_err(|error| {
                check_error(&error);
                (error.code, Outcome::of_message(&error.message))
            })
        });
        let parsed =
            |said: &Result<(), (SqlState, Outcome)>| !matches!(said, Err((SqlState::SYNTAX_ERROR, _)));
        match said.iter().any(parsed) {
            true => Outcome::of(said),
            false => Outcome::of(said).turned_away(),
        }
    }
}

impl Sql {
    /// What is said to the text as a statement to be prepared, and as a script to be run.
    fn said(&self, text: &str) -> [Result<(), Error>; 2] {
        let mut session = self.place.session();
        self.place.runtime.block_on(async {
            simple(&mut session, SETTINGS).await.expect("a setting");
            // As the extended protocol does, without running it.
            let described = match session.prepare("", text, &[]).await {
                Ok(()) => session.describe_statement("").await.map(drop),
                Err(error) => Err(error),
            };
            session.sync().await.expect("nothing was begun");
            // As the simple protocol does. What it changes is taken back, unless the text itself commits.
            simple(&mut session, "BEGIN").await.expect("a transaction begins");
            let ran = simple(&mut session, text).await.map(|out| drop(tags(&out)));
            simple(&mut session, "ROLLBACK")
                .await
                .expect("a transaction ends");
            [described, ran]
        })
    }
}

/// The SQL of a block in a golden script.
fn statement(block: &str) -> String {
    let lines = block
        .lines()
        .skip_while(|line| line.starts_with(['#', '@']) || line.is_empty());
    let lines: Vec<&str> = lines
        .take_while(|line| !matches!(*line, "----" | "data:"))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_statements_that_run() {
        let target = Sql::new();
        for query in QUERIES {
            // Parameters are for the extended protocol alone, several statements for the simple one.
            let said = target.said(query);
            assert!(said.iter().any(Result::is_ok), "{query}: {said:?}");
        }
        let seeds = target.seeds();
        let said = seeds
            .iter()
            .map(|seed| target.said(&String::from_utf8_lossy(seed)));
        let good = said.filter(|said| said.iter().any(Result::is_ok)).count();
        // Others are about tables of their own scripts, or are wrong on purpose.
        assert!(good * 2 > seeds.len(), "{good} of {}", seeds.len());
    }
}
