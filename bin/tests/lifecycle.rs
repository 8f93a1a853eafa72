//! Starting, stopping and dying.

mod common;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Home, Server, query, tags, verified, wait_until};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

#[test]
fn sigterm_ends_idle_and_waiting_sessions_and_leaves_a_sound_directory() {
    let home = Home::new();
    let server = home.start();
    let mut idle = server.session();
    let mut holder = server.session();
    holder.send(&query("CREATE TABLE t (k int PRIMARY KEY)"));
    holder.until_ready();
    holder.send(&query("INSERT INTO t VALUES (1)"));
    holder.until_ready();
    holder.send(&query("BEGIN; DELETE FROM t WHERE k = 1"));
    holder.until_ready();
    let mut waiter = server.session();
    waiter.send(&query("DELETE FROM t WHERE k = 1"));
    server.signal("TERM");
    assert_eq!(idle.until_closed().last().expect("a goodbye").code(), "57P01");
    assert_eq!(holder.until_closed().last().expect("a goodbye").code(), "57P01");
    // The waiter's statement is cancelled, unless the holder's end let it finish before.
    let waited = waiter.until_closed();
    assert_eq!(waited.last().expect("a goodbye").code(), "57P01");
    let deleted = tags(&waited).contains('C');
    assert!(server.wait().success());
    let text = verified(&home.data());
    assert!(
        !text.contains("unfinished"),
        "a clean stop leaves no tail: {text}"
    );
    let server = home.start();
    let mut raw = server.session();
    raw.send(&query("SELECT k FROM t WHERE k = 1"));
    let wanted = if deleted { "TCZ" } else { "TDCZ" };
    assert_eq!(
        tags(&raw.until_ready()),
        wanted,
        "the open transaction was rolled back"
    );
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let home = Home::new();
    let server = home.start();
    let second = home.command().output().expect("runs");
    assert!(!second.status.success());
    assert!(second.stdout.is_empty());
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("another process"), "{text}");
    server.assert_alive();
}

