//! What cannot be provoked from outside: a panic inside a session.

use std::net::SocketAddr;

use scry_sql::{Database, DatabaseOptions};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::{Bound, Limits, Server, Stop};

/// A statement at which the connection panics, in tests only.
pub(super) const PANIC: &str = "PANIC NOW";

async fn connect(address: SocketAddr) -> Client {
    let config = format!(
        "host={} port={} user=tester dbname=scry",
        address.ip(),
        address.port()
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

#[test]
fn connections_leave_files_for_the_database_and_for_refusals() {
    let many = Limits::default();
    let fitting = many.clone().within_open_files(1 << 20);
    assert_eq!((fitting.sessions_max, fitting.handshakes_max), (2000, 256));
    for files in [0, 100, 300, 1024, 2000] {
        let fitting = many.clone().within_open_files(files);
        assert!(fitting.sessions_max >= 1 && fitting.handshakes_max >= 1);
        let taken = fitting.sessions_max + fitting.handshakes_max;
        assert!(taken == 2 || taken as u64 + 128 <= files, "{files}: {fitting:?}");
    }
}

#[test]
fn a_panic_ends_one_session_with_xx000_and_rolls_its_transaction_back() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut options = DatabaseOptions::default();
    options.engine.log.segment_bytes = 4 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    let _entered = runtime.enter();
    let database = Database::open(&dir.path().join("data"), options).expect("opens");
    runtime.block_on(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = Bound::new(any).expect("binds");
        let server = Server::listen(bound, database.clone(), Limits::default()).expect("listens");
        let address = server.address().expect("an address");
        let stop = Stop::default();
        let running = tokio::spawn(server.run(stop.clone()));
        let bystander = connect(address).await;
        bystander
            .batch_execute("CREATE TABLE t (k int PRIMARY KEY, v int)")
            .await
            .expect("table");
        bystander
            .batch_execute("INSERT INTO t VALUES (1, 0)")
            .await
            .expect("inserted");
        let victim = connect(address).await;
        victim
            .batch_execute("BEGIN; UPDATE t SET v = 1 WHERE k = 1")
            .await
            .expect("locked");
        let error = victim.batch_execute(PANIC).await.expect_err("panics");
        assert_eq!(error.code(), Some(&SqlState::INTERNAL_ERROR));
        // Would wait for ever if the victim's lock were still held.
        bystander
            .batch_execute("UPDATE t SET v = v + 10 WHERE k = 1")
            .await
            .expect("updated");
        let row = bystander
            .query_one("SELECT v FROM t WHERE k = 1", &[])
            .await
            .expect("one row");
        assert_eq!(row.get::<_, i32>(0), 10);
        connect(address)
            .await
            .batch_execute("SELECT 1")
            .await
            .expect("the server lives on");
        stop.orderly();
        running.await.expect("stops");
    });
    database.close().expect("closes");
}
