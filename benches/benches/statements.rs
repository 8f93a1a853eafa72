//! Statements through a session, as a connection runs them: prepared once, then bind, execute and sync.

use std::hint::black_box;
use std::sync::Arc;

use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use scry_sql::{Database, DatabaseOptions, Error, Executed, Session, SessionInfo};
use tokio::runtime::Runtime;

const ROWS: u32 = 100_000;

/// A session and the buffer that a connection would send.
struct Client {
    session: Session,
    out: BytesMut,
    id: u32,
}

impl Client {
    fn new(database: &Arc<Database>) -> Client {
        let session = database.session(SessionInfo {
            user: "bench".into(),
            ..SessionInfo::default()
        });
        Client {
            session: session.expect("a session"),
            out: BytesMut::new(),
            id: 0,
        }
    }

    async fn script(&mut self, sql: &str) -> Result<(), Error> {
        for statement in self.session.parse_script(sql)? {
            let mut done = self.session.simple(&statement, &mut self.out).await?;
            while matches!(done, Executed::MoreRows) {
                self.out.clear();
                done = self.session.resume(&mut self.out).await?;
            }
            self.out.clear();
        }
        self.session.sync().await
    }

    /// Binds the next id, executes, ends the implicit transaction. Returns the bytes of the answer.
    async fn run(&mut self, statement: &str) -> Result<usize, Error> {
        self.id = (self.id + 7919) % ROWS;
        let id = self.id.to_string();
        self.session
            .bind("", statement, &[], &[Some(id.as_bytes())], &[])
            .await?;
        self.session.execute("", 0, &mut self.out).await?;
        self.session.sync().await?;
        let bytes = self.out.len();
        self.out.clear();
        Ok(bytes)
    }
}

fn statements(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let database = Database::open(folder.path(), DatabaseOptions::default()).expect("a new database opens");
    let mut client = Client::new(&database);
    let values: Vec<String> = (0..ROWS)
        .map(|id| format!("({id}, {}, 0, 'filler')", id % 100))
        .collect();
    runtime
        .block_on(async {
            client
                .script("CREATE TABLE account (id int PRIMARY KEY, branch int NOT NULL, balance int NOT NULL, filler char(84))")
                .await?;
            for chunk in values.chunks(1000) {
                client.script(&format!("INSERT INTO account VALUES {}", chunk.join(", "))).await?;
            }
            for (name, sql) in [
                ("read", "SELECT balance FROM account WHERE id = $1"),
                ("write", "UPDATE account SET balance = balance + 1 WHERE id = $1"),
                ("analyse", "SELECT branch, count(*), sum(balance) FROM account WHERE id <> $1 GROUP BY branch"),
            ] {
                client.session.prepare(name, sql, &[]).await?;
            }
            Ok::<_, Error>(())
        })
        .expect("the table fills");
    for (name, what) in [
        ("read", "session: keyed select, prepared"),
        ("write", "session: one-row update, prepared, durable"),
        ("analyse", "session: group 100,000 rows on the mirror, prepared"),
    ] {
        criterion.bench_function(what, |bencher| {
            bencher.iter(|| black_box(runtime.block_on(client.run(name)).expect("the statement runs")));
        });
    }
    drop(client);
    database.close().expect("the database closes");
}

criterion_group!(benches, statements);
criterion_main!(benches);