#[test]
fn directories_that_are_not_ours_are_refused_with_the_reason() {
    let refused = |home: &Home| {
        let output = home.command().output().expect("runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let home = Home::new();
    fs::create_dir(home.data()).expect("directory");
    fs::write(home.data().join("thesis.tex"), "text").expect("file");
    let text = refused(&home);
    assert!(text.contains("thesis.tex"), "{text}");

    let home = Home::new();
    fs::create_dir(home.data()).expect("directory");
    fs::write(home.data().join("FORMAT"), "scry data directory\nformat 999\n").expect("file");
    let text = refused(&home);
    assert!(text.contains("999"), "{text}");

    let home = Home::new();
    fs::write(home.data(), "a file").expect("file");
    let text = refused(&home);
    assert!(text.contains("it is a file"), "{text}");

    let home = Home::new();
    fs::create_dir(home.data()).expect("directory");
    fs::set_permissions(home.data(), fs::Permissions::from_mode(0o000)).expect("permissions");
    if fs::read_dir(home.data()).is_err() {
        let text = refused(&home);
        assert!(text.to_lowercase().contains("permission denied"), "{text}");
    }
    fs::set_permissions(home.data(), fs::Permissions::from_mode(0o700)).expect("permissions");
}

#[test]
fn an_address_that_others_could_reach_is_refused_with_the_reason() {
    let home = Home::with_config("listen = '0.0.0.0:0'");
    let output = std::process::Command::new(common::SCRY)
        .args(["serve", "--data"])
        .arg(home.data())
        .arg("--config")
        .arg(home.data().with_file_name("scry.toml"))
        .output()
        .expect("runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("authentication"), "{text}");
    assert!(!home.data().exists(), "nothing was created");
}

#[test]
fn an_address_that_is_taken_is_refused_before_anything_is_opened() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("an address").to_string();
    let home = Home::new();
    let output = std::process::Command::new(common::SCRY)
        .args(["serve", "--listen", &address, "--data"])
        .arg(home.data())
        .output()
        .expect("runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&address), "{text}");
    assert!(!home.data().exists(), "nothing was created");
}

#[test]
fn what_is_no_address_is_refused_with_an_example() {
    for wrong in ["localhost:5433", "127.0.0.1", "5433"] {
        let home = Home::new();
        let output = std::process::Command::new(common::SCRY)
            .args(["serve", "--listen", wrong, "--data"])
            .arg(home.data())
            .output()
            .expect("runs");
        assert!(!output.status.success());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(wrong) && text.contains("127.0.0.1:5433"), "{text}");
    }
}

#[test]
fn an_unknown_key_in_the_configuration_is_refused_with_its_line() {
    let home = Home::with_config("max_conections = 3");
    let output = home.command().output().expect("runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("line 3") && text.contains("max_conections"),
        "{text}"
    );
}

/// Rows that a client knows to be committed, and rows whose commit it never heard of.
#[derive(Default)]
struct Known {
    acknowledged: HashSet<i64>,
    unknown: HashSet<i64>,
}

const WORKERS: i64 = 4;
/// Every transaction writes this many rows: all or none may be found.
const ROWS: i64 = 3;

async fn connect(server: &Server) -> Client {
    let config = format!(
        "host={} port={} user=tester dbname=scry",
        server.address.ip(),
        server.address.port()
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

/// Commits transactions until the server is gone.
async fn write(client: Client, run: i64, worker: i64, committed: Arc<AtomicUsize>) -> Known {
    let mut known = Known::default();
    for number in 0.. {
        let transaction = (run * WORKERS + worker) * 1_000_000 + number;
        let rows: Vec<String> = (0..ROWS)
            .map(|row| format!("({}, {transaction})", transaction * ROWS + row))
            .collect();
        let insert = format!("INSERT INTO t VALUES {}", rows.join(", "));
        match client.batch_execute(&insert).await {
            Ok(()) => {
                known.acknowledged.insert(transaction);
                committed.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                known.unknown.insert(transaction);
                break;
            }
        }
    }
    known
}

async fn check(server: &Server, known: &Known) {
    let client = connect(server).await;
    let mut answers = Vec::new();
    for place in ["primary", "mirror"] {
        client
            .batch_execute(&format!("SET scry.read_from = {place}"))
            .await
            .expect("set");
        let answer = client.simple_query("SELECT k, v FROM t").await.expect("read");
        let mut rows: Vec<(i64, i64)> = answer
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    let number = |column| row.get(column).expect("not null").parse().expect("a number");
                    Some((number(0), number(1)))
                }
                _ => None,
            })
            .collect();
        rows.sort_unstable();
        answers.push(rows);
    }
    assert!(answers[0] == answers[1], "mirror and primary differ");
    let mut counts = std::collections::HashMap::<i64, i64>::new();
    for (_, transaction) in &answers[0] {
        *counts.entry(*transaction).or_default() += 1;
    }
    for transaction in &known.acknowledged {
        assert_eq!(
            counts.get(transaction),
            Some(&ROWS),
            "acknowledged: {transaction}"
        );
    }
    for (transaction, count) in &counts {
        assert_eq!(*count, ROWS, "half a transaction: {transaction}");
        assert!(
            known.acknowledged.contains(transaction) || known.unknown.contains(transaction),
            "from nowhere: {transaction}"
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed_again_and_again() {
    let home = Home::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let mut known = Known::default();
    let mut server = home.start();
    runtime.block_on(async {
        let client = connect(&server).await;
        client
            .batch_execute("CREATE TABLE t (k bigint PRIMARY KEY, v bigint NOT NULL)")
            .await
            .expect("table");
    });
    for run in 0..5 {
        let committed = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let client = runtime.block_on(connect(&server));
                runtime.spawn(write(client, run, worker, committed.clone()))
            })
            .collect();
        // Killed after a different amount of work each time, in the middle of more.
        wait_until("the workers come on", || {
            committed.load(Ordering::Relaxed) >= 50 + 70 * run as usize
        });
        server.kill();
        for worker in workers {
            let of_worker = runtime.block_on(worker).expect("no panic");
            known.acknowledged.extend(of_worker.acknowledged);
            known.unknown.extend(of_worker.unknown);
        }
        server = home.start();
        runtime.block_on(check(&server, &known));
    }
    server.signal("TERM");
    assert!(server.wait().success());
    verified(&home.data());
}
