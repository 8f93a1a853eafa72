//! Sessions that are silent for too long, and random transactions against a server that is killed.

mod common;

use common::{DEADLINE, Home, query, tags};
use scry_benches::crash::server::{Kind, Server};
use scry_benches::histories::check::{Level, check};
use scry_benches::histories::drive::{self, Run, TABLES};
use scry_benches::random::Random;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_session_that_is_silent_for_too_long_is_ended_and_its_locks_are_free() {
    let home = Home::new();
    let server = home.start();
    let mut other = server.session();
    other.send(&query(
        "CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t VALUES (1)",
    ));
    other.until_ready();
    for failing in ["", "; SELECT 1 / 0"] {
        let mut idle = server.session();
        let begin = format!(
            "SET idle_in_transaction_session_timeout = 30; BEGIN; DELETE FROM t WHERE k = 1{failing}"
        );
        // Not one script: an error would end what the SET belongs to.
        for statement in begin.split("; ") {
            idle.send(&query(statement));
            idle.until_ready();
        }
        let end = idle.until_closed();
        assert_eq!(end.last().expect("a goodbye").code(), "25P03");
    }
    let mut idle = server.session();
    idle.send(&query("SET idle_session_timeout = 30"));
    idle.until_ready();
    assert_eq!(idle.until_closed().last().expect("a goodbye").code(), "57P05");
    // Who is not in a transaction is not ended by the first, nor who is in one by the second.
    let mut both = server.session();
    both.send(&query(
        "SET idle_in_transaction_session_timeout = '1h'; SET idle_session_timeout = 30; BEGIN",
    ));
    both.until_ready();
    other.send(&query("DELETE FROM t WHERE k = 1 RETURNING k"));
    assert_eq!(
        tags(&other.until_ready()),
        "TDCZ",
        "the lock was given back and nothing was deleted"
    );
    both.send(&query("SELECT 1"));
    assert_eq!(tags(&both.until_ready()), "TDCZ");
}

/// Waits until so many more transactions have ended.
async fn until_more_ended(ended: &AtomicU64, count: u64) {
    let enough = ended.load(Ordering::Relaxed) + count;
    let deadline = Instant::now() + DEADLINE;
    while ended.load(Ordering::Relaxed) < enough {
        assert!(Instant::now() < deadline, "transactions do not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One round of each level, with a kill in each. `scripts/e2e/histories.sh` goes on for hours.
#[test]
fn what_clients_saw_of_random_transactions_is_allowed_by_their_level() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let binary = Path::new(env!("CARGO_BIN_EXE_scry"));
        let mut server = Server::new(Kind::Scry, binary, folder.path(), port, false).expect("a server");
        let client = server.start().await.expect("it starts");
        client.batch_execute(TABLES).await.expect("the tables");
        let mut first_key = 0;
        for (seed, level) in (1..).zip(Level::ALL) {
            let run = Run::new(server.target().clone(), level, first_key);
            let mut random = Random::new(seed);
            let ended = Arc::clone(&run.ended);
            let meanwhile = async {
                until_more_ended(&ended, 1500).await;
                server.kill()?;
                server.start().await?;
                until_more_ended(&ended, 1000).await;
                Ok(())
            };
            let (history, run) = drive::run(run, 6, &mut random, meanwhile).await.expect("it runs");
            first_key = run.pool.keys().end;
            let verdict = check(&history);
            assert!(verdict.committed > 0);
            let forbidden: Vec<_> = verdict.forbidden(level).collect();
            assert!(forbidden.is_empty(), "{}: {forbidden:#?}", level.name());
        }
        server.stop().await.expect("a clean end");
        server.verify().expect("sound files");
    });
}
