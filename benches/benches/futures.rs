//! Queries of the present and of futures of the same table, of which candidates have changed one row in a hundred and one in ten.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use scry_sql::{Database, DatabaseOptions, Error, Executed, Session, SessionInfo};
use tokio::runtime::Runtime;

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: u32 = 1_000_000;

fn session(database: &Arc<Database>) -> Session {
    let info = SessionInfo {
        user: "bench".into(),
        ..SessionInfo::default()
    };
    database.session(info).expect("a session")
}

/// Runs a script; the bytes of its answers.
async fn run(session: &mut Session, sql: &str) -> Result<usize, Error> {
    let mut bytes = 0;
    let mut out = BytesMut::new();
    for statement in session.parse_script(sql)? {
        let mut done = session.simple(&statement, &mut out).await?;
        while matches!(done, Executed::MoreRows) {
            bytes += out.split().len();
            done = session.resume(&mut out).await?;
        }
        bytes += out.split().len();
    }
    session.sync().await?;
    Ok(bytes)
}

async fn fill(database: &Arc<Database>) -> Result<(), Error> {
    let mut main = session(database);
    run(
        &mut main,
        "CREATE TABLE facts (id int PRIMARY KEY, grp int NOT NULL, a bigint NOT NULL, b float8 NOT NULL, name text NOT NULL)",
    )
    .await?;
    for first in (0..ROWS).step_by(100_000) {
        let rows = format!(
            "INSERT INTO facts SELECT g, g % 100, g, g, 'a name of ' || g FROM generate_series({first}, {}) g",
            first + 99_999
        );
        run(&mut main, &rows).await?;
    }
    run(&mut main, "CREATE ELECTION e WITH (winners = any)").await?;
    for (candidate, every) in [("hundredth", 100), ("tenth", 10)] {
        run(&mut main, &format!("CREATE CANDIDATE {candidate} IN e")).await?;
        let mut inside = session(database);
        run(&mut inside, &format!("SET scry.candidate = 'e/{candidate}'")).await?;
        let update = format!("UPDATE facts SET a = a + 1, b = b + 1 WHERE id % {every} = 0");
        run(&mut inside, &update).await?;
    }
    Ok(())
}

fn futures(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let database = Database::open(folder.path(), DatabaseOptions::default()).expect("a new database opens");
    runtime.block_on(fill(&database)).expect("the table fills");
    let mut main = session(&database);
    let mut group = criterion.benchmark_group("futures");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for (what, query) in [
        (
            "group 1,000,000 rows",
            "SELECT grp, count(*), sum(a), avg(b) FROM $ GROUP BY grp",
        ),
        ("filter by text", "SELECT count(*) FROM $ WHERE name LIKE '%77%'"),
        ("count", "SELECT count(*) FROM $"),
    ] {
        for (when, table) in [
            ("present", "facts"),
            ("1% changed", "\"e/hundredth\".facts"),
            ("10% changed", "\"e/tenth\".facts"),
        ] {
            let sql = query.replace('$', table);
            group.bench_function(format!("{what}: {when}"), |bencher| {
                bencher.iter(|| black_box(runtime.block_on(run(&mut main, &sql)).expect("the query runs")));
            });
        }
    }
    group.finish();
    drop(main);
    database.close().expect("the database closes");
}

criterion_group!(benches, futures);
criterion_main!(benches);
